"""What fewer candidates and fewer trees cost in NDCG@10, and what they save, in a run whose sources are trained.

    python benchmarks/fewer.py HOME 2011-10-14.nightly
    python benchmarks/fewer.py HOME RUN --trees 300 100:0.1 --candidates 150 50

Trees are taught by the windows before the last one and judged on that, as by the night. The first of each are the
night's; gains are paired by user, with their 95 % intervals. N:R are N trees that learn at the rate R. CPU seconds are
those of making candidates and of judging them; what is learnt is left out.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from models import metrics
from pipelines.fuse.judging import DEEPEST, Judged
from pipelines.fuse.lessons import LEARNED, Lesson, Notes, windows
from pipelines.fuse.rankings import learn, side_by_side
from pipelines.marts import Marts
from pipelines.run import Run

SEED = 17


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("home", type=Path)
    ask.add_argument("run")
    ask.add_argument("--trees", nargs="+", default=["300:0.05", "150:0.1", "100:0.15", "100:0.1"], metavar="N:R")
    ask.add_argument("--candidates", nargs="+", type=int, default=[150, 100, 60, 40])
    told = ask.parse_args()
    run = Run.load(told.run, told.home.resolve())
    first: dict[str, np.ndarray] = {}
    names = [f"{placement}: {what}" for placement in LEARNED for what in ("NDCG@10", "gain", "coverage@10")]
    table = Table("candidates", "of a user", "trees", "CPU s: found", "ranked", *names)
    for count, trees in product(told.candidates, told.trees):
        number, rate = trees.split(":")
        changes = {"candidates": count, "trees": int(number), "learning_rate": float(rate)}
        cells: list[str] = []
        judged, many, seconds = measured(Trial.of_run(run, **changes))
        for placement, one in judged.items():
            first.setdefault(placement, one.ndcg)
            gain = "{:+.4f} ({:+.4f} to {:+.4f})".format(*metrics.bootstrap_interval(one.ndcg - first[placement], SEED))
            shown = metrics.coverage(one.ranked[:, :10], one.wanted.shape[1])
            cells += [f"{one.ndcg[~np.isnan(one.ndcg)].mean():.4f}", gain, f"{shown:.3f}"]
        table.add_row(str(count), f"{many:.0f}", trees, *(f"{one:.1f}" for one in seconds), *cells)
    Console(width=240).print(table)


class Trial(Run):
    """A run with other settings of `fuse`, before which nothing would differ."""

    def has(self, stage: str) -> bool:
        return Run.load(self.run_id, self.home).has(stage)

    @classmethod
    def of_run(cls, run: Run, **changes: float) -> "Trial":
        settings = run.settings.model_copy(update={"fuse": run.settings.fuse.model_copy(update=changes)})
        return cls(**{one.name: getattr(run, one.name) for one in fields(run)} | {"settings": settings})


def measured(run: Run) -> tuple[dict[str, Judged], float, tuple[float, float]]:
    """Lists of the last window by trees that the others taught; candidates of a user; CPU seconds for finding them and
    for ranking."""
    *earlier, last = windows(run, Marts(run))
    notes = [Notes(run.settings, weighing=np.empty(0, dtype=int)).read(one.lessons()) for one in earlier]
    trees = side_by_side(run, lambda placement: learn("lambdarank", placement, notes, run))
    lists: dict[str, list] = {placement: [] for placement in LEARNED}
    spent, counts = {"find": 0.0, "rank": 0.0}, []
    for lesson in timed(last.lessons(), spent):
        counts.append((len(lesson.labels), len(lesson.slate.found.owners)))
        for placement in LEARNED:
            placed = lesson.placed(placement)
            started = time.process_time()
            score = trees[placement].score(placed.slate)
            spent["rank"] += time.process_time() - started
            lists[placement].append((placed.slate.found.best(score, DEEPEST), placed.wanted))
    rows, users = np.sum(counts, axis=0)
    return {one: joined(parts) for one, parts in lists.items()}, rows / users, (spent["find"], spent["rank"])


def timed(lessons: Iterator[Lesson], spent: dict[str, float]) -> Iterator[Lesson]:
    while True:
        started = time.process_time()
        lesson = next(lessons, None)
        spent["find"] += time.process_time() - started
        if lesson is None:
            return
        yield lesson


def joined(parts: list) -> Judged:
    from scipy import sparse

    ranked, wanted = zip(*parts, strict=True)
    return Judged(np.concatenate(ranked), sparse.csr_matrix(sparse.vstack(wanted, format="csr")))


if __name__ == "__main__":
    main()
