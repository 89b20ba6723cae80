"""The lake: what cleaning decided about each arrival day, in immutable partitions named by all that decided it."""

import datetime as dt
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines import contracts, pseudonyms, raw
from pipelines.raw import RawFile, removed
from pipelines.run import Run, digest

VERDICTS = ("accepted", "rejected")


@dataclass(frozen=True)
class Partition:
    """One table's rows of one arrival day. `key` hashes its files, the rules, and every day before it, as they were
    when it was cleaned where its raw files have been removed.

    `repeats` are files whose content another one of `files`, or of an earlier day, brought already.
    """

    table: str
    day: dt.date
    key: str
    files: tuple[RawFile, ...]
    repeats: Mapping[str, str]  # path of the repeated file → path of the one that counts
    lake: Path

    @property
    def folder(self) -> Path:
        return self.lake / self.table / f"arrival_date={self.day}" / self.key

    @property
    def is_clean(self) -> bool:
        return (self.folder / "books.json").exists()

    @property
    def count_rows(self) -> int:
        """Rows that were delivered, before any is judged."""
        return sum(file.count_rows for file in self.files)

    @property
    def books(self) -> list[dict]:
        """One record per file and rule, and one for `accepted`: count_rows and an example."""
        return json.loads((self.folder / "books.json").read_text())

    def parquet(self, verdict: str) -> list[str]:
        return sorted(str(path) for path in self.folder.glob(f"verdict={verdict}/*.parquet"))


def plan(run: Run, files: Sequence[RawFile]) -> dict[str, list[Partition]]:
    """The partitions that the run reads, by table, oldest first.

    A key contains the key of the day before (an event may repeat an earlier one) and, for events, of the catalogue and
    the profiles, so that a partition cleaned alone equals the same one cleaned with its whole past. What was
    removed from `raw` stays as it was cleaned, whatever rules hold since.

    Raises BadInput where the lake cannot stand in for it.
    """
    removed.require(run.home, files, run.settings.clean)
    gone = removed.load(run.home)
    by_day: dict[tuple[str, dt.date], list[RawFile]] = defaultdict(list)
    for file in files:
        by_day[file.table, file.day].append(file)
    planned: dict[str, list[Partition]] = {}
    for name in contracts.raw_tables():
        rules, key, planned[name] = _rules_key(run, name), None, []
        known: dict[str, str] = {}
        for table, day in sorted(k for k in by_day if k[0] == name):
            known = known if name == "events" else {}  # a catalogue may come back to what it was; an event may not
            fresh, repeats = _by_content(by_day[table, day], known)
            told = [_key_by(planned[other], day) for other in planned if name == "events" and other != name]
            key = digest([rules, key, told, day, sorted(file.sha256 for file in by_day[table, day])])[:16]
            if any(file.is_removed for file in by_day[table, day]):
                key = gone[table, day].key
            planned[name].append(Partition(name, day, key, fresh, repeats, run.lake))
    return planned


def _key_by(partitions: Sequence[Partition], day: dt.date) -> str | None:
    """Key of all that had arrived by then."""
    return next((partition.key for partition in reversed(partitions) if partition.day <= day), None)


def _by_content(files: Sequence[RawFile], known: dict[str, str]) -> tuple[tuple[RawFile, ...], dict[str, str]]:
    """Files that say something new, in an order that renaming does not change, and those that repeat another one;
    `known` remembers content and path."""
    fresh, repeats = [], {}
    for file in sorted(files, key=lambda file: (file.sha256, file.path)):
        if file.sha256 in known:
            repeats[file.path] = known[file.sha256]
        else:
            known[file.sha256] = file.path
            fresh.append(file)
    return tuple(fresh), repeats


def _rules_key(run: Run, table: str) -> str:
    """Hash of all that decides besides the files: code, contract and settings."""
    settings = run.settings
    folders = (Path(__file__).parent, Path(raw.__file__).parent)
    source = [path.read_text() for folder in folders for path in sorted(folder.glob("*.py"))]
    limits = settings.clean.model_dump(exclude={"max_rejected_share", "memory_mb", "spark_master", "pseudonym_key"})
    told = [getattr(settings.columns, table), getattr(settings.files, table).model_dump(), settings.event_types]
    shop, named = settings.shop.model_dump(mode="json"), pseudonyms.names(settings.clean).proof
    return digest([source, repr(contracts.raw_tables()[table]), told, limits, shop, named])
