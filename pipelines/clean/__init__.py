"""Clean: decide which raw rows are true; they go into the lake, the others, each with its rule, into quarantine."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines import contracts, raw, spark
from pipelines.clean import lake, reading, rules
from pipelines.clean.lake import Partition
from pipelines.errors import BadInput, NoDataForDay
from pipelines.raw import RawFile
from pipelines.run import Run, stage, write_json


@stage
def run(run: Run, folder: Path) -> None:
    """Clean what arrived since the last night; write which partitions of the lake the run reads, and the books."""
    planned = lake.plan(run, files_of(run))
    if any(not partition.is_clean for partitions in planned.values() for partition in partitions):
        with spark.session(run) as session:
            for name, partitions in planned.items():
                clean_table(session, run, name, partitions, planned)
    _require_rows_of_the_day(run, planned["events"])
    write_json(
        folder / "partitions.json", {n: [str(p.folder) for p in partitions] for n, partitions in planned.items()}
    )
    books = [
        {"table_name": p.table, "arrival_date": p.day, **b} for ps in planned.values() for p in ps for b in p.books
    ]
    write_json(folder / "books.json", books)


def files_of(run: Run) -> list[RawFile]:
    """The raw files as they were when the run opened; files that came since wait for the next run."""
    found = raw.inventory(run.home, run.day, contracts.raw_tables())
    files = [file for file in found if run.inputs.get(file.path) == file.sha256]
    if changed := sorted(set(run.inputs) - {file.path for file in files}):
        raise BadInput(f"{', '.join(changed[:5])}: changed or gone since {run.run_id} was opened. Open the run again.")
    return files


def clean_table(
    session: SparkSession, run: Run, name: str, partitions: Sequence[Partition], planned: dict[str, list[Partition]]
) -> None:
    """Clean the days of one table that the lake does not have yet, all in one job."""
    pending = [partition for partition in partitions if not partition.is_clean]
    if not pending:
        return
    table = contracts.raw_tables()[name]
    read = reading.read(
        session, run.home, [f for p in pending for f in p.files], table, getattr(run.settings.columns, name)
    )
    frame = rules.apply(read, table, run.settings)
    if name == "events":
        frame = frame.transform(lambda f: event_rules(session, f, run, planned))
    else:
        frame = frame.transform(rules.keep_first([*table.key, "arrival_date"]))
    partial = run.lake / f"{name}.{run.run_id}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        write(frame, table, partial)
        lake.settle(partial, pending, run.settings.clean.max_rejected_share)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def event_rules(session: SparkSession, frame: DataFrame, run: Run, planned: dict[str, list[Partition]]) -> DataFrame:
    """The rules that only events have, in the order in which they are named."""
    frame = (
        frame.transform(rules.need_item)
        .transform(rules.need_query)
        .transform(rules.not_from_the_future(run.settings.shop.timezone))
        .transform(rules.not_before_opening(run.settings))
    )
    if run.settings.clean.unknown_items == "reject":
        frame = frame.transform(rules.know_item(first_seen(session, planned["items"])))
    frame = frame.transform(rules.identify)
    if seen := [path for p in planned["events"] if p.is_clean for path in p.parquet("accepted")]:
        frame = frame.transform(rules.keep_unseen(session.read.parquet(*seen)))
    return frame.transform(rules.keep_first(["event_id"]))


def first_seen(session: SparkSession, catalogue: Sequence[Partition]) -> DataFrame:
    """(item_id, first_arrival) over the cleaned catalogue."""
    paths = [path for partition in catalogue for path in partition.parquet("accepted")]
    if not paths:
        return session.createDataFrame([], "item_id string, first_arrival date")
    rows = session.read.parquet(*paths).withColumnRenamed("arrived_on", "first_arrival")
    return rows.groupBy("item_id").agg(F.min("first_arrival").alias("first_arrival"))


def write(frame: DataFrame, table: contracts.Table, partial: Path) -> None:
    """One file per arrival day and verdict, rows in a fixed order; `arrived_on` repeats the folder's date."""
    verdict = F.when(F.col("rule").isNull(), "accepted").otherwise("rejected").alias("verdict")
    names = [name for name in table.names if name != "arrival_date"]
    rows = frame.select(
        *names, F.col("arrival_date").alias("arrived_on"), "rule", "original", "file", "arrival_date", verdict
    )
    ordered = rows.repartition("arrival_date").sortWithinPartitions("arrival_date", "verdict", *table.key, "original")
    ordered.write.partitionBy("arrival_date", "verdict").parquet(str(partial))


def _require_rows_of_the_day(run: Run, events: Sequence[Partition]) -> None:
    today = [b for partition in events if partition.day == run.day for b in partition.books]
    if not any(record["rule"] == "accepted" for record in today):
        raise NoDataForDay(
            f"events: no true row arrived on {run.day} ({sum(b['count_rows'] for b in today)} rows were delivered). "
            "Deliver that day again, or run an earlier --day."
        )
