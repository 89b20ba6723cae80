"""Complements: what is taken along with an item, in one basket."""

import numpy as np
import pandas as pd

from pipelines.beside import pairs
from pipelines.marts import Marts
from pipelines.run import Run

ALIKE = 0.6  # cosine of centred profiles from which on two items of one category can stand for each other
WANTED_BOTH = 0.1  # share of the rarer item's baskets from which on people want both, however alike they are


def bought_together(run: Run, marts: Marts, vectors: np.ndarray, may_stand: np.ndarray) -> pd.DataFrame:
    """For each item the others that share its baskets, by the lift that they have at least.

    `vectors` (I, E) are centred, `may_stand` (I,) bool the items that may be shown.
    """
    found = pairs.met(marts, "bought", vectors)
    is_other = ~pairs.are_one(marts, found["item"].to_numpy(), found["other"].to_numpy())
    kept = found[may_stand[found["other"]] & is_other & ~are_substitutes(found)]
    columns = {"lift": "lift", "count_baskets": "count_both"}
    return pairs.lists(run, marts, kept.assign(score=kept["least_lift"]), columns)


def are_substitutes(bought: pd.DataFrame) -> pd.Series:
    """(P,) bool: alike, of one category, and in one basket only now and then, as when people cannot decide."""
    share = bought["count_both"] / bought[["count_one", "count_other"]].min(axis=1)
    return bought["is_of_a_kind"] & (bought["likeness"] >= ALIKE) & (share < WANTED_BOTH)
