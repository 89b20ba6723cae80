"""Offsite: a copy of the lake in an object store, from which a home whose disk is lost gets it back."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines import markets, pseudonyms
from pipelines.errors import BadSetting, NoStore, NothingPublished
from pipelines.objects import Objects
from pipelines.raw import removed
from pipelines.run import digest, write_json
from pipelines.settings import Settings
from pipelines.warehouse.manifest import sha256

INDEX = "lake.json"  # every file of the lake, by its path in the home, and the object that holds it
COPIED = "lake/copied.json"  # in the home: hash of the index that it wrote last, and of the one that it was writing
CURE = "The copy is as it was, whole. Then: `nightshelf store follow`, or the same again."
Index = dict[str, dict[str, Any]]


def objects(home: Path, told: Settings) -> Objects:
    """Where the lake of a home is copied to."""
    return Objects("store.lake", told.store.of(told.store.lake, markets.name(home)), told.store.endpoint, CURE)


def ready(home: Path, told: Settings) -> None:
    """Raises NoStore when the store cannot be written to, or has the lake of another home."""
    if told.store.lake:
        store = objects(home, told)
        _refuse_others(home, store, store.read(INDEX))
        store.write({}, "ready.json")


def follow(home: Path, told: Settings) -> int:
    """Copy what the store has not got, say so in the index, and only then remove what is here no more; files copied.

    Objects are named by what they hold and never written twice, so that the index that is there is always whole.
    """
    if not told.store.lake:
        return 0
    store = objects(home, told)
    with _alone(home):
        before = store.read(INDEX)
        _refuse_others(home, store, before)
        index = {name: _copied(home, name, store, before or {}) for name in _files(home)}
        new = [name for name, one in index.items() if one != (before or {}).get(name)]
        if index != before:
            write_json(home / COPIED, [digest(before), digest(index)])
            store.write(index, INDEX)
        for name in sorted(store.names("lake") - {one["path"] for one in index.values()}):
            store.remove(name)
    return len(new)


def restore(home: Path, told: Settings) -> int:
    """Bring the lake of a home that has none back; how many files."""
    store, target, partial = objects(home, told), home / "lake", home / "lake.partial"
    if _files(home):
        raise BadSetting(f"{target} has partitions: only a home without any is restored. Move it away first.")
    index: Index | None = store.read(INDEX)
    if index is None:
        raise NothingPublished(f"{store.url}/{INDEX} does not exist: no lake was copied there. See store.lake.")
    shutil.rmtree(partial, ignore_errors=True)
    for name, one in index.items():
        path = partial / Path(name).relative_to("lake")
        path.parent.mkdir(parents=True, exist_ok=True)
        store.fetch(one, path)
        os.utime(path, ns=(one["mtime_ns"], one["mtime_ns"]))
    write_json(partial / Path(COPIED).name, [digest(index)])
    shutil.rmtree(target, ignore_errors=True)  # what nights look up there, and make anew
    os.replace(partial, target)
    return len(index)


def _copied(home: Path, name: str, store: Objects, before: Index) -> dict[str, Any]:
    """What the index says of a file, which is copied unless it is as it was."""
    path, known = home / name, before.get(name)
    mtime_ns = path.stat().st_mtime_ns
    if known and (known["size"], known["mtime_ns"]) == (path.stat().st_size, mtime_ns):
        return known
    place = Path(name).with_suffix(f".{sha256(path)[:16]}{path.suffix}")
    return store.put(path, str(place)) | {"mtime_ns": mtime_ns}


def _files(home: Path) -> list[str]:
    """Those of partitions that are whole, and what is told of them."""
    whole = (path.parent for path in (home / "lake").glob("*/arrival_date=*/*/books.json"))
    found = [path for folder in whole for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial"]
    records = [path for name in (removed.RECORD, pseudonyms.RECORD) if (path := home / name).exists()]
    return sorted(str(path.relative_to(home)) for path in [*found, *records])


def _refuse_others(home: Path, store: Objects, index: Index | None) -> None:
    """The index that is there was written here."""
    known = json.loads((home / COPIED).read_text()) if (home / COPIED).exists() else []
    if index is not None and digest(index) not in known:
        raise NoStore(
            f"{store.url}/{INDEX} was not written by {home}: another home copies its lake there, or this one is an "
            "older copy. Nothing was changed there. Give each home an address of its own in store.lake, or bring the "
            "lake back from there: move `lake` away, then `nightshelf store restore`."
        )


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One copy at a time; the lock ends with the process that holds it."""
    (home / "lake").mkdir(parents=True, exist_ok=True)
    descriptor = os.open(home / "lake" / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
