"""The lake: what cleaning decided about each arrival day, in immutable partitions named by all that decided it."""

import datetime as dt
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from pipelines import contracts
from pipelines.errors import BadInput
from pipelines.raw import RawFile
from pipelines.run import Run, digest, write_json

VERDICTS = ("accepted", "rejected")


@dataclass(frozen=True)
class Partition:
    """One table's rows of one arrival day. `key` hashes its files, the rules, and every day before it."""

    table: str
    day: dt.date
    key: str
    files: tuple[RawFile, ...]
    lake: Path

    @property
    def folder(self) -> Path:
        return self.lake / self.table / f"arrival_date={self.day}" / self.key[:16]

    @property
    def is_clean(self) -> bool:
        return (self.folder / "books.json").exists()

    @property
    def books(self) -> list[dict]:
        """One record per rule, and one for `accepted`: count_rows and an example."""
        return json.loads((self.folder / "books.json").read_text())

    def parquet(self, verdict: str) -> list[str]:
        return sorted(str(path) for path in self.folder.glob(f"verdict={verdict}/*.parquet"))


def plan(run: Run, files: Iterable[RawFile]) -> dict[str, list[Partition]]:
    """The partitions that the run reads, by table, oldest first.

    A key contains the key of the day before (an event may repeat an earlier one) and, for events, of the catalogue, so
    that a partition cleaned alone equals the same one cleaned with its whole past.
    """
    by_day: dict[tuple[str, dt.date], list[RawFile]] = defaultdict(list)
    for file in files:
        by_day[file.table, file.day].append(file)
    planned: dict[str, list[Partition]] = {}
    for name in contracts.raw_tables():
        key, planned[name] = _rules_key(run, name), []
        for table, day in sorted(k for k in by_day if k[0] == name):
            catalogue = [p.key for p in planned["items"] if p.day <= day][-1:] if name == "events" else []
            key = digest([key, catalogue, day, sorted(file.sha256 for file in by_day[table, day])])
            planned[name].append(Partition(name, day, key, tuple(by_day[table, day]), run.lake))
    return planned


def settle(partial: Path, pending: Sequence[Partition], max_rejected_share: float) -> None:
    """Count what Spark wrote, hold it against the files, and move each day to its place in the lake."""
    books = {partition.day: _count(partial, partition) for partition in pending}
    _refuse_flood(pending, books, max_rejected_share)
    for partition in pending:
        written = partial / f"arrival_date={partition.day}"
        written.mkdir(exist_ok=True)
        write_json(written / "books.json", books[partition.day])
        shutil.rmtree(partition.folder, ignore_errors=True)
        partition.folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(written, partition.folder)


def _rules_key(run: Run, table: str) -> str:
    settings = run.settings
    source = [path.read_text() for path in sorted(Path(__file__).parent.glob("*.py"))]
    mapping = [getattr(settings.columns, table), settings.event_types, settings.shop.model_dump(mode="json")]
    return digest([source, repr(contracts.raw_tables()[table]), mapping, settings.clean.unknown_items])


def _count(partial: Path, partition: Partition) -> list[dict]:
    folder = partial / f"arrival_date={partition.day}"
    records = [record for verdict in VERDICTS for record in _count_verdict(folder / f"verdict={verdict}")]
    delivered = sum(file.count_rows for file in partition.files)
    counted = sum(record["count_rows"] for record in records)
    if counted != delivered:
        raise BadInput(
            f"{partition.table}: the files of {partition.day} hold {delivered} rows, cleaning accounts for {counted}. "
            f"Look for line breaks inside quoted fields in {', '.join(f.path for f in partition.files)}."
        )
    return records


def _count_verdict(folder: Path) -> list[dict]:
    if not any(folder.glob("*.parquet")):
        return []
    query = """
        select coalesce(rule, 'accepted') as rule, count(*) as count_rows, min(original) as example
        from read_parquet(?) group by all order by rule
    """
    rows = duckdb.execute(query, [f"{folder}/*.parquet"]).fetchall()
    return [{"rule": rule, "count_rows": count, "example": example} for rule, count, example in rows]


def _refuse_flood(pending: Sequence[Partition], books: dict[dt.date, list[dict]], max_share: float) -> None:
    """Stop when so much is rejected that the files, not the rows, must be wrong."""
    rejected: dict[str, tuple[int, str]] = {}
    for record in (record for day in books.values() for record in day):
        if record["rule"] not in ("accepted", "duplicate"):
            count, example = rejected.get(record["rule"], (0, record["example"]))
            rejected[record["rule"]] = (count + record["count_rows"], example)
    total = sum(file.count_rows for partition in pending for file in partition.files)
    count_rejected = sum(count for count, _ in rejected.values())
    if not total or count_rejected / total <= max_share:
        return
    rule, (count, example) = max(rejected.items(), key=lambda pair: pair[1][0])
    days = f"{pending[0].day} to {pending[-1].day}" if len(pending) > 1 else f"{pending[0].day}"
    raise BadInput(
        f"{pending[0].table}: {count_rejected} of {total} rows of {days} would be rejected, most ({count}) by the rule "
        f"{rule}, for example {example}. Correct the files or the mapping in nightshelf.toml; if this is right, raise "
        f"clean.max_rejected_share above {count_rejected / total:.3f}."
    )
