"""Removed: arrival days whose raw files are gone, what is still known of them, and where the lake has their rows."""

import datetime as dt
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pipelines import pseudonyms
from pipelines.errors import BadInput
from pipelines.raw.files import RawFile
from pipelines.run import write_json
from pipelines.settings import Clean

RECORD = "lake/removed.json"
GONE = ".removed"  # a day's folder on its way out


@dataclass(frozen=True)
class Removed:
    """One arrival day of a table. `partition` is the folder, below the home, in which the lake has its rows as they
    were cleaned; `ids` says how they write ids, and `by` is the run that was published before the files went."""

    partition: str
    ids: str
    by: str
    files: tuple[RawFile, ...]

    @property
    def table(self) -> str:
        return self.files[0].table

    @property
    def day(self) -> dt.date:
        return self.files[0].day

    @property
    def key(self) -> str:
        """That of the partition."""
        return Path(self.partition).name


def load(home: Path) -> dict[tuple[str, dt.date], Removed]:
    """By table and day, oldest first, whether or not somebody has put the files back."""
    path = home / RECORD
    told = json.loads(path.read_text()) if path.exists() else []
    found = (Removed(**{**one, "files": tuple(map(RawFile.remembered, one["files"]))}) for one in told)
    return {(one.table, one.day): one for one in found}


def remove(home: Path, days: Iterable[Removed]) -> None:
    """Write down what is known of the days, then remove their folders, each at once: where this dies, a day is whole or
    gone, and known either way."""
    chosen = {(one.table, one.day): one for one in days}
    if chosen:
        told = sorted((load(home) | chosen).items(), key=lambda item: item[0])
        write_json(home / RECORD, [asdict(one) for _, one in told])
    for table, day in chosen:
        folder = home / "raw" / table / f"dt={day}"
        os.replace(folder, folder.with_name(f".{folder.name}{GONE}"))
    clear(home)


def clear(home: Path) -> None:
    """Remove the folders that are on their way out, also those of an attempt that died."""
    for folder in (home / "raw").glob(f"*/.dt=*{GONE}"):
        shutil.rmtree(folder)


def absent(home: Path, until: dt.date, tables: Collection[str], present: Iterable[RawFile]) -> Iterator[RawFile]:
    """The removed files up to `until`; a day whose files are all back is a day like others.

    Raises BadInput for a day that was removed and to which something else was delivered since.
    """
    there = {file.path for file in present}
    days = {(file.table, file.day) for file in present}
    for (table, day), one in load(home).items():
        if table not in tables or day > until or there.issuperset(file.path for file in one.files):
            continue
        if (table, day) in days:
            raise BadInput(_delivered_since(one))
        yield from (replace(file, is_removed=True) for file in one.files)


def refuse(home: Path, table: str, day: dt.date) -> None:
    """Raise BadInput when nothing can be delivered to a day any more."""
    one = load(home).get((table, day))
    if one and not (home / "raw" / table / f"dt={day}").exists():
        raise BadInput(_delivered_since(one))


def require(home: Path, files: Iterable[RawFile], clean: Clean) -> None:
    """Raise BadInput unless the lake still has the rows of removed files, with ids as they are written now."""
    known = load(home)
    days = dict.fromkeys((file.table, file.day) for file in files if file.is_removed)
    gone = [known[day] for day in days]
    lost = [one for one in gone if not (home / one.partition / "books.json").exists()]
    if lost:
        raise BadInput(
            f"{_told(lost)} the lake has no rows of theirs any more (first {lost[0].partition}). Put these folders of "
            "the lake back, or the raw files, all of a day; or run without the days: delete their entries in "
            f"{RECORD}."
        )
    if other := [one for one in gone if one.ids != written(clean)]:
        raise BadInput(
            f"{_told(other)} the lake has them with ids written by {other[0].ids}, and ids are now written by "
            f"{written(clean)}: one user would be two. Set that back, or put the raw files back, all of a day."
        )


def written(clean: Clean) -> str:
    """How cleaning writes ids, in words."""
    proof = pseudonyms.names(clean).proof
    return f"clean.ids = {clean.ids}" + (f", users by the key that proves as {proof[:12]}" if proof else "")


def _told(days: Sequence[Removed]) -> str:
    first, last = days[0], days[-1]
    span = f"{first.day}" if len(days) == 1 else f"{len(days)} days from {first.day} to {last.day}"
    return f"{first.table}: the raw files of {span} were removed by retention.raw_days, last after {last.by};"


def _delivered_since(one: Removed) -> str:
    return (
        f"{_told([one])} what is delivered to that day now cannot be joined to it. Deliver it on a later day, or put "
        f"back all that the day had: {', '.join(file.path for file in one.files)}."
    )
