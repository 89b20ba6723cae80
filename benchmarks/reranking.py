"""What ranking a user's candidates costs beside finding them: CPU seconds of each step for 1,000 users, one thread.

`python benchmarks/reranking.py` takes some minutes, most of them for what is learnt first. The shop is generated, as
that of benchmarks/topn.py; sources, features, trees and parts of scores are the night's own, with its defaults. Users
come in blocks as at night, and figures are medians over the blocks.
"""

import argparse
import datetime as dt
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import sparse
from topn import purchases

from models import als
from models.ranker import LambdaRank
from pipelines import train_neighbours
from pipelines.fuse import features, slate
from pipelines.fuse.features import Moment
from pipelines.fuse.lessons import Lesson
from pipelines.fuse.rankings import Trees
from pipelines.fuse.scoring import SERVES, ranked
from pipelines.fuse.slate import Slate
from pipelines.fuse.sources import USERS_PER_BLOCK, Beside, Factors, Habit, Popularity, Sources
from pipelines.settings import Settings

UNTIL = dt.date(2026, 3, 1)
TEACHERS = 1_000  # users whose candidates teach the trees
T = TypeVar("T")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, default=20_000, help="who bought, and teach the models")
    ask.add_argument("--items", type=int, default=50_000)
    ask.add_argument("--rounds", type=int, default=3, help="blocks of users that are asked about")
    told = ask.parse_args()
    settings = Settings()
    moment = shop(told.users, told.items, settings)
    trees = taught(moment, settings)
    blocks = [np.arange(place, told.users, told.rounds)[:USERS_PER_BLOCK] for place in range(told.rounds)]
    seconds = pd.DataFrame([steps(moment, trees, users, settings) for users in blocks]).median()
    title = f"1,000 users, {told.items:,} items, {seconds.pop('candidates'):.0f} candidates each"
    sought = seconds.pop("sought")
    table = Table("step", "CPU s", "seeking = 1", title=title)
    for step, took in seconds.items():
        table.add_row(str(step), f"{took:.3f}", f"{took / sought:.2f}")
    Console(width=100).print(table)


class Shop:
    """What the night's marts tell of a generated shop."""

    def __init__(self, users: int, items: int):
        dice = np.random.default_rng(11)
        self.users, self.items, self.dice = range(users), range(items), dice
        self.pairs = purchases(users, items)
        rows, columns = np.repeat(self.pairs.nonzero(), 2, axis=1)  # seen once and bought once, or bought twice
        days = {"age": dice.integers(0, 200, len(rows)), "value": dice.random(len(rows)) < 0.75}
        acts = pd.DataFrame({"user": rows, "item": columns, **days}).sort_values(["user", "age"], ignore_index=True)
        self.done = acts.assign(value=acts["value"].astype(float), weight=np.where(acts["value"], 1.0, 0.2))

    def acts(self, until: dt.date) -> Iterator[tuple[slice, pd.DataFrame]]:
        yield slice(0, len(self.users)), self.done

    def people(self, until: dt.date) -> np.ndarray:
        return np.ones(len(self.users), dtype=bool)

    def kinds(self, until: dt.date) -> pd.DataFrame:
        counts = {"category": 200, "brand": 500}
        return pd.DataFrame({name: self.dice.integers(count, size=len(self.items)) for name, count in counts.items()})

    def popularity(self, until: dt.date, days: int | None = None) -> np.ndarray:
        recent = self.done[(self.done["value"] > 0) & (self.done["age"] < (days or 28))]
        return np.bincount(recent["item"], minlength=len(self.items))

    def ages_days(self, until: dt.date) -> np.ndarray:
        return self.dice.integers(1, 400, len(self.items))

    def prices(self, until: dt.date) -> np.ndarray:
        return self.dice.lognormal(7, 1, len(self.items))

    def frame(self, query: str) -> pd.DataFrame:
        return pd.DataFrame({"country": self.dice.integers(5, size=len(self.users))})


def shop(users: int, items: int, settings: Settings) -> Moment:
    """The sources and what is known of everybody. Profile and sequence, which nobody trains here, are vectors of equal
    length near to those of ALS: no bound on lengths helps to seek by them."""
    marts, machine = Shop(users, items), (settings.fuse.memory_mb << 20, 1)
    model = als.fit(marts.pairs, regularization=settings.als.regularization, alpha=settings.als.alpha, epochs=5)
    near = [level(vectors, marts.dice) for _ in range(2) for vectors in (model.user_factors, model.item_factors)]
    bought = sparse.csr_matrix(marts.pairs)
    by_name: dict[str, Any] = {
        "als": Factors(model.user_factors, model.item_factors, *machine),
        "neighbours": Beside(train_neighbours.fit(bought, settings.neighbours), bought),
        "profile": Factors(near[0], near[1], *machine),
        "sequence": Factors(near[2], near[3], *machine),
        "habit": Habit(bought),
        "popularity": Popularity(marts.popularity(UNTIL)),
    }
    sources = Sources(by_name, bought, np.ones(items, dtype=bool), settings.fuse.candidates)
    with patch.object(Sources, "load", return_value=sources):
        return Moment(SimpleNamespace(cuts={"final": UNTIL}), marts, "final")  # type: ignore[arg-type]


def level(vectors: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """Each as long as all others, and half of it chance."""
    blurred = vectors / vectors.std() + dice.normal(size=vectors.shape)
    return (blurred / np.linalg.norm(blurred, axis=1, keepdims=True)).astype(np.float32)


def taught(moment: Moment, settings: Settings) -> Trees:
    """As many trees as a night's, which learn from a taste that many sources know a part of."""
    told, dice = slate.slate(moment, np.arange(TEACHERS)), np.random.default_rng(5)
    wish = told.found.scaled.sum(axis=1) + dice.gumbel(size=len(told.features)) / 2
    lesson, fuse = Lesson(told, told.found.ranks(wish) <= 5, moment.sources.bought[:TEACHERS]), settings.fuse
    thin = lesson.only(lesson.thinned("for_you", fuse.negatives, 0))
    ranker = LambdaRank(features.NAMES, trees=fuse.trees, leaves=fuse.leaves, learning_rate=fuse.learning_rate)
    return Trees(ranker.fit(thin.slate.features, thin.slate.found.offsets, thin.labels))


def steps(moment: Moment, trees: Trees, users: np.ndarray, settings: Settings) -> dict[str, float]:
    """CPU seconds of each step for 1,000 of these users, and candidates of one."""
    sources, clock = moment.sources, Clock(1000 / len(users))
    bought = sources.bought[users]
    for name, source in sources.by_name.items():
        clock(f"seek: {name}", partial(source.propose, users, sources.count, bought, sources.known))
    sought = sum(clock.seconds.values())
    found = clock("what sources say of candidates", partial(sources.candidates, users))
    clock.seconds["what sources say of candidates"] -= sought
    told = clock("features", lambda: Slate(found, sources.is_bought(found), moment.features(found)))
    may_stand = {name: sources.known for served in SERVES.values() for name in served}
    rank, depth = Timed(trees.ranker, clock), settings.fuse.depth
    for learned, served in SERVES.items():
        placed = clock("order", partial(told.only, told.eligible(learned)))
        clock("order", partial(ranked, placed, rank, served, depth, may_stand, settings.considered(learned)))
    clock.seconds["order"] -= clock.seconds["trees"] + clock.seconds["parts of scores"]
    return {"candidates": len(found.items) / len(users), "sought": sought} | clock.seconds


class Clock:
    """CPU seconds by step, each times a factor."""

    def __init__(self, factor: float):
        self.factor, self.seconds = factor, defaultdict[str, float](float)

    def __call__(self, step: str, act: Callable[[], T]) -> T:
        started = time.process_time()
        done = act()
        self.seconds[step] += (time.process_time() - started) * self.factor
        return done


@dataclass(frozen=True)
class Timed(Trees):
    """Trees whose two acts have steps of their own."""

    clock: Clock

    def score(self, slate: Slate) -> np.ndarray:
        return self.clock("trees", partial(super().score, slate))

    def parts(self, slate: Slate, rows: np.ndarray) -> np.ndarray:
        return self.clock("parts of scores", partial(super().parts, slate, rows))


if __name__ == "__main__":
    main()
