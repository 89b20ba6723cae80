"""A Hive metastore of the tests' own: the real server, from PySpark's jars, in a folder that goes with it."""

import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pyspark

from pipelines import java, spark

MAIN = "org.apache.hadoop.hive.metastore.HiveMetaStore"


class Metastore:
    """Listens on this machine alone; its tables are kept in Derby."""

    def __init__(self) -> None:
        self.held = tempfile.TemporaryDirectory(prefix="metastore-")
        self.folder = Path(self.held.name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"thrift://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(self._command(), cwd=self.folder, stderr=(self.folder / "log").open("w"))
        until = time.monotonic() + 120
        while not self._listens():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.1)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.held.cleanup()

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def _command(self) -> list[str]:
        options = {
            "javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={self.folder / 'db'};create=true",
            "datanucleus.schema.autoCreateAll": "true",
            "hive.metastore.schema.verification": "false",
            "hive.metastore.warehouse.dir": str(self.folder / "tables"),
        }
        machine = ["-Xmx256m", spark.ONE_COMPILER, "-Dhive.async.log.enabled=false"]  # PySpark lacks its disruptor
        machine += [f"-Dlog4j2.configurationFile={spark.LOGGING.as_uri()}"]
        jars = Path(pyspark.__file__).parent / "jars"
        told = [part for name, value in options.items() for part in ("--hiveconf", f"{name}={value}")]
        program = java.find(self.folder) / "bin" / "java"
        return [str(program), *machine, "-cp", f"{jars}/*", MAIN, "-p", str(self.port), *told]
