"""Preview: what a draft of rules would change in the lists of a finished run, whatever its days; publishes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from models import metrics
from pipelines.fuse.scoring import standing
from pipelines.marts import Marts
from pipelines.rules import Rule, conflicts, files
from pipelines.rules.scope import Goods, unknown
from pipelines.run import Run
from pipelines.shelve import built, effects, worth
from pipelines.shelve.placing import Placed

COLUMNS = ["placement", "user", "item", "score"]
KEY = ["placement", "user", "item"]


@dataclass(frozen=True)
class Preview:
    """What a draft would do.

    Attributes:
        told: placement, rule, count_rows, count_moved and count_users of each draft rule.
        touched: by placement, users, rows that leave, enter and move.
        leaving, entering: item_id, title and count_rows, most rows first.
        losses: by placement, NDCG@10 lost on the held-out days with its interval.
        warnings: names that nobody knows, and rules that stand in the way.
    """

    told: pd.DataFrame
    touched: pd.DataFrame
    leaving: pd.DataFrame
    entering: pd.DataFrame
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
    candidates = pd.read_parquet(run.of("fuse", "candidates.parquet"), columns=COLUMNS)
    before, after = (
        list(built(run, marts, _told(replace(run, rules=tuple(rules)), marts, candidates), rules))
        for rules in (run.rules, wanted)
    )
    changed = _shown(before).merge(_shown(after), on=KEY, how="outer", suffixes=("_before", "_after"))
    goods = Goods.of(marts)
    at_odds = conflicts.found(wanted, goods, list(shelves))
    told = pd.DataFrame([row for one in after for row in effects.effects(one)], columns=effects.EFFECTS[:-1])
    return Preview(
        told[told["rule"].isin(names)],
        _touched(changed),
        _counted(marts, changed[changed["rank_after"].isna()]),
        _counted(marts, changed[changed["rank_before"].isna()]),
        list(_losses(run, marts, wanted)),
        [*unknown(drafted, goods.catalogue), *(f"{name}: {line}" for name in names for line in at_odds.get(name, ()))],
    )


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


def _touched(changed: pd.DataFrame) -> pd.DataFrame:
    before, after = changed["rank_before"], changed["rank_after"]
    marks = changed.assign(
        leaves=after.isna(), enters=before.isna(), moves=before.notna() & after.notna() & (before != after)
    )
    marks["count_users"] = marks["user"].where(marks[["leaves", "enters", "moves"]].any(axis=1))
    return marks.groupby("placement", sort=False).agg(
        count_users=("count_users", "nunique"), leave=("leaves", "sum"), enter=("enters", "sum"), move=("moves", "sum")
    )


def _counted(marts: Marts, rows: pd.DataFrame) -> pd.DataFrame:
    counts = rows["item"].value_counts().rename_axis("item").reset_index(name="count_rows")
    counts = counts.sort_values(["count_rows", "item"], ascending=[False, True], ignore_index=True)
    named = marts.catalogue.loc[counts["item"].astype(int), ["item_id", "title"]].reset_index(drop=True)
    return named.assign(count_rows=counts["count_rows"])


def _losses(run: Run, marts: Marts, wanted: Sequence[Rule]) -> Iterator[Mapping]:
    """What people would have missed on the held-out days, had the rules been those; nothing where the run learnt
    nothing itself."""
    if run.models_of:
        return
    then = {one.placement: one for one in worth.lists(run, marts, wanted)}
    for now in worth.lists(run, marts, run.rules):
        bought = marts.held_out(now.placement)[now.users]
        gains = [metrics.ndcg_at(one.shelf, bought, worth.AT) for one in (now, then[now.placement])]
        yield worth.interval(now.placement, gains[0] - gains[1], run.settings.seed) | {
            "before": float(np.nanmean(gains[0]))
        }
