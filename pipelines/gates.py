"""The gates: whether tonight is whole, no worse than the release it would replace, and fit to be seen."""

import json
from collections import Counter
from typing import Any

import duckdb
import numpy as np
import pandas as pd
from scipy import sparse

from models import metrics
from pipelines import warehouse
from pipelines.expectations import check
from pipelines.fuse.rankings import LEARNED
from pipelines.marts import Marts
from pipelines.rules import obeyed
from pipelines.rules.rule import ITEM_TABLES
from pipelines.run import Run

Rows = duckdb.DuckDBPyRelation  # of a table, read where they lie
PUBLISHED = ("user_recommendations", "search_results")
MEASURED_AT = 10  # rows of a list
LISTS = {
    "user_recommendations": (
        "select placement, user_id, rank, item_id, (select run_date from runs) as seen from user_recommendations"
        " where placement <> 'buy_again' and seen <= '{cut}' and rank <= {length}"
        " and user_id in (select user_id from {held_out})"
    ),
    "held_out_lists": "select placement, user_id, rank, item_id, trained_on as seen from held_out_lists",
}
OVERLAP = """
    with before as (select user_id, item_id from user_recommendations where placement = 'for_you')
    select count(*) filter (where (user_id, item_id) in (from before)) / count(*)
    from {shelves}
    where placement = 'for_you' and user_id in (select user_id from before)
"""
SEARCH = "search/fused/ndcg_at_10"
COUNT_POPULAR = 20  # the shop's most popular items, whose share of the shelves is watched
SAMPLED_USERS = 2000  # shelves whose likeness is measured; every n-th user
OF_TASTE = {"overlap_with_current", "coverage", "popularity_share", "likeness_within_shelves", "search_against_current"}
OF_TASTE |= {f"{placement}_against_{rival}" for placement in LEARNED for rival in ("popularity", "current")}


def checks(run: Run, marts: Marts, frames: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    """One row of quality_checks per gate; `frames` are tonight's tables. Where the shop wishes it, a person may let
    pass what is a matter of taste; what is plainly wrong, nobody."""
    gates, before = run.settings.gates, _current(run)
    whole, answers = (marts.connection.sql(f"from {warehouse.relation(run, name)}") for name in PUBLISHED)
    shelves, answered = whole.filter("placement = 'for_you'"), set(answers.select("query").distinct().df()["query"])
    made = [
        _books_balance(run),
        *_obeyed(run, marts),
        _known_placements(run, whole),
        _at_least("users_served", _users_served(run, marts, shelves, frames["items"]), gates.min_users_served),
        _at_least("queries_answered", _queries_answered(marts, answered), gates.min_queries_answered),
        _at_least("head_answered", _head_answered(frames["queries"], answered), gates.min_head_answered),
        _at_least("user_queries_answered", _user_queries_answered(run, marts), gates.min_queries_answered),
        _at_least("overlap_with_current", _overlap(run), gates.min_overlap),
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
        made.append(_against_current(run, marts, before, placement))
    made.append(_search_against_current(figures, _search_of_current(run), _same_proof(run)))
    return [one | {"level": "ask"} if gates.ask and one["check_name"] in OF_TASTE else one for one in made]


def _of(shelves: pd.DataFrame, placement: str) -> pd.DataFrame:
    return shelves[shelves["placement"] == placement]


def _current(run: Run) -> list[pd.DataFrame]:
    """Lists of the release that the run may replace, the published ones first, of users with held-out lists tonight:
    placement, user_id, rank, item_id, and the last day that the list knows (`seen`); none without such a release."""
    if not _may_replace(run):
        return []
    asked = {"cut": run.holdout_cut, "length": MEASURED_AT, "held_out": warehouse.relation(run, "held_out_lists")}
    with warehouse.connect(run.home, run.settings) as release:
        told = warehouse.names(release)
        return [release.execute(query.format(**asked)).df() for name, query in LISTS.items() if name in told]


def _same_proof(run: Run) -> str | None:
    """That the release which the run may replace has the proof that the run carries, where it has."""
    if not run.proof_of or not _may_replace(run):
        return None
    with warehouse.connect(run.home, run.settings) as release:
        told = release.execute("select * from runs").df()
    if "proof_of" not in told or told["proof_of"][0] != run.proof_of:
        return None
    return f"nothing to measure: both are ranked as {run.proof_of} proved, equal by definition"


def _may_replace(run: Run) -> bool:
    """Whether readers have a release that the run may replace: one of a later day it does not look at either."""
    current = warehouse.current(run.home, run.settings)
    return current is not None and warehouse.day_of(current) <= run.day


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


def _obeyed(run: Run, marts: Marts) -> list[dict[str, Any]]:
    """No row of any list breaks a rule that is in force, or what the list promises."""
    names = ("user_recommendations", "user_history", "user_search_results", "rules", *ITEM_TABLES)
    sources = {name: warehouse.relation(run, name) for name in names} | {"users": "users", "catalogue": "catalogue"}
    counts = obeyed.broken(marts.connection, sources, run.settings.shelves, run.day.isoformat())
    return [check("night", f"no_{name}", not count, f"{count} rows", "none") for name, count in counts.items()]


def _known_placements(run: Run, shelves: Rows) -> dict[str, Any]:
    """Placements are data of the settings, which no contract can know."""
    shown, known = sorted(shelves.select("placement").distinct().df()["placement"]), run.settings.shelves
    return check("night", "known_placements", set(shown) <= set(known), ", ".join(shown), f"some of {', '.join(known)}")


def _users_served(run: Run, marts: Marts, shelves: Rows, items: pd.DataFrame) -> float | None:
    """Share of all known users with a shelf of full length."""
    length = min(run.settings.shelve.length, int(items["is_available"].sum()))
    served = shelves.aggregate("user_id, count(*) as n", "user_id").filter(f"n >= {length}")
    return len(served) / len(marts.users) if len(marts.users) else None


def _queries_answered(marts: Marts, answered: set[str]) -> float | None:
    asked = marts.queries()
    return float(asked["query"].isin(answered).mean()) if len(asked) else None


def _head_answered(queries: pd.DataFrame, answered: set[str]) -> float | None:
    """Share of the searches for head queries that were for one with results."""
    head = queries[queries["is_head"]]
    served = head.loc[head["query"].isin(answered), "count_searches"]
    return float(served.sum() / head["count_searches"].sum()) if len(head) else None


def _user_queries_answered(run: Run, marts: Marts) -> float | None:
    """Share of the pairs of user and query that should have a list of their own and have one."""
    _, typed = marts.typed(run.day, run.settings.search.user_query_days)
    wanted = min(typed.nnz, run.settings.search.max_user_queries)
    listed = f"select distinct user_id, query from {warehouse.relation(run, 'user_search_results')}"
    return int(marts.frame(f"select count(*) as n from ({listed})")["n"][0]) / wanted if wanted else None


def _overlap(run: Run) -> float | None:
    """Mean share of a shelf that stood in the current release too, over users in both."""
    if not _may_replace(run):
        return None
    with warehouse.connect(run.home, run.settings) as release:
        told = release.execute(OVERLAP.format(shelves=warehouse.relation(run, "user_recommendations"))).fetchone()
    return told[0] if told and told[0] is not None and np.isfinite(told[0]) else None


def _coverage(shelves: Rows, items: pd.DataFrame) -> float | None:
    """Distinct items on the shelves over as many as there could be: all available ones, or a row each."""
    distinct, rows = shelves.aggregate("count(distinct item_id), count(*)").fetchall()[0]
    possible = min(int(items["is_available"].sum()), rows)
    return distinct / possible if possible else None


def _popularity_share(shelves: Rows, popular: pd.DataFrame, items: pd.DataFrame) -> float | None:
    """Share of the rows, but for those that filled up, that show one of the shop's most popular items.

    Where these are more than a fifth of what can be bought, nothing is amiss when they fill the shelves.
    """
    if items["is_available"].sum() < 5 * COUNT_POPULAR:
        return None
    counts = shelves.filter("fallback is null").aggregate("item_id, count(*) as n", "item_id").df()
    own = counts.set_index("item_id")["n"]
    first = popular[(popular["segment_kind"] == "all") & (popular["rank"] <= COUNT_POPULAR)]
    return float(own[own.index.isin(first["item_id"])].sum() / own.sum()) if len(own) else None


def _likeness(run: Run, marts: Marts, shelves: Rows) -> float | None:
    """Mean cosine of the profile vectors of two items on one shelf, over every n-th user."""
    told = shelves.filter("fallback is null")
    users = np.sort(told.select("user_id").distinct().df()["user_id"].to_numpy())
    sampled = [duckdb.ConstantExpression(user) for user in users[:: max(len(users) // SAMPLED_USERS, 1)]]
    if not sampled:
        return None
    own = told.filter(duckdb.ColumnExpression("user_id").isin(*sampled)).order("user_id, rank").df()
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


def _against_current(run: Run, marts: Marts, before: list[pd.DataFrame], placement: str) -> dict[str, Any]:
    """On the same held-out days and users, tonight's lists are no worse than the current release's beyond chance.

    Neither side knows anything of these days; docs/decisions/0012-against-current.md tells which lists these are. Two
    releases that carry one proof have the same lists: there is nothing to choose.
    """
    name, expected = f"{placement}_against_current", "reaching 0, no worse beyond chance"
    if told := _same_proof(run):
        return check("night", name, True, told, expected)
    unaware = [lists for lists in before if len(lists) and lists["seen"].max() <= pd.Timestamp(run.holdout_cut)]
    if not unaware:
        told = f"nothing to measure: no release has lists that know no day after {run.holdout_cut}"
        return check("night", name, True, told, expected)
    ours, bought = pd.read_parquet(run.of("fuse", "held_out_lists.parquet")), marts.held_out(placement)
    now, then = (ndcg(marts, _of(lists, placement), bought) for lists in (ours, unaware[0]))
    both = np.isfinite(now - then)
    if not both.any():
        return check("night", name, True, "nothing to measure: no user has lists in both", expected)
    mean, low, high = metrics.bootstrap_interval(now - then, run.settings.seed)
    told = (
        f"NDCG@10 {mean:+.4f} ({low:+.4f} to {high:+.4f}) over {both.sum()} users: {now[both].mean():.4f}, beside"
        f" {then[both].mean():.4f} of lists that know the days up to {unaware[0]['seen'].max():%Y-%m-%d}"
    )
    return check("night", name, high >= 0, told, expected)


def _search_of_current(run: Run) -> float | None:
    """Low end of the current release's NDCG@10 of search, on held-out days of its own."""
    if not _may_replace(run):
        return None
    with warehouse.connect(run.home, run.settings) as release:
        told = release.execute("select low from metrics where metric = ?", [SEARCH]).fetchone()
    return told[0] if told else None


def _search_against_current(figures: pd.DataFrame, low: float | None, same: str | None = None) -> dict[str, Any]:
    """Tonight's interval of search is not all below the current release's; their held-out days differ, unless they are
    the `same`."""
    if SEARCH not in figures.index or low is None or same:
        told = same or "nothing to measure"
        return check("night", "search_against_current", True, told, "no worse beyond chance")
    now, expected = figures.loc[SEARCH], f"reaching {low:g}, the low end of the current release"
    told = f"{now['value']:g} ({now['low']:g} to {now['high']:g})"
    return check("night", "search_against_current", bool(now["high"] >= low), told, expected)


def ndcg(marts: Marts, lists: pd.DataFrame, wanted: sparse.csr_matrix) -> np.ndarray:
    """(U,) NDCG@10 of each user's list, NaN for who has none or wanted nothing."""
    lists = lists[lists["rank"] <= MEASURED_AT]
    users, items = marts.users.positions(lists["user_id"]), marts.items.positions(lists["item_id"])
    ranked = np.full((len(marts.users) + 1, MEASURED_AT), -1)  # the last row is nobody's
    ranked[users, lists["rank"].to_numpy() - 1] = items
    has_list = np.isin(np.arange(len(marts.users)), users)
    return np.where(has_list, metrics.ndcg_at(ranked[:-1], wanted, MEASURED_AT), np.nan)


def _at_least(name: str, observed: float | None, least: float) -> dict[str, Any]:
    """A gate holds when the figure reaches its bound; without anything to measure it says so."""
    is_ok = observed is None or observed >= least
    return check("night", name, is_ok, _told(observed), f"at least {least:g}")


def _at_most(name: str, observed: float | None, most: float) -> dict[str, Any]:
    is_ok = observed is None or observed <= most
    return check("night", name, is_ok, _told(observed), f"at most {most:g}")


def _told(observed: float | None) -> str:
    return "nothing to measure" if observed is None else f"{observed:g}"
