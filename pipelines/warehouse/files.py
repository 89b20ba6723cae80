"""Releases as DuckDB files: one immutable file per release, and a link that leads readers to the current one."""

import fcntl
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from pipelines.warehouse import erase, renamed
from pipelines.warehouse.manifest import Judged, sha256


class Files:
    """`<home>/warehouse`: `releases/<name>.duckdb` beside its manifest, `current.duckdb`, `releases.jsonl`.

    Whatever is written appears by a rename, after its bytes have reached the disk, and the link moves last: readers
    see the release before or this one, whole, at whatever point a publication dies.
    """

    place_in_home, kind = "warehouse", "duckdb"

    def __init__(self, home: Path) -> None:
        self.folder = home / self.place_in_home
        self.releases = self.folder / "releases"
        self.link = self.folder / f"current.{self.kind}"
        self.book = self.folder / "releases.jsonl"

    @property
    def where(self) -> str:
        """Where readers find the current release."""
        return str(self.link)

    def ready(self) -> None:
        """Nothing is asked of a folder before the night."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One publication, rollback or clearing at a time; the lock ends with the process that holds it."""
        os.makedirs(self.releases, exist_ok=True)
        descriptor = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def current(self) -> str | None:
        """The release that readers see, or None before the first night."""
        return self.link.resolve().stem if self.link.exists() else None

    def kept(self) -> list[str]:
        return sorted(path.stem for path in self.releases.glob(f"*.{self.kind}"))

    def manifest(self, name: str) -> dict[str, Any] | None:
        """What a release was made from; kept longer than the release where it was gone back from."""
        path = self.releases / f"{name}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def history(self) -> list[dict[str, Any]]:
        """Every move, oldest first; one whose release the next move did not replace died before readers saw it."""
        return [json.loads(line) for line in self.book.read_text().splitlines()] if self.book.exists() else []

    def place(self, made: Judged) -> None:
        """Bring in a release that nobody sees yet; one that is there already holds the same rows and stays."""
        target = self._release(made.name)
        if target.exists():
            return
        write(target.with_suffix(".json"), json.dumps(made.manifest, sort_keys=True, default=str))
        partial = target.with_name(f"{target.name}.partial")
        self._fill(partial, made)
        os.replace(partial, target)
        sync(self.releases)

    def record(self, told: dict[str, Any], show: bool) -> None:
        """Write a move down, then, to `show` its release, move the link."""
        line = json.dumps(told, default=str, sort_keys=True) + "\n"
        write(self.book, (self.book.read_text() if self.book.exists() else "") + line)
        if show:
            self._show(told["release"])

    def connect(self, name: str | None = None) -> duckdb.DuckDBPyConnection:
        """Read a release that is kept, by default the current one."""
        path = self._release(name) if name else self.link.resolve()
        return renamed.bridged(duckdb.connect(str(path), read_only=True))

    def drop(self, name: str) -> bool:
        """Remove a release, unless a process of this machine has it open."""
        path = self._release(name)
        if _is_open(path):
            return False
        os.unlink(path)
        return True

    def erase(self, name: str, users: Collection[str], pattern: str) -> int:
        """Write a release again without the users; who has it open keeps reading what was opened. Returns the rows."""
        path, manifest = self._release(name), self.manifest(name)
        count = erase.database(path, users, pattern)
        if manifest and manifest["sha256"] != (found := sha256(path)):
            told = erase.retold(manifest, path, found, count)
            write(self.releases / f"{name}.json", json.dumps(told, sort_keys=True, default=str))
        sync(self.releases)
        return count

    def tidy(self, names: set[str]) -> None:
        """Remove manifests of others than these releases, and what killed publications left."""
        other = [path for path in self.releases.glob("*.json") if path.stem not in names]
        for path in [*other, *self.releases.glob("*.partial"), *self.folder.glob("*.partial")]:
            os.unlink(path)

    def _release(self, name: str) -> Path:
        return self.releases / f"{name}.{self.kind}"

    def _fill(self, partial: Path, made: Judged) -> None:
        if partial.exists():
            os.unlink(partial)
        try:
            os.link(made.path, partial)
        except OSError:  # the run's folder lies on another disk
            shutil.copyfile(made.path, partial)
        os.chmod(partial, 0o444)
        sync(partial)

    def _show(self, name: str) -> None:
        partial = self.link.with_suffix(".partial")
        if partial.is_symlink():
            os.unlink(partial)
        os.symlink(self._release(name).relative_to(self.folder), partial)
        os.replace(partial, self.link)
        sync(self.folder)


def _is_open(path: Path) -> bool:
    """Readers of other users are seen by root alone; whoever has opened a file keeps it all the same."""
    wanted = path.stat()
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # the process has ended, or is somebody else's
            if os.path.samestat(wanted, descriptor.stat()):
                return True
    return False


def write(path: Path, text: str) -> None:
    """Whole or not at all, and on the disk when it returns."""
    partial = path.with_name(f"{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have what is written there reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
