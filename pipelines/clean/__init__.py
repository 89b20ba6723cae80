"""Clean: decide which raw rows are true; they go into the lake, the others, each with its rule, into quarantine."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines import contracts, forgotten, pseudonyms, raw, spark
from pipelines.clean import books, duplicates, lake, landing, reading, replays, rules, spellings
from pipelines.clean.books import Counted
from pipelines.clean.lake import Partition
from pipelines.clean.landing import Landed
from pipelines.clean.reading import Frame
from pipelines.contracts import Table
from pipelines.errors import BadInput, NoDataForDay
from pipelines.raw import RawFile
from pipelines.run import Run, stage, write_json

BUCKET_ROWS = 4_000_000  # rows of an arrival day that are sorted into one file
TASK_ROWS = 400_000  # rows that one task sorts at once
TASKS_PER_CORE = 2  # at least, where there are days enough: many small files take longer than their rows
MANY_VALUED = ("event_id", "session_id", "order_id", "line", "row_key")  # a dictionary of them is built and thrown away


@stage
def run(run: Run, folder: Path) -> None:
    """Clean what arrived since the last night; write which partitions of the lake the run reads, and the books."""
    pseudonyms.keep(run.home, run.settings.clean)
    planned = lake.plan(run, files_of(run))
    pending = [partition for partitions in planned.values() for partition in partitions if not partition.is_clean]
    count_rows = sum(partition.count_rows for partition in pending)
    if pending:
        with spark.session(run, count_rows) as session:
            for name in planned:
                clean_table(session, run, name, planned)
    _require_rows_of_the_day(run, planned["events"])
    write_json(
        folder / "partitions.json", {n: [str(p.folder) for p in partitions] for n, partitions in planned.items()}
    )
    records = [
        {"table_name": p.table, "arrival_date": p.day, **b} for ps in planned.values() for p in ps for b in p.books
    ]
    write_json(folder / "books.json", records)
    write_json(folder / "cleaned.json", {"count_days": len(pending), "count_rows": count_rows})


def files_of(run: Run) -> list[RawFile]:
    """The raw files as they were when the run opened; files that came since wait for the next run."""
    found = raw.inventory(run.home, run.last_arrival, contracts.raw_tables(), run.settings)
    files = [file for file in found if run.inputs.get(file.path) == file.sha256]
    if changed := sorted(set(run.inputs) - {file.path for file in files}):
        raise BadInput(f"{', '.join(changed[:5])}: changed or gone since {run.run_id} was opened. Open the run again.")
    return files


def clean_table(session: SparkSession, run: Run, name: str, planned: Mapping[str, Sequence[Partition]]) -> None:
    """Clean the days of one table that the lake does not have yet, all in one job."""
    pending = [partition for partition in planned[name] if not partition.is_clean]
    if not pending:
        return
    scratch = run.lake / f"{name}.{run.run_id}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "landed").mkdir(parents=True)
    try:
        files = [file for partition in pending for file in partition.files]
        landed = land(session, run, name, files, scratch / "landed")
        counts = {file.path: one.count_rows for file, one in zip(files, landed, strict=True)}
        write(judged(session, run, name, planned, landed, files, scratch), pending, counts, scratch / "days")
        settle(session, run, pending, counts | _rows_before(planned[name], pending), scratch / "days")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def land(session: SparkSession, run: Run, name: str, files: Sequence[RawFile], folder: Path) -> list[Landed]:
    """Each file in the one layout that Spark reads, the file's number in `files` for a name."""
    table, mapping, limits = contracts.raw_tables()[name], getattr(run.settings.columns, name), run.settings.clean
    home = run.home

    def one(numbered: tuple[int, RawFile]) -> Landed:
        number, file = numbered
        return landing.land(file, home, table, mapping, limits, folder / f"{number}.parquet", number)

    return spark.each(session, one, enumerate(files))


def judged(
    session: SparkSession,
    run: Run,
    name: str,
    planned: Mapping[str, Sequence[Partition]],
    landed: Sequence[Landed],
    files: Sequence[RawFile],
    scratch: Path,
) -> DataFrame:
    """Every landed row, typed, with the rule that it breaks or null, and `row_key`, a hash of what identifies it."""
    table = contracts.raw_tables()[name]
    frames = reading.read(session, landed, files, table, run.settings)
    seen = [path for p in planned[name] if p.is_clean for path in p.parquet("accepted")]
    before, rows = (seen if name == "events" else []), typed(run, name, frames)
    keys, is_seen = duplicates.suspicious(session, rows.select("row_key"), before, scratch)
    chained = replays.involved(session, rows, scratch) if any(one.has_replays for one in landed) else None
    told = judged_alone(session, run, name, planned, frames)
    if chained is not None:
        suspects = judged_alone(session, run, name, planned, frames, chained)
        told = duplicates.mark(told, replays.find(session, suspects, identity(table), seen, chained, scratch))
    if keys is not None:
        keys = keys if chained is None else keys.join(chained, "row_key", "left_anti")
        suspects = judged_alone(session, run, name, planned, frames, keys)
        told = duplicates.mark(
            told, duplicates.find(session, suspects, identity(table), before if is_seen else [], keys, scratch)
        )
    return told


def judged_alone(
    session: SparkSession,
    run: Run,
    name: str,
    planned: Mapping[str, Sequence[Partition]],
    frames: Sequence[Frame],
    keys: DataFrame | None = None,
) -> DataFrame:
    """The rows, or those whose `row_key` is among `keys`, judged as if no other row said the same."""
    if run.settings.clean.ids == "reject":  # all rows together tell which spelling came first
        rows = _among(keys, spellings.judge(session, typed(run, name, frames), name, planned))
    else:
        rows = typed(run, name, frames, keys)
    return judge_events(session, run, rows, planned) if name == "events" else rows


def typed(run: Run, name: str, frames: Sequence[Frame], keys: DataFrame | None = None) -> DataFrame:
    """The rows, or those whose `row_key` is among `keys`, typed, with the rule that each breaks by itself."""
    table, settings, told = contracts.raw_tables()[name], run.settings, []
    for frame, has_all_ids in frames:
        if name == "events" and not has_all_ids:
            rows = identified(rules.typed(frame, table, settings), settings.clean.event_key)
            told.append(_among(keys, rows.withColumn("row_key", F.xxhash64(*identity(table)))))
        else:  # the key is known before the other columns are read: of the few that are asked for, only those are
            known = F.xxhash64(*[rules.value(frame, table[column], settings) for column in identity(table)])
            told.append(rules.typed(_among(keys, frame.withColumn("row_key", known)), table, settings))
    return without_forgotten(run, reduce(DataFrame.unionByName, told))


def without_forgotten(run: Run, rows: DataFrame) -> DataFrame:
    """Rows of forgotten users break that rule before any other."""
    known = forgotten.load(run.home)
    if "user_id" not in rows.columns or not known.hashes:
        return rows
    is_theirs = F.sha2(F.concat(F.lit(known.key), "user_id"), 256).isin(sorted(known.hashes))
    return rows.withColumn("rule", F.when(is_theirs, F.lit(forgotten.RULE)).otherwise(F.col("rule")))


def _among(keys: DataFrame | None, rows: DataFrame) -> DataFrame:
    return rows if keys is None else rows.join(keys, "row_key", "left_semi")


def identity(table: Table) -> list[str]:
    """What makes two rows the same: an event wherever it is delivered, an item or user once per day."""
    return ["event_id"] if table.name == "events" else [*table.key, "arrival_date"]


def judge_events(
    session: SparkSession, run: Run, rows: DataFrame, planned: Mapping[str, Sequence[Partition]]
) -> DataFrame:
    """The rules that look beyond the row: when the shop's history begins, and what the catalogue knew by then."""
    late = rules.too_late(planned["events"][0].day)
    known = rows.join(F.broadcast(first_seen(session, planned["items"])), "item_id", "left")
    unknown = rules.unknown_item()
    broken = [
        ("too_late", late),
        *([("unknown_item", unknown)] if run.settings.clean.unknown_items == "reject" else []),
    ]
    judged = known.withColumn("rule", rules.first_broken(F.col("rule"), broken))
    return judged.withColumn("is_known_item", ~unknown).drop("known_on", "day_end", "look_back_start")


def first_seen(session: SparkSession, catalogue: Sequence[Partition]) -> DataFrame:
    """(item_id, known_on) over the cleaned catalogue."""
    paths = [path for partition in catalogue for path in partition.parquet("accepted")]
    if not paths:
        return session.createDataFrame([], "item_id string, known_on date")
    return session.read.parquet(*paths).groupBy("item_id").agg(F.min("arrived_on").alias("known_on"))


def identified(events: DataFrame, key: Sequence[str]) -> DataFrame:
    """An event without an id is identified by the columns of `key`, all that it says if there are none."""
    said = key or [
        n for n in contracts.raw_tables()["events"].names if n not in ("event_id", "arrival_date", "replays")
    ]
    content = F.concat_ws("\x1f", *[F.coalesce(F.col(name).cast("string"), F.lit("\x00")) for name in said])
    return events.withColumn("event_id", F.coalesce("event_id", F.sha2(content, 256)))


def write(rows: DataFrame, pending: Sequence[Partition], counts: Mapping[str, int], target: Path) -> None:
    """One file per arrival day, verdict and bucket, its rows in a fixed order: equal bytes however Spark splits the
    work. `arrived_on` repeats the folder's date. Of a forgotten user's row nothing is written but its verdict."""
    table = contracts.raw_tables()[pending[0].table]
    by_day = {partition.day: sum(counts[file.path] for file in partition.files) for partition in pending}
    buckets = [(day, -(-count // BUCKET_ROWS) or 1) for day, count in by_day.items()]
    known = F.broadcast(rows.sparkSession.createDataFrame(buckets, "arrival_date date, buckets int"))
    columns = [name for name in table.names if name != "arrival_date"]
    own = ["is_known_item", "row_key"] if table.name == "events" else ["row_key"]
    is_kept = F.col("rule").isNull() | (F.col("rule") != forgotten.RULE)
    placed = rows.join(known, "arrival_date").select(
        *[F.when(is_kept, F.col(name)).alias(name) for name in columns],
        *own,
        F.col("arrival_date").alias("arrived_on"),
        *("file", "line", "count_lines", "rule", "arrival_date"),
        F.when(F.col("rule").isNull(), "accepted").otherwise("rejected").alias("verdict"),
        F.pmod("row_key", "buckets").alias("bucket"),
    )
    place = ["arrival_date", "verdict", "bucket"]
    cores = rows.sparkSession.sparkContext.defaultParallelism
    tasks = max(-(-sum(counts.values()) // TASK_ROWS), min(cores * TASKS_PER_CORE, len(pending)))
    ordered = placed.repartition(tasks, *place).sortWithinPartitions(*place, *table.key, "file", "line")
    plain = {f"parquet.enable.dictionary#{name}": "false" for name in MANY_VALUED}
    ordered.write.options(**plain).partitionBy(*place).parquet(str(target))


def settle(
    session: SparkSession, run: Run, pending: Sequence[Partition], counts: Mapping[str, int], written: Path
) -> None:
    """Close the books of each day and move it to its place in the lake; nothing moves when one does not balance."""

    def close(partition: Partition) -> list[dict]:
        counted = [Counted(file, counts[file.path]) for file in partition.files]
        return books.close(run, partition, written / f"arrival_date={partition.day}", counted, counts)

    closed = spark.each(session, close, pending)
    books.refuse_flood(pending, [record for day in closed for record in day], run.settings.clean.max_rejected_share)
    for partition in pending:
        shutil.rmtree(partition.folder, ignore_errors=True)
        partition.folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(written / f"arrival_date={partition.day}", partition.folder)


def _rows_before(partitions: Sequence[Partition], pending: Sequence[Partition]) -> dict[str, int]:
    """Rows of the files that pending ones repeat and that were cleaned on an earlier night."""
    repeated = {first for partition in pending for first in partition.repeats.values()}
    clean = [p for p in partitions if p.is_clean and any(file.path in repeated for file in p.files)]
    receipts = [one for p in clean for one in json.loads((p.folder / "files.json").read_text())]
    return {one["file"]: one["count_rows"] for one in receipts}


def _require_rows_of_the_day(run: Run, events: Sequence[Partition]) -> None:
    today = [b for partition in events if partition.day == run.day for b in partition.books]
    if not any(record["rule"] == "accepted" for record in today):
        raise NoDataForDay(
            f"events: no true row arrived on {run.day} ({sum(b['count_rows'] for b in today)} rows were delivered). "
            "Deliver that day again, or run an earlier --day."
        )
