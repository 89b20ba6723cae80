"""Evidence: for each row of a shelf, the part that spoke loudest, and what of the user's own it points to."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from models import personalization, profile_training
from models.als import ALSModel
from models.histories import Histories
from models.neighbours import Neighbours
from models.profile import HistoryAttention
from pipelines.marts import Marts, values_at
from pipelines.reasons import BY_PART, BY_SHOP
from pipelines.run import Run
from pipelines.searched import Searched

SPEAKERS = tuple(BY_PART)
HABIT = SPEAKERS.index("habit")
LIKE_HABIT = ("als", "neighbours", "sequence")
ROWS_PER_SLICE = 1 << 12
Find = Callable[[np.ndarray, np.ndarray], np.ndarray]  # the evidence (R,) of rows of users and items, -1 for none


class Evidence:
    """All that reasons are read from, as of the run's day; each part is read when the first row asks for it."""

    def __init__(self, run: Run, marts: Marts):
        self.run, self.marts = run, marts
        self.bought, self.interactions = marts.bought(run.day), marts.interactions(run.day)
        self.is_cold = self.interactions[marts.people(run.day)].getnnz(axis=0) == 0  # (I,)
        self.searched = Searched(marts, run.day)
        self.finds: dict[str, Find] = {
            "als": self._als,
            "neighbours": self._neighbours,
            "profile": lambda users, items: self._profile.most_attended(users, items),
            "sequence": lambda users, items: self._sequence.most_attended(users, items),
        }

    def explain(self, shelves: pd.DataFrame) -> pd.DataFrame:
        """`shelves` (user, item, `<part>_score`, fallback) with `reason`, `query`, and `evidence` (item, -1 for none).
        A row's reason depends on no other row."""
        parts = shelves[[f"{part}_score" for part in SPEAKERS]].to_numpy(dtype=float)
        users, items = shelves["user"].to_numpy(), shelves["item"].to_numpy()
        is_bought = values_at(self.bought, users, items) > 0
        # The habit of who never bought the item is the user's rhythm: it moves the score and is no reason.
        parts[:, HABIT] = np.where(is_bought, parts[:, HABIT], -np.inf)
        source = loudest(parts)
        # What other people's histories say of an item that the user bought is what the purchase itself says.
        source[is_bought & np.isin(source, LIKE_HABIT)] = "habit"
        source[shelves["fallback"].notna().to_numpy()] = "popularity"
        reason = np.array([BY_PART[one] for one in source], dtype=object)
        is_new = self.is_cold[items] & (parts.max(axis=1) > 0)
        reason[is_new], source[is_new] = "new_for_you", "profile"
        reason[(shelves["fallback"] == "rules").to_numpy()] = BY_SHOP
        # What the user typed needs no model to be seen; of what filled the shelf and of what was bought more is known.
        asked, query = np.flatnonzero(shelves["fallback"].isna() & ~is_bought), np.full(len(items), None, dtype=object)
        query[asked] = self.searched.best(users[asked], items[asked])
        is_asked = ~pd.isna(query)
        reason[is_asked], source[is_asked] = "matches_your_search", "search"
        evidence = np.where(source == "habit", items, -1)
        for name, find in self.finds.items():
            told = np.flatnonzero(source == name)
            if len(told):
                evidence[told] = find(users[told], items[told])
        return shelves.assign(reason=reason, evidence=evidence, query=query)

    def _als(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R,) per row, the history item with the largest share of the ALS score; each user is equations of its own."""
        evidence, order = np.full(len(users), -1), np.argsort(users, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
            history = self.interactions[users[places[0]]]
            shares = self._factors.explain(history.indices, history.data, items[places])  # (rows of the user, H)
            shares[items[places][:, None] == history.indices] = -np.inf  # an item is its own evidence only if alone
            evidence[places] = history.indices[shares.argmax(axis=1)]
        return evidence

    def _neighbours(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R,) per row, the history item that says most for it."""
        return _in_slices(self._neighbours_of, users, items)

    def _neighbours_of(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        histories = self._tastes[users]
        row, targets = np.repeat(np.arange(len(users)), np.diff(histories.indptr)), histories.indices
        shares = self._beside.at(targets, items[row]) * histories.data.astype(np.float32)
        shares[targets == items[row]] = -np.inf  # an item is its own evidence only if alone
        evidence, starts = np.full(len(users), -1), histories.indptr[:-1]
        has_history = np.diff(histories.indptr) > 0
        best = np.maximum.reduceat(shares, starts[has_history]) if has_history.any() else shares
        place = np.cumsum(has_history) - 1
        first = np.flatnonzero(shares == best[place[row]])[::-1]  # of equal ones the first item, which is written last
        evidence[row[first]] = targets[first]
        return evidence

    @cached_property
    def _factors(self) -> ALSModel:
        return ALSModel.load(self.run.of("train_als", "final"))

    @cached_property
    def _beside(self) -> Neighbours:
        return Neighbours.load(self.run.of("train_neighbours", "final"))

    @cached_property
    def _tastes(self) -> sparse.csr_matrix:
        return self.marts.tastes(self.run.day)

    @cached_property
    def _histories(self) -> Histories:
        return self.marts.histories(self.run.day)

    @cached_property
    def _profile(self) -> "Attended":
        """What the attention reads of the histories."""
        folder = self.run.of("train_profile", "final")
        vectors = np.load(folder / "item_vectors.npy")
        _, attention = profile_training.user_vectors(HistoryAttention.load(folder), vectors, self._histories)
        return Attended(self._histories.positions, attention, vectors)

    @cached_property
    def _sequence(self) -> "Attended":
        """The same by the network that read the histories tonight, in its own space."""
        folder = self.run.of("train_profile", "final")
        network, vectors = personalization.load(folder), np.load(folder / "item_vectors.npy")
        _, items, attention = personalization.read_history(network, vectors, self._histories)
        lengths = np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
        return Attended(self._histories.positions, attention, items / lengths)


@dataclass(frozen=True)
class Attended:
    """Histories as a network reads them: items (U, H), -1 is padding, its attention to them (U, H), and the items'
    vectors (I, E)."""

    positions: np.ndarray
    attention: np.ndarray
    vectors: np.ndarray

    def most_attended(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R,) the history item with the largest attention times similarity, -1 without a history; an item is no
        evidence of its own."""
        return _in_slices(self._most_attended, users, items)

    def _most_attended(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        history = self.positions[users]  # (R, H)
        similarity = np.einsum("rhe,re->rh", self.vectors[np.maximum(history, 0)], self.vectors[items])
        own = np.finfo(np.float32).min
        share = np.where(history != items[:, None], self.attention[users] * similarity, own)
        best = np.where(history >= 0, share, -np.inf).argmax(axis=1)
        return history[np.arange(len(items)), best]


def _in_slices(find: Find, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """What `find` says of so many rows at once: each brings a whole history, and a vector of each item of it."""
    parts = [slice(start, start + ROWS_PER_SLICE) for start in range(0, len(users), ROWS_PER_SLICE)]
    return np.concatenate([np.empty(0, dtype=int), *(find(users[part], items[part]) for part in parts)])


def loudest(parts: np.ndarray) -> np.ndarray:
    """(R,) SPEAKERS from their parts (R, S): what is popular is everybody's, so it must outweigh all that speaks for
    the item personally."""
    is_personal = np.array([part != "popularity" for part in SPEAKERS])
    personal = np.array(SPEAKERS, dtype=object)[np.where(is_personal, parts, -np.inf).argmax(axis=1)]
    is_popular = parts[:, ~is_personal].sum(axis=1) >= np.maximum(parts[:, is_personal], 0.0).sum(axis=1)
    return np.where(is_popular, "popularity", personal)
