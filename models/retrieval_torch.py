"""The sieve of models/retrieval.py on any device that PyTorch computes on: large tiles, one top-k merge after each.

What it lets through is scored again by the same float64 as what numpy lets through, and the same bound on errors says
whose list needs a look at every item: lists and scores are those of the processor, to the last bit.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.retrieval import EMPTY, LOWEST, Excluded, Items, Sieve

BYTES_PER_SCORE = 40  # the score, its key, what both pass through on the way, and the sorting of keys


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
        best = torch.full((len(users), kept), EMPTY, device=vectors.device)
        best_score = np.full(len(users), LOWEST)
        tile = max(self.memory_bytes // (len(users) * BYTES_PER_SCORE), 1)
        for first in range(0, len(self.items.positions), tile):
            in_reach = lengths * self.items.lengths[first] >= best_score
            if not in_reach[lengths > 0].any():
                break
            keys = self._keys(vectors, slice(first, first + tile), excluded)
            best = torch.cat([best, keys], dim=1).topk(kept).values
            best_score = _least_scores(best[:, -1])
        nothing = lengths == 0  # to these all items are equal
        return np.where(nothing[:, None], EMPTY, best.cpu().numpy()), np.where(nothing, LOWEST, best_score)

    def _keys(self, vectors: Tensor, part: slice, excluded: Excluded) -> Tensor:
        """Keys (B, t) of a tile's scores: no two of a user are equal, so that a device has nothing to choose."""
        scores = vectors @ self.vectors[part].T
        places = torch.arange(part.start, part.start + scores.shape[1], device=scores.device)
        keys = _ascending(scores.view(torch.int32)).long() << 32 | places
        pairs = slice(*np.searchsorted(excluded.places, [part.start, part.start + scores.shape[1]]))
        rows, columns = (torch.from_numpy(one[pairs]).to(keys.device) for one in (excluded.rows, excluded.places))
        keys[rows, columns - part.start] = EMPTY
        return keys


def _least_scores(keys: Tensor) -> np.ndarray:
    """(B,) float32 scores in keys (B,); LOWEST where there is none."""
    scores = _ascending((keys >> 32).int()).view(torch.float32)
    return scores.masked_fill(keys == EMPTY, float(LOWEST)).cpu().numpy()


def _ascending(bits: Tensor) -> Tensor:
    """Bits of float32 as integers of the same order, and back: those of negative numbers run the other way."""
    return bits ^ (bits >> 31 & 0x7FFFFFFF)
