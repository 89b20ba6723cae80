"""Proposals: whether any source proposed an item to a user, and which one ranks it best."""

from dataclasses import dataclass

import numpy as np

from pipelines.fuse.sources import USERS_PER_BLOCK, Source, Sources

NOWHERE = np.iinfo(np.int64).max  # the place of what a source does not rank


@dataclass(frozen=True)
class Proposals:
    """What the sources say of N pairs of user and item.

    Attributes:
        is_proposed: (N,) bool.
        best_source: (N,) object, the name of the source that ranks the item best among those that have something to
            say for it, None without any.
        best_rank: (N,) its place there from 1, 0 without any.
    """

    is_proposed: np.ndarray
    best_source: np.ndarray
    best_rank: np.ndarray


def proposals(sources: Sources, users: np.ndarray, items: np.ndarray, allowed: np.ndarray) -> Proposals:
    """Of pairs (N,) of positions, if only items (I,) bool may be proposed.

    What a user has bought is a candidate without a rank, and users of whom nothing is known are proposed nothing.
    """
    is_proposed, ranks = np.zeros(len(users), dtype=bool), np.full((len(users), len(sources.by_name)), NOWHERE)
    known, width = np.intersect1d(users, sources.known_users), len(allowed)
    for start in range(0, len(known), USERS_PER_BLOCK):
        found = sources.candidates(known[start : start + USERS_PER_BLOCK], allowed)
        is_proposed |= np.isin(users * width + items, found.row_owners * width + found.items)
    for user in known:
        rows = np.flatnonzero(users == user)
        eligible = allowed & sources.known & (sources.bought[user].toarray()[0] == 0)
        ranks[rows] = np.stack([_ranks(one, user, items[rows], eligible) for one in sources.by_name.values()], axis=1)
    # which of two equal scores is proposed may hang on a rounding that the ranks do not see
    ranks[~is_proposed] = np.maximum(ranks[~is_proposed], sources.count + 1)
    best, names = ranks.min(axis=1), np.array([*sources.by_name, None], dtype=object)
    first = np.where(best < NOWHERE, ranks.argmin(axis=1), -1)
    return Proposals(is_proposed, names[first], np.where(first < 0, 0, best))


def _ranks(source: Source, user: int, items: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """(N,) place of each item among the `eligible` (I,) bool; NOWHERE for others, and where it has nothing to say for
    the item."""
    chosen, scores = np.flatnonzero(eligible), np.full(len(eligible), -np.inf)
    scores[chosen] = source.score(np.full(len(chosen), user), chosen)
    places = [1 + (scores > scores[one]).sum() + (scores[:one] == scores[one]).sum() for one in items]
    return np.where(scores[items] > 0, places, NOWHERE)
