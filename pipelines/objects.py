"""Objects under an address: each written whole and read again, on any store that Arrow knows."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
from pyarrow import fs

from pipelines.errors import NoStore
from pipelines.warehouse.manifest import sha256

CHUNK = 8 << 20  # bytes of one request
PATIENCE_SECONDS = 60  # of Google's client, which tries for a quarter of an hour
OPTIONS = {
    "s3": {"allow_delayed_open": "true"},  # a small object is one request
    "gs": {"retry_limit_seconds": str(PATIENCE_SECONDS)},
}
VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the machine's account",
    "abfs": "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or the machine's identity",
    "abfss": "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or the machine's identity",
    "file": "the rights on that folder",
}


class Objects:
    """What stands under `url`, by names relative to it. `setting` is what told the address, `cure` what to do when the
    store is there again.

    An object appears whole when its last byte has arrived: so do the stores, and a rename in a folder.
    """

    def __init__(self, setting: str, url: str, endpoint: str, cure: str) -> None:
        self.setting, self.url, self.endpoint, self.cure = setting, url.rstrip("/"), endpoint, cure
        self.scheme = url.partition(":")[0]

    @cached_property
    def place(self) -> tuple[fs.FileSystem, str]:
        """The store, and the folder in it."""
        options = dict(OPTIONS.get(self.scheme, {}))
        if self.endpoint and self.scheme == "s3":
            scheme, _, host = self.endpoint.partition("://")
            options |= {"endpoint_override": host, "scheme": scheme}
        return fs.FileSystem.from_uri(f"{self.url}?{urlencode(options)}" if options else self.url)

    def put(self, path: Path, name: str) -> dict[str, Any]:
        """Copy a file there and read it again; its size and hash. Raises NoStore, too, when it arrived changed."""
        told = {"path": name, "size": path.stat().st_size, "sha256": sha256(path)}
        with self._asked(f"write {name}"):
            store, folder = self.place
            with ThreadPoolExecutor(1) as aside:  # no signal ends it half-way: streams that are left count as whole
                aside.submit(self._send, path, f"{folder}/{name}").result()
            with store.open_input_stream(f"{folder}/{name}") as arrived:
                found = hashlib.sha256()
                while chunk := arrived.read(CHUNK):
                    found.update(chunk)
        if found.hexdigest() != told["sha256"]:
            raise NoStore(f"{self.setting}: {self.url}/{name} is not what was sent there. {self.cure}")
        return told

    def write(self, told: object, name: str) -> None:
        """Put a value there as JSON."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "told.json"
            path.write_text(json.dumps(told, default=str), encoding="utf-8")
            self.put(path, name)

    def read(self, name: str) -> Any:
        """The value that an object holds as JSON; None where there is no such object."""
        with self._asked(f"read {name}"):
            store, folder = self.place
            try:
                with store.open_input_stream(f"{folder}/{name}") as stream:
                    content = stream.read()
            except FileNotFoundError:
                return None
        try:
            return json.loads(content)
        except ValueError:
            raise NoStore(f"{self.setting}: {self.url}/{name} is no JSON: remove it. {self.cure}") from None

    def fetch(self, told: dict[str, Any], path: Path) -> None:
        """Bring an object that `put` told of into a file; raises NoStore when it is not that any more."""
        with self._asked(f"read {told['path']}"):
            store, folder = self.place
            with store.open_input_stream(f"{folder}/{told['path']}") as stream, path.open("wb") as file:
                shutil.copyfileobj(stream, file, CHUNK)
        if sha256(path) != told["sha256"]:
            raise NoStore(f"{self.setting}: {self.url}/{told['path']} is not what was written there.")

    def names(self, folder: str) -> set[str]:
        """All objects in a folder and below, by name."""
        with self._asked(f"list {folder}"):
            store, root = self.place
            found = store.get_file_info(fs.FileSelector(f"{root}/{folder}", allow_not_found=True, recursive=True))
            return {one.path.removeprefix(f"{root}/") for one in found if one.type == fs.FileType.File}

    def remove(self, name: str) -> None:
        with self._asked(f"remove {name}"):
            store, folder = self.place
            store.delete_file(f"{folder}/{name}")

    def remove_folder(self, folder: str) -> None:
        with self._asked(f"remove {folder}"):
            store, root = self.place
            store.delete_dir(f"{root}/{folder}")

    def _send(self, path: Path, target: str) -> None:
        """Into a folder by a rename; elsewhere the object is there when the stream closes."""
        store, _ = self.place
        partial = f"{target}.partial" if self.scheme == "file" else target
        if partial != target:
            store.create_dir(target.rpartition("/")[0])
        with path.open("rb") as file, store.open_output_stream(partial) as stream:
            shutil.copyfileobj(file, stream, CHUNK)
        if partial != target:
            store.move(partial, target)

    @contextmanager
    def _asked(self, what: str) -> Iterator[None]:
        """Raises NoStore, with what the store said, when it cannot be asked."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            said = str(error).partition("\n")[0][:400]
            raise NoStore(
                f"{self.setting}: cannot {what} in {self.url} ({said}). Correct the setting, the network, or what the "
                f"store lets in by: {VARIABLES[self.scheme]}. {self.cure}"
            ) from None
