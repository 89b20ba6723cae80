"""The exact best items of each user, block by block, so that users × items never stands in memory."""

from __future__ import annotations

import numpy as np
from scipy import sparse

# Products are always taken on this fixed grid: then no score's last bit depends on the memory that was granted.
GRID_USERS = 64
GRID_ITEMS = 32_768  # 64 × 32,768 scores of 4 bytes = 8 MiB, the least memory a block can take


def top_items(
    user_vectors: np.ndarray,
    item_vectors: np.ndarray,
    n: int,
    exclude: sparse.csr_matrix | None = None,
    allowed: np.ndarray | None = None,
    memory_bytes: int = 256 << 20,
) -> tuple[np.ndarray, np.ndarray]:
    """The n items with the largest inner product for each user; ties go to the smaller position.

    Args:
        user_vectors: (U, F) float32.
        item_vectors: (I, F) float32.
        exclude: (U, I), nonzero where the user must never be given the item.
        allowed: (I,) bool, the items that may be given to anybody; all by default.
        memory_bytes: ceiling for the block of scores. It changes the speed, never the result.
    Returns:
        positions (U, n) int32, best first, padded with -1; scores (U, n) float32, padded with -inf.
    Raises:
        ValueError: the shapes disagree, or a vector holds NaN or infinity.
    """
    _check(user_vectors, item_vectors, exclude, allowed)
    if allowed is not None:
        kept = np.flatnonzero(allowed)
        within = None if exclude is None else exclude.tocsc()[:, kept].tocsr()
        positions, scores = top_items(user_vectors, item_vectors[kept], n, within, None, memory_bytes)
        return _back_to_catalogue(positions, kept), scores
    count_users, count_items = len(user_vectors), len(item_vectors)
    positions = np.full((count_users, n), -1, dtype=np.int32)
    scores = np.full((count_users, n), -np.inf, dtype=np.float32)
    users, items = _block_shape(count_items, memory_bytes)
    for start in range(0, count_users, users):
        block = slice(start, start + users)
        for first in range(0, count_items, items):
            part = slice(first, first + items)
            tile = _scores(user_vectors[block], item_vectors[part])
            if exclude is not None:
                tile[exclude[block, part].nonzero()] = -np.inf
            _merge(positions[block], scores[block], tile, first)
    return positions, scores


def best_of(scores: np.ndarray, n: int) -> np.ndarray:
    """(B, n) positions of the largest finite scores of each row (B, I): best first, ties by position, then -1."""
    chosen = np.full((len(scores), n), -1, dtype=np.int32)
    for row, values in enumerate(scores):
        best = _best(values, n)
        best = best[np.isfinite(values[best])]
        chosen[row, : len(best)] = best
    return chosen


def _block_shape(count_items: int, memory_bytes: int) -> tuple[int, int]:
    """Users and items of one block: whole rows if memory allows, always multiples of the grid."""
    row_bytes = 4 * max(count_items, 1)
    users = max(memory_bytes // (row_bytes * GRID_USERS), 1) * GRID_USERS
    items = max(memory_bytes // (4 * users * GRID_ITEMS), 1) * GRID_ITEMS
    return users, items


def _scores(user_vectors: np.ndarray, item_vectors: np.ndarray) -> np.ndarray:
    """Inner products (u, i), computed cell by cell of the grid; the last rows are padded to a whole cell."""
    padding = -len(user_vectors) % GRID_USERS
    padded = np.pad(user_vectors, ((0, padding), (0, 0)))
    tile = np.empty((len(padded), len(item_vectors)), dtype=np.float32)
    for row in range(0, len(padded), GRID_USERS):
        for column in range(0, len(item_vectors), GRID_ITEMS):
            cell = slice(row, row + GRID_USERS), slice(column, column + GRID_ITEMS)
            np.matmul(padded[cell[0]], item_vectors[cell[1]].T, out=tile[cell])
    return tile[: len(user_vectors)]


def _merge(positions: np.ndarray, scores: np.ndarray, tile: np.ndarray, first: int) -> None:
    """Fold a tile, whose first column is item `first`, into the best so far (all items before `first`).

    Padding stands before what is excluded, both at -inf, and the sort is stable: the excluded never enter.
    """
    n = positions.shape[1]
    for user, row in enumerate(tile):
        best = _best(row, n)
        pool_positions = np.concatenate([positions[user], best + first])
        pool_scores = np.concatenate([scores[user], row[best]])
        order = np.argsort(-pool_scores, kind="stable")[:n]
        positions[user], scores[user] = pool_positions[order], pool_scores[order]


def _best(row: np.ndarray, n: int) -> np.ndarray:
    """Positions of the n largest scores, best first, ties by position; fewer if there are fewer."""
    n = min(n, len(row))
    if n == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(row, len(row) - n)[len(row) - n]
    above = np.flatnonzero(row > threshold)
    level = np.flatnonzero(row == threshold)[: n - len(above)]
    chosen = np.concatenate([above, level])
    return chosen[np.lexsort((chosen, -row[chosen]))]


def _back_to_catalogue(positions: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Positions among the kept items become positions in the whole catalogue; padding stays -1."""
    return np.append(kept, -1).astype(np.int32)[positions]


def _check(
    user_vectors: np.ndarray, item_vectors: np.ndarray, exclude: sparse.csr_matrix | None, allowed: np.ndarray | None
) -> None:
    shape = len(user_vectors), len(item_vectors)
    if user_vectors.shape[1] != item_vectors.shape[1]:
        raise ValueError(f"user vectors have {user_vectors.shape[1]} numbers, item vectors {item_vectors.shape[1]}")
    if exclude is not None and exclude.shape != shape:
        raise ValueError(f"`exclude` has shape {exclude.shape}, users × items is {shape}")
    if allowed is not None and allowed.shape != shape[1:]:
        raise ValueError(f"`allowed` has shape {allowed.shape}, there are {shape[1]} items")
    for name, vectors in (("user", user_vectors), ("item", item_vectors)):
        broken = len(vectors) - np.isfinite(vectors).all(axis=1).sum()
        if broken:
            raise ValueError(f"{broken} {name} vectors hold NaN or infinity: train that model again before retrieval")
