"""What each thing that the list builder heeds takes: CPU seconds of many lists, alone and together.

`python benchmarks/lists.py` takes a minute or two. Lists of 20 places are built from 40 candidates each, drawn by fame,
in blocks as the night builds them; contenders take turns, and figures are medians over the rounds.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pipelines.lists import builder
from pipelines.lists.builder import FRESH, NEW, Cap, Demand, Terms
from pipelines.lists.chance import Draws
from pipelines.lists.pool import OWN, Pool
from pipelines.lists.shares import Share
from pipelines.shelve.placing import BLOCK

LENGTH, WIDTH, EMBEDDING = 20, 40, 64


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--lists", type=int, default=20_000)
    ask.add_argument("--items", type=int, default=50_000)
    ask.add_argument("--rounds", type=int, default=3)
    told = ask.parse_args()
    pool, heeded = shop(told.lists, told.items)
    seconds: dict[str, list[float]] = {name: [] for name in heeded}
    for _ in range(told.rounds):
        for name, terms in heeded.items():
            seconds[name].append(cpu_seconds(pool, terms))
    table = Table("heeded", "CPU s", title=f"{told.lists:,} lists of {LENGTH} from {WIDTH} candidates each")
    for name, took in seconds.items():
        table.add_row(name, f"{np.median(took):.2f}")
    Console(width=100).print(table)


def shop(lists: int, items: int) -> tuple[Pool, dict[str, Terms]]:
    """Everybody's candidates, and by name what their lists heed."""
    dice = np.random.default_rng(7)
    keys = dice.random((lists, WIDTH)) * items**0.5
    candidates = np.sort((keys**2).astype(int), axis=1) + np.arange(WIDTH)  # each once, the famous ones often
    pool = Pool(candidates % items, -np.sort(-dice.normal(size=(lists, WIDTH)), axis=1), np.full(WIDTH, OWN))
    vectors = dice.normal(size=(items, EMBEDDING)).astype(np.float32)
    plain = Terms(np.arange(items), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    everybody, new, every = np.ones(lists, dtype=bool), dice.random(items) < 0.05, np.ones(items, dtype=bool)
    users, goods = (dice.integers(2**63, size=count, dtype=np.uint64) for count in (lists, items))
    parts: dict[str, dict[str, Any]] = {
        "diversity": {"diversity": 0.2},
        "one cap per brand": {"caps": [Cap(0, everybody, dice.integers(500, size=items), 3)]},
        "one must_include": {"least": [Demand(1, everybody, new, 1)]},
        "a share that is new": {"shares": [Share(NEW, 0.1, new, np.empty((lists, 0), dtype=int))]},
        "a share that is fresh": {"shares": [Share(FRESH, 0.3, every, pool.items[:, :LENGTH])]},
        "a tenth of the places drawn": {"draws": Draws(users, goods, 0.1)},
    }
    shares = [share for part in parts.values() for share in part.get("shares", ())]
    together = {name: value for part in parts.values() for name, value in part.items()} | {"shares": shares}
    named = {"nothing": {}, **parts, "all of it": together}
    return pool, {name: replace(plain, **changes) for name, changes in named.items()}


def cpu_seconds(pool: Pool, terms: Terms) -> float:
    begun = time.process_time()
    for lists in blocks(len(pool.items)):
        builder.build(pool.of(lists), terms.of(lists), LENGTH)
    return time.process_time() - begun


def blocks(count: int) -> Iterator[np.ndarray]:
    return (np.arange(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK))


if __name__ == "__main__":
    main()
