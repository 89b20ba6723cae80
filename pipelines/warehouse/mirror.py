"""Releases in an object store too: whatever was done here, the store then follows, and its readers by one pointer."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from pipelines import markets
from pipelines.errors import BadSetting, NoStore, NotAsJudged, NothingPublished
from pipelines.objects import Objects
from pipelines.run import digest
from pipelines.settings import Settings
from pipelines.warehouse.files import Files, sync, write

POINTER = "current.json"  # which release readers see, and the objects of each of its tables
BOOK = "home/book.json"  # moves and manifests: of a home that is lost, the releases can be made again from here
READY = "home/ready.json"
RELEASES = "releases"
WHOLE = "objects.json"  # of a release, written last
CURE = "Readers there keep the release that they have. Then: `nightshelf store follow`, or the same again."


class Mirrored(Files):
    """Files, and under the address of a store `releases/<release>.<version>/`: each table as Parquet, the file itself.

    No object but the pointer and the book is ever written twice: a release from which a user was erased is another
    version. The pointer is replaced in one request, after all it leads to has been read again.
    """

    def __init__(self, home: Path, told: Settings, market: str = "") -> None:
        super().__init__(home)
        self.threads = told.machine.threads
        url = told.store.of(told.store.releases, market)
        self.store = Objects("store.releases", url, told.store.endpoint, CURE)

    @property
    def pointer(self) -> str:
        """Where readers of the store find the current release."""
        return f"{self.store.url}/{POINTER}"

    @property
    def where(self) -> str:
        return f"{self.link} and {self.pointer}"

    def ready(self) -> None:
        """Raises NoStore when the store lets nobody write, or follows another home."""
        self._refuse_others(self.pointed(), self.history())
        self.store.write({}, READY)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """As with files; at the end, unless it ended early, the store follows."""
        with super().locked():
            yield
            self._follow()

    def pointed(self) -> dict[str, Any]:
        """What the pointer in the store says, nothing before the first release."""
        return self.store.read(POINTER) or {}

    def restore(self) -> str:
        """Make the releases of a home that has none again from the store; returns the current one."""
        if self.history():
            raise BadSetting(f"{self.book} tells of releases: only a home without any is restored. Move it away first.")
        book, pointed = self.store.read(BOOK), self.pointed()
        if book is None or not pointed:
            raise NothingPublished(f"{self.pointer} does not exist: no home was followed there. See store.releases.")
        with super().locked():
            for name, manifest in book["manifests"].items():
                write(self.releases / f"{name}.json", json.dumps(manifest, sort_keys=True))
                if objects := self.store.read(f"{_folder(name, manifest)}/{WHOLE}"):
                    self._fetch(name, objects["file"])
            self._show(pointed["release"])
            write(self.book, "".join(json.dumps(move, sort_keys=True) + "\n" for move in book["moves"]))
        return pointed["release"]

    def _follow(self) -> None:
        """The current release, the pointer to it, then the other releases; and nothing else stays there."""
        current, pointed = self.current(), self.pointed()
        self._refuse_others(pointed, self.history())
        if current is None:
            return
        folders = {name: _folder(name, self.manifest(name)) for name in self.kept()}
        there = self.store.names(RELEASES)
        self._bring(current, folders[current], there)
        self._lead(folders[current], pointed)
        for name, folder in folders.items():
            self._bring(name, folder, there)
        for folder in sorted({name.rpartition("/")[0] for name in there} - {*folders.values()}):
            if f"{folder}/{WHOLE}" in there:
                self.store.remove(f"{folder}/{WHOLE}")
            self.store.remove_folder(folder)

    def _lead(self, folder: str, pointed: dict[str, Any]) -> None:
        """Write the book, so that a lost home knows the move, then move the pointer to the release in that folder."""
        moves = self.history()
        manifests = {path.stem: json.loads(path.read_text()) for path in sorted(self.releases.glob("*.json"))}
        self.store.write({"moves": moves, "manifests": manifests}, BOOK)
        leads = {"at": moves[-1]["at"], "moves": len(moves), **self.store.read(f"{folder}/{WHOLE}")}
        if leads != pointed:
            self.store.write(leads, POINTER)

    def _refuse_others(self, pointed: dict[str, Any], moves: list[dict[str, Any]]) -> None:
        """The pointer was moved here, and by a move that this home knows of: no older home moves it back."""
        if not pointed or [move["at"] for move in moves[: pointed["moves"]][-1:]] == [pointed["at"]]:
            return
        raise NoStore(
            f"{self.pointer} leads to {pointed['release']} by a move of {pointed['at'][:16]}, of which {self.book} "
            "knows nothing: another home publishes there, or this one is an older copy. Nothing was changed there. "
            "Give each home an address of its own in store.releases, or make this one again from there: move its "
            "`warehouse` away, then `nightshelf store restore`."
        )

    def _bring(self, name: str, folder: str, there: set[str]) -> None:
        """Have a release's objects there; raises NotAsJudged for a file that its manifest does not tell of."""
        if f"{folder}/{WHOLE}" in there:
            return
        scratch = self.folder / "mirroring"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        file = self.store.put(self._release(name), f"{folder}/release.{self.kind}")
        if file["sha256"] != (self.manifest(name) or file).get("sha256"):
            raise NotAsJudged(f"{self._release(name)} is not the file that its manifest tells of. Remove both.")
        tables = dict(self._tables(name, folder, scratch))
        self.store.write({"release": name, "file": file, "tables": tables}, f"{folder}/{WHOLE}")
        there.add(f"{folder}/{WHOLE}")
        shutil.rmtree(scratch)

    def _tables(self, name: str, folder: str, scratch: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each table of a release, put there in the order of the file, which is that of the key."""
        with duckdb.connect(str(self._release(name)), read_only=True) as release:
            release.execute(f"set threads = {self.threads}")
            for (table,) in release.execute("show tables").fetchall():
                path = scratch / f"{table}.parquet"
                rows = release.table(table)
                rows.write_parquet(str(path), compression="zstd")
                kinds = [str(kind).lower() for kind in rows.types]
                told = {"count_rows": len(rows), "columns": dict(zip(rows.columns, kinds, strict=True))}
                yield table, told | self.store.put(path, f"{folder}/{path.name}")
                path.unlink()

    def _fetch(self, name: str, told: dict[str, Any]) -> None:
        target = self._release(name)
        partial = target.with_name(f"{target.name}.partial")
        self.store.fetch(told, partial)
        os.chmod(partial, 0o444)
        sync(partial)
        os.replace(partial, target)


def of(home: Path, told: Settings) -> Mirrored:
    """The releases of a home that an object store follows; raises BadSetting where none does."""
    if not told.store.releases or told.warehouse.engine != "duckdb":
        raise BadSetting("store.releases names the object store that follows a warehouse.engine of duckdb, no other.")
    return Mirrored(home, told, markets.name(home))


def _folder(name: str, manifest: dict[str, Any] | None) -> str:
    """Where a release stands; after something was erased from it, elsewhere."""
    return f"{RELEASES}/{name}.{digest(manifest)[:16]}"
