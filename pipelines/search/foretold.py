"""Foretold: the answers of a finished run under other rules, made by what the night itself answered with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from models.vocabulary import Vocabulary
from models.words import normalise
from pipelines.marts import Marts
from pipelines.rules.rule import BY_QUERY, Rule
from pipelines.rules.scope import Goods
from pipelines.run import Run
from pipelines.search import kept, personal, typed
from pipelines.search.answered import COLUMNS
from pipelines.search.answers import Shop
from pipelines.search.ruled import Ruled

EFFECTS = ["placement", "rule", "count_rows", "count_moved", "count_users"]


@dataclass(frozen=True)
class Foretold:
    """Rows of search_results, of user_search_results and of rule_effects, for `queries` alone."""

    queries: Sequence[str]
    results: pd.DataFrame
    own: pd.DataFrame
    effects: pd.DataFrame


def foretell(run: Run, marts: Marts, rules: Sequence[Rule], told: Sequence[Rule]) -> Foretold:
    """What a night under `rules` would publish for the queries to which any of `told` speaks; all others keep what they
    have."""
    queries = typed.answered(run, marts)
    spoken = addressed(told, queries)
    nothing, nobody = pd.DataFrame(columns=COLUMNS), pd.DataFrame(columns=personal.COLUMNS)
    if not spoken:
        return Foretold(spoken, nothing, nobody, pd.DataFrame(columns=EFFECTS))
    engine, ranking, own = kept.of(run)
    ruled = Ruled(rules, Goods.of(marts), replace(engine, shop=Shop.of(run, marts, "final")))
    found = ruled.answered(ranking, spoken, run.run_id)
    asked = personal.latest(run, marts, queries)
    asked = asked.only(np.isin(asked.queries, queries.positions(spoken)))
    orders = list(personal.orders(run, marts, found.rows, queries, asked, own, ruled.engine.arranging.held))
    listed = pd.concat(orders, ignore_index=True) if orders else nobody
    return Foretold(spoken, found.rows, listed, ruled.effects(found, run.run_id)[EFFECTS])


def addressed(rules: Sequence[Rule], queries: Vocabulary) -> list[str]:
    """Those of `queries` to which any of the rules speaks."""
    ours = [rule for rule in rules if rule.is_about(BY_QUERY, rule.query)]
    named, all_ = {rule.query for rule in ours}, any(rule.query is None for rule in ours)
    return [query for query in queries.ids if all_ or normalise(query) in named]


def unheard(rules: Sequence[Rule], queries: Vocabulary) -> list[str]:
    """One line per rule about a query to which the night has no answer that it could change."""
    known = {normalise(query) for query in queries.ids}
    return [
        f"{rule.rule_id}: nobody has typed {rule.query!r}, so that the night does not answer it; the rule holds in "
        "`nightshelf search` and `nightshelf answer`."
        for rule in rules
        if rule.query is not None and rule.query not in known
    ]
