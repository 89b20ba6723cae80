"""A whole night beside what somebody would write instead: a script around `implicit`, and one around Spark's MLlib.

    python benchmarks/instead.py                                  # 2,000 users, 600 items, 90 days
    python benchmarks/instead.py --users 10000 --items 2000 --only "pandas and implicit" "Spark and MLlib"

All read the same raw files of a generated shop. The scripts parse and deduplicate the events, weigh and age them as a
night does by default, train ALS with the same settings, and write the first 20 things that a user has not bought and
can buy. They do no more: no quarantine, no text, no search, no ranker, no proof, no reasons, no gate, no release. Each
has a process of its own. How good the lists are, `benchmarks/night.py` tells: theirs are what it calls ALS.
"""

import argparse
import datetime as dt
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from cleaning import Cost, cost_of
from rich.console import Console
from rich.table import Table
from scipy import sparse

from pipelines import night
from pipelines.settings import Settings

COUNT = 20
DAY = dt.date(2026, 3, 1)
TOLD = Settings()
WEIGHTS = {name: getattr(TOLD.weights, name) for name in ("view", "cart", "purchase")}
NIGHT = "Nightshelf, the whole night"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, default=2000)
    ask.add_argument("--items", type=int, default=600)
    ask.add_argument("--days", type=int, default=90)
    ask.add_argument("--only", nargs="+", choices=[NIGHT, *CONTENDERS], default=[NIGHT, *CONTENDERS])
    ask.add_argument("--one", nargs=2, metavar=("CONTENDER", "HOME"), help="be one here; for this script itself")
    told = ask.parse_args()
    if told.one:
        by, home = told.one
        night.run(day=DAY, home=Path(home)) if by == NIGHT else CONTENDERS[by](Path(home))
        return
    with tempfile.TemporaryDirectory() as folder:
        Console().print(compared(told, Path(folder)))


def compared(told: argparse.Namespace, home: Path) -> Table:
    from pipelines.generate import generate

    made = generate(home, users=told.users, items=told.items, days=told.days, last_day=DAY)
    table = Table("by", "wall s", "CPU s", "CPU, night = 1", "peak GiB", title=f"{told.users:,} users: {made}")
    first: Cost | None = None
    for name in told.only:
        cost = cost_of([sys.executable, __file__, "--one", name, home])
        first = first or (cost if name == NIGHT else None)
        table.add_row(name, *cost.cells(first))
    return table


def by_implicit(home: Path) -> None:
    """As somebody would who knows pandas and `implicit`, and tames the threads of BLAS."""
    days = (pd.read_parquet(file) for file in sorted((home / "raw/items").glob("*/*.parquet")))  # what changed on each
    goods = pd.concat(days).drop_duplicates("item_id", keep="last")
    events = _events(home, goods)
    users, items = events["user_id"].astype("category").cat, pd.Categorical(events["item_id"], goods["item_id"])
    weights, bought = (
        sparse.csr_matrix((one.astype(np.float32), (users.codes, items.codes)), (len(users.categories), len(goods)))
        for one in (events["weight"], events["event_type"] == "purchase")
    )
    ids, scores = _recommended(weights, bought, ~goods["is_available"].to_numpy(dtype=bool))
    told = {"user_id": np.repeat(users.categories, COUNT), "rank": np.tile(np.arange(1, COUNT + 1), len(ids))}
    told |= {"item_id": goods["item_id"].to_numpy()[ids.ravel()], "score": scores.ravel()}
    pd.DataFrame(told).to_parquet(home / "lists.parquet", index=False)


def _events(home: Path, goods: pd.DataFrame) -> pd.DataFrame:
    """Each event once, with its weight; without what has no user, item, kind or time that there is."""
    columns = dict.fromkeys(("event_id", "user_id", "event_type", "item_id", "occurred_at"), "varchar")
    files = f"{home}/raw/events/*/*.jsonl.gz"  # pandas ends at the first line that is no JSON
    events = duckdb.read_json(files, columns=columns, format="newline_delimited", ignore_errors=True).df()
    events = events.drop_duplicates("event_id").dropna(subset=["user_id", "item_id"])
    at = pd.to_datetime(events["occurred_at"], format="ISO8601", errors="coerce", utc=True)
    ages = (pd.Timestamp(DAY, tz="UTC") + pd.Timedelta(days=1) - at).dt.total_seconds() / 86_400
    weights = events["event_type"].map(WEIGHTS) * np.exp2(-ages / TOLD.weights.half_life_days)
    usable = events["event_type"].isin(WEIGHTS) & events["item_id"].isin(goods["item_id"]) & (ages > 0)
    return events.assign(weight=weights)[usable]


def _recommended(
    weights: sparse.csr_matrix, bought: sparse.csr_matrix, is_gone: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Items and scores (U, COUNT)."""
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    bought.eliminate_zeros()
    weights.data = 1 + TOLD.als.alpha * weights.data
    told = {"factors": TOLD.als.factors, "regularization": TOLD.als.regularization, "iterations": TOLD.als.epochs}
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(**told, alpha=1.0, num_threads=TOLD.machine.threads, random_state=TOLD.seed)
        model.fit(weights, show_progress=False)
        return model.recommend(np.arange(weights.shape[0]), bought, N=COUNT, filter_items=np.flatnonzero(is_gone))


def by_mllib(home: Path) -> None:
    """As somebody would who knows Spark: ids become numbers by joins, and what was bought is taken out of longer lists
    afterwards, for `recommendForAllUsers` takes no filter."""
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    spark = _session(home)
    delivered = spark.read.parquet(f"{home}/raw/items").groupBy("item_id")
    goods = delivered.agg(f.max_by("is_available", "dt").alias("is_available")).cache()
    events = _weighed(spark, home).join(goods.select("item_id"), "item_id").cache()
    users, items = (_numbered(events.select(name).distinct(), name) for name in ("user_id", "item_id"))
    acts = events.join(users, "user_id").join(items, "item_id").groupBy("user", "item")
    pairs = acts.agg(f.sum("weight").alias("weight"), f.max(f.col("event_type") == "purchase").alias("bought")).cache()
    found = _longer_lists(pairs, users.count()).join(pairs.where("bought"), ["user", "item"], "left_anti")
    found = found.join(items, "item").join(goods.where("is_available").select("item_id"), "item_id").join(users, "user")
    ranks = f.row_number().over(Window.partitionBy("user_id").orderBy(f.desc("score"), "item_id"))
    found = found.withColumn("rank", ranks).where(f"rank <= {COUNT}")
    found.select("user_id", "rank", "item_id", "score").write.parquet(str(home / "mllib_lists"))
    _end(spark)


def _session(home: Path):
    from pyspark.sql import SparkSession

    from pipelines import java

    os.environ |= {"JAVA_HOME": str(java.find(home)), "SPARK_LOCAL_IP": "127.0.0.1"}
    builder = SparkSession.builder.master(f"local[{TOLD.machine.threads}]").config("spark.driver.memory", "4g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "8")
    spark = builder.config("spark.local.dir", str(home)).getOrCreate()
    spark.sparkContext.setCheckpointDir(str(home / "checkpoints"))  # without, fifteen sweeps overflow the stack
    return spark


def _end(spark) -> None:
    gateway = spark.sparkContext._gateway
    spark.stop()
    gateway.proc.stdin.close()
    gateway.proc.wait()  # else nobody would count what it took


def _weighed(spark, home: Path):
    """As `_events`, but for what the catalogue lacks."""
    from pyspark.sql import functions as f

    schema = "event_id string, user_id string, event_type string, item_id string, occurred_at string"
    events = spark.read.schema(schema).json(f"{home}/raw/events/*/*.jsonl.gz").dropDuplicates(["event_id"])
    at = f.expr("try_cast(occurred_at as timestamp)")
    days = (f.lit(dt.datetime.combine(DAY, dt.time.max)).cast("double") - at.cast("double")) / 86_400
    weigh = f.create_map(*(f.lit(one) for pair in WEIGHTS.items() for one in pair))[f.col("event_type")]
    aged = weigh * f.pow(f.lit(0.5), days / TOLD.weights.half_life_days)
    return events.where(days >= 0).withColumn("weight", aged).where("weight > 0 and user_id is not null")


def _longer_lists(pairs, count_users: int):
    """user, item and score of as many items as leave COUNT to who has bought most."""
    from pyspark.ml.recommendation import ALS
    from pyspark.sql import functions as f

    learner = ALS(
        rank=TOLD.als.factors,
        maxIter=TOLD.als.epochs,
        regParam=TOLD.als.regularization * count_users / pairs.count(),
        alpha=TOLD.als.alpha,
        implicitPrefs=True,
        seed=TOLD.seed,
        userCol="user",
        itemCol="item",
        ratingCol="weight",
    )
    longest = pairs.where("bought").groupBy("user").count().agg(f.max("count")).collect()[0][0]
    found = learner.fit(pairs).recommendForAllUsers(COUNT + longest).select("user", f.inline("recommendations"))
    return found.withColumnRenamed("rating", "score")


def _numbered(ids, name: str):
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    return ids.withColumn(name.removesuffix("_id"), f.row_number().over(Window.orderBy(name)) - 1).cache()


CONTENDERS: dict[str, Callable[[Path], None]] = {"pandas and implicit": by_implicit, "Spark and MLlib": by_mllib}

if __name__ == "__main__":
    main()
