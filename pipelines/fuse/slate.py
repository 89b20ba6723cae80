"""A slate: the candidates of some users as of one cut, with their features; and the lesson that a window makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from scipy import sparse

from models import candidates
from models.candidates import Candidates
from pipelines.fuse import features
from pipelines.fuse.features import Moment
from pipelines.fuse.sources import SOURCES, USERS_PER_BLOCK
from pipelines.lists.chance import STEP, mixed
from pipelines.marts import Marts, values_at
from pipelines.run import Run


@dataclass(frozen=True)
class Slate:
    """Candidates with what the rankers read of them."""

    found: Candidates
    is_bought: np.ndarray  # (R,) bool, before the cut
    features: np.ndarray  # (R, K) float32

    def only(self, kept: np.ndarray) -> "Slate":
        """The same users with fewer rows, `kept` (R,) bool."""
        return Slate(self.found.only(kept), self.is_bought[kept], self.features[kept])

    def eligible(self, placement: str) -> np.ndarray:
        """(R,) bool: what may stand on a placement, which is anything, what was never bought, or what was."""
        if placement == "for_you":
            return np.ones(len(self.is_bought), dtype=bool)
        return self.is_bought if placement == "buy_again" else ~self.is_bought

    @cached_property
    def _fresh_ranks(self) -> np.ndarray:
        """(R, S) rank of each candidate in each source among what the user has not bought."""
        fresh = np.where(self.is_bought[:, None], -np.inf, self.found.scores)
        return np.stack([self.found.ranks(score) for score in fresh.T], axis=1)

    def without(self, group: str, proposals: int) -> "tuple[Slate, np.ndarray]":
        """The slate as it were without one group of features, and of a source its proposals too; and the rows (R,)."""
        columns = np.array([one == group for one in features.GROUPS])
        blind = np.where(columns, np.float32(np.nan), self.features)
        if group not in SOURCES:
            return Slate(self.found, self.is_bought, blind), np.ones(len(blind), dtype=bool)
        own = SOURCES.index(group)
        kept = self.is_bought | (np.delete(self._fresh_ranks, own, axis=1) <= proposals).any(axis=1)
        scores = self.found.scores.copy()
        scores[:, own] = 0.0
        silent = Candidates(self.found.owners, self.found.offsets, self.found.items, scores)
        return Slate(silent, self.is_bought, blind).only(kept), kept


@dataclass(frozen=True)
class Lesson:
    """A slate as of a cut, and what was bought in the window after it."""

    slate: Slate
    labels: np.ndarray  # (R,) bool
    wanted: sparse.csr_matrix  # (B, I), also what nobody proposed

    def only(self, kept: np.ndarray) -> "Lesson":
        """Fewer rows, `kept` (R,) bool, of the same users."""
        return Lesson(self.slate.only(kept), self.labels[kept], self.wanted)

    def of(self, places: np.ndarray) -> "Lesson":
        """Fewer users, by their ascending places."""
        kept = np.isin(self.slate.found.rows, places)
        slate = Slate(self.slate.found.of(places), self.slate.is_bought[kept], self.slate.features[kept])
        return Lesson(slate, self.labels[kept], self.wanted[places])

    def placed(self, placement: str) -> "Lesson":
        """What the window teaches of one placement: rows that may stand there, and what was wanted of them."""
        kept = self.slate.eligible(placement)
        if kept.all():
            return self
        found = self.slate.found
        pairs = found.rows[~kept], found.items[~kept]
        barred = sparse.csr_matrix((np.ones(len(pairs[0])), pairs), shape=self.wanted.shape)
        wanted = sparse.csr_matrix(self.wanted - self.wanted.multiply(barred))
        wanted.eliminate_zeros()
        return Lesson(self.slate.only(kept), self.labels[kept], wanted)

    def without(self, group: str, proposals: int) -> "Lesson":
        """The lesson that the window would have been without a group of features; see `Slate.without`."""
        slate, kept = self.slate.without(group, proposals)
        return Lesson(slate, self.labels[kept], self.wanted)

    def thinned(self, negatives: int, seed: int) -> "Lesson":
        """All that was bought, and at most so many of each user's other candidates: most of them teach the same."""
        ranks = self.slate.found.ranks(np.where(self.labels, -1.0, drawn(self.slate.found, seed)))
        return self.only(self.labels | (ranks <= negatives))


def drawn(found: Candidates, seed: int) -> np.ndarray:
    """(R,) numbers from 0 to 1 that depend on nothing but seed, user and item: a row draws the same in any company."""
    users = mixed(found.row_owners.astype(np.uint64) + np.uint64(STEP * (seed + 1) % 2**64))
    return (mixed(users + found.items.astype(np.uint64)) >> np.uint64(11)) * 2.0**-53


def slate(moment: Moment, users: np.ndarray, allowed: np.ndarray | None = None) -> Slate:
    """The slate of some users, ascending positions, of the items (I,) bool that are allowed; all by default."""
    found = moment.sources.candidates(users, allowed)
    return Slate(found, moment.sources.is_bought(found), moment.features(found))


def lessons(run: Run, marts: Marts) -> list[Lesson]:
    """One lesson per window before the run's day, oldest first; the last is that of the held-out days."""
    parts = list(marts.cuts)
    return [lesson(run, marts, part, after) for part, after in pairwise(parts)]


def lesson(run: Run, marts: Marts, part: str, after: str) -> Lesson:
    """What people who bought between two cuts could have been shown at the first; `fuse.learn_users` at most."""
    cut, end = run.cuts[part], run.cuts[after]
    bought = marts.bought(end, after=cut).multiply(marts.people(end)[:, None]).tocsr()
    users = _sample(np.flatnonzero(np.diff(bought.indptr)), run.settings.fuse.learn_users, run.settings.seed)
    moment = Moment(run, marts, part)
    blocks = [slate(moment, users[start : start + USERS_PER_BLOCK]) for start in range(0, len(users), USERS_PER_BLOCK)]
    whole = _joined(blocks)
    labels = values_at(bought, whole.found.row_owners, whole.found.items) > 0
    return Lesson(whole, labels, bought[users])


def _sample(users: np.ndarray, most: int, seed: int) -> np.ndarray:
    return users if len(users) <= most else np.sort(np.random.default_rng(seed).choice(users, most, replace=False))


def _joined(blocks: Sequence[Slate]) -> Slate:
    found = candidates.joined([block.found for block in blocks], len(SOURCES))
    if not blocks:
        return Slate(found, np.empty(0, dtype=bool), np.empty((0, len(features.NAMES)), dtype=np.float32))
    is_bought = np.concatenate([block.is_bought for block in blocks])
    return Slate(found, is_bought, np.concatenate([block.features for block in blocks]))
