"""The rankings that contend for the shelves: reciprocal ranks, a linear blend, and trees that learn from lists."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from models import candidates
from models.errors import NothingToLearn
from models.fusion import LinearBlend
from models.ranker import LambdaRank, Rows
from models.shapley import Payouts
from pipelines.fuse import features
from pipelines.fuse.lessons import LEARNED, Lesson, Notes
from pipelines.fuse.slate import Slate
from pipelines.fuse.sources import SOURCES
from pipelines.run import Run

PARTS = (*SOURCES, "taste")  # what a score is the sum of; taste is the fit of price, category and age of the item
CONTENDERS = ("lambdarank", "blend", "rrf")  # best first; each must hold against those after it
T = TypeVar("T")
Score = Callable[[Slate], np.ndarray]  # one per row, (R,)


class Ranking(Protocol):
    """Whatever puts a placement's slate in order."""

    def score(self, slate: Slate) -> np.ndarray:
        """One score per row, (R,); larger is better within a user."""
        ...

    def parts(self, slate: Slate, rows: np.ndarray) -> np.ndarray:
        """(N, P) what each of PARTS adds to the score of some rows (N,)."""
        ...

    def save(self, path: Path) -> None: ...


@dataclass(frozen=True)
class ReciprocalRanks:
    """What many sources rank high."""

    def score(self, slate: Slate) -> np.ndarray:
        return slate.found.reciprocal_ranks.sum(axis=1)

    def parts(self, slate: Slate, rows: np.ndarray) -> np.ndarray:
        return _with_taste(slate.found.reciprocal_ranks[rows])

    def save(self, path: Path) -> None:
        """There is nothing to keep."""


@dataclass(frozen=True)
class Linear:
    """A weighted sum of the sources' scaled scores."""

    blend: LinearBlend

    def score(self, slate: Slate) -> np.ndarray:
        return self.blend.score(slate.found.scaled)

    def parts(self, slate: Slate, rows: np.ndarray) -> np.ndarray:
        return _with_taste(self.blend.contributions(slate.found.scaled)[rows])

    def save(self, path: Path) -> None:
        self.blend.save(path)


@dataclass(frozen=True)
class Trees:
    """A LambdaRank ensemble over all features."""

    ranker: LambdaRank

    def score(self, slate: Slate) -> np.ndarray:
        return self.ranker.score(slate.features) if len(slate.features) else np.empty(0)

    def parts(self, slate: Slate, rows: np.ndarray) -> np.ndarray:
        return self._payouts.to(slate.features[rows], self.ranker.threads)

    @cached_property
    def _payouts(self) -> Payouts:
        return self.ranker.payouts([PARTS.index(group) for group in features.GROUPS])

    def save(self, path: Path) -> None:
        self.ranker.save(path)


Learn = Callable[[str, Sequence[Notes]], Ranking]  # from notes, for a placement


def load(name: str, path: Path) -> Ranking:
    """The ranking of that name, as `save` wrote it."""
    if name == "rrf":
        return ReciprocalRanks()
    return Linear(LinearBlend.load(path)) if name == "blend" else Trees(LambdaRank.load(path))


def learn(name: str, placement: str, told: Sequence[Notes], run: Run) -> Ranking:
    """A contender taught by notes of some windows; raises NothingToLearn where they teach nothing of the placement."""
    if name == "lambdarank":
        return _trees([lesson for notes in told for lesson in notes.thin], placement, run)
    if name == "blend":
        return _blend([lesson for notes in told for lesson in notes.weighed], placement)
    return ReciprocalRanks()


def taught(learn: Learn, placement: str, told: Sequence[Notes]) -> Score | None:
    """What scores slates by what these notes teach; None where that is nothing."""
    with suppress(NothingToLearn):
        return learn(placement, told).score
    return None


def crossed(learn: Learn, placement: str, notes: Notes) -> Score | None:
    """What scores slates of the users of these notes, each half of them by what the other half teaches; None where that
    is nothing."""
    even, odd = (taught(learn, placement, [notes.half(odd)]) for odd in (False, True))
    return partial(_by_half, odd, even) if even and odd else None


def _by_half(of_even: Score, of_odd: Score, slate: Slate) -> np.ndarray:
    score = np.zeros(len(slate.found.items))
    for odd, of in enumerate((of_even, of_odd)):
        half = slate.found.owners % 2 == odd
        score[half[slate.found.rows]] = of(slate.of(np.flatnonzero(half)))
    return score


def side_by_side(run: Run, act: Callable[[str], T]) -> dict[str, T]:
    """What `act` gives for each learned placement; they share the machine's threads.

    Trees on as few rows as a night has keep the threads of one training waiting for each other.
    """
    with ThreadPoolExecutor(run.settings.machine.threads) as pool:
        return dict(zip(LEARNED, pool.map(act, LEARNED), strict=True))


def _blend(told: Sequence[Lesson], placement: str) -> Linear:
    kept = [one.choices(placement) for one in told]
    scaled, end = np.empty((sum(map(np.count_nonzero, kept)), len(SOURCES))), 0
    for one, rows in zip(told, kept, strict=True):
        start, end = end, end + int(np.count_nonzero(rows))
        scaled[start:end] = one.slate.found.only(rows).scaled
    return Linear(LinearBlend(SOURCES).fit(scaled, *_pooled(told, kept)))


def _trees(told: Sequence[Lesson], placement: str, run: Run) -> Trees:
    fuse, seed = run.settings.fuse, run.settings.seed
    kept = [one.thinned(placement, fuse.negatives, seed) for one in told]
    ranker = LambdaRank(
        features.NAMES,
        trees=fuse.trees,
        leaves=fuse.leaves,
        learning_rate=fuse.learning_rate,
        rising=features.RISING if fuse.monotone else (),
        seed=seed,
        threads=max(run.settings.machine.threads // len(LEARNED), 1),  # of `side_by_side`
    )
    known = [Rows(one.slate.features, np.flatnonzero(rows)) for one, rows in zip(told, kept, strict=True)]
    return Trees(ranker.fit(known, *_pooled(told, kept)))


def _pooled(told: Sequence[Lesson], kept: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and labels of the rows that are kept, (R,) bool each, of several lessons, one after the other."""
    counts, labels = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=bool)]
    for one, rows in zip(told, kept, strict=True):
        found = one.slate.found
        counts.append(np.bincount(found.rows[rows], minlength=len(found.owners)))
        labels.append(one.labels[rows])
    return candidates.starts(np.concatenate(counts)), np.concatenate(labels)


def _with_taste(parts: np.ndarray) -> np.ndarray:
    """(N, S) of the sources become (N, P): the plain rankings know nothing of taste."""
    return np.pad(parts, ((0, 0), (0, len(PARTS) - len(SOURCES))))
