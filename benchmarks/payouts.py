"""What it costs to take scores of trees apart: a table per leaf beside LightGBM's own SHAP values.

    python benchmarks/payouts.py --rows 5000 --trees 300

Both get the same ensemble, as large as a night's, over as many features; one thread each.
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import lightgbm
import numpy as np
from rich.console import Console
from rich.table import Table

from models.shapley import Payouts
from pipelines.fuse import features
from pipelines.fuse.rankings import PARTS

GROUPS = [PARTS.index(group) for group in features.GROUPS]
LEARNT_ROWS = 50_000
T = TypeVar("T")


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rows", type=int, default=5000)
    ask.add_argument("--trees", type=int, default=300)
    ask.add_argument("--leaves", type=int, default=15)
    told = ask.parse_args()
    known, booster = ensemble(told.trees, told.leaves)
    asked = known[: told.rows]
    payouts, making = timed(lambda: Payouts.of(booster, GROUPS))
    paid, paying = timed(lambda: payouts.to(asked))
    explained, explaining = timed(lambda: np.asarray(booster.predict(asked, pred_contrib=True, num_threads=1)))
    table = Table(
        "by", "CPU s", title=f"{told.rows} rows, {told.trees} trees of {told.leaves} leaves, {len(PARTS)} parts"
    )
    table.add_row("LightGBM, one value per feature", f"{explaining:.2f}")
    table.add_row("a table per leaf, one value per part", f"{paying:.2f}")
    table.add_row("making the tables, once per night", f"{making:.2f}")
    Console().print(table)
    score = booster.predict(asked, raw_score=True)
    print(f"Furthest from the score: {abs(paid.sum(axis=1) + payouts.base - score).max():.1e}")
    summed = np.stack([explained[:, :-1][:, np.equal(GROUPS, part)].sum(axis=1) for part in range(len(PARTS))], axis=1)
    print(f"Correlation with LightGBM's values, summed by part: {np.corrcoef(paid.ravel(), summed.ravel())[0, 1]:.4f}")


def ensemble(trees: int, leaves: int) -> tuple[np.ndarray, lightgbm.Booster]:
    """Features (R, K), a tenth of them unknown, and trees that learnt a target of sums and products of them."""
    dice = np.random.default_rng(17)
    known = dice.random((LEARNT_ROWS, len(GROUPS))).astype(np.float32)
    target = known[:, ::3].sum(axis=1) + 5 * known[:, 0] * known[:, 1] + dice.normal(size=len(known))
    known[dice.random(known.shape) < 0.1] = np.nan
    settings = {"num_leaves": leaves, "learning_rate": 0.05, "feature_fraction": 0.5, "num_threads": 1, "verbosity": -1}
    return known, lightgbm.train(settings, lightgbm.Dataset(known, label=target), num_boost_round=trees)


def timed(act: Callable[[], T]) -> tuple[T, float]:
    started = time.process_time()
    return act(), time.process_time() - started


if __name__ == "__main__":
    main()
