"""A slate: the candidates of some users as of one cut, with their features."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models import candidates
from models.candidates import Candidates
from pipelines.fuse import features
from pipelines.fuse.features import Moment
from pipelines.fuse.sources import SOURCES


@dataclass(frozen=True)
class Slate:
    """Candidates with what the rankers read of them."""

    found: Candidates
    is_bought: np.ndarray  # (R,) bool, before the cut
    features: np.ndarray  # (R, K) float32

    def only(self, kept: np.ndarray) -> "Slate":
        """The same users with fewer rows, `kept` (R,) bool."""
        return Slate(self.found.only(kept), self.is_bought[kept], self.features[kept])

    def of(self, places: np.ndarray) -> "Slate":
        """Fewer users, by their ascending places, with all their rows."""
        kept = np.isin(self.found.rows, places)
        return Slate(self.found.of(places), self.is_bought[kept], self.features[kept])

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
        kept = np.ones(len(self.is_bought), dtype=bool)
        if group in SOURCES:
            others = np.delete(self._fresh_ranks, SOURCES.index(group), axis=1)
            kept = self.is_bought | (others <= proposals).any(axis=1)
        less = self.only(kept)  # arrays of its own, so that nothing else loses what is blotted out
        less.features[:, [one == group for one in features.GROUPS]] = np.nan
        if group in SOURCES:
            less.found.scores[:, SOURCES.index(group)] = 0.0
        return less, kept


def slate(moment: Moment, users: np.ndarray, allowed: np.ndarray | None = None) -> Slate:
    """The slate of some users, ascending positions, of the items (I,) bool that are allowed; all by default."""
    found = moment.sources.candidates(users, allowed)
    return Slate(found, moment.sources.is_bought(found), moment.features(found))


def nothing() -> Slate:
    """The slate of nobody."""
    known = np.empty((0, len(features.NAMES)), dtype=np.float32)
    return Slate(candidates.joined([], len(SOURCES)), np.empty(0, dtype=bool), known)
