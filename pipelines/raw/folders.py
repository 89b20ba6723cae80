"""The folders of raw files, walked without trust: only what was really delivered there is a raw file."""

import datetime as dt
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.errors import BadInput
from pipelines.raw.files import shown


def days(home: Path, table: str) -> list[dt.date]:
    """Arrival days of which there is a folder, oldest first."""
    folders = (home / "raw" / table).glob("dt=*")
    return sorted(_day(folder) for folder in folders if not folder.name.endswith(".partial"))


def delivered(home: Path, until: dt.date, tables: Iterable[str]) -> Iterator[tuple[Path, str, dt.date]]:
    """(path, table, day) of every file that arrived up to and including `until`, in a fixed order.

    Raises BadInput for a link, a pipe, a device or a socket: what they lead to may change or lie anywhere.
    """
    for table in tables:
        _refuse_link(home / "raw" / table)
        for day in days(home, table):
            if day <= until:
                folder = home / "raw" / table / f"dt={day}"
                _refuse_link(folder)
                yield from ((path, table, day) for path in sorted(_files(folder)))


def _files(folder: Path) -> Iterator[Path]:
    """Regular files below a folder; hidden ones, and all below hidden folders, are none of ours."""
    if not folder.is_dir():
        raise BadInput(f"{shown(folder)} is a file, not a folder of that day's files. Move it into such a folder.")
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith((".", "_"))]
    for entry in visible:
        path = folder / entry.name
        _refuse_name(path)
        _refuse_link(path)
        if entry.is_dir():
            yield from _files(path)
        elif entry.is_file():
            yield path
        else:
            raise BadInput(f"{shown(path)} is a pipe, a device or a socket. Deliver a regular file, or remove it.")


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise BadInput(f"{shown(path)} is a symbolic link. Deliver the files themselves, or remove the link.")


def _refuse_name(path: Path) -> None:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise BadInput(f"{shown(path)}: the name is not UTF-8. Rename the file.") from None


def _day(folder: Path) -> dt.date:
    try:
        day = dt.date.fromisoformat(folder.name.removeprefix("dt="))
    except ValueError:
        day = None
    if day is None or folder.name != f"dt={day}":
        raise BadInput(f"{shown(folder)}: raw folders are named dt=YYYY-MM-DD. Rename or remove it.")
    return day
