"""Preview: what a draft of rules would change in the lists and answers of a finished run, whatever its days; publishes
nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from models import metrics
from pipelines.fuse.scoring import standing
from pipelines.marts import Marts
from pipelines.rules import Rule, changes, conflicts, files
from pipelines.rules.scope import Goods, unknown
from pipelines.run import Run
from pipelines.search import typed
from pipelines.search.foretold import Foretold, foretell, unheard
from pipelines.shelve import effects, stood, worth
from pipelines.shelve.building import built
from pipelines.shelve.placing import Placed, placings

COLUMNS = ["placement", "user", "item", "score"]
KEY = ["placement", "user", "item"]


@dataclass(frozen=True)
class Answers:
    """What a draft would do to the answers to queries.

    Attributes:
        touched: by table, count_queries and count_users with a change, of search_results none, and rows that leave,
            enter and move.
        queries: each touched one with count_searches, traffic_share, and its rows that leave, enter and move; the most
            searched first.
        leaving, entering: item_id, title, count_rows and count_searches of the queries where it does.
    """

    touched: pd.DataFrame
    queries: pd.DataFrame
    leaving: pd.DataFrame
    entering: pd.DataFrame


@dataclass(frozen=True)
class Preview:
    """What a draft would do.

    Attributes:
        told: placement, rule, count_rows, count_moved and count_users of each draft rule.
        touched: by placement, count_users with a change, and rows that leave, enter and move.
        leaving, entering: item_id, title and count_rows, most rows first.
        losses: by placement, NDCG@10 lost on the held-out days with its interval.
        warnings: names that nobody knows, queries that nobody types, and rules that stand in the way.
    """

    told: pd.DataFrame
    touched: pd.DataFrame
    leaving: pd.DataFrame
    entering: pd.DataFrame
    answers: Answers
    losses: Sequence[Mapping]
    warnings: Sequence[str]


def preview(run: Run, draft: Path) -> Preview:
    """Hold the run's rules against the same with those of a draft, which replace others of their names; raises
    BadRules."""
    shelves = run.settings.shelves
    drafted = files.judged(files.rows(draft), shelves)
    names = {rule.rule_id for rule in drafted}
    wanted = sorted([*drafted, *(r for r in run.rules if r.rule_id not in names)], key=lambda rule: rule.precedence)
    marts = Marts(run)
    before, after = _placed(run, marts, wanted)
    changed = changes.between(_shown(before), _shown(after), KEY)
    foretold = foretell(run, marts, wanted, [*drafted, *(rule for rule in run.rules if rule.rule_id in names)])
    told = pd.DataFrame([row for one in after for row in effects.effects(one)], columns=effects.EFFECTS[:-1])
    told = pd.concat([told, foretold.effects], ignore_index=True)
    return Preview(
        told[told["rule"].isin(names)],
        changes.touched(changed, "placement", "user", "count_users"),
        changes.items(marts, changed[changed["leave"]]),
        changes.items(marts, changed[changed["enter"]]),
        _answers(run, marts, foretold),
        list(_losses(run, marts, wanted)),
        _warnings(run, marts, wanted, drafted),
    )


def _placed(run: Run, marts: Marts, wanted: Sequence[Rule]) -> tuple[list[Placed], list[Placed]]:
    """The run's lists under its own rules, and under others."""
    candidates = pd.read_parquet(run.of("fuse", "candidates.parquet"), columns=COLUMNS)
    before, after = (list(_built(run, marts, candidates, rules)) for rules in (run.rules, wanted))
    return before, after


def _answers(run: Run, marts: Marts, foretold: Foretold) -> Answers:
    """The answers that a run published beside those that are foretold."""
    everybody, own = (
        changes.between(_published(run, name, [*key, "rank"], foretold.queries), after, key)
        for name, after, key in (
            ("search_results", foretold.results, ["query", "item_id"]),
            ("user_search_results", foretold.own, ["user_id", "query", "item_id"]),
        )
    )
    searches = marts.frame("select query, count_searches from queries").set_index("query")["count_searches"]
    rows = everybody.assign(item=marts.items.positions(everybody["item_id"]))
    rows["count_searches"] = rows["query"].map(searches).fillna(0).astype(int)
    return Answers(
        pd.concat([_touched("search_results", everybody), _touched("user_search_results", own)], ignore_index=True),
        _queries(rows, int(searches.sum())),
        changes.items(marts, rows[rows["leave"]]),
        changes.items(marts, rows[rows["enter"]]),
    )


def _published(run: Run, table: str, columns: list[str], queries: Sequence[str]) -> pd.DataFrame:
    """The answers of a run to some queries."""
    rows = pd.read_parquet(run.of("search", f"{table}.parquet"), columns=columns)
    return rows[rows["query"].isin(queries)]


def _touched(table: str, changed: pd.DataFrame) -> pd.DataFrame:
    """One row: how many queries and users have answers that change, and how many answers."""
    told = changed[changed[changes.KINDS].any(axis=1)]
    count_users = told["user_id"].nunique() if "user_id" in told else pd.NA
    counts = [int(told[kind].sum()) for kind in changes.KINDS]
    columns = ["table", "count_queries", "count_users", *changes.KINDS]
    return pd.DataFrame([[table, told["query"].nunique(), count_users, *counts]], columns=columns)


def _queries(rows: pd.DataFrame, count_searches: int) -> pd.DataFrame:
    """The queries whose answers change, the most searched first."""
    told = rows[rows[changes.KINDS].any(axis=1)]
    sums = {"count_searches": ("count_searches", "first"), **{kind: (kind, "sum") for kind in changes.KINDS}}
    queries = told.groupby("query").agg(**sums).reset_index()
    queries.insert(2, "traffic_share", queries["count_searches"] / max(count_searches, 1))
    return queries.sort_values(["count_searches", "query"], ascending=[False, True], ignore_index=True)


def _warnings(run: Run, marts: Marts, wanted: Sequence[Rule], drafted: Sequence[Rule]) -> list[str]:
    goods = Goods.of(marts)
    at_odds = conflicts.found(wanted, goods, list(run.settings.shelves))
    lines = [f"{rule.rule_id}: {line}" for rule in drafted for line in at_odds.get(rule.rule_id, ())]
    return [*unknown(drafted, goods.catalogue), *unheard(drafted, typed.answered(run, marts)), *lines]


def _built(run: Run, marts: Marts, candidates: pd.DataFrame, rules: Sequence[Rule]) -> Iterator[Placed]:
    """Everybody's lists, had the night had some rules."""
    made = placings(run, marts, list(run.settings.shelves), rules, stood.before(run, marts))
    told = _told(replace(run, rules=tuple(rules)), marts, candidates)
    return built(made, told, np.arange(len(marts.users)))


def _told(run: Run, marts: Marts, candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates with whether the list builder would look at them, had the night had the rules of `run`."""
    stands = np.zeros(len(candidates), dtype=bool)
    for placement, may in standing(run, marts).items():
        own = (candidates["placement"] == placement).to_numpy()
        stands[own] = may[candidates["item"].to_numpy()[own]]
    place = pd.Series(stands, candidates.index).groupby([candidates["placement"], candidates["user"]]).cumsum()
    considered = candidates["placement"].map({name: run.settings.considered(name) for name in run.settings.shelves})
    return candidates.assign(is_told=stands & (place <= considered))


def _shown(placed: Sequence[Placed]) -> pd.DataFrame:
    """placement, user, item and rank of all lists."""
    tables = []
    for one in placed:
        for block in one.blocks:
            lists, places = np.nonzero(block.items >= 0)
            columns = {"user": block.users[lists], "item": block.items[lists, places], "rank": places + 1}
            tables.append(pd.DataFrame({"placement": one.placing.placement, **columns}))
    return pd.concat(tables) if tables else pd.DataFrame(columns=[*KEY, "rank"])


def _losses(run: Run, marts: Marts, wanted: Sequence[Rule]) -> Iterator[Mapping]:
    """What people would have missed on the held-out days, had the rules been those, told by the run that proved the
    ranking; nothing where another's models serve, or that run is gone."""
    if run.models_of or not (run.home / "runs" / run.proved_by).exists():
        return
    proof = Run.load(run.proved_by, run.home)
    marts = Marts(proof) if run.proof_of else marts
    then = {one.placement: one for one in worth.lists(proof, marts, wanted)}
    for now in worth.lists(proof, marts, run.rules):
        bought = marts.held_out(now.placement)[now.users]
        gains = [metrics.ndcg_at(one.shelf, bought, worth.AT) for one in (now, then[now.placement])]
        yield worth.interval(now.placement, gains[0] - gains[1], run.settings.seed) | {
            "before": float(np.nanmean(gains[0]))
        }
