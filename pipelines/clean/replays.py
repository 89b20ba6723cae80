"""Rows that replay quarantined ones: of a row, its copies and its corrections only the first true one counts."""

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.clean.duplicates import content, settled


class Said(NamedTuple):
    """A true row: what makes it the same as another, where it stands, and the place that it replays."""

    identity: tuple[object, ...]
    arrival_date: dt.date
    content: int
    file: str
    line: int
    file_number: int
    replays: str | None

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def order(self) -> tuple[object, ...]:
        """That of `duplicates.find`, and on one day a correction after what it may correct."""
        return self.arrival_date, self.replays is not None, self.content, self.file, self.line


def involved(session: SparkSession, rows: DataFrame, scratch: Path) -> DataFrame | None:
    """The values of `row_key` of rows that replay others and of those others; None when nothing is replayed."""
    replaying = rows.where(F.col("replays").isNotNull()).select("row_key", "replays")
    kept = settled(session, replaying, scratch / "replaying")
    if kept is None:
        return None
    places = kept.select(F.col("replays").alias("_place")).distinct()
    replayed = rows.join(places, place() == F.col("_place"), "left_semi")
    keys = kept.select("row_key").union(replayed.select("row_key")).distinct()
    return settled(session, keys, scratch / "involved")


def find(
    session: SparkSession,
    suspects: DataFrame,
    identity: Sequence[str],
    seen: Sequence[str],
    keys: DataFrame,
    scratch: Path,
) -> DataFrame | None:
    """(file_number, line, again) of true rows that say again what another one said; `again` is the rule.

    `suspects` are the judged rows whose `row_key` is among `keys`, which `involved` found, and `seen` the Parquet files
    of earlier accepted rows. They are few, and one decision may hang on another: they are taken one after the other.
    """
    rows = _told(suspects.where(F.col("rule").isNull()), identity, content(suspects), scratch / "suspects")
    said, filled = _before(session, identity, seen, keys, {row.replays for row in rows})
    broken = list(judge(rows, said, filled))
    if not broken:
        return None
    schema = pa.schema([("file_number", pa.int32()), ("line", pa.int64()), ("again", pa.string())])
    records = [{"file_number": row.file_number, "line": row.line, "again": rule} for row, rule in broken]
    pq.write_table(pa.Table.from_pylist(records, schema), scratch / "again.parquet")
    return F.broadcast(session.read.parquet(str(scratch / "again.parquet")))


def judge(rows: Iterable[Said], said: set[tuple[object, ...]], filled: set[str]) -> Iterator[tuple[Said, str]]:
    """The rows that do not count, each with its rule.

    `said` are the identities that earlier rows took; `filled` the places whose row counts, as it stood or replayed.
    """
    said, filled = set(said), set(filled)
    for row in sorted(rows, key=lambda row: row.order):
        if row.replays in filled:
            yield row, "replayed_before"
        elif row.identity in said:
            yield row, "duplicate"
        else:
            said.add(row.identity)
            filled |= {place for place in (row.place, row.replays) if place}


def place() -> Column:
    """Where a row stands, as `replays` names it."""
    return F.concat_ws(":", "file", F.col("line").cast("string"))


def _told(rows: DataFrame, identity: Sequence[str], said: Column, folder: Path) -> list[Said]:
    names = ["arrival_date", "content", "file", "line", "file_number", "replays"]
    rows = rows.withColumn("content", said)
    rows.select(*names, *[name for name in identity if name not in names]).write.parquet(str(folder))
    table = pq.read_table(folder)
    identities = zip(*(table[name].to_pylist() for name in identity), strict=True)
    return [Said(*told) for told in zip(identities, *(table[name].to_pylist() for name in names), strict=True)]


def _before(
    session: SparkSession,
    identity: Sequence[str],
    seen: Sequence[str],
    keys: DataFrame,
    replayed: set[str | None],
) -> tuple[set[tuple[object, ...]], set[str]]:
    """What earlier nights let in of these identities, and which of the replayed places they filled."""
    if not seen:
        return set(), set()
    before = session.read.parquet(*seen).withColumnRenamed("arrived_on", "arrival_date")
    said = before.join(keys, "row_key", "left_semi").select(*identity).distinct()
    places = sorted(filter(None, replayed))
    own = before.where(F.col("file").isin({one.rpartition(":")[0] for one in places})).select(place().alias("place"))
    filled = own.union(before.where(F.col("replays").isNotNull()).select("replays"))
    wanted = F.broadcast(session.createDataFrame([(one,) for one in places], "place string"))
    found = filled.join(wanted, "place", "left_semi").distinct()
    return {tuple(row) for row in said.collect()}, {row.place for row in found.collect()}
