"""Effects: what each rule did to which lists, the rules themselves with what stood in their way, and short shelves."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.growing import schema
from pipelines.lists.builder import DIVERSITY, DRAWN, FRESH, LENGTH, NEW, VARIANT
from pipelines.marts import Marts
from pipelines.rules import conflicts
from pipelines.rules.scope import Goods, unknown
from pipelines.run import LOG, Run
from pipelines.shelve.placing import AGAIN, NOT_AVAILABLE, Placed, Placing

CAUSES = {LENGTH: "length", VARIANT: "variant", DIVERSITY: "diversity", NOT_AVAILABLE: "not_available"}
COUNTED = (NOT_AVAILABLE, VARIANT, DIVERSITY)  # causes that are told beside the rules
PUT_BY = {NEW: "new_share", FRESH: "freshness", DRAWN: "exploration"}  # what puts rows on their place, beside rules
Effect = tuple[str, str, int, int, int]  # placement, name, and counts of rows, of moved rows and of users
EFFECTS = ["placement", "rule", "count_rows", "count_moved", "count_users", "run_id"]


class Tally:
    """What rules and other causes did to lists, summed over blocks of users."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Effect]] = {}

    def add(self, placed: Sequence[Placed]) -> None:
        """Count a block: of a placement on which it has lists, every block tells the same causes in the same order."""
        for one in placed:
            self._sum(one.placing.placement, list(effects(one)))

    def include(self, other: "Tally") -> None:
        """Count what another one has counted."""
        for placement, rows in other._rows.items():
            self._sum(placement, rows)

    def _sum(self, placement: str, more: list[Effect]) -> None:
        before = self._rows.get(placement, [])
        both = [
            (name, cause, *(np.array(old) + new).tolist())
            for (name, cause, *old), (_, _, *new) in zip(before, more, strict=bool(before and more))
        ]
        self._rows[placement] = both or before or more

    @property
    def rows(self) -> list[Effect]:
        return [row for rows in self._rows.values() for row in rows]


def write(run: Run, marts: Marts, told: Tally, listed: pd.DataFrame, folder: Path) -> None:
    """Write rule_effects and rules; what rules name and nobody knows is logged."""
    goods = Goods.of(marts)
    for line in unknown(run.rules, goods.catalogue):
        LOG.warning("%s rules: %s", run.run_id, line)
    rows = told.rows
    rows += [(name, run.rules[int(rule)].rule_id, count, 0, 0) for name, rule, count in listed.itertuples(index=False)]
    table = pd.DataFrame([(*row, run.run_id) for row in rows], columns=EFFECTS)
    table.to_parquet(folder / "rule_effects.parquet", index=False)
    pq.write_table(rules(run, goods, table), folder / "rules.parquet")


def names(placed: Placed) -> np.ndarray:
    """(R,) what dropped each candidate, None for those that stand on a shelf."""
    return named(placed.placing, placed.fate)


def named(placing: Placing, codes: np.ndarray) -> np.ndarray:
    """(R,) names of what keeps items off a placement, None for STANDS."""
    told = np.full(len(codes), None, dtype=object)
    for code, name in (CAUSES | dict(enumerate(rule.rule_id for rule in placing.rules))).items():
        told[codes == code] = name
    return told


def effects(placed: Placed) -> Iterator[Effect]:
    """Per cause: placement, name, candidates that it dropped, rows that it put on their place, users with either."""
    if not placed.blocks:
        return
    placing, users = placed.placing, placed.candidates["user"].to_numpy()
    rules = np.concatenate([block.rules[block.items >= 0] for block in placed.blocks])
    owners = np.concatenate([np.repeat(b.users, (b.items >= 0).sum(axis=1)) for b in placed.blocks])
    causes = [(code, CAUSES[code]) for code in COUNTED]
    causes += [(share.code, PUT_BY[share.code]) for share in placing.shares]
    causes += [(DRAWN, PUT_BY[DRAWN])] if placing.draws else []
    causes += [(n, rule.rule_id) for n, rule in enumerate(placing.rules) if rule.is_about(placing.placement)]
    for code, name in causes:
        dropped, moved = users[placed.fate == code], owners[rules == code]
        yield placing.placement, name, len(dropped), len(moved), len(np.union1d(dropped, moved))


def rules(run: Run, goods: Goods, told: pd.DataFrame) -> pa.Table:
    """The run's rules with the items that each covers, whether it acted, and what it is at odds with."""
    acted = told[(told["count_rows"] > 0) | (told["count_moved"] > 0)]["rule"]
    at_odds = conflicts.found(run.rules, goods, list(run.settings.shelves))
    rows = [
        rule.model_dump()
        | {
            "count_items": int(goods.covered(rule).sum()),
            "has_acted": rule.rule_id in set(acted),
            "conflict": " ".join(at_odds.get(rule.rule_id, ())) or None,
            "run_id": run.run_id,
        }
        for rule in run.rules
    ]
    return pa.Table.from_pylist(rows, schema("rules"))  # what no rule fills in has its type all the same


def short_shelves(placed: Placed, marts: Marts) -> pd.DataFrame:
    """Every shelf below full length with its reason: too few items that may stand there at all, or the rules."""
    placing, tables = placed.placing, []
    for block in placed.blocks:
        counts = (block.items >= 0).sum(axis=1)
        short = np.flatnonzero(counts < placing.length)
        few = "few_items" if placing.fills else "few_bought" if placing.like == AGAIN else "few_candidates"
        reason = np.where(_possible(placed, block.users[short]) < placing.length, few, "rules")
        rows = {"user_id": marts.users.ids[block.users[short]], "count_rows": counts[short], "reason": reason}
        tables.append(pd.DataFrame(rows))
    empty = pd.DataFrame({"user_id": [], "count_rows": [], "reason": []}, dtype=object)
    return pd.concat([empty, *tables]).assign(placement=placing.placement)


def _possible(placed: Placed, users: np.ndarray) -> np.ndarray:
    """(B,) items that could stand on the placement of each user if there were no rules: of the candidates, or, where
    lists are filled, of all that can be bought."""
    placing = placed.placing
    if not placing.fills:
        owners = placed.candidates["user"].to_numpy()[placed.fate != NOT_AVAILABLE]
        return np.bincount(owners, minlength=len(placing.audience.people.countries))[users]
    bought = placing.audience.bought[users] @ placing.is_available.astype(float)
    return placing.is_available.sum() - (bought if placing.like == "discover" else 0)
