"""The exact top-N of models/retrieval.py beside the bare product that any needs, and what one would use instead.

`python benchmarks/topn.py` takes some minutes; `--spark-users 0` leaves MLlib out.

Each user is asked for the best 100 items not bought, of two kinds of vectors: factors that Nightshelf's own ALS learns
from generated purchases, whose lengths differ as those of shops do, and flat ones, normally distributed, where no bound
on lengths helps. Contenders take turns, and each is compared with the bare product of its own round: sgemm on one
thread, 512 users by all items, into memory that is there already. Figures are medians over the rounds.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import psutil
import torch
from implicit.als import AlternatingLeastSquares
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table
from scipy import sparse
from threadpoolctl import threadpool_limits

from models import als, retrieval, retrieval_torch
from pipelines import java
from pipelines.settings import Settings

N = 100
ROWS = 512  # users of one product
CHECKED = 500  # users whose lists are held against those of float64
PRODUCT = "sgemm alone (1)"


@dataclass(frozen=True)
class Shop:
    """What is asked: the best N items of each user that the user has not bought."""

    users: np.ndarray  # (U, F) float32
    items: np.ndarray  # (I, F) float32
    bought: sparse.csr_matrix  # (U, I)

    def blocks(self) -> list[slice]:
        return [slice(start, start + ROWS) for start in range(0, len(self.users), ROWS)]


Contender = Callable[[Shop], np.ndarray | None]  # (U, N) positions, if it has any


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, default=4_096, help="who are asked about")
    ask.add_argument("--items", type=int, default=50_000)
    ask.add_argument("--learn-from", type=int, default=50_000, help="users whose purchases teach the factors")
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--spark-users", type=int, default=1_024, help="who are asked about in MLlib; 0: nobody")
    told = ask.parse_args()
    threads = os.cpu_count() or 1
    bought = purchases(told.learn_from, told.items)
    defaults = Settings().als
    model = als.fit(bought, regularization=defaults.regularization, alpha=defaults.alpha, epochs=5, threads=threads)
    dice, asked = np.random.default_rng(0), bought[: told.users]
    users, items = (dice.normal(size=(count, 64)).astype(np.float32) for count in (told.users, told.items))
    shops = {
        "ALS factors": Shop(model.user_factors[: told.users], model.item_factors, asked),
        "flat vectors": Shop(users, items, asked),
    }
    for name, shop in shops.items():
        title = f"{name}: {told.users:,} users, {told.items:,} items of 64 numbers, the best {N}"
        Console(width=110).print(compared(shop, contenders(threads), told.rounds, title))
    if told.spark_users:
        few = Shop(model.user_factors[: told.spark_users], model.item_factors, bought[: told.spark_users])
        Console(width=110).print(beside_mllib(few, bought, told.rounds, threads))


def purchases(users: int, items: int) -> sparse.csr_matrix:
    """(U, I) 1 where the user bought the item: few items are famous, and most purchases are of the user's own taste."""
    dice, tastes = np.random.default_rng(7), 40
    rows = np.repeat(np.arange(users), np.minimum(dice.zipf(1.6, users) + 10, 300))
    fame = np.cumsum((np.arange(items) + 1.0) ** -0.9)
    columns = np.searchsorted(fame, dice.random(len(rows)) * fame[-1])
    own = columns - columns % tastes + dice.integers(tastes, size=users)[rows]
    columns = np.where(dice.random(len(rows)) < 0.6, own % items, columns)
    found = sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(users, items))
    found.data[:] = 1
    return found


def contenders(threads: int) -> dict[str, Contender]:
    """By the name that the table shows, threads in brackets."""
    found: dict[str, Contender] = {PRODUCT: product}
    for count in sorted({1, threads}):
        found[f"Nightshelf ({count})"] = partial(nightshelf, threads=count)
    found["Nightshelf (1), no bound on lengths"] = unbounded
    found["Nightshelf (1), sieve by torch"] = sieved_by_torch
    for count, blas in sorted({(1, 1), (threads, 1), (threads, threads)}):
        found[f"implicit.recommend ({count}), BLAS ({blas})"] = partial(by_implicit, threads=count, blas=blas)
    return found | {"torch.topk (1)": by_torch, "numpy.argpartition (1)": by_numpy}


def product(shop: Shop) -> None:
    """Every score once, kept nowhere."""
    scores = np.empty((ROWS, len(shop.items)), dtype=np.float32)
    with threadpool_limits(1, "blas"):
        for block in shop.blocks():
            users = shop.users[block]
            np.matmul(users, shop.items.T, out=scores[: len(users)])


def nightshelf(shop: Shop, threads: int) -> np.ndarray:
    return retrieval.top_items(shop.users, shop.items, N, shop.bought, threads=threads)[0]


def unbounded(shop: Shop) -> np.ndarray:
    """As `nightshelf`, but with items in the catalogue's order, each taken to be as long as the longest."""
    places = np.arange(len(shop.items))
    longest = np.full(len(places), np.sqrt(np.vecdot(shop.items, shop.items).max(), dtype=np.float64))
    items = retrieval.Items(places, shop.items, longest, places)
    with patch.object(retrieval.Items, "longest_first", return_value=items):
        return nightshelf(shop, 1)


def sieved_by_torch(shop: Shop) -> np.ndarray:
    """As `nightshelf`, but through the sieve that runs on any device, here on the processor; with the larger tiles that
    a device wants."""
    sieve = retrieval_torch.on("cpu")
    with one_torch_thread():
        return retrieval.top_items(shop.users, shop.items, N, shop.bought, memory_bytes=1 << 30, sieve=sieve)[0]


def by_implicit(shop: Shop, threads: int, blas: int) -> np.ndarray:
    model = AlternatingLeastSquares(factors=shop.items.shape[1], num_threads=threads)
    model.user_factors, model.item_factors = shop.users, shop.items
    with threadpool_limits(blas, "blas"):
        return model.recommend(np.arange(len(shop.users)), shop.bought, N=N, filter_already_liked_items=True)[0]


def by_torch(shop: Shop) -> np.ndarray:
    items, found = torch.from_numpy(shop.items), []
    with one_torch_thread():
        for block in shop.blocks():
            scores = torch.from_numpy(shop.users[block]) @ items.T
            scores[tuple(map(torch.from_numpy, shop.bought[block].nonzero()))] = -torch.inf
            found.append(scores.topk(N).indices.numpy())
    return np.concatenate(found)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def by_numpy(shop: Shop) -> np.ndarray:
    found = []
    with threadpool_limits(1, "blas"):
        for block in shop.blocks():
            scores = shop.users[block] @ shop.items.T
            scores[shop.bought[block].nonzero()] = -np.inf
            best = np.argpartition(scores, -N, axis=1)[:, -N:]
            order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
            found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found)


def compared(shop: Shop, among: dict[str, Contender], rounds: int, title: str) -> Table:
    truth, recall = by_float64(shop), {}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in among}
    for _ in range(rounds):
        for name, contender in among.items():
            lists, took = seconds_of(partial(contender, shop))
            seconds[name].append(took)
            if lists is not None:
                recall[name] = np.mean([np.isin(*both).mean() for both in zip(truth, lists, strict=False)])
    table = Table("contender", "CPU s", "wall s", "CPU, sgemm = 1", "wall, sgemm = 1", "recall", title=title)
    for name, told in seconds.items():
        figures = np.median(np.concatenate([told, np.array(told) / seconds[PRODUCT]], axis=1), axis=0)
        table.add_row(name, *(f"{value:.2f}" for value in figures), f"{recall[name]:.6f}" if name in recall else "")
    return table


def by_float64(shop: Shop) -> np.ndarray:
    """The lists of the first users, by sorting every score in float64."""
    scores = shop.users[:CHECKED].astype(np.float64) @ shop.items.T.astype(np.float64)
    scores[shop.bought[:CHECKED].nonzero()] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :N]


def beside_mllib(shop: Shop, bought: sparse.csr_matrix, rounds: int, threads: int) -> Table:
    """Nanoseconds per pair of user and item. MLlib's factors are its own, of one sweep, and it leaves nothing out."""
    seconds: dict[str, list[tuple[float, float]]] = {"MLlib": [], "Nightshelf": []}
    with tempfile.TemporaryDirectory() as scratch, spark_session(Path(scratch), threads) as spark:
        (java_process,) = psutil.Process().children()
        rows, columns = bought.nonzero()
        pairs = pd.DataFrame({"user": rows, "item": columns, "rating": 1.0})
        learner = ALS(rank=64, maxIter=1, implicitPrefs=True, userCol="user", itemCol="item")
        model, asked = learner.fit(spark.createDataFrame(pairs)), spark.range(len(shop.users)).toDF("user").cache()
        for _ in range(rounds):
            begun = java_process.cpu_times()
            recommend = model.recommendForUserSubset(asked, N).write.format("noop").mode("overwrite").save
            _, (_, wall) = seconds_of(recommend)
            seconds["MLlib"].append((sum(java_process.cpu_times()[:2]) - sum(begun[:2]), wall))
            seconds["Nightshelf"].append(seconds_of(partial(nightshelf, shop, threads))[1])
    title = f"{len(shop.users):,} users, {len(shop.items):,} items, {threads} threads"
    table = Table("contender", "CPU ns per pair", "wall ns per pair", title=title)
    for name, told in seconds.items():
        per_pair = np.median(told, axis=0) / (len(shop.users) * len(shop.items)) * 1e9
        table.add_row(name, *(f"{value:.2f}" for value in per_pair))
    return table


@contextmanager
def spark_session(scratch: Path, threads: int) -> Iterator[SparkSession]:
    os.environ["JAVA_HOME"] = str(java.find(scratch))
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = SparkSession.builder.master(f"local[{threads}]").config("spark.driver.memory", "4g")
    for name, value in (("ui.enabled", "false"), ("ui.showConsoleProgress", "false"), ("local.dir", str(scratch))):
        builder = builder.config(f"spark.{name}", value)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()


def seconds_of(act: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    """What it returns, and its CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = act()
    return result, (time.process_time() - cpu, time.perf_counter() - wall)


if __name__ == "__main__":
    main()
