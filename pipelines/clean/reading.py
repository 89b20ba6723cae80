"""Landed files as Spark frames: each contract column beside the row's file, line and reading problem."""

import datetime as dt
import zoneinfo
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.clean.landing import Landed
from pipelines.contracts import Table
from pipelines.raw import RawFile
from pipelines.settings import Settings

Frame = tuple[DataFrame, bool]  # rows, and whether each that could be read has an `event_id`


def read(
    spark: SparkSession, landed: Sequence[Landed], files: Sequence[RawFile], table: Table, settings: Settings
) -> list[Frame]:
    """Frames with equal columns and, where Parquet files were delivered, different types: contract columns as they were
    written, `line`, `count_lines`, `problem`, `file_number`, `file`, `arrival_date`, and in UTC when that day ended in
    the shop (`day_end`) and when the look-back of its rows begins (`look_back_start`).

    A file's number is its place in `files` and its name in the landing folder, so that no name that a shop chose
    reaches Spark.
    """
    frames, mapping = [], getattr(settings.columns, table.name)
    for has_all_ids in (True, False):
        alike = [one for one in landed if one.has_all_ids == has_all_ids]
        if texts := [str(one.path) for one in alike if not one.is_native]:
            frames.append((spark.read.parquet(*texts), has_all_ids))
        for paths in _by_schema(one.path for one in alike if one.is_native):
            frames.append((_native(spark.read.parquet(*paths), table, mapping), has_all_ids))
    marks = "file_number int, file string, arrival_date date, day_end timestamp_ntz, look_back_start timestamp_ntz"
    places = [(number, file.path, file.day, *_bounds(file.day, settings)) for number, file in enumerate(files)]
    known = F.broadcast(spark.createDataFrame(places, marks))
    return [(frame.join(known, "file_number"), has_all_ids) for frame, has_all_ids in frames]


def _bounds(day: dt.date, settings: Settings) -> tuple[dt.datetime, dt.datetime]:
    """Of the shop's days, the end of `day` and the start of the first one whose events may still arrive on it."""
    zone = zoneinfo.ZoneInfo(settings.shop.timezone)
    days = day + dt.timedelta(days=1), day - dt.timedelta(days=settings.clean.look_back_days)
    end, start = (dt.datetime.combine(one, dt.time(), zone).astimezone(dt.UTC).replace(tzinfo=None) for one in days)
    return end, start


def _by_schema(paths: Iterable[Path]) -> list[list[str]]:
    """Files that Spark may read as one: equal names and types in equal order."""
    groups: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        schema = pq.read_schema(path).remove_metadata()
        groups[str(schema)].append(str(path))
    return [groups[schema] for schema in sorted(groups)]


def _native(frame: DataFrame, table: Table, mapping: Mapping[str, str]) -> DataFrame:
    """A Parquet file's own columns under the contract's names; its rows count as lines from 1."""
    columns = {
        name: field(source) if source in frame.columns else F.lit(None).cast("string")
        for name, source in table.sources(mapping, frame.columns).items()
    }
    return frame.select(
        *[column.alias(name) for name, column in columns.items()],
        (F.col("_metadata.row_index") + 1).alias("line"),
        F.lit(1).alias("count_lines"),
        F.lit(None).cast("string").alias("problem"),
        F.substring_index("_metadata.file_name", ".", 1).cast("int").alias("file_number"),
    )


def field(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")
