"""Judging: the lists that every ranking makes of the held-out days, block by block of their users."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse

from models import metrics
from models.candidates import Candidates
from pipelines.fuse.lessons import Lesson
from pipelines.fuse.rankings import Score
from pipelines.fuse.sources import SOURCES

DEEPEST = 20  # rows of a list that is measured


@dataclass(frozen=True)
class Judged:
    """Lists of one ranking, (B, 20), and what their users wanted."""

    ranked: np.ndarray
    wanted: sparse.csr_matrix

    @property
    def ndcg(self) -> np.ndarray:
        """(B,) NDCG@10."""
        return metrics.ndcg_at(self.ranked, self.wanted, 10)

    def of(self, users: np.ndarray, items: np.ndarray) -> "Judged":
        """Some users, (B,) bool, as if they had wanted some items only, (I,) bool."""
        wanted = sparse.csr_matrix(self.wanted[users].multiply(items[None, :]))
        wanted.eliminate_zeros()
        return Judged(self.ranked[users], wanted)


@dataclass
class Bench:
    """One placement's lists by each source and each contender; `considered` candidates of a user are kept beside."""

    placement: str
    considered: int
    wanted: list[sparse.csr_matrix] = field(default_factory=list)
    lists: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    columns: dict[str, list[list[np.ndarray]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, lesson: Lesson, scores: Mapping[str, Score]) -> None:
        """One block of users, judged by contenders too."""
        placed = lesson.placed(self.placement)
        found = placed.slate.found
        self.wanted.append(placed.wanted)
        for name, score in zip(SOURCES, found.scores.T, strict=True):
            self.lists[name].append(found.best(score, DEEPEST))
        for name, of in scores.items():
            score = of(placed.slate)
            rows, ranks = _first(found, score, max(DEEPEST, self.considered))
            self.lists[name].append(_listed(found, rows, ranks))
            kept = rows[ranks <= self.considered]
            self.columns[name].append([found.row_owners[kept].astype(np.int32), found.items[kept], score[kept]])

    def judged(self) -> dict[str, Judged]:
        """By source, then by contender."""
        wanted = sparse.csr_matrix(sparse.vstack(self.wanted, format="csr"))
        return {name: Judged(np.concatenate(lists), wanted) for name, lists in self.lists.items()}

    def candidates(self, name: str) -> pd.DataFrame:
        """placement, user, item and score of the best rows of each user by a contender, best first."""
        columns = map(np.concatenate, zip(*self.columns[name], strict=True))
        found = pd.DataFrame(dict(zip(("user", "item", "score"), columns, strict=True)))
        found.insert(0, "placement", self.placement)
        return found


def lists_of(lessons: Iterable[Lesson], score: Score) -> Judged:
    """Of one ranking alone."""
    told = [(one.slate.found.best(score(one.slate), DEEPEST), one.wanted) for one in lessons]
    ranked, wanted = zip(*told, strict=True)
    return Judged(np.concatenate(ranked), sparse.csr_matrix(sparse.vstack(wanted, format="csr")))


def record(metric: str, values: np.ndarray, seed: int) -> list[dict]:
    """A figure with its interval; none where nobody can be measured."""
    mean, low, high = metrics.bootstrap_interval(values, seed)
    return [] if np.isnan(mean) else [{"metric": metric, "value": mean, "low": low, "high": high}]


def _first(found: Candidates, score: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The best `count` rows of each owner, owner by owner and best first, and their ranks."""
    ranks = found.ranks(score)
    rows = np.flatnonzero(ranks <= count)
    rows = rows[np.lexsort((ranks[rows], found.rows[rows]))]
    return rows, ranks[rows]


def _listed(found: Candidates, rows: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    """(B, 20) items of these rows by their ranks, padded with -1."""
    ranked, top = np.full((len(found.owners), DEEPEST), -1, dtype=np.int64), ranks <= DEEPEST
    ranked[found.rows[rows[top]], ranks[top] - 1] = found.items[rows[top]]
    return ranked
