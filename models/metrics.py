"""How good a ranked list is, and how sure we may be of it."""

from __future__ import annotations

import numpy as np
from scipy import sparse


def recall_at(ranked: np.ndarray, relevant: sparse.csr_matrix, k: int) -> np.ndarray:
    """Share of each user's relevant items that stand among the first k.

    Args:
        ranked: (U, K) item positions, best first, padded with -1.
        relevant: (U, I), nonzero where the item is relevant to the user.
    Returns:
        (U,) in [0, 1]; NaN for users with no relevant item.
    """
    hits, count_relevant = _hits(ranked, relevant, k)
    return _ratio(hits.sum(axis=1), count_relevant)


def ndcg_at(ranked: np.ndarray, relevant: sparse.csr_matrix, k: int) -> np.ndarray:
    """Normalised discounted cumulative gain with gain 0 or 1 (Järvelin and Kekäläinen, 2002).

    Arguments as in `recall_at`; the ideal list is cut at k too, so that a perfect list of k scores 1.
    """
    hits, count_relevant = _hits(ranked, relevant, k)
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])[np.minimum(count_relevant, k)]
    return _ratio(hits @ discounts[: hits.shape[1]], ideal)


def coverage(ranked: np.ndarray, count_items: int) -> float:
    """Share of the catalogue that stands in at least one list; `ranked` as in `recall_at`."""
    return len(np.unique(ranked[ranked >= 0])) / count_items if count_items else 0.0


def gini(ranked: np.ndarray, count_items: int) -> float:
    """How unevenly the lists show the catalogue: 0 where all items stand equally often, near 1 where few stand always;
    `ranked` as in `recall_at`. NaN without any row."""
    shown = np.sort(np.bincount(ranked[ranked >= 0], minlength=count_items)).astype(float)
    places = np.arange(1, len(shown) + 1)
    total = shown.sum()
    return float(2 * (places * shown).sum() / (len(shown) * total) - (len(shown) + 1) / len(shown)) if total else np.nan


def top_share(ranked: np.ndarray, count_items: int, share: float = 0.01) -> float:
    """Share of the rows that show one of the most shown items, which are a `share` of the catalogue, at least one."""
    shown = np.sort(np.bincount(ranked[ranked >= 0], minlength=count_items))[::-1]
    most = max(int(count_items * share), 1)
    return float(shown[:most].sum() / shown.sum()) if shown.sum() else np.nan


def likeness(ranked: np.ndarray, vectors: np.ndarray) -> float:
    """Mean cosine of two different items of one list, over lists with two or more; `vectors` (I, E) of length 1."""
    stands = ranked >= 0
    shown = np.where(stands[:, :, None], vectors[ranked], 0.0)  # (U, K, E)
    counts = stands.sum(axis=1)
    pairs = (shown.sum(axis=1) ** 2).sum(axis=1) - (shown**2).sum(axis=(1, 2))
    several = counts > 1
    return float((pairs[several] / (counts * (counts - 1))[several]).mean()) if several.any() else np.nan


def bootstrap_interval(
    values: np.ndarray, seed: int, level: float = 0.95, resamples: int = 1000
) -> tuple[float, float, float]:
    """Mean of `values` (NaN left out) with its percentile bootstrap interval (Efron, 1979): (mean, low, high)."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if not len(known):
        return float("nan"), float("nan"), float("nan")
    draws = np.random.default_rng(seed)
    means = [known[draws.integers(len(known), size=len(known))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(known.mean()), float(low), float(high)


def _hits(ranked: np.ndarray, relevant: sparse.csr_matrix, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the first k are relevant, (U, min(k, K)) bool, and how many relevant items each user has, (U,)."""
    first = np.asarray(ranked)[:, :k].astype(np.int64)
    users, items = relevant.shape
    if len(first) != users:
        raise ValueError(f"{len(first)} ranked lists for {users} users: give one row of `ranked` per row of `relevant`")
    _reject_repeats(first)
    user, item = relevant.nonzero()
    keys = np.unique(user.astype(np.int64) * items + item)
    asked = np.where(first >= 0, np.arange(users)[:, None] * items + first, -1)
    return np.isin(asked, keys), np.bincount(keys // max(items, 1), minlength=users)


def _reject_repeats(ranked: np.ndarray) -> None:
    """A list that names an item twice would count its hit twice."""
    ordered = np.sort(ranked, axis=1)
    repeats = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if repeats.any():
        raise ValueError(f"{repeats.sum()} ranked lists name an item twice: deduplicate them before measuring")


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where there is no whole."""
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
