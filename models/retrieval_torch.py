"""The sieve of models/retrieval.py on any device that PyTorch computes on: large tiles, one top-k merge after each.

What it lets through is scored again by the same float64 as what numpy lets through, and the same bound on errors says
whose list needs a look at every item: lists and scores are those of the processor, to the last bit. Which of equal
scores a device keeps at the end of a list does not matter therefore.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.retrieval import EMPTY, LOWEST, Excluded, Items, Sieve, keys_of

BYTES_PER_SCORE = 16  # the score, and what looking for the largest holds beside it


def on(device: str) -> Sieve:
    """The sieve on a device, as `top_items` takes it."""
    return partial(DeviceSieve, device)


class DeviceSieve:
    """Items that lie on the device, longest first, for block after block of users.

    Raises:
        ValueError: PyTorch is told to multiply with less than float32, for which the bound on errors does not hold.
    """

    def __init__(self, device: str, items: Items, memory_bytes: int):
        if (precision := torch.get_float32_matmul_precision()) != "highest":
            raise ValueError(
                f'float32 is multiplied at precision {precision!r}: torch.set_float32_matmul_precision("highest")'
            )
        self.items, self.memory_bytes = items, memory_bytes
        self.vectors = torch.from_numpy(items.vectors).to(device)  # (A, F)

    @torch.inference_mode()
    def __call__(
        self, users: np.ndarray, lengths: np.ndarray, kept: int, excluded: Excluded
    ) -> tuple[np.ndarray, np.ndarray]:
        """Keys (B, kept) and least scores (B,); see `models.retrieval.Search`."""
        vectors = torch.from_numpy(users).to(self.vectors.device)
        scores = torch.full((len(users), kept), -torch.inf, device=vectors.device)
        places = torch.zeros_like(scores, dtype=torch.long)
        least = np.full(len(users), LOWEST)
        tile = max(self.memory_bytes // (len(users) * BYTES_PER_SCORE), 1)
        for first in range(0, len(self.items.positions), tile):
            in_reach = lengths * self.items.lengths[first] >= least
            if not in_reach[lengths > 0].any():
                break
            found = self._scores(vectors, slice(first, first + tile), excluded)
            found, place = found.topk(min(kept, found.shape[1]))
            scores, order = torch.cat([scores, found], dim=1).topk(kept)
            places = torch.cat([places, place + first], dim=1).gather(1, order)
            least = np.maximum(scores[:, -1].cpu().numpy(), LOWEST)
        known = torch.isfinite(scores).cpu().numpy() & (lengths > 0)[:, None]  # to vectors of length 0 all are equal
        keys = np.where(known, keys_of(scores.cpu().numpy(), places.cpu().numpy()), EMPTY)
        return keys, np.where(lengths > 0, least, LOWEST)

    def _scores(self, vectors: Tensor, part: slice, excluded: Excluded) -> Tensor:
        """Scores (B, t) of users (B, F) for a tile of items; -inf where an item is excluded."""
        scores = vectors @ self.vectors[part].T
        pairs = slice(*np.searchsorted(excluded.places, [part.start, part.start + scores.shape[1]]))
        rows, columns = (torch.from_numpy(one[pairs]).to(scores.device) for one in (excluded.rows, excluded.places))
        scores[rows, columns - part.start] = -torch.inf
        return scores
