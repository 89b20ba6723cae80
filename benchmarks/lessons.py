"""What it takes to teach the rankings and to prove them, by what their windows could have shown.

    python benchmarks/lessons.py --users 2000 10000

Users of each of two windows could have been shown 420 generated candidates, whose features are as many and as wide as
a night's; few trees learn, for memory asks for rows. Each figure is of a process of its own.
"""

import argparse
import datetime as dt
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import sparse

from models import candidates
from models.candidates import Candidates
from pipelines import fuse, settings
from pipelines.costs import Meter
from pipelines.fuse import features, proof
from pipelines.fuse.lessons import Window
from pipelines.fuse.sources import SOURCES
from pipelines.lists.chance import mixed

ROWS = 420  # candidates of a user
STRIDE = 10  # items from which each of them is drawn
WINDOWS = 2
WANTED = 4  # of each user
TREES = 20
DAY = dt.date(2026, 3, 1)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, nargs="+", default=[2_000, 10_000], help="of one window")
    ask.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    told = ask.parse_args()
    if told.alone is not None:
        print(*measured(told.alone))
        return
    print_costs(told.users)


class Shown:
    """A moment, and its sources: what they know is drawn by user and place, and one item in ten thousand says much."""

    def __init__(self, seed: int):
        self.sources, self.seed = self, seed

    def candidates(self, users: np.ndarray, allowed: np.ndarray | None = None) -> Candidates:
        scores = np.random.default_rng([self.seed, users[0]]).random((len(users) * ROWS, len(SOURCES)), np.float32)
        offsets = candidates.starts(np.full(len(users), ROWS))
        return Candidates(users, offsets, items_of(users).ravel(), scores)

    def is_bought(self, found: Candidates) -> np.ndarray:
        return np.random.default_rng([self.seed, 1]).random(len(found.items)) < 0.03

    def features(self, found: Candidates) -> np.ndarray:
        dice = np.random.default_rng([self.seed, found.owners[0]])
        return dice.random((len(found.items), len(features.NAMES)), np.float32)


def items_of(users: np.ndarray) -> np.ndarray:
    """(B, ROWS) ascending positions of items."""
    keys = mixed(users[:, None].astype(np.uint64) * np.uint64(ROWS) + np.arange(ROWS, dtype=np.uint64))
    return np.arange(ROWS) * STRIDE + (keys % np.uint64(STRIDE)).astype(np.int64)


def window(count: int, seed: int) -> Window:
    users = np.arange(count)
    places = np.random.default_rng(seed).integers(ROWS, size=(count, WANTED))
    wanted = np.take_along_axis(items_of(users), places, axis=1).ravel()
    shape = count, ROWS * STRIDE
    found = sparse.csr_matrix((np.ones(len(wanted)), (np.repeat(users, WANTED), wanted)), shape=shape)
    found.sum_duplicates()
    return Window(users, found, lambda: Shown(seed))  # type: ignore[arg-type, return-value]


def measured(count: int) -> tuple[float, float]:
    """CPU seconds, and peak resident MiB of this process; of no users, with all that it imports."""
    told = settings.parse({"fuse": {"trees": TREES}})
    run = SimpleNamespace(settings=told, holdout_cut=DAY, run_id="benchmark")
    users = pd.DataFrame({"country": ["DE"] * count, "first_seen_date": [np.datetime64(DAY)] * count})
    marts = SimpleNamespace(
        frame=lambda *_: users,
        bought=lambda *_: sparse.csr_matrix((count, ROWS * STRIDE)),
        ages_days=lambda *_: np.zeros(ROWS * STRIDE),
        users=SimpleNamespace(ids=np.arange(count)),
        items=SimpleNamespace(ids=np.arange(ROWS * STRIDE)),
    )
    meter = Meter()
    if count:
        chosen, *_, notes = proof.prove(run, marts, [window(count, seed) for seed in range(WINDOWS)])  # type: ignore[arg-type]
        fuse._taught(run, notes, chosen)  # type: ignore[arg-type]
    cost = meter.read()
    return cost["cpu_seconds"], cost["peak_memory_mb"]


def print_costs(sizes: list[int]) -> None:
    table = Table("users of a window", "candidates", "CPU s", "peak MiB", "bytes a candidate")
    least = 0.0
    for count in (0, *sizes):
        asked = [sys.executable, __file__, "--alone", str(count)]
        seconds, peak = map(float, subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split())
        least, rows = least or peak, WINDOWS * count * ROWS
        share = f"{(peak - least) * 2**20 / rows:.0f}" if rows else ""
        table.add_row(f"{count:,}", f"{rows:,}", f"{seconds:.1f}", f"{peak:.0f}", share)
    Console().print(table)


if __name__ == "__main__":
    main()
