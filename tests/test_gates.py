"""The gates see shelves that are all alike, that show the same few items, or that are worse than yesterday's."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from models.vocabulary import Vocabulary
from pipelines import gates


def shelves(*lists: str) -> pd.DataFrame:
    """One user per text, one row per letter."""
    rows = [(f"u{user}", item) for user, items in enumerate(lists) for item in items]
    return pd.DataFrame(rows, columns=["user_id", "item_id"]).assign(fallback=None)


def test_coverage_is_of_what_could_be_shown():
    """Four rows can show four of ten items; they show two. Items that cannot be bought do not count."""
    items = pd.DataFrame({"item_id": list("abcdefghij"), "is_available": True})
    assert gates._coverage(shelves("ab", "ab"), items) == 0.5
    assert gates._coverage(shelves("ab", "cd"), items.assign(is_available=items["item_id"] < "e")) == 1.0
    assert gates._coverage(shelves(), items) is None


def test_popularity_share_counts_own_rows_only():
    """Of three rows that the models chose, one is popular; the popular one that filled up is no fault of theirs."""
    told = shelves("ab", "cd")
    told.loc[3, "fallback"] = "shop_popularity"
    popular = pd.DataFrame({"segment": "all", "rank": [1, 2], "item_id": ["a", "d"]})
    items = pd.DataFrame({"is_available": [True] * 100})
    assert gates._popularity_share(told, popular, items) == pytest.approx(1 / 3)
    assert gates._popularity_share(told, popular, items[:99]) is None


def test_likeness_is_the_mean_cosine_of_two_items_of_a_shelf(tmp_path):
    """The first user sees two equal items, the second two unlike ones, the third has nothing to compare."""
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    np.save(tmp_path / "item_vectors.npy", vectors)
    run = SimpleNamespace(of=lambda *path: tmp_path / path[-1])
    marts = SimpleNamespace(items=Vocabulary("abc"))
    assert gates._likeness(run, marts, shelves("ab", "ac", "a")) == pytest.approx(0.5)
    assert gates._likeness(run, marts, shelves("a", "c")) is None


@pytest.mark.parametrize(("high", "is_ok"), [(0.21, True), (0.19, False)])
def test_tonight_may_not_be_worse_than_the_current_release_beyond_chance(high: float, is_ok: bool):
    """The intervals touch, or they do not; without a release before, there is nothing to measure."""
    columns = ["metric", "value", "low", "high"]
    now = pd.DataFrame([("for_you/fused/ndcg_at_10", 0.18, 0.15, high)], columns=columns).set_index("metric")
    before = pd.DataFrame([("for_you/fused/ndcg_at_10", 0.25, 0.20, 0.30)], columns=columns)
    assert gates._against_current(now, before, "for_you")["is_ok"] is is_ok
    assert gates._against_current(now, None, "for_you")["observed"] == "nothing to measure"


def test_bounds_hold_where_they_are_met():
    """At least and at most; what cannot be measured stops nothing."""
    assert [gates._at_least("x", value, 0.5)["is_ok"] for value in (0.5, 0.4, None)] == [True, False, True]
    assert [gates._at_most("x", value, 0.5)["is_ok"] for value in (0.5, 0.6, None)] == [True, False, True]
