"""What fewer candidates and fewer trees cost in NDCG@10, and what they save, in a run whose sources are trained.

    python benchmarks/fewer.py HOME 2011-10-14.nightly
    python benchmarks/fewer.py HOME RUN --trees 300:0.05 100:0.1 --candidates 150 60 --seeds 1 2 3

Trees are taught by the windows before the last one and judged on that, as by the night; gains over the first row are
paired by user, with their 95 % intervals. N:R are N trees that learn at the rate R. Of each user the mean over seeds,
which draw what teaches, is what counts. CPU seconds are those of making candidates and of scoring them; learning is
left out.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import sparse

from models import metrics
from pipelines.fuse.judging import DEEPEST, Judged
from pipelines.fuse.lessons import LEARNED, Notes, windows
from pipelines.fuse.rankings import learn, side_by_side
from pipelines.marts import Marts
from pipelines.run import Run

SEED = 17


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("home", type=Path)
    ask.add_argument("run")
    ask.add_argument("--trees", nargs="+", default=["100:0.1", "300:0.05", "60:0.1"], metavar="N:R")
    ask.add_argument("--candidates", nargs="+", type=int, default=[150, 100, 60], metavar="N")
    ask.add_argument("--seeds", nargs="+", type=int, default=[17, 18, 19])
    told = ask.parse_args()
    run = Run.load(told.run, told.home.resolve())
    names = [f"{placement}: {what}" for placement in LEARNED for what in ("NDCG@10", "gain", "coverage@10")]
    table = Table("candidates", "of a user", "trees", "CPU s: found", "ranked", *names)
    first: dict[str, list[Judged]] = {}
    for count, trees in product(told.candidates, told.trees):
        number, rate = trees.split(":")
        fuse = {"candidates": count, "trees": int(number), "learning_rate": float(rate)}
        trials = [measured(Trial.of_run(run, seed, **fuse)) for seed in told.seeds]
        judged = {placement: [lists[placement] for lists, *_ in trials] for placement in LEARNED}
        many, seconds = trials[0][1], np.mean([spent for *_, spent in trials], axis=0)
        first = first or judged
        cells = [cell for placement, one in judged.items() for cell in told_of(one, first[placement])]
        table.add_row(str(count), f"{many:.0f}", trees, *(f"{one:.1f}" for one in seconds), *cells)
    Console(width=240).print(table)


class Trial(Run):
    """A run with another seed and other settings of `fuse`, whose sources are those of the run."""

    def has(self, stage: str) -> bool:
        return Run.load(self.run_id, self.home).has(stage)

    @classmethod
    def of_run(cls, run: Run, seed: int, **changes: float) -> "Trial":
        fuse = run.settings.fuse.model_copy(update=changes)
        settings = run.settings.model_copy(update={"fuse": fuse, "seed": seed})
        return cls(**{one.name: getattr(run, one.name) for one in fields(run)} | {"settings": settings})


def measured(run: Run) -> tuple[dict[str, Judged], float, tuple[float, float]]:
    """By placement lists of the last window by trees that the others taught; candidates of a user; CPU seconds for
    finding them and for ranking."""
    *earlier, last = windows(run, Marts(run))
    notes = [Notes(run.settings, weighing=np.empty(0, dtype=int)).read(one.lessons()) for one in earlier]
    trees = side_by_side(run, lambda placement: learn("lambdarank", placement, notes, run))
    lists: dict[str, list[np.ndarray]] = {placement: [] for placement in LEARNED}
    wanted: dict[str, list[sparse.csr_matrix]] = {placement: [] for placement in LEARNED}
    count, found, ranked = 0, 0.0, 0.0
    started = time.process_time()
    for lesson in last.lessons():
        begun = time.process_time()
        found, count = found + begun - started, count + len(lesson.labels)
        for placement in LEARNED:
            placed = lesson.placed(placement)
            started = time.process_time()
            score = trees[placement].score(placed.slate)
            ranked += time.process_time() - started
            lists[placement].append(placed.slate.found.best(score, DEEPEST))
            wanted[placement].append(placed.wanted)
        started = time.process_time()
    judged = {one: Judged(np.concatenate(lists[one]), sparse.csr_matrix(sparse.vstack(wanted[one]))) for one in LEARNED}
    return judged, count / len(last.users), (found, ranked)


def told_of(judged: Sequence[Judged], first: Sequence[Judged]) -> list[str]:
    """NDCG@10, how much more that is than of the first, and coverage, by the mean over seeds."""
    ours, theirs = (np.mean([one.ndcg for one in some], axis=0) for some in (judged, first))
    gain = metrics.bootstrap_interval(ours - theirs, SEED)
    shown = np.mean([metrics.coverage(one.ranked[:, :10], one.wanted.shape[1]) for one in judged])
    return [f"{np.nanmean(ours):.4f}", "{:+.4f} ({:+.4f} to {:+.4f})".format(*gain), f"{shown:.3f}"]


if __name__ == "__main__":
    main()
