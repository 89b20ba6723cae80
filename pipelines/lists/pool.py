"""The pool: what may stand on lists, in its order, and what each column of it is worth."""

from dataclasses import dataclass

import numpy as np

OWN, PLACED, FILLING = 0, 1, 2  # kinds of columns: own candidates, what only a rule brings, what fills up
NEVER = -np.inf


@dataclass(frozen=True)
class Pool:
    """What may stand on B lists, in its order: own candidates best first, then the rest.

    Attributes:
        items: (B, P), -1 where there is none.
        scores: (B, P), read of own candidates only.
        kinds: (P,) OWN, PLACED or FILLING.
    """

    items: np.ndarray
    scores: np.ndarray
    kinds: np.ndarray

    def beside(self, items: np.ndarray, kind: int) -> "Pool":
        """The pool with further columns, items (B, N)."""
        return Pool(
            np.concatenate([self.items, items], axis=1),
            np.concatenate([self.scores, np.zeros(items.shape)], axis=1),
            np.append(self.kinds, np.full(items.shape[1], kind)),
        )

    def of(self, lists: np.ndarray) -> "Pool":
        return Pool(self.items[lists], self.scores[lists], self.kinds)


def relevance(pool: Pool) -> np.ndarray:
    """(B, P) own scores from 1 for a list's best to 0 for its worst; the other columns lie below, in their order."""
    own = (pool.kinds == OWN) & (pool.items >= 0)
    best = np.max(pool.scores, axis=1, initial=NEVER, where=own)[:, None]
    worst = np.min(pool.scores, axis=1, initial=np.inf, where=own)[:, None]
    width = np.where(own.any(axis=1)[:, None] & (best > worst), best - worst, 1.0)
    with np.errstate(invalid="ignore"):
        scaled = np.where(own, (pool.scores - worst) / width, 0.0)
    behind = -2.0 - np.arange(len(pool.kinds))
    return np.where(pool.kinds == OWN, scaled, behind)
