"""Raw files of any known format as one Spark frame: each contract column as text, beside the whole original row."""

from collections import defaultdict
from collections.abc import Iterable
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, FloatType, StringType, StructField, StructType, TimestampType

from pipelines.contracts import Table
from pipelines.raw import RawFile

BROKEN = "_broken"  # the line that could not be split into fields


def read(spark: SparkSession, home: Path, files: Iterable[RawFile], table: Table, mapping: dict[str, str]) -> DataFrame:
    """One row per raw row: contract columns as text (null when empty or not delivered), `original`, `is_broken`,
    `file` (relative to raw/) and `arrival_date`."""
    groups: dict[tuple[str, tuple[str, ...]], list[str]] = defaultdict(list)
    for file in files:
        if file.columns:
            groups[file.format, file.columns if file.format == "csv" else ()].append(str(home / file.path))
    frames = [
        _named(_FORMATS[format_](spark, paths, list(columns) or _sources(table, mapping)), table, mapping)
        for (format_, columns), paths in sorted(groups.items())
    ]
    return reduce(DataFrame.unionByName, frames)


def _sources(table: Table, mapping: dict[str, str]) -> list[str]:
    return [mapping.get(column.name, column.name) for column in table.columns if not column.is_filled]


def _csv(spark: SparkSession, paths: list[str], columns: list[str]) -> DataFrame:
    fields = [StructField(name, StringType()) for name in [*columns, BROKEN]]
    reader = spark.read.schema(StructType(fields)).option("columnNameOfCorruptRecord", BROKEN)
    frame = reader.csv(paths, header=True, mode="PERMISSIVE", quote='"', escape='"', lineSep="\n", enforceSchema=True)
    row = F.to_json(F.struct(*[_field(name) for name in columns]))
    return _placed(frame.withColumn("original", F.coalesce(F.col(BROKEN), row)), F.col(BROKEN).isNotNull())


def _jsonl(spark: SparkSession, paths: list[str], columns: list[str]) -> DataFrame:
    """Lines are read as text first, so that a broken one is kept as it came."""
    schema = StructType([StructField(name, StringType()) for name in [*columns, BROKEN]])
    options = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": BROKEN}
    lines = spark.read.text(paths, lineSep="\n").where(F.trim("value") != "")
    parsed = lines.withColumn("row", F.from_json("value", schema, options)).withColumnRenamed("value", "original")
    fields = [F.col("row").getField(name).alias(name) for name in columns]
    is_broken = F.col("row").getField(BROKEN).isNotNull() | F.col("row").isNull()
    return _placed(parsed.select("original", "_metadata", *fields, is_broken.alias("is_broken")), F.col("is_broken"))


def _parquet(spark: SparkSession, paths: list[str], columns: list[str]) -> DataFrame:
    frame = spark.read.option("mergeSchema", "true").parquet(*paths)
    original = F.to_json(F.struct(*[_field(name) for name in frame.columns]))
    texts = [_as_text(frame, name).alias(name) for name in columns if name in frame.columns]
    return _placed(frame.select(original.alias("original"), "_metadata", *texts), F.lit(False))


_FORMATS = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}


def _as_text(frame: DataFrame, name: str) -> Column:
    """Typed Parquet columns as the text that a shop would have written; a float that is whole loses its point."""
    column, kind = _field(name), frame.schema[name].dataType
    if isinstance(kind, TimestampType):
        return F.date_format(column, "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'")
    if isinstance(kind, DoubleType | FloatType):
        return F.when(column == F.floor(column), F.floor(column).cast("string")).otherwise(column.cast("string"))
    return column.cast("string")


def _placed(frame: DataFrame, is_broken: Column) -> DataFrame:
    path = F.col("_metadata.file_path")
    return frame.select(
        *[_field(name) for name in frame.columns if name not in ("_metadata", "is_broken", BROKEN)],
        is_broken.alias("is_broken"),
        F.regexp_extract(path, r"/raw/(.*)$", 1).alias("file"),
        F.to_date(F.regexp_extract(path, r"/dt=(\d{4}-\d{2}-\d{2})/", 1)).alias("arrival_date"),
    )


def _named(frame: DataFrame, table: Table, mapping: dict[str, str]) -> DataFrame:
    """Columns by their contract names; whitespace around a value is no part of it, and an empty one is missing."""

    def text(name: str) -> Column:
        source = mapping.get(name, name)
        if source not in frame.columns:
            return F.lit(None).cast("string").alias(name)
        return F.nullif(F.regexp_replace(_field(source), r"^\s+|\s+$", ""), F.lit("")).alias(name)

    texts = [text(column.name) for column in table.columns if not column.is_filled]
    return frame.select(*texts, "original", "is_broken", "file", "arrival_date")


def _field(name: str) -> Column:
    return F.col(f"`{name}`")
