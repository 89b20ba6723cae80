"""The gates see shelves that are all alike, that show the same few items, or that are worse than yesterday's."""

import datetime as dt
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from models.vocabulary import Vocabulary
from pipelines import gates
from pipelines.marts import Marts
from pipelines.settings import Settings


def shelves(*lists: str, filled: int | None = None) -> gates.Rows:
    """One user per text, one row per letter; one of all rows may be one that filled up."""
    rows = [(f"u{user}", rank, item) for user, items in enumerate(lists) for rank, item in enumerate(items, start=1)]
    told = pd.DataFrame(rows, columns=["user_id", "rank", "item_id"])
    told["fallback"] = pd.Series(np.where(told.index == filled, "shop_popularity", None), dtype="string")
    return duckdb.from_df(told)


def test_coverage_is_of_what_could_be_shown():
    """Four rows can show four of ten items; they show two. Items that cannot be bought do not count."""
    items = pd.DataFrame({"item_id": list("abcdefghij"), "is_available": True})
    assert gates._coverage(shelves("ab", "ab"), items) == 0.5
    assert gates._coverage(shelves("ab", "cd"), items.assign(is_available=items["item_id"] < "e")) == 1.0
    assert gates._coverage(shelves(), items) is None


def test_popularity_share_counts_own_rows_only():
    """Of three rows that the models chose, one is popular; the popular one that filled up is no fault of theirs."""
    told = shelves("ab", "cd", filled=3)
    popular = pd.DataFrame({"segment_kind": "all", "rank": [1, 2], "item_id": ["a", "d"]})
    items = pd.DataFrame({"is_available": [True] * 100})
    assert gates._popularity_share(told, popular, items) == pytest.approx(1 / 3)
    assert gates._popularity_share(told, popular, items[:99]) is None


def test_a_placement_that_nobody_declared_is_seen():
    """Those of every shop and of the settings pass, another one does not."""
    run = SimpleNamespace(settings=Settings())
    told = pd.DataFrame({"placement": ["for_you", "new_for_you"]})
    assert gates._known_placements(run, duckdb.from_df(told))["is_ok"]
    strange = pd.DataFrame({"placement": ["for_you", "basket"]})
    assert not gates._known_placements(run, duckdb.from_df(strange))["is_ok"]


def test_likeness_is_the_mean_cosine_of_two_items_of_a_shelf(tmp_path):
    """The first user sees two equal items, the second two unlike ones, the third has nothing to compare."""
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    np.save(tmp_path / "item_vectors.npy", vectors)
    run = SimpleNamespace(of=lambda *path: tmp_path / path[-1])
    marts = SimpleNamespace(items=Vocabulary("abc"))
    assert gates._likeness(run, marts, shelves("ab", "ac", "a")) == pytest.approx(0.5)
    assert gates._likeness(run, marts, shelves("a", "c")) is None


def lists(seen: str, first: dict[str, str], placement: str = "for_you") -> pd.DataFrame:
    """Of each of forty users, the item that stands first, and another one below."""
    rows = [
        (placement, f"u{n:02}", rank, first.get(f"u{n:02}", "b") if rank == 1 else "c")
        for n in range(40)
        for rank in (1, 2)
    ]
    told = pd.DataFrame(rows, columns=["placement", "user_id", "rank", "item_id"])
    return told.assign(seen=pd.Timestamp(seen), trained_on=dt.date.fromisoformat(seen))


def contest(folder: Path, ours: pd.DataFrame, before: list[pd.DataFrame], placement: str = "for_you") -> dict:
    """The gate's record; everybody bought `a` in the held-out days after 2026-02-15, and `c` before and in them."""
    ours.to_parquet(folder / "held_out_lists.parquet")
    day, cut = dt.date(2026, 3, 1), dt.date(2026, 2, 15)
    run = SimpleNamespace(day=day, holdout_cut=cut, settings=Settings(), of=lambda *path: folder / path[-1])
    run.proved_on, run.proof_of = day, None
    held_out, earlier = (sparse.csr_matrix(np.tile(row, (40, 1))) for row in ([1.0, 0.0, 1.0], [0.0, 0.0, 1.0]))
    marts = SimpleNamespace(
        users=Vocabulary(f"u{n:02}" for n in range(40)),
        items=Vocabulary("abc"),
        bought=lambda until, after=None: held_out if after else earlier,
        people=lambda until: np.ones(40, dtype=bool),
    )
    marts.run, marts.held_out = run, partial(Marts.held_out, marts)
    marts._bought_by_people = partial(Marts._bought_by_people, marts)
    return gates._against_current(run, marts, before, placement)


HALF = {f"u{n:02}": "a" for n in range(20)}


@pytest.mark.parametrize(("hits", "is_ok"), [(40, True), (20, True), (19, True), (0, False)])
def test_tonight_may_not_be_worse_than_the_current_release_beyond_chance(tmp_path: Path, hits: int, is_ok: bool):
    """Better or equal it may be; to miss one user of the release's twenty is chance, to miss them all is not."""
    ours, theirs = lists("2026-02-15", {f"u{n:02}": "a" for n in range(hits)}), lists("2026-02-14", HALF)
    assert contest(tmp_path, ours, [theirs])["is_ok"] is is_ok


def test_only_users_with_lists_on_both_sides_are_compared(tmp_path: Path):
    """Two rows each: the first four are those of two users."""
    found = contest(tmp_path, lists("2026-02-15", HALF).head(4), [lists("2026-02-14", HALF)])
    assert "over 2 users" in found["observed"]


def test_only_lists_that_know_nothing_of_the_held_out_days_are_held_against_tonight(tmp_path: Path):
    """Shelves of yesterday know them; those of a release before the cut do not, and are what readers have."""
    ours, better = lists("2026-02-15", {}), {f"u{n:02}": "a" for n in range(40)}
    yesterday, its_held_out = lists("2026-02-28", better), lists("2026-02-14", {})
    assert "up to 2026-02-14" in contest(tmp_path, ours, [yesterday, its_held_out])["observed"]
    assert contest(tmp_path, ours, [yesterday, its_held_out])["is_ok"]
    assert not contest(tmp_path, ours, [lists("2026-02-10", better), its_held_out])["is_ok"]
    for before in ([], [yesterday], [yesterday, its_held_out.head(0)]):
        assert "nothing to measure" in contest(tmp_path, ours, before)["observed"]


def test_discover_is_judged_on_what_was_new_to_the_user(tmp_path: Path):
    """Everybody bought `c` again, which no list of `discover` could show: `a` on top is all there is to win."""
    ours, theirs = (lists(day, HALF, "discover") for day in ("2026-02-15", "2026-02-14"))
    assert "0.5000, beside 0.5000" in contest(tmp_path, ours, [theirs], "discover")["observed"]


@pytest.mark.parametrize(("high", "is_ok"), [(0.21, True), (0.19, False)])
def test_search_may_not_be_worse_than_in_the_current_release_beyond_chance(high: float, is_ok: bool):
    """The interval reaches the other's low end, or does not; without a release before, there is nothing to measure."""
    now = pd.DataFrame({"value": 0.18, "low": 0.15, "high": high}, index=["search/fused/ndcg_at_10"])
    assert gates._search_against_current(now, 0.20)["is_ok"] is is_ok
    assert gates._search_against_current(now, None)["observed"] == "nothing to measure"


def test_bounds_hold_where_they_are_met():
    """At least and at most; what cannot be measured stops nothing."""
    assert [gates._at_least("x", value, 0.5)["is_ok"] for value in (0.5, 0.4, None)] == [True, False, True]
    assert [gates._at_most("x", value, 0.5)["is_ok"] for value in (0.5, 0.6, None)] == [True, False, True]
