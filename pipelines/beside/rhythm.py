"""Rhythm: how long users pause between purchases, of one item and at all, and what follows for today."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

OWN_PRIOR = 1.0  # pauses of one's own at which half of what they say is believed
ITEM_PRIOR = 3.0  # pauses of all users of an item at which half of what they say is believed
LAPSED = 2.0  # usual pauses after which nobody is expected back


def of_users(bought: pd.DataFrame) -> pd.DataFrame:
    """By user who bought: `since` (days), `count_days` of purchase, `usual` (days between two, drawn to the shop's).

    `bought` as `Marts.purchases` tells it.
    """
    days = _days(bought, ["user"])
    return _usual(days, ["user"], days["pause"].median())


def of_pairs(bought: pd.DataFrame) -> pd.DataFrame:
    """The same by user and item, of what was bought on two days or more: one's own pauses are drawn to those of all who
    buy the item again, these to the shop's."""
    days = _days(bought, ["user", "item"])
    pauses = days.dropna().groupby("item")["pause"].agg(["median", "size"])
    of_item = _drawn(pauses["median"], pauses["size"], days["pause"].median(), ITEM_PRIOR)
    pairs = _usual(days, ["user", "item"], days["item"].map(of_item))
    return pairs[pairs["count_days"] > 1].reset_index(drop=True)


def status(rhythm: pd.DataFrame, within_days: int) -> np.ndarray:
    """(R,) `due` when the usual pause ends within so many days or has ended; before, `early`; `lapsed` long after; None
    where no pause is known."""
    since, usual = rhythm["since"].to_numpy(), rhythm["usual"].to_numpy()
    told = np.full(len(rhythm), "early", dtype=object)
    told[since + within_days >= usual] = "due"
    told[since > LAPSED * usual] = "lapsed"
    told[np.isnan(usual)] = None
    return told


def _days(bought: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Distinct days of purchase, oldest first, each with the days since the one before (`pause`, NaN for the first)."""
    distinct = bought[[*keys, "age"]].drop_duplicates()
    days = distinct.sort_values([*keys, "age"], ascending=[True] * len(keys) + [False], ignore_index=True)
    return days.assign(pause=-days.groupby(list(keys))["age"].diff())


def _usual(days: pd.DataFrame, keys: Sequence[str], others: Any) -> pd.DataFrame:
    told = days.assign(others=others).groupby(list(keys), as_index=False)
    table = told.agg(
        since=("age", "min"), count_days=("age", "size"), own=("pause", "median"), others=("others", "first")
    )
    table["usual"] = _drawn(table["own"], table["count_days"] - 1, table["others"], OWN_PRIOR)
    return table.drop(columns=["own", "others"])


def _drawn(own: pd.Series, count: pd.Series, others: Any, prior: float) -> pd.Series:
    """Geometric mean of one's own pause and the others', by how many of one's own there are."""
    return np.exp((count * np.log(own).fillna(0.0) + prior * np.log(others)) / (count + prior))
