"""What users did, as arrays that the networks read."""

from __future__ import annotations

from dataclasses import dataclass

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
