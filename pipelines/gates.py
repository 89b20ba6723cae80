"""The gates: whether tonight is whole, no worse than the release it would replace, and fit to be seen."""

import json
from collections import Counter
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from pipelines import warehouse
from pipelines.expectations import check
from pipelines.fuse.rankings import LEARNED
from pipelines.marts import Marts
from pipelines.run import Run

COUNT_POPULAR = 20  # the shop's most popular items, whose share of the shelves is watched
SAMPLED_USERS = 2000  # shelves whose likeness is measured; every n-th user


def checks(run: Run, marts: Marts, frames: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """One row of quality_checks per gate; `frames` are tonight's tables."""
    gates, shelves = run.settings.gates, _of(frames["user_recommendations"], "for_you")
    before = _current(run)
    made = [
        _books_balance(run),
        _only_available(frames),
        _at_least("users_served", _users_served(run, marts, shelves, frames["items"]), gates.min_users_served),
        _at_least("queries_answered", _queries_answered(marts, frames), gates.min_queries_answered),
        _at_least("overlap_with_current", _overlap(shelves, before.get("user_recommendations")), gates.min_overlap),
        _at_least("coverage", _coverage(shelves, frames["items"]), gates.min_coverage),
        _at_most(
            "popularity_share",
            _popularity_share(shelves, frames["popular_items"], frames["items"]),
            gates.max_popularity_share,
        ),
        _at_most("likeness_within_shelves", _likeness(run, marts, shelves), gates.max_likeness),
    ]
    figures = frames["metrics"].set_index("metric")
    for placement in LEARNED:
        ratio = _against_popularity(figures, placement)
        made.append(_at_least(f"{placement}_against_popularity", ratio, gates.min_against_popularity))
        made.append(_against_current(figures, before.get("metrics"), placement))
    made.append(_against_current(figures, before.get("metrics"), "search"))
    return made


def _of(shelves: pd.DataFrame, placement: str) -> pd.DataFrame:
    return shelves[shelves["placement"] == placement]


def _current(run: Run) -> dict[str, pd.DataFrame]:
    """What the gates read of the release that readers have; nothing before the first night."""
    path = warehouse.current(run.home)
    if path is None:
        return {}
    with duckdb.connect(str(path), read_only=True) as release:
        shelves = "select user_id, item_id from user_recommendations where placement = 'for_you'"
        figures = "select metric, value, low, high from metrics where kind = 'quality'"
        return {"user_recommendations": release.execute(shelves).df(), "metrics": release.execute(figures).df()}


def _books_balance(run: Run) -> dict[str, Any]:
    """Cleaning accounts for every row of every file that was delivered, as accepted or by rule."""
    accounted: Counter[str] = Counter()
    for record in json.loads(run.of("clean", "books.json").read_text()):
        accounted[record["file"]] += record["count_rows"]
    delivered = warehouse.delivered_rows(run)
    wrong = [path for path, count in delivered.items() if count is None]
    wrong += [one["file"] for one in warehouse.receipts(run) if accounted[one["file"]] != one["count_rows"]]
    total = sum(filter(None, delivered.values()))
    told = f"{accounted.total()} rows" + (f", not all of {', '.join(sorted(wrong)[:3])}" if wrong else "")
    is_ok = not wrong and accounted.total() == total
    return check("night", "books_balance", is_ok, told, f"{total} rows, file by file")


def _only_available(frames: dict[str, pd.DataFrame]) -> dict[str, Any]:
    unavailable = frames["items"].loc[~frames["items"]["is_available"], "item_id"]
    shown = pd.concat([frames[name]["item_id"] for name in ("user_recommendations", "search_results", "popular_items")])
    count = int(shown.isin(set(unavailable)).sum())
    return check(
        "night", "only_available_items", count == 0, f"{count} rows show an item that cannot be bought", "none"
    )


def _users_served(run: Run, marts: Marts, shelves: pd.DataFrame, items: pd.DataFrame) -> float | None:
    """Share of all known users with a shelf of full length."""
    length = min(run.settings.shelve.length, int(items["is_available"].sum()))
    return float((shelves.groupby("user_id").size() >= length).sum() / len(marts.users)) if len(marts.users) else None


def _queries_answered(marts: Marts, frames: dict[str, pd.DataFrame]) -> float | None:
    asked = marts.queries()
    return frames["search_results"]["query"].nunique() / len(asked) if len(asked) else None


def _overlap(shelves: pd.DataFrame, before: pd.DataFrame | None) -> float | None:
    """Mean share of a shelf that stood in the current release too, over users in both."""
    if before is None:
        return None
    now = shelves.loc[shelves["user_id"].isin(before["user_id"]), ["user_id", "item_id"]]
    return len(now.merge(before)) / len(now) if len(now) else None


def _coverage(shelves: pd.DataFrame, items: pd.DataFrame) -> float | None:
    """Distinct items on the shelves over as many as there could be: all available ones, or a row each."""
    possible = min(int(items["is_available"].sum()), len(shelves))
    return shelves["item_id"].nunique() / possible if possible else None


def _popularity_share(shelves: pd.DataFrame, popular: pd.DataFrame, items: pd.DataFrame) -> float | None:
    """Share of the rows, but for those that filled up, that show one of the shop's most popular items.

    Where these are more than a fifth of what can be bought, nothing is amiss when they fill the shelves.
    """
    if items["is_available"].sum() < 5 * COUNT_POPULAR:
        return None
    own = shelves[shelves["fallback"].isna()]
    first = popular[(popular["segment"] == "all") & (popular["rank"] <= COUNT_POPULAR)]
    return float(own["item_id"].isin(set(first["item_id"])).mean()) if len(own) else None


def _likeness(run: Run, marts: Marts, shelves: pd.DataFrame) -> float | None:
    """Mean cosine of the profile vectors of two items on one shelf, over every n-th user."""
    own = shelves[shelves["fallback"].isna()]
    users = np.sort(own["user_id"].unique())
    own = own[own["user_id"].isin(users[:: max(len(users) // SAMPLED_USERS, 1)])]
    vectors = np.load(run.of("train_profile", "final", "item_vectors.npy"))[marts.items.positions(own["item_id"])]
    counts = own.groupby("user_id", sort=False).size().to_numpy()
    if not (counts > 1).any():
        return None
    starts = np.cumsum(counts) - counts
    sums, lengths = np.add.reduceat(vectors, starts), np.add.reduceat((vectors**2).sum(axis=1), starts)
    pairs = ((sums**2).sum(axis=1) - lengths)[counts > 1] / (counts * (counts - 1))[counts > 1]
    return float(pairs.mean())


def _against_popularity(figures: pd.DataFrame, placement: str) -> float | None:
    """Held-out NDCG@10 of tonight's fusion to that of the most popular items."""
    ours, theirs = (figures["value"].get(f"{placement}/{ranking}/ndcg_at_10") for ranking in ("fused", "popularity"))
    return float(ours / theirs) if ours is not None and theirs else None


def _against_current(figures: pd.DataFrame, before: pd.DataFrame | None, placement: str) -> dict[str, Any]:
    """Tonight's held-out NDCG@10 is not below the current release's beyond both intervals."""
    name, metric = f"{placement}_against_current", f"{placement}/fused/ndcg_at_10"
    then = before[before["metric"] == metric] if before is not None else pd.DataFrame()
    if metric not in figures.index or not len(then):
        return check("night", name, True, "nothing to measure", "no worse beyond chance")
    now, low = figures.loc[metric], float(then["low"].iloc[0])
    told = f"{now['value']:g} ({now['low']:g} to {now['high']:g})"
    return check("night", name, bool(now["high"] >= low), told, f"reaching {low:g}, the low end of the current release")


def _at_least(name: str, observed: float | None, least: float) -> dict[str, Any]:
    """A gate holds when the figure reaches its bound; without anything to measure it says so."""
    is_ok = observed is None or observed >= least
    return check("night", name, is_ok, _told(observed), f"at least {least:g}")


def _at_most(name: str, observed: float | None, most: float) -> dict[str, Any]:
    is_ok = observed is None or observed <= most
    return check("night", name, is_ok, _told(observed), f"at most {most:g}")


def _told(observed: float | None) -> str:
    return "nothing to measure" if observed is None else f"{observed:g}"
