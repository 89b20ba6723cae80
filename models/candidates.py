"""Candidates: what the sources proposed to each user (or for each query), with what every source says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models import fusion


@dataclass(frozen=True)
class Candidates:
    """Flat rows by owner: owner b has the rows from offsets[b] to offsets[b + 1], their items ascending.

    Attributes:
        owners: (B,) positions of users, or of queries.
        offsets: (B + 1,) int64.
        items: (R,) item positions.
        scores: (R, S) as the sources gave them; a source that does not know the item says 0 or less.
    """

    owners: np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    scores: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """(R,) index into `owners`."""
        return np.repeat(np.arange(len(self.owners)), np.diff(self.offsets))

    @property
    def row_owners(self) -> np.ndarray:
        """(R,) the owner of each row."""
        return np.repeat(self.owners, np.diff(self.offsets))

    @property
    def scaled(self) -> np.ndarray:
        """(R, S) on one scale: 0 is a source's worst candidate of the owner, 1 its best."""
        return fusion.scale_by_user(self.scores, self.offsets)

    @property
    def source_ranks(self) -> np.ndarray:
        """(R, S) rank of each candidate in each source, from 1; 0 where the source has nothing to say for it."""
        columns = [np.where(score > 0, self.ranks(score), 0) for score in self.scores.T]
        return np.stack(columns, axis=1) if columns else np.zeros(self.scores.shape, dtype=np.int64)

    @property
    def reciprocal_ranks(self) -> np.ndarray:
        """(R, S) what each source adds to reciprocal-rank fusion."""
        return fusion.reciprocal_ranks(self.source_ranks)

    @property
    def log_ranks(self) -> np.ndarray:
        """(R, S) the sources' ranks on one scale: 0 is what a source has nothing to say for, 1 its best."""
        counts = np.diff(self.offsets)
        return fusion.log_ranks(self.source_ranks, np.repeat(counts, counts))

    def ranks(self, score: np.ndarray) -> np.ndarray:
        """(R,) rank of each row among its owner's by a score (R,), from 1; ties by item."""
        return fusion.ranks_by_user(score, self.offsets, self.items)

    def best(self, score: np.ndarray, k: int) -> np.ndarray:
        """(B, k) the items with the largest score, best first, padded with -1."""
        ranks = self.ranks(score)
        top = ranks <= k
        ranked = np.full((len(self.owners), k), -1, dtype=np.int64)
        ranked[self.rows[top], ranks[top] - 1] = self.items[top]
        return ranked

    def only(self, kept: np.ndarray) -> Candidates:
        """The same owners with fewer rows, `kept` (R,) bool."""
        counts = np.bincount(self.rows[kept], minlength=len(self.owners))
        return Candidates(self.owners, starts(counts), self.items[kept], self.scores[kept])

    def of(self, places: np.ndarray) -> Candidates:
        """Fewer owners, by their ascending places in `owners`, with all their rows."""
        chosen = np.zeros(len(self.owners), dtype=bool)
        chosen[places] = True
        kept = chosen[self.rows]
        return Candidates(
            self.owners[places], starts(np.diff(self.offsets)[places]), self.items[kept], self.scores[kept]
        )


def joined(blocks: Sequence[Candidates], count_sources: int) -> Candidates:
    """Blocks of owners, one after the other."""
    if not blocks:
        nothing = np.empty(0, dtype=np.int64)
        return Candidates(nothing, np.zeros(1, dtype=np.int64), nothing, np.empty((0, count_sources)))
    counts = np.concatenate([np.diff(block.offsets) for block in blocks])
    owners, items, scores = (
        np.concatenate([getattr(block, name) for block in blocks]) for name in ("owners", "items", "scores")
    )
    return Candidates(owners, starts(counts), items, scores)


def starts(counts: np.ndarray) -> np.ndarray:
    """Offsets (B + 1,) of rows that are laid one owner after the other."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
