"""Evidence: for each row of a shelf, the part that spoke loudest, and what of the user's own it points to."""

from collections.abc import Callable

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


def explain(run: Run, marts: Marts, shelves: pd.DataFrame) -> pd.DataFrame:
    """`shelves` (user, item, `<part>_score`, fallback) with `reason`, `query`, and `evidence` (item, -1 for none)."""
    parts = shelves[[f"{part}_score" for part in SPEAKERS]].to_numpy(dtype=float)
    users, items = shelves["user"].to_numpy(), shelves["item"].to_numpy()
    is_bought = values_at(marts.bought(run.day), users, items) > 0
    # The habit of who never bought the item is the user's rhythm: it moves the score and is no reason.
    parts[:, HABIT] = np.where(is_bought, parts[:, HABIT], -np.inf)
    source = loudest(parts)
    # What other people's histories say of an item that the user bought is what the purchase itself says.
    source[is_bought & np.isin(source, LIKE_HABIT)] = "habit"
    interactions = marts.interactions(run.day)
    is_cold = interactions[marts.people(run.day)].getnnz(axis=0)[items] == 0
    source[shelves["fallback"].notna().to_numpy()] = "popularity"
    is_picked = (shelves["fallback"] == "rules").to_numpy()
    reason = np.array([BY_PART[one] for one in source], dtype=object)
    is_new = is_cold & (parts.max(axis=1) > 0)
    reason[is_new], source[is_new] = "new_for_you", "profile"
    reason[is_picked] = BY_SHOP
    # What the user typed needs no model to be seen; of what filled the shelf and of what was bought more is known.
    asked, query = np.flatnonzero(shelves["fallback"].isna() & ~is_bought), np.full(len(items), None, dtype=object)
    query[asked] = Searched(marts, run.day).best(users[asked], items[asked])
    is_asked = ~pd.isna(query)
    reason[is_asked], source[is_asked] = "matches_your_search", "search"
    evidence = np.where(source == "habit", items, -1)
    for name, find in EVIDENCE.items():
        told = source == name
        evidence[told] = find(run, marts, shelves[told])
    return shelves.assign(reason=reason, evidence=evidence, query=query)


def loudest(parts: np.ndarray) -> np.ndarray:
    """(R,) SPEAKERS from their parts (R, S): what is popular is everybody's, so it must outweigh all that speaks for
    the item personally."""
    is_personal = np.array([part != "popularity" for part in SPEAKERS])
    personal = np.array(SPEAKERS, dtype=object)[np.where(is_personal, parts, -np.inf).argmax(axis=1)]
    is_popular = parts[:, ~is_personal].sum(axis=1) >= np.maximum(parts[:, is_personal], 0.0).sum(axis=1)
    return np.where(is_popular, "popularity", personal)


def _als_evidence(run: Run, marts: Marts, rows: pd.DataFrame) -> np.ndarray:
    """(R,) per row, the history item with the largest share of the ALS score."""
    return _largest_share(rows, marts.interactions(run.day), ALSModel.load(run.of("train_als", "final")).explain)


def _neighbour_evidence(run: Run, marts: Marts, rows: pd.DataFrame) -> np.ndarray:
    """(R,) per row, the history item that says most for it."""
    return _largest_share(rows, marts.tastes(run.day), Neighbours.load(run.of("train_neighbours", "final")).shares)


def _largest_share(
    rows: pd.DataFrame,
    histories: sparse.csr_matrix,
    shares_of: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """(R,) per row, the history item with the largest share, by shares_of(positions, weights, targets)."""
    evidence = np.full(len(rows), -1)
    users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
    order = np.argsort(users, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
        if len(places):
            history = histories[users[places[0]]]
            shares = shares_of(history.indices, history.data, items[places])  # (rows of the user, H)
            shares[items[places][:, None] == history.indices] = -np.inf  # an item is its own evidence only if alone
            evidence[places] = history.indices[shares.argmax(axis=1)]
    return evidence


def _profile_evidence(run: Run, marts: Marts, rows: pd.DataFrame) -> np.ndarray:
    """(R,) per row, the history item with the largest attention times similarity; -1 without a history."""
    folder = run.of("train_profile", "final")
    vectors, histories = np.load(folder / "item_vectors.npy"), marts.histories(run.day)
    _, attention = profile_training.user_vectors(HistoryAttention.load(folder), vectors, histories)
    return _most_attended(rows, histories, attention, vectors)


def _sequence_evidence(run: Run, marts: Marts, rows: pd.DataFrame) -> np.ndarray:
    """(R,) the same by the network that read the histories tonight, in its own space."""
    folder = run.of("train_profile", "final")
    vectors, histories = np.load(folder / "item_vectors.npy"), marts.histories(run.day)
    _, items, attention = personalization.read_history(personalization.load(folder), vectors, histories)
    lengths = np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
    return _most_attended(rows, histories, attention, items / lengths)


def _most_attended(rows: pd.DataFrame, histories: Histories, attention: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(R,) the history item with the largest attention (U, H) times similarity; an item is no evidence of its own."""
    users, items = rows["user"].to_numpy(), rows["item"].to_numpy()
    history = histories.positions[users]  # (R, H)
    similarity = np.einsum("rhe,re->rh", vectors[np.maximum(history, 0)], vectors[items])
    share = np.where(history != items[:, None], attention[users] * similarity, np.finfo(np.float32).min)
    best = np.where(history >= 0, share, -np.inf).argmax(axis=1)
    return history[np.arange(len(rows)), best]


EVIDENCE: dict[str, Callable[[Run, Marts, pd.DataFrame], np.ndarray]] = {
    "als": _als_evidence,
    "neighbours": _neighbour_evidence,
    "profile": _profile_evidence,
    "sequence": _sequence_evidence,
}
