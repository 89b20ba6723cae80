"""What users did, as arrays that the networks read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Histories:
    """What users did, one row per user or training example, padded at any place with position -1.

    Attributes:
        positions: (N, H) int32 item positions, -1 is padding.
        ages_days: (N, H) days from the event to the day of the recommendation.
        event_weights: (N, H) what the event is worth, positive.
        bought: (N, H) bool, whether the item was bought with it.
    """

    positions: np.ndarray
    ages_days: np.ndarray
    event_weights: np.ndarray
    bought: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) events of each."""
        return (self.positions >= 0).sum(axis=1)

    def of(self, rows: np.ndarray) -> Histories:
        """Some rows, (M,) places."""
        return Histories(*(getattr(self, one.name)[rows] for one in fields(self)))

    def narrow(self) -> tuple[Histories, np.ndarray]:
        """Without the columns in which all have padding, and the places (C,) of those that stay; one at least does."""
        kept = np.flatnonzero((self.positions >= 0).any(axis=0))
        kept = kept if len(kept) else np.arange(min(self.positions.shape[1], 1))
        return Histories(*(getattr(self, one.name)[:, kept] for one in fields(self))), kept


def joined(parts: Sequence[Histories], length: int) -> Histories:
    """All rows of histories of that length, one after the other."""
    nothing = np.empty((0, length))
    empty = Histories(*(nothing.astype(kind) for kind in (np.int32, np.float32, np.float32, bool)))
    return Histories(*(np.concatenate([getattr(one, f.name) for one in (empty, *parts)]) for f in fields(Histories)))
