"""Substitutes: what could be taken in an item's place, because it is alike or because people look at both."""

import numpy as np
import pandas as pd
from scipy import sparse

from models import retrieval
from pipelines.beside import pairs
from pipelines.beside.complements import are_substitutes
from pipelines.marts import Marts, values_at
from pipelines.run import Run

SHRINKAGE = 5.0  # visits at which half of what they say is believed
BEHAVIOUR = 4.0  # cosines of profiles that one of visits is worth
NEAR = 2  # items that the profile proposes, in lengths of a list


def similar_items(run: Run, marts: Marts, vectors: np.ndarray, may_stand: np.ndarray) -> pd.DataFrame:
    """For each item the others nearest to it, by the cosine of their profiles plus that of their visits.

    `vectors` (I, E) are centred, `may_stand` (I,) bool the items that may be shown.
    """
    viewed = pairs.met(marts, "viewed", vectors)
    beside = _likeness_in_visits(viewed, len(vectors))
    item, other = _proposed(run, vectors, beside, may_stand)
    kept = ~(pairs.are_one(marts, item, other) | _go_together(marts, vectors, item, other))
    item, other = item[kept], other[kept]
    profile = np.einsum("pe,pe->p", vectors[item], vectors[other]).astype(float)
    behaviour = BEHAVIOUR * values_at(beside, item, other)
    rows = pd.DataFrame({"item": item, "other": other, "score": profile + behaviour})
    rows = rows.assign(profile_score=profile, behaviour_score=behaviour)
    rows["reason"] = np.where(behaviour >= profile, "viewed_together", "alike")
    return pairs.lists(run, marts, rows, {name: name for name in ("profile_score", "behaviour_score", "reason")})


def _likeness_in_visits(viewed: pd.DataFrame, count_items: int) -> sparse.csr_matrix:
    """(I, I) cosine of the visits in which two items are looked at, shrunk where they are few."""
    usual = np.sqrt(viewed["count_one"] * viewed["count_other"])
    likeness = viewed["count_both"] / (usual + SHRINKAGE)
    return sparse.csr_matrix((likeness, (viewed["item"], viewed["other"])), shape=(count_items, count_items))


def _proposed(
    run: Run, vectors: np.ndarray, beside: sparse.csr_matrix, may_stand: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs of an item and another that may stand: what the profile puts nearest, and what is viewed too."""
    length, memory = NEAR * run.settings.shelve.length, run.settings.fuse.memory_mb << 20
    itself = sparse.identity(len(vectors), format="csr", dtype=np.float32)
    nearest, _ = retrieval.top_items(vectors, vectors, length, itself, may_stand, memory)
    item, place = np.nonzero(nearest >= 0)
    seen, viewed = beside.nonzero()
    keys = np.concatenate([item * len(vectors) + nearest[item, place], (seen.astype(np.int64) * len(vectors) + viewed)])
    item, other = np.divmod(np.unique(keys), max(len(vectors), 1))
    return item[may_stand[other]], other[may_stand[other]]


def _go_together(marts: Marts, vectors: np.ndarray, item: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(P,) bool: of two categories, and in one basket beyond chance: a printer is no substitute for its ink."""
    bought = pairs.met(marts, "bought", vectors)
    apart = bought[~bought["is_of_a_kind"] & ~are_substitutes(bought)]
    keys = apart["item"].to_numpy() * len(vectors) + apart["other"].to_numpy()
    return np.isin(item * len(vectors) + other, keys)
