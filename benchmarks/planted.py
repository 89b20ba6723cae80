"""Whether the item profile finds what is true in a generated shop: whom an item without a single event is made for.

    python benchmarks/planted.py HOME RUN    # a home made by `nightshelf generate`, and its night: 2026-03-01.nightly

A user with one theme at heart wants the items of that theme. Items that nobody has met are ranked for these users by
the profile, by how much their category sells, and by chance; an item's nearest neighbours should be of its theme and
kind.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import sparse

from models import metrics
from pipelines.marts import Marts
from pipelines.run import Run

COUNT = 5
AT_HEART = 0.5  # share of the largest theme in a user's taste
DRAWS = 20


@dataclass(frozen=True)
class Planted:
    """What was planted, by position of the run's users and items, and what its profile says of them.

    Attributes:
        tastes: (U, T) share of each theme; 0 for users who were not planted.
        themes: (I,) numbers of the items' themes.
        kinds: (I,)
        is_cold: (I,) whether nobody has met the item.
        sold: (I,) events of all items of the category.
        users: (U, E), items: (I, E) profile vectors.
    """

    tastes: np.ndarray
    themes: np.ndarray
    kinds: np.ndarray
    is_cold: np.ndarray
    sold: np.ndarray
    users: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, run: Run) -> "Planted":
        marts, truth = Marts(run), run.home / "truth"
        people = pd.read_parquet(truth / "users.parquet").set_index("user_id").reindex(marts.users.ids)
        goods = pd.read_parquet(truth / "items.parquet").set_index("item_id").reindex(marts.items.ids)
        tastes = people.filter(like="taste_").fillna(0.0)
        met = marts.interactions(run.day).getnnz(axis=0)
        return cls(
            tastes.to_numpy(),
            tastes.columns.str.removeprefix("taste_").get_indexer(pd.Index(goods["theme"])),
            goods["kind"].to_numpy(),
            met == 0,
            pd.Series(met).groupby(marts.catalogue["category"].to_numpy()).transform("sum").to_numpy(),
            *(np.load(run.of("train_profile", "final", f"{side}_vectors.npy")) for side in ("user", "item")),
        )


def cold_recall(told: Planted) -> dict[str, float]:
    """Recall@5 of the cold items that users want, among all cold ones, by what ranks them."""
    cold, favourite = np.flatnonzero(told.is_cold), told.tastes.argmax(axis=1)
    wanted = (told.themes[cold] == favourite[:, None]) & (told.tastes.max(axis=1) > AT_HEART)[:, None]
    asked = np.flatnonzero(wanted.any(axis=1) & told.users.any(axis=1))
    wants, shape = sparse.csr_matrix(wanted[asked].astype(float)), (len(asked), len(cold))
    dice = np.random.default_rng(17)

    def recall(scores: np.ndarray) -> float:
        ranked = np.argsort(-scores, axis=1, kind="stable")[:, :COUNT]
        return float(np.mean(metrics.recall_at(ranked, wants, COUNT)))

    return {
        "profile": recall(told.users[asked] @ told.items[cold].T),
        "what their category sells": recall(np.broadcast_to(told.sold[cold], shape)),
        "chance": float(np.mean([recall(dice.random(shape)) for _ in range(DRAWS)])),
    }


def neighbours_agree(told: Planted) -> dict[str, float]:
    """Share of the five nearest neighbours by profile that are of an item's theme, and of its kind."""
    vectors = told.items - told.items.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :COUNT]
    return {
        "theme": float((told.themes[nearest] == told.themes[:, None]).mean()),
        "kind": float((told.kinds[nearest] == told.kinds[:, None]).mean()),
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("home", type=Path)
    ask.add_argument("run")
    told = ask.parse_args()
    planted = Planted.of(Run.load(told.run, told.home.resolve()))
    print(f"{planted.is_cold.sum()} of {len(planted.is_cold)} items were never met")
    for title, figures in (
        ("recall@5 of never met items, ranked by", cold_recall(planted)),
        ("the five nearest neighbours are of the same", neighbours_agree(planted)),
    ):
        table = Table(title, "")
        for name, value in figures.items():
            table.add_row(name, f"{value:.3f}")
        Console().print(table)


if __name__ == "__main__":
    main()
