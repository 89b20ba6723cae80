"""The sources: each proposes items to a user, and scores any candidate, from what was known at the end of a day."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy import sparse

from models import candidates, cold, retrieval, stamp
from models.als import ALSModel
from models.candidates import Candidates
from models.neighbours import Neighbours
from models.retrieval import Sieve
from pipelines import device
from pipelines.marts import Marts, values_at
from pipelines.run import Run

SOURCES = ("als", "neighbours", "profile", "sequence", "habit", "popularity")
USERS_PER_BLOCK = 1024
VECTORS = ("item_vectors", "sequence_users", "sequence_items", "user_vectors")  # files of train_profile
USERS_AT_ONCE = 128  # whose scores of all items stand in memory
ROWS_PER_SLICE = 1 << 18  # products of vectors are gathered so many at a time


class Source(Protocol):
    """One way to know what a user may want; users and items are positions."""

    def propose(self, users: np.ndarray, n: int, exclude: sparse.csr_matrix, allowed: np.ndarray) -> np.ndarray:
        """(B, n) its best allowed items for each user, best first, padded with -1; none of `exclude` (B, I)."""
        ...

    def score(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R,) float32, what it says of each pair; 0 or less where it has nothing to say for it."""
        ...


@dataclass(frozen=True)
class Factors:
    """Vectors whose inner product is the score: ALS, the item profile, the sequence of a history."""

    users: np.ndarray  # (U, F)
    items: np.ndarray  # (I, F)
    memory_bytes: int
    threads: int
    sieve: Sieve | None = None  # of another device than the processor

    def propose(self, users: np.ndarray, n: int, exclude: sparse.csr_matrix, allowed: np.ndarray) -> np.ndarray:
        vectors = self.users[users]
        machine = self.memory_bytes, self.threads, self.sieve
        return retrieval.top_items(vectors, self.items, n, exclude, allowed, *machine)[0]

    def score(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        parts = [slice(start, start + ROWS_PER_SLICE) for start in range(0, len(users), ROWS_PER_SLICE)]
        told = [np.einsum("rf,rf->r", self.users[users[part]], self.items[items[part]]) for part in parts]
        return np.concatenate(told) if told else np.empty(0, dtype=np.float32)


@dataclass(frozen=True)
class Beside:
    """What stands beside the items of a user's history in other people's."""

    neighbours: Neighbours
    histories: sparse.csr_matrix  # (U, I)

    def propose(self, users: np.ndarray, n: int, exclude: sparse.csr_matrix, allowed: np.ndarray) -> np.ndarray:
        found = np.empty((len(users), n), dtype=np.int32)
        for start in range(0, len(users), USERS_AT_ONCE):
            part = slice(start, start + USERS_AT_ONCE)
            scores = self.neighbours.scores(self.histories[users[part]])
            scores[:, ~allowed] = -np.inf
            scores[exclude[part].nonzero()] = -np.inf
            found[part] = retrieval.best_of(scores, n)
        return found

    def score(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        distinct, place = np.unique(users, return_inverse=True)
        told = np.empty(len(users), dtype=np.float32)
        for start in range(0, len(distinct), USERS_AT_ONCE):
            inside = np.flatnonzero((place >= start) & (place < start + USERS_AT_ONCE))
            scores = self.neighbours.scores(self.histories[distinct[start : start + USERS_AT_ONCE]])
            told[inside] = scores[place[inside] - start, items[inside]]
        return told


@dataclass(frozen=True)
class Habit:
    """What the user bought; proposes nothing, for all of that is a candidate anyway."""

    purchases: sparse.csr_matrix  # (U, I)

    def propose(self, users: np.ndarray, n: int, exclude: sparse.csr_matrix, allowed: np.ndarray) -> np.ndarray:
        return np.full((len(users), 0), -1)

    def score(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return values_at(self.purchases, users, items).astype(np.float32)


@dataclass(frozen=True)
class Popularity:
    """What everybody buys now."""

    buyers: np.ndarray  # (I,)

    def propose(self, users: np.ndarray, n: int, exclude: sparse.csr_matrix, allowed: np.ndarray) -> np.ndarray:
        order = np.argsort(-self.buyers.astype(np.float32), kind="stable")
        return _first_free(order[allowed[order]], n, exclude)

    def score(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        return np.log1p(self.buyers[items]).astype(np.float32)


@dataclass(frozen=True)
class Sources:
    """All sources as of one cut, and what they share."""

    by_name: dict[str, Source]
    bought: sparse.csr_matrix  # (U, I)
    known: np.ndarray  # (I,) bool, in the catalogue by then
    count: int  # items that each may propose per user

    @classmethod
    def load(cls, run: Run, marts: Marts, part: str) -> "Sources":
        """The sources as trained on `part` of the run's cuts."""
        until, settings = run.cuts[part], run.settings
        machine = settings.fuse.memory_mb << 20, settings.machine.threads, device.sieve(settings)
        als = ALSModel.load(run.of("train_als", part), users=marts.users, items=marts.items)
        profile = run.of("train_profile", part)
        stamp.check(profile, users=marts.users, items=marts.items)
        vectors, *sequence, readers = (np.load(profile / f"{name}.npy", mmap_mode="r") for name in VECTORS)
        window = settings.fuse.popularity_days
        buyers = cold.expected_buyers(marts.popularity(until, window), marts.ages_days(until), window)
        by_name: dict[str, Source] = {
            "als": Factors(als.user_factors, cold.impute_factors(als.item_factors, vectors), *machine),
            "neighbours": Beside(Neighbours.load(run.of("train_neighbours", part)), marts.tastes(until)),
            "profile": Factors(readers, vectors, *machine),
            "sequence": Factors(sequence[0], sequence[1], *machine),
            "habit": Habit(marts.habit(until)),
            "popularity": Popularity(buyers),
        }
        return cls(by_name, marts.bought(until), marts.known_items(until), settings.fuse.candidates)

    @property
    def known_users(self) -> np.ndarray:
        """Positions of the users of whom something is known: they bought, or some model has a vector for them."""
        told = np.diff(self.bought.indptr) > 0
        for source in self.by_name.values():
            if isinstance(source, Factors):
                told |= source.users.any(axis=1)
        return np.flatnonzero(told)

    def candidates(self, users: np.ndarray, allowed: np.ndarray | None = None) -> Candidates:
        """The union of each source's best items that the users have not bought, and everything that they have, of the
        items (I,) bool that are allowed; of all by default."""
        bought, known = self.bought[users], self.known if allowed is None else self.known & allowed
        found = [source.propose(users, self.count, bought, known) for source in self.by_name.values()]
        rows, items = _union(np.concatenate(found, axis=1), bought, known)
        scores = [source.score(users[rows], items) for source in self.by_name.values()]
        counts = np.bincount(rows, minlength=len(users))
        return Candidates(users, candidates.starts(counts), items, np.stack(scores, axis=1))

    def is_bought(self, found: Candidates) -> np.ndarray:
        """(R,) bool: the user has bought the item."""
        return values_at(self.bought, found.row_owners, found.items) > 0


def _first_free(order: np.ndarray, n: int, exclude: sparse.csr_matrix) -> np.ndarray:
    """(B, n) the first n of an order (A,) of items that is everybody's, but for `exclude` (B, I), padded with -1."""
    order = order[: n + int(np.diff(exclude.indptr).max(initial=0))]
    places = np.full(exclude.shape[1], len(order))
    places[order] = np.arange(len(order))
    free = np.ones((exclude.shape[0], len(order) + 1), dtype=bool)  # the last column is that of all later items
    rows, items = exclude.nonzero()
    free[rows, places[items]] = False
    count = np.cumsum(free[:, :-1], axis=1)
    users, columns = np.nonzero(free[:, :-1] & (count <= n))
    found = np.full((exclude.shape[0], n), -1, dtype=np.int32)
    found[users, count[users, columns] - 1] = order[columns]
    return found


def _union(proposed: np.ndarray, bought: sparse.csr_matrix, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (row, item) pairs of proposals (B, N), padded with -1, and purchases (B, I), by row and item."""
    rows, places = np.nonzero(proposed >= 0)
    owned = bought.tocoo()
    items = np.concatenate([proposed[rows, places], owned.col])
    rows = np.concatenate([rows, owned.row.astype(np.int64)])
    keys = np.sort(rows * bought.shape[1] + items)  # np.unique hashes them, for longer
    keys = keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]
    keys = keys[known[keys % bought.shape[1]]]
    return keys // bought.shape[1], keys % bought.shape[1]
