"""A server that speaks S3, with users and their keys, for tests of what lies in object stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import boto3
from moto.server import ThreadedMotoServer

ALL = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}'


class Server:
    """moto's, in a thread of this process; it checks each request's signature."""

    def __init__(self) -> None:
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.address = f"http://{host}:{port}"
        iam = self._client("iam", aws_access_key_id="root", aws_secret_access_key="root")
        iam.create_user(UserName="nightshelf")
        iam.put_user_policy(UserName="nightshelf", PolicyName="all", PolicyDocument=ALL)
        made = iam.create_access_key(UserName="nightshelf")["AccessKey"]
        self.keys = {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
        self._check_requests_after("0")
        self.s3 = self._client(
            "s3", aws_access_key_id=made["AccessKeyId"], aws_secret_access_key=made["SecretAccessKey"]
        )

    def stop(self) -> None:
        self._check_requests_after("inf")
        self.server.stop()

    def _client(self, service: str, **keys: str):
        return boto3.client(service, endpoint_url=self.address, region_name="us-east-1", **keys)

    def _check_requests_after(self, count: str) -> None:
        headers = {"Content-Type": "text/plain"}
        urlopen(Request(f"{self.address}/moto-api/reset-auth", count.encode(), headers, method="POST")).close()


@contextmanager
def started() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()
