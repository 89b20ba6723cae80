"""The exact best items of each user, tile by tile, so that users × items never stands in memory.

1. Items come longest vector first. One product gives the scores of a block of users for a tile of items.
2. Each user has a bar, which enough items before have reached. A score below it is dropped as soon as it is made.
3. No inner product exceeds the product of both lengths (Cauchy–Schwarz): a user whose bar is above that for the next
   tile is done, and a block whose users are all done leaves the other items out.
4. These float32 scores are a sieve and no more. What is left is scored again in float64, pair by pair. How much the
   sieve can have been wrong is bounded; a user for whom that might matter has every item looked at.

A list therefore depends on its user's vector and the items alone: not on tiles, memory, threads or who else is asked
about. docs/decisions/0019-exact-top-n.md tells what else was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

BLOCK_USERS = 1024
TILE_ITEMS = 512  # 1024 × 512 scores of 4 bytes: 2 MiB, which stay in the cache
FIRST_TILES = 8  # scored before anybody has a bar: the higher the first bars, the fewer candidates are kept for nothing
SPARE = 12  # candidates beyond n: scores that differ by rounding alone then seldom need a look at every item
RESCORED = 2048  # candidates scored again at a time: their vectors take 1 MiB
LOWEST = np.finfo(np.float32).min  # the bar of a user with too few candidates; an excluded item, at -inf, is below it
EMPTY = np.iinfo(np.int64).min  # a place without a candidate
LOWER_HALF = 0xFFFFFFFF


def top_items(
    user_vectors: np.ndarray,
    item_vectors: np.ndarray,
    n: int,
    exclude: sparse.csr_matrix | None = None,
    allowed: np.ndarray | None = None,
    memory_bytes: int = 256 << 20,
    threads: int = 1,
    sieve: Sieve | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The n items with the largest inner product for each user; ties go to the smaller position.

    Args:
        user_vectors: (U, F), taken as float32.
        item_vectors: (I, F), taken as float32.
        exclude: (U, I), nonzero where the user must never be given the item.
        allowed: (I,) bool, the items that may be given to anybody; all by default.
        memory_bytes: ceiling for scores and candidates of all blocks at work. It changes the speed, never the result.
        threads: blocks at work at a time. They change the speed, never the result.
        sieve: what finds the candidates: by default numpy here, else `models.retrieval_torch` on some device. It
            changes the speed, never the result.
    Returns:
        positions (U, n) int32, best first, padded with -1; scores (U, n) float32, padded with -inf.
    Raises:
        ValueError: the shapes disagree, a vector holds NaN or infinity, or products might exceed float32.
    """
    user_vectors, item_vectors = (np.asarray(one, dtype=np.float32) for one in (user_vectors, item_vectors))
    _check(user_vectors, item_vectors, exclude, allowed)
    positions = np.full((len(user_vectors), n), -1, dtype=np.int32)
    scores = np.full((len(user_vectors), n), -np.inf, dtype=np.float32)
    items = Items.longest_first(item_vectors, allowed)
    search = sieve(items, memory_bytes // threads) if sieve else partial(_sieve, items)
    step = min(_block_users(n, memory_bytes // threads), -(-len(user_vectors) // threads))

    def answer(start: int) -> None:
        block = slice(start, start + step)
        excluded = Excluded.in_order(exclude, block, items)
        positions[block], scores[block] = _answer(user_vectors[block], items, n, excluded, search)

    if n and len(items.positions) and len(user_vectors):
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
            list(pool.map(answer, range(0, len(user_vectors), step)))  # the list raises what a thread raised
    return positions, scores


def best_of(scores: np.ndarray, n: int) -> np.ndarray:
    """(B, n) positions of the largest finite scores of each row (B, I): best first, ties by position, then -1."""
    chosen = np.full((len(scores), n), -1, dtype=np.int32)
    for row, values in enumerate(scores):
        best = _best(values, n)
        best = best[np.isfinite(values[best])]
        chosen[row, : len(best)] = best
    return chosen


def descending(scores: np.ndarray) -> np.ndarray:
    """(B, K) order of each row, equal scores as they stand, but for -inf: a stable sort only of rows that need it."""
    order = np.argsort(-scores, axis=1)
    ordered = np.take_along_axis(scores, order, axis=1)
    tied = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > -np.inf)).any(axis=1)
    order[tied] = np.argsort(-scores[tied], axis=1, kind="stable")
    return order


@dataclass(frozen=True)
class Items:
    """The items that may be given, longest vector first, so that the bound on what is yet to come only falls."""

    positions: np.ndarray  # (A,) int64 in the catalogue
    vectors: np.ndarray  # (A, F) float32
    lengths: np.ndarray  # (A,) float64
    places: np.ndarray  # (I,) int64, where each item of the catalogue stands here; -1 if it may not be given

    @classmethod
    def longest_first(cls, vectors: np.ndarray, allowed: np.ndarray | None) -> Items:
        lengths = _lengths(vectors)
        positions = np.argsort(-lengths, kind="stable")
        if allowed is not None:
            positions = positions[allowed[positions]]
        places = np.full(len(vectors), -1)
        places[positions] = np.arange(len(positions))
        return cls(positions, vectors[positions], lengths[positions], places)


@dataclass(frozen=True)
class Excluded:
    """The pairs of a block's users and the items that they must not be given, in the order of the items."""

    rows: np.ndarray  # (E,) int64, users of the block
    places: np.ndarray  # (E,) int64, items
    count_users: int

    @classmethod
    def in_order(cls, exclude: sparse.csr_matrix | None, block: slice, items: Items) -> Excluded:
        if exclude is None:
            return cls(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), 0)
        some = exclude[block]
        rows, positions = some.nonzero()
        places = items.places[positions]
        order = np.argsort(places)
        order = order[np.searchsorted(places, 0, sorter=order) :]  # the rest may be given to nobody
        return cls(rows[order], places[order], some.shape[0])

    def of(self, user: np.integer) -> np.ndarray:
        """The items that one user must not be given."""
        return self.places[self.rows == user]

    def strike(self, tile: np.ndarray, users: np.ndarray, first: int) -> None:
        """Set to -inf what is excluded in a tile (u, t) of the scores of `users` (u,) and the items from `first` on."""
        pairs = slice(*np.searchsorted(self.places, [first, first + tile.shape[1]]))
        rows, columns = self.rows[pairs], self.places[pairs] - first
        if len(users) < self.count_users:
            at = np.searchsorted(users, rows)
            present = users.take(at, mode="clip") == rows
            rows, columns = at[present], columns[present]
        tile[rows, columns] = -np.inf


# Users (B, F), their lengths, how many are kept, and what is excluded → keys (B, kept), as in `Candidates`, of the best
# by float32 scores, and the least score among them (B,), or LOWEST where these are all that the user may be given.
Search = Callable[[np.ndarray, np.ndarray, int, Excluded], tuple[np.ndarray, np.ndarray]]
Sieve = Callable[[Items, int], Search]  # the search for these items in so many bytes


class Candidates:
    """What may yet be given to a block of users, an int64 each: the score in its upper half, the item's place below."""

    def __init__(self, count_users: int, kept: int):
        self.kept = kept
        self.width = kept + TILE_ITEMS  # room for whatever a tile adds
        self.keys = np.full((count_users, self.width), EMPTY)
        self.counts = np.zeros(count_users, dtype=np.int64)
        self.bars = np.full(count_users, LOWEST)
        self.widest = 0  # candidates of one user, at most
        self.fresh = 0  # candidates since the bars were raised

    def begin(self, users: np.ndarray, tiles: Sequence[np.ndarray]) -> None:
        """Set the first bars: the highest scores of each column of the tiles (u, t) are those of as many items."""
        highest = reduce(np.maximum, [tile for tile in tiles if tile.shape == tiles[0].shape])
        if highest.shape[1] >= self.kept:
            self.bars[users] = np.maximum(np.sort(highest, axis=1)[:, -self.kept], LOWEST)

    def add(self, users: np.ndarray, tile: np.ndarray, first: int) -> None:
        """Take what reaches its user's bar from a tile (u, t) of scores, whose columns are the items from `first`."""
        reached = np.flatnonzero(tile >= self.bars[users, None])
        rows = reached // tile.shape[1]
        self._store(users, rows, keys_of(tile.reshape(-1)[reached], first + reached - rows * tile.shape[1]))
        if self.fresh > len(users) * self.kept // 2 or self.widest > 2 * self.kept:
            self.raise_bars()

    def _store(self, users: np.ndarray, rows: np.ndarray, keys: np.ndarray) -> None:
        """Append keys (H,), whose rows (H,) ascend, behind what their users have."""
        new = np.bincount(rows, minlength=len(users))
        if (self.counts[users] + new).max() > self.width:
            self.raise_bars()
        ends = self.counts[users] + new
        starts = users * self.width + ends - np.cumsum(new)
        self.keys.reshape(-1)[starts[rows] + np.arange(len(rows))] = keys
        self.counts[users] = ends
        self.widest = ends.max()
        self.fresh += len(rows)

    def raise_bars(self) -> None:
        """Keep the best of each user who has enough; the least of these becomes the bar."""
        enough = np.flatnonzero(self.counts >= self.kept)
        used = max(self.kept, int(self.counts.max()))
        best = self.keys[enough, :used]
        best.sort(axis=1)  # up to 256 numbers are sorted sooner than parted
        self.keys[enough, : self.kept] = best[:, used - self.kept :]
        self.keys[enough, self.kept : used] = EMPTY
        self.bars[enough] = _scores(best[:, used - self.kept])
        self.counts[enough] = self.kept
        self.fresh = 0


def _answer(
    users: np.ndarray, items: Items, n: int, excluded: Excluded, search: Search
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and float64 scores (B, n) for a block of users (B, F)."""
    lengths = _lengths(users)
    keys, bars = search(users, lengths, n + SPARE, excluded)
    positions, scores = _rescored(users, items, keys, n)
    error = _largest_error(lengths, items, users.shape[1])
    unsure = (bars > LOWEST) & (bars + error >= scores[:, -1])
    for user in np.flatnonzero(unsure | (lengths == 0)):
        if lengths[user]:
            near = _near(users[user], items, excluded.of(user), scores[user, -1] - error[user])
        else:
            near = _first(items, n, excluded.of(user))
        exact = _exact(users[user], items.vectors[near])
        order = np.lexsort((items.positions[near], -exact))[:n]
        positions[user, : len(order)], scores[user, : len(order)] = items.positions[near[order]], exact[order]
    return positions, scores


def _sieve(
    items: Items, users: np.ndarray, lengths: np.ndarray, kept: int, excluded: Excluded
) -> tuple[np.ndarray, np.ndarray]:
    """The `kept` best of each user by float32 scores; nothing for vectors of length 0, to which all items are equal."""
    found = Candidates(len(users), kept)
    active = np.flatnonzero(lengths)
    vectors, starts = users[active], range(0, len(items.positions), TILE_ITEMS)
    for firsts in (starts[:FIRST_TILES], *zip(starts[FIRST_TILES:], strict=True)):
        in_reach = lengths[active] * items.lengths[firsts[0]] >= found.bars[active]
        if not in_reach.all():
            active, vectors = active[in_reach], vectors[in_reach]
        if not len(active):
            break
        tiles = {first: vectors @ items.vectors[first : first + TILE_ITEMS].T for first in firsts}
        for first, tile in tiles.items():
            excluded.strike(tile, active, first)
        if 0 in tiles:
            found.begin(active, list(tiles.values()))
        for first, tile in tiles.items():
            found.add(active, tile, first)
    found.raise_bars()
    return found.keys[:, :kept], found.bars


def _rescored(users: np.ndarray, items: Items, keys: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n best of each user's candidates (B, K) by float64 scores: positions and scores (B, n)."""
    found = np.where(keys == EMPTY, -1, items.positions.take(keys & LOWER_HALF))
    found.sort(axis=1)
    places, exact = items.places.take(found), np.empty(found.shape)
    step = max(RESCORED // keys.shape[1], 1)
    for start in range(0, len(users), step):
        part = slice(start, start + step)
        exact[part] = _exact(users[part, None], items.vectors.take(places[part], axis=0))  # (b, 1, F) and (b, K, F)
    exact[found < 0] = -np.inf
    order = descending(exact)[:, :n]
    return np.take_along_axis(found, order, axis=1), np.take_along_axis(exact, order, axis=1)


def _near(user: np.ndarray, items: Items, excluded: np.ndarray, least: float) -> np.ndarray:
    """Places of the items, but for those excluded, whose float32 score for this user (F,) reaches `least`."""
    scores = items.vectors @ user
    scores[excluded] = -np.inf
    return np.flatnonzero(scores >= max(least, LOWEST))


def _first(items: Items, n: int, excluded: np.ndarray) -> np.ndarray:
    """Places of the first n items by position, but for those excluded: the best of a user to whom all are equal."""
    free = items.places >= 0
    free[items.positions[excluded]] = False
    return items.places[np.flatnonzero(free)[:n]]


def _exact(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Inner products in float64, each by itself, so that no bit of it depends on what else is asked for."""
    return np.vecdot(users.astype(np.float64), items.astype(np.float64))


def _largest_error(lengths: np.ndarray, items: Items, factors: int) -> np.ndarray:
    """(B,) how far a float32 inner product of users of these lengths can be off, in whatever order it is summed up.

    Higham, *Accuracy and Stability of Numerical Algorithms*, 2002, (3.5); one factor more for what float64 rounds, and
    what is lost where products are too small for float32.
    """
    unit = (factors + 1) * 2.0**-24
    return unit / (1 - unit) * lengths * items.lengths[0] + factors * np.finfo(np.float32).tiny


def keys_of(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """One int64 for each float32 score and place, in the order of the scores: the bits of floats ascend with them."""
    return _ascending(scores.view(np.int32)).astype(np.int64) << 32 | places


def _scores(keys: np.ndarray) -> np.ndarray:
    """The scores in such keys."""
    return _ascending((keys >> 32).astype(np.int32)).view(np.float32)


def _ascending(bits: np.ndarray) -> np.ndarray:
    """Bits of float32 as integers of the same order, and back: those of negative numbers run the other way."""
    return bits ^ (bits >> 31 & 0x7FFFFFFF)


def _block_users(n: int, memory_bytes: int) -> int:
    """Users of one block: a score takes 4 bytes, whether it counts 1, a candidate 8 and as much while sorting."""
    bytes_per_user = TILE_ITEMS * (4 * FIRST_TILES + 9) + (n + SPARE + TILE_ITEMS) * 16
    return min(max(memory_bytes // bytes_per_user, 1), BLOCK_USERS)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """(N,) float64, Euclidean lengths."""
    return np.sqrt(np.einsum("nf,nf->n", vectors, vectors, dtype=np.float64))


def _best(row: np.ndarray, n: int) -> np.ndarray:
    """Positions of the n largest scores, best first, ties by position; fewer if there are fewer."""
    n = min(n, len(row))
    if n == 0:
        return np.empty(0, dtype=np.int64)
    positive = np.flatnonzero(row > 0)  # of sparse scores few are, and zeros are slow to part
    if n <= len(positive) < len(row):
        return positive[_best(row[positive], n)]
    zeros = np.flatnonzero(row == 0)[: n - len(positive)]
    if len(zeros) and len(positive) + len(zeros) == n:
        return np.concatenate([positive[_best(row[positive], n)], zeros])
    threshold = np.partition(row, len(row) - n)[len(row) - n]
    above = np.flatnonzero(row > threshold)
    level = np.flatnonzero(row == threshold)[: n - len(above)]
    chosen = np.concatenate([above, level])
    return chosen[np.lexsort((chosen, -row[chosen]))]


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
    largest = [float(np.abs(vectors).max(initial=0)) for vectors in (user_vectors, item_vectors)]
    if largest[0] * largest[1] * user_vectors.shape[1] > float(np.finfo(np.float32).max):
        raise ValueError(
            f"user vectors hold numbers up to {largest[0]:.3g}, item vectors up to {largest[1]:.3g}, and products may "
            "exceed float32: train that model again before retrieval"
        )
