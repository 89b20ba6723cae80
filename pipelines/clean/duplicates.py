"""Which true rows say again what another one said: found among few columns, so that whole rows move only once."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

BROADCAST_KEYS = 3_000_000  # keys up to which a set is sent to every executor instead of shuffled to them


def suspicious(
    session: SparkSession, keys: DataFrame, seen: Sequence[str], scratch: Path
) -> tuple[DataFrame | None, bool]:
    """The values of `row_key`, a hash of the identity, that occur twice or in `seen`, None when there are none; and
    whether any occurs in `seen`."""
    counted = keys.groupBy("row_key").count()
    if not seen:
        return settled(session, counted.where("count > 1").select("row_key"), scratch / "keys"), False
    fresh = settled(session, counted, scratch / "fresh")
    if fresh is None:
        return None, False
    before = session.read.parquet(*seen).select("row_key").join(fresh.select("row_key"), "row_key", "left_semi")
    known = settled(session, before.distinct(), scratch / "known")
    twice = fresh.where("count > 1").select("row_key")
    suspects = twice if known is None else twice.union(known).distinct()
    return settled(session, suspects, scratch / "keys"), known is not None


def find(
    session: SparkSession,
    suspects: DataFrame,
    identity: Sequence[str],
    seen: Sequence[str],
    keys: DataFrame,
    scratch: Path,
) -> DataFrame | None:
    """(file_number, line, again) of true rows that are no first of their `identity`; None when there are none.

    `suspects` are the rows, judged, whose `row_key` is among `keys`. `seen` are Parquet files of earlier rows with the
    same columns: all that they say has been said. Of equal ones the first arrival stays, then the one whose content
    hashes lowest, never the one that was read first.
    """
    suspects = suspects.where(F.col("rule").isNull())
    order = [F.col("arrival_date"), content(suspects), F.col("file"), F.col("line")]
    ranked = suspects.withColumn("_copy", F.row_number().over(Window.partitionBy(*identity).orderBy(*order)))
    if seen:
        before = session.read.parquet(*seen).join(keys, "row_key", "left_semi").select(*identity).distinct()
        ranked = ranked.join(before.withColumn("_is_seen", F.lit(True)), list(identity), "left")
    else:
        ranked = ranked.withColumn("_is_seen", F.lit(None))
    copies = ranked.where((F.col("_copy") > 1) | F.col("_is_seen"))
    copies = copies.select("file_number", "line", F.lit("duplicate").alias("again"))
    return settled(session, copies, scratch / "copies")


def mark(rows: DataFrame, found: DataFrame | None) -> DataFrame:
    """`rows` with the rule `again` on those that are true by themselves and were found to say something again."""
    if found is None:
        return rows
    marked = rows.join(found, ["file_number", "line"], "left")
    return marked.withColumn("rule", F.coalesce("rule", "again")).drop("again")


def content(rows: DataFrame) -> Column:
    """A hash of all that a row says, whatever its place."""
    return F.xxhash64(*[n for n in rows.columns if n not in ("file", "file_number", "line", "count_lines", "problem")])


def settled(session: SparkSession, rows: DataFrame, folder: Path) -> DataFrame | None:
    """A small frame, computed once and kept on disk; None when it is empty."""
    rows.write.mode("overwrite").parquet(str(folder))
    count = sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))
    if not count:
        return None
    kept = session.read.parquet(str(folder))
    return F.broadcast(kept) if count <= BROADCAST_KEYS else kept
