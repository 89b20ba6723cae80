"""The rankings of the results: trees taught by clicks, and sums of scores, of ranks or of reciprocal ranks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from models import candidates
from models.errors import NothingToLearn
from models.ranker import LambdaRank
from pipelines.marts import values_at
from pipelines.run import Run, write_json
from pipelines.search.answers import FEATURES, SOURCES, Slate

CONTENDERS = ("lambdarank", "mix", "rrf")  # best first; each must hold against those after it
UNTAUGHT = "ranks"  # in place of the first one where no clicks teach it
MEANING = 0.2  # its share beside the words: an encoder that has read no more than they are knows less
BEHAVIOUR = 2.0  # of a share: half of what people did after a query outweighs all that texts say
REASONS = {"behaviour": "behaviour", "words": "lexical", "meaning": "semantic"}  # each with the source behind it
LEAST_ROWS = 20  # candidates that a leaf must hold: a shop has fewer queries than users
LARGEST_GRADE = 7


@dataclass(frozen=True)
class Lesson:
    """What was known of queries at the end of a day, and (Q, I) the weight of what people then did after each.

    `part`: name of the cut in `Run.cuts`.
    """

    slate: Slate
    wanted: sparse.csr_matrix
    part: str

    @property
    def grades(self) -> np.ndarray:
        """(R,) small integers that grow with the logarithm of the weight."""
        weight = values_at(self.wanted, self.slate.found.rows, self.slate.found.items)
        return np.minimum(np.ceil(np.log2(1.0 + weight)), LARGEST_GRADE)


@dataclass(frozen=True)
class Ranking:
    """The order of results, by the ranking of that name; what a query calls by its number is first."""

    name: str = "mix"
    trees: LambdaRank | None = None

    def score(self, slate: Slate) -> np.ndarray:
        """One score per row, (R,); larger is better within a query."""
        if self.trees and len(slate.features):
            score = self.trees.score(slate.features)
        else:
            score = {"rrf": reciprocal_ranks, UNTAUGHT: mixed_ranks}.get(self.name, mix)(slate)
        return first(score, slate.exact)

    def save(self, folder: Path) -> None:
        write_json(folder / "ranking.json", self.name)
        if self.trees:
            self.trees.save(folder / "ranker.json")

    @classmethod
    def load(cls, folder: Path) -> "Ranking":
        path = folder / "ranker.json"
        name = json.loads((folder / "ranking.json").read_text())
        return cls(name, LambdaRank.load(path) if path.exists() else None)


def first(score: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """Scores (R,) with those of `exact` (R,) bool above all others, in the same order among themselves."""
    return np.where(exact, score + np.ptp(score) + 1.0, score) if len(score) else score


def mix(slate: Slate) -> np.ndarray:
    """(R,) a convex sum of words and meaning, each from 0 to 1 in its query (Bruch, Gai and Ingber, 2023, *An Analysis
    of Fusion Functions for Hybrid Retrieval*), and the share of what people did after it."""
    return _shares(slate, slate.found.scaled)


def mixed_ranks(slate: Slate) -> np.ndarray:
    """(R,) the same of the logarithms of ranks: how far an encoder's cosines lie apart is its habit, and says little of
    how much it knows."""
    return _shares(slate, slate.found.log_ranks)


def _shares(slate: Slate, told: np.ndarray) -> np.ndarray:
    """(R,) from what the sources say (R, S), each from 0 to 1."""
    lexical, semantic, _ = told.T
    behaviour = slate.found.scores[:, SOURCES.index("behaviour")]
    return (1 - MEANING) * lexical + MEANING * semantic + BEHAVIOUR * behaviour


def reciprocal_ranks(slate: Slate) -> np.ndarray:
    """(R,) what many sources rank high."""
    return slate.found.reciprocal_ranks.sum(axis=1)


def learn(told: Sequence[Lesson], run: Run) -> Ranking:
    """Trees taught by what people clicked; raises NothingToLearn."""
    rows = [np.empty((0, len(FEATURES)), dtype=np.float32), *(one.slate.features for one in told)]
    grades = [np.empty(0), *(one.grades for one in told)]
    counts = [np.empty(0, dtype=np.int64), *(np.diff(one.slate.found.offsets) for one in told)]
    ranker = LambdaRank(FEATURES, least_rows=LEAST_ROWS, seed=run.settings.seed, threads=run.settings.machine.threads)
    offsets = candidates.starts(np.concatenate(counts))
    return Ranking("lambdarank", ranker.fit(np.concatenate(rows), offsets, np.concatenate(grades)))


def taught(name: str, told: Sequence[Lesson], run: Run) -> Ranking:
    """A contender as these lessons teach it; the sum, where they teach nothing."""
    try:
        return learn(told, run) if name == CONTENDERS[0] else Ranking(name)
    except NothingToLearn:
        return Ranking()


def reasons(slate: Slate) -> np.ndarray:
    """(R,) `exact`: its number was typed; else what REASONS calls the source that ranks it best, first of equals."""
    ranks = slate.found.source_ranks[:, [SOURCES.index(name) for name in REASONS.values()]]
    places = np.where(ranks > 0, ranks, np.iinfo(np.int64).max)
    return np.where(slate.exact, "exact", np.array(list(REASONS))[places.argmin(axis=1)])
