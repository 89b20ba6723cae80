"""Shares: how much of every list, and of its first rows, must be of some kind; what lists still owe while built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipelines.lists.pool import FILLING, NEVER, OWN

NOTHING = 1e-9  # what a product of share and rows may be off


@dataclass(frozen=True)
class Share:
    """At least this share of the rows of each list are `items` that the list has not `seen`, as far as its own
    candidates hold such.

    Of the first n rows it is `least` × n rounded down, of the whole list rounded up: what is asked for does not wait at
    the end (as Zehlike and others 2017 do for groups of people).

    Attributes:
        code: by which the rows are told that stand on their place for it.
        items: (I,) bool.
        seen: (B, S) items of each list that do not count, -1 for none.
    """

    code: int
    least: float
    items: np.ndarray
    seen: np.ndarray

    def of(self, lists: np.ndarray) -> "Share":
        return replace(self, seen=self.seen[lists])

    def holds(self, columns: np.ndarray) -> np.ndarray:
        """(B, P) bool: which of the items in `columns` (B, P) count."""
        counts = (columns >= 0) & self.items[columns]
        for seen in self.seen.T:
            counts &= columns != seen[:, None]
        return counts

    def rows(self, length: int) -> np.ndarray:
        """(L,) rows that it asks for among the first 1, 2, … L."""
        asked = np.floor(self.least * np.arange(1, length + 1) + NOTHING).astype(int)
        asked[-1] = np.ceil(self.least * length - NOTHING)
        return asked


class Owed:
    """What the lists of one pool still owe to some shares, the first of which goes before the others.

    Args:
        columns: (B, P) items; kinds: (P,).
        pinned: by place from 0, (B,) the column that stands there whatever comes, -1 for none.
    """

    def __init__(
        self,
        shares: Sequence[Share],
        columns: np.ndarray,
        kinds: np.ndarray,
        length: int,
        pinned: Mapping[int, np.ndarray],
    ) -> None:
        self.shares = shares
        self.holds = [_padded(share.holds(columns[:, kinds != FILLING]), len(kinds)) for share in shares]
        self.wanted = [holds & (kinds == OWN) for holds in self.holds]
        self.rows = [np.tile(share.rows(length), (len(columns), 1)) for share in shares]  # (B, L) owed by each place
        self.is_free = np.ones((len(columns), length), dtype=bool)
        for place, told in pinned.items():
            self.is_free[:, place] = told < 0
            self.settle(place, told)

    def settle(self, place: int, columns: np.ndarray) -> None:
        """Count the rows `columns` (B,), -1 for none, that stand on a place."""
        lists = np.flatnonzero(columns >= 0)
        for holds, rows in zip(self.holds, self.rows, strict=True):
            rows[lists[holds[lists, columns[lists]]], place:] -= 1

    def urgent(self, place: int, value: np.ndarray, missing: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`value` (B, P) as it is, or NEVER for all but what must come now, since up to some place a list has no more
        free places than rows that it owes; and (B,) the code of the share that says so, -1 for none. `missing` (B,)
        rows are owed to rules by the end."""
        told_by = np.full(len(value), -1)
        if not self.shares:
            return value, told_by
        owed = [np.maximum(rows[:, place:], 0) for rows in self.rows]
        total = np.sum(owed, axis=0)
        total[:, -1] += missing
        is_late = total >= np.cumsum(self.is_free[:, place:], axis=1)
        for share, wanted, rows in zip(self.shares, self.wanted, owed, strict=True):
            needed = wanted & (is_late & (rows > 0)).any(axis=1, keepdims=True) & (value > NEVER)
            told = needed.any(axis=1)
            told_by[told & (told_by < 0)] = share.code
            value = np.where(told[:, None] & ~needed, NEVER, value)
        return value, told_by


def _padded(holds: np.ndarray, width: int) -> np.ndarray:
    """(B, width) with False for the last columns, which fill up."""
    return np.pad(holds, ((0, 0), (0, width - holds.shape[1])))
