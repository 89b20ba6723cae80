"""Ids that differ only in writing, for shops where such an id is a mistake: the spelling that came first counts."""

from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines import contracts
from pipelines.clean import rules
from pipelines.clean.lake import Partition


def judge(session: SparkSession, rows: DataFrame, name: str, planned: Mapping[str, Sequence[Partition]]) -> DataFrame:
    """`rows` with the rule `<id>_twin` on those that write an id otherwise than its table did first.

    Events are held against what had arrived by then; an id that its table never names is not compared.
    """
    for column, owner in contracts.NAMED_BY.items():
        if column not in rows.columns:
            continue
        known = _spellings(session, planned[owner], column)
        if name == owner:
            own = rows.where(F.col("rule").isNull()).select(column, F.col("arrival_date").alias("arrived_on"))
            known = known.unionByName(own)
        rows = _judged(rows, column, _first(known, column))
    return rows


def _spellings(session: SparkSession, partitions: Sequence[Partition], column: str) -> DataFrame:
    paths = [path for partition in partitions for path in partition.parquet("accepted")]
    if not paths:
        return session.createDataFrame([], f"{column} string, arrived_on date")
    return session.read.parquet(*paths).select(column, "arrived_on")


def _first(known: DataFrame, column: str) -> DataFrame:
    """(_folded, _first): by folded id the day and the spelling that came first, of one day the smallest."""
    first = F.min(F.struct("arrived_on", column)).alias("_first")
    return known.groupBy(rules.folded(column).alias("_folded")).agg(first)


def _judged(rows: DataFrame, column: str, first: DataFrame) -> DataFrame:
    known = rows.join(first, rules.folded(column) == F.col("_folded"), "left")
    is_twin = (F.col(f"_first.{column}") != F.col(column)) & (F.col("_first.arrived_on") <= F.col("arrival_date"))
    judged = known.withColumn("rule", rules.first_broken(F.col("rule"), [(f"{column}_twin", is_twin)]))
    return judged.drop("_folded", "_first")
