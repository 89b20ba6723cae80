"""The rankings that contend for the shelves: reciprocal ranks, a linear blend, and trees that learn from lists."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from models import candidates
from models.fusion import LinearBlend
from models.ranker import LambdaRank
from models.shapley import Payouts
from pipelines.fuse import features
from pipelines.fuse.slate import Lesson, Slate
from pipelines.fuse.sources import SOURCES
from pipelines.run import Run

PARTS = (*SOURCES, "taste")  # what a score is the sum of; taste is the fit of price, category and age of the item
LEARNED = ("for_you", "discover")  # buy_again is for_you without the rest
CONTENDERS = ("lambdarank", "blend", "rrf")  # best first; each must hold against those after it
T = TypeVar("T")


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


def load(name: str, path: Path) -> Ranking:
    """The ranking of that name, as `save` wrote it."""
    if name == "rrf":
        return ReciprocalRanks()
    return Linear(LinearBlend.load(path)) if name == "blend" else Trees(LambdaRank.load(path))


def learn(name: str, placement: str, told: Sequence[Lesson], run: Run, haste: int = 1) -> Ranking:
    """A contender taught by some lessons; raises NothingToLearn where they teach nothing of the placement.

    Trees learn `haste` times as fast, and are as many times fewer.
    """
    placed = [lesson.placed(placement) for lesson in told]
    if name == "lambdarank":
        return _trees(placed, run, haste)
    return _blend(placed) if name == "blend" else ReciprocalRanks()


def side_by_side(run: Run, act: Callable[[str], T]) -> dict[str, T]:
    """What `act` gives for each learned placement; they share the machine's threads.

    Trees on as few rows as a night has keep the threads of one training waiting for each other.
    """
    with ThreadPoolExecutor(run.settings.machine.threads) as pool:
        return dict(zip(LEARNED, pool.map(act, LEARNED), strict=True))


def _blend(told: Sequence[Lesson]) -> Linear:
    scaled, offsets, labels = _pooled([one.slate.found.scaled for one in told], told, len(SOURCES))
    return Linear(LinearBlend(SOURCES).fit(scaled, offsets, labels))


def _trees(told: Sequence[Lesson], run: Run, haste: int) -> Trees:
    fuse, seed = run.settings.fuse, run.settings.seed
    thin = [lesson.thinned(fuse.negatives, seed) for lesson in told]
    known, offsets, labels = _pooled([one.slate.features for one in thin], thin, len(features.NAMES))
    ranker = LambdaRank(
        features.NAMES,
        trees=-(-fuse.trees // haste),
        leaves=fuse.leaves,
        learning_rate=min(haste * fuse.learning_rate, 1.0),
        rising=features.RISING if fuse.monotone else (),
        seed=seed,
        threads=max(run.settings.machine.threads // len(LEARNED), 1),  # of `side_by_side`
    )
    return Trees(ranker.fit(known, offsets, labels))


def _pooled(
    columns: Sequence[np.ndarray], told: Sequence[Lesson], width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (R, width), offsets and labels of several lessons, one after the other."""
    counts = [np.diff(one.slate.found.offsets) for one in told]
    rows = np.concatenate([np.empty((0, width), dtype=np.float32), *columns])
    labels = np.concatenate([np.empty(0, dtype=bool), *(one.labels for one in told)])
    return rows, candidates.starts(np.concatenate([np.empty(0, dtype=np.int64), *counts])), labels


def _with_taste(parts: np.ndarray) -> np.ndarray:
    """(N, S) of the sources become (N, P): the plain rankings know nothing of taste."""
    return np.pad(parts, ((0, 0), (0, len(PARTS) - len(SOURCES))))
