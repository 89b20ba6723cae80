"""Drift: columns that a delivery has gained or lost, or writes as something else, since the delivery before it."""

import datetime as dt
import difflib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pyarrow as pa

from pipelines import contracts, raw, values
from pipelines.raw import RawFile
from pipelines.raw.files import expected_whole
from pipelines.raw.stream import text
from pipelines.settings import Settings

SURELY = 20  # rows that should name a JSON key before its absence is no accident of a few rows
KINDS = {  # of a Parquet column; a change within one is none
    "number": lambda kind: pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind),
    "text": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind),
    "time": lambda kind: pa.types.is_timestamp(kind) or pa.types.is_date(kind),
    "boolean": pa.types.is_boolean,
}


@dataclass(frozen=True)
class Drift:
    """One column of a file that is not what it was on the day `before`; `reads` is the contract's name for it, None
    for a column that nobody reads. `told` says what it was and is; `near` is the most similar new column."""

    table: str
    column: str
    kind: Literal["added", "removed", "retyped"]
    file: str
    before: dt.date
    reads: str | None = None
    near: str | None = None
    told: str = ""

    @property
    def name(self) -> str:
        """As `admit.accepted_drift` has it."""
        return f"{self.table}.{self.reads}"

    def __str__(self) -> str:
        return f"{self.column} {self.kind} in {self.file}{self.told}"


def found(home: Path, settings: Settings, files: Sequence[RawFile], day: dt.date) -> list[Drift]:
    """What changed in each delivery that no night before `day` has opened; without any such night, in the newest.

    A night that stops at a change does not make it the usual thing for the next one.
    """
    opened = [path.parent.name[:10] for path in (home / "runs").glob("*/run.json")]
    since = max((dt.date.fromisoformat(text) for text in opened if text < str(day)), default=None)
    changes: list[Drift] = []
    for table in contracts.raw_tables():
        deliveries: dict[dt.date, list[RawFile]] = defaultdict(list)
        for file in files:
            if file.table == table and file.columns and not file.is_removed and not _is_replay(settings, file):
                deliveries[file.day].append(file)
        pairs = list(pairwise(sorted(deliveries)))
        for earlier, later in [pair for pair in pairs if pair[1] > since] if since else pairs[-1:]:
            changes += compare(home, settings, deliveries[earlier], deliveries[later])
    return changes


def compare(home: Path, settings: Settings, before: Sequence[RawFile], now: Sequence[RawFile]) -> list[Drift]:
    """How the columns of a delivery differ from those of the one before it."""
    table, day = now[0].table, before[0].day
    reads = {source: name for file in before for name, source in _sources(settings, file).items()}
    had, has = _columns(before), _columns(now)
    fresh = {column: file for column, file in has.items() if _is_new(home, settings, column, before)}
    lost = {column: now[0] for column in had if column not in has}
    lost |= {column: file for file in now for column in _lacks(file, before)}
    gone = {
        column: file
        for column, file in lost.items()
        if _sources(settings, file).get(reads.get(column, "")) not in fresh
        and _is_gone(home, settings, column, file, before)
    }
    shared = {source: name for source, name in reads.items() if source in had and source in has}
    return [
        *(Drift(table, column, "added", file.path, day) for column, file in fresh.items()),
        *(
            Drift(table, column, "removed", file.path, day, reads.get(column), _nearest(column, fresh))
            for column, file in gone.items()
        ),
        *_retyped(home, settings, shared, before, now),
    ]


def _is_replay(settings: Settings, file: RawFile) -> bool:
    """Whether the file replays quarantined rows: its columns are those that the corrected rows had to have."""
    return _sources(settings, file)["replays"] in file.columns


def _sources(settings: Settings, file: RawFile) -> dict[str, str]:
    """Which column of the file brings each one of the contract."""
    return contracts.raw_tables()[file.table].sources(getattr(settings.columns, file.table), file.columns)


def _columns(files: Sequence[RawFile]) -> dict[str, RawFile]:
    """Every column with the first file that has it."""
    return {column: file for file in reversed(files) for column in file.columns}


def _is_new(home: Path, settings: Settings, column: str, before: Sequence[RawFile]) -> bool:
    return not any(column in one.columns or _count_rows(home, settings, one, column) for one in before)


def _lacks(file: RawFile, before: Sequence[RawFile]) -> list[str]:
    """Columns that the most similar file of the delivery before had: files that always differed go on differing."""
    return min(([c for c in one.columns if c not in file.columns] for one in before), key=len)


def _is_gone(home: Path, settings: Settings, column: str, file: RawFile, before: Sequence[RawFile]) -> bool:
    """Whether a column is really not there. Of a JSON file only the first rows are known, and a key may be rare: it is
    gone when no row names it, and SURELY rows should."""
    if file.format != "jsonl":
        return True
    if _count_rows(home, settings, file, column):
        return False
    told = [one for one in before if column in one.columns]
    share = sum(_count_rows(home, settings, one, column) for one in told) / max(sum(one.count_rows for one in told), 1)
    return share * file.count_rows >= SURELY


def _count_rows(home: Path, settings: Settings, file: RawFile, column: str) -> int:
    """Rows that name a column; of a JSON file, those in which its quoted name stands."""
    if file.format != "jsonl":
        return file.count_rows if column in file.columns else 0
    key, rest, count = json.dumps(column, ensure_ascii=False).encode(), b"", 0
    with expected_whole(home / file.path, file.table, file.day):
        for chunk in text(home / file.path, file.dialect, settings.clean.max_file_mb):
            count += (rest + chunk).count(key)
            rest = chunk[-len(key) + 1 :]
    return count


def _nearest(column: str, fresh: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(column, list(fresh), n=1, cutoff=0.4)
    return near[0] if near else None


def _retyped(
    home: Path, settings: Settings, shared: Mapping[str, str], before: Sequence[RawFile], now: Sequence[RawFile]
) -> Iterator[Drift]:
    """Columns whose Parquet type is of another kind, or whose first values are no longer what the contract says."""
    known, day = _kinds(home, settings, before), before[0].day
    for file in now:
        for source, kind in _kinds(home, settings, [file]).items():
            if source in shared and known.get(source) and not kind <= known[source]:
                told = f": {'/'.join(sorted(known[source]))} before, {'/'.join(sorted(kind))} now"
                yield Drift(file.table, source, "retyped", file.path, day, shared[source], told=told)
    wrong = values.unreadable(home, settings, now[-1]) if shared else {}
    was_wrong = values.unreadable(home, settings, before[-1]) if wrong else {}
    for source, name in shared.items():
        if name in wrong and name not in was_wrong:
            yield Drift(now[-1].table, source, "retyped", now[-1].path, day, name, told=f": {wrong[name]}")


def _kinds(home: Path, settings: Settings, files: Sequence[RawFile]) -> dict[str, set[str]]:
    """The kinds of type that the Parquet files among `files` give a column."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if file.format == "parquet":
            with raw.parquet(home / file.path, file.dialect, settings.clean.max_file_mb, home / "lake") as opened:
                schema = opened.schema_arrow
            for column in schema:
                kinds[column.name] |= {name for name, is_one in KINDS.items() if is_one(_plain(column.type))}
    return kinds


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
