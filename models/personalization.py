"""Which network reads a user's history tonight: the simple attention or the sequence, whichever foretells better."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from scipy import sparse

from models import metrics, retrieval
from models.histories import Histories
from models.profile import HistoryAttention
from models.profile_training import user_vectors
from models.sequence import SequenceModel
from models.sequence_training import sequence_vectors

RECORD = "personalization.json"
MEASURED_AT = 10
Vectors = tuple[np.ndarray, np.ndarray, np.ndarray]  # users (U, D), items (I, D), attention over the history (U, H)


def read_history(network: HistoryAttention | SequenceModel, item_vectors: np.ndarray, histories: Histories) -> Vectors:
    """Users and items whose inner product is the score, and the attention (U, H), which sums to 1 per user."""
    if isinstance(network, SequenceModel):
        return sequence_vectors(network, item_vectors, histories)
    users, attention = user_vectors(network, item_vectors, histories)
    return users, item_vectors, attention


def measure(
    network: HistoryAttention | SequenceModel,
    item_vectors: np.ndarray,
    histories: Histories,
    users: np.ndarray,
    wanted: list[np.ndarray],
) -> float:
    """NDCG@10 among all items of what these users (positions) bought next; NaN where none of them bought anything."""
    vectors, items, _ = read_history(network, item_vectors, histories.of(users))
    ranked, _ = retrieval.top_items(vectors, np.ascontiguousarray(items), MEASURED_AT)
    rows = np.repeat(np.arange(len(users)), [len(one) for one in wanted])
    columns = np.concatenate([np.empty(0, dtype=int), *wanted])
    truth = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(users), len(item_vectors)))
    served = np.diff(truth.indptr) > 0
    if not served.any():
        return float("nan")
    return float(np.mean(metrics.ndcg_at(ranked[served], truth[served], MEASURED_AT)))


def keep_better(folder: Path, attention: float, sequence: float) -> str:
    """Write both figures and which network won; the sequence has to be better, not only as good."""
    winner = "sequence" if sequence > attention else "attention"
    figures = {"attention": attention, "sequence": sequence}
    known = {name: None if np.isnan(value) else value for name, value in figures.items()}
    (folder / RECORD).write_text(json.dumps({"ndcg_at_10": known, "winner": winner}, indent=2), encoding="utf-8")
    return winner


def load(folder: Path) -> HistoryAttention | SequenceModel:
    """The network that won."""
    winner = json.loads((folder / RECORD).read_text(encoding="utf-8"))["winner"]
    return (SequenceModel if winner == "sequence" else HistoryAttention).load(folder)
