"""Ruled: the answers to queries under the rules of the shop, and what each rule took out of them or put there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from models.words import normalise
from pipelines.rules import Rule
from pipelines.rules.rule import BARS, BY_QUERY
from pipelines.rules.scope import Goods, barring
from pipelines.search.answered import Answered, answered, results
from pipelines.search.answers import Engine, blocks
from pipelines.search.arranging import Arranging
from pipelines.search.rankings import Ranking


@dataclass(frozen=True)
class Ruled:
    """Rules, in their order of precedence, over the `whole` engine, which finds all that may be shown."""

    rules: Sequence[Rule]
    goods: Goods
    whole: Engine

    @cached_property
    def barring(self) -> Mapping[str | None, np.ndarray]:
        """(I,) the number of the rule that takes each item out of the answers, -1 for none: of each query that has such
        rules of its own, and under None of all others."""
        own = sorted({rule.query for rule in self.rules if rule.query is not None and rule.action in BARS})
        items = np.arange(len(self.goods.catalogue))
        return {query: barring(self.rules, self.goods, BY_QUERY, items, query=query) for query in (None, *own)}

    @cached_property
    def open(self) -> Engine:
        """The engine without deny and allow_only, whatever rules it was read with."""
        return replace(self.whole, narrowed={}, arranging=Arranging.of(self.rules, self.goods))

    @cached_property
    def engine(self) -> Engine:
        """The engine that finds what the rules let stand, for all queries and for those that have their own."""
        shown = self.whole.shop.allowed
        narrowed = {query: shown & (rule < 0) for query, rule in self.barring.items() if query is not None}
        return replace(self.open.only(self.barring[None] < 0), narrowed=narrowed)

    def answered(self, ranking: Ranking, queries: Sequence[str], run_id: str) -> Answered:
        """Rows of search_results for queries, in their order; caps took candidates away, deny and allow_only what would
        stand there without them."""
        parts = [answered(self.engine, ranking, some, run_id) for some in blocks(queries)]
        found = Answered.joined(parts)
        return replace(found, removed=found.removed + self._taken(ranking, queries, run_id))

    def _taken(self, ranking: Ranking, queries: Sequence[str], run_id: str) -> Counter[str]:
        """By rule, how many answers would stand if no item were taken away; only queries with such rules are answered
        again."""
        names, taken = {query: self._of(query) for query in queries}, Counter[str]()
        for name, rule in self.barring.items():
            spoken = [query for query in queries if names[query] == name] if (rule >= 0).any() else []
            for some in blocks(spoken):
                stand = self.whole.items.positions(results(self.open, ranking, some, run_id)["item_id"])
                taken.update(self.rules[number].rule_id for number in rule[stand] if number >= 0)
        return taken

    def _of(self, query: str) -> str | None:
        """Under which name `barring` has a query."""
        spelled = normalise(query)
        return spelled if spelled in self.barring else None

    def effects(self, found: Answered, run_id: str) -> pd.DataFrame:
        """Rows of rule_effects: what rules took out of answers and put on their place there."""
        ours = [rule.rule_id for rule in self.rules if rule.is_about(BY_QUERY, rule.query)]
        moved = found.rows["rule_id"].value_counts()
        rows = [(rule, found.removed[rule], moved.get(rule, 0)) for rule in ours]
        told = pd.DataFrame(rows, columns=["rule", "count_rows", "count_moved"])
        return told.assign(placement=BY_QUERY, count_users=0, run_id=run_id)
