"""Answers under rules: what each rule takes out of them is counted, and several of them allow together."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.rules import Rule
from pipelines.rules.scope import Goods
from pipelines.search import ruled
from pipelines.search.answered import results
from pipelines.search.answers import Engine
from pipelines.search.rankings import Ranking
from pipelines.search.ruled import Ruled
from tests.test_ask import ITEMS, engine

GOODS = Goods(
    pd.DataFrame({"item_id": list(ITEMS), "brand": ["Acme", "Bolt", "Acme"]}
                 | dict.fromkeys(("parent_id", "category", "tags", "seller"))).assign(price_cents=[900, None, 500]),
    np.zeros(3, dtype=int),
)  # fmt: skip
ASKED = ["garden", "blue mug", "red chair"]


def rule(rule_id: str, action: str, **told: object) -> Rule:
    return Rule.model_validate({"rule_id": rule_id, "action": action, "owner": "ann", "reason": "x", **told})


@cache
def without_rules() -> Engine:
    """One for all tests: each encoder begins at random."""
    return replace(engine(), narrowed={})


def under(*rules: Rule) -> Ruled:
    return Ruled(sorted(rules, key=lambda one: one.precedence), GOODS, without_rules())


def effects(one: Ruled) -> dict[str, tuple[int, int]]:
    """By rule, what it took out of the answers to ASKED and put on its place there."""
    told = one.effects(one.answered(Ranking(), ASKED, "night"), "night")
    return {row.rule: (row.count_rows, row.count_moved) for row in told.itertuples()}


def found(by: Engine, query: str) -> list[str]:
    return results(by, Ranking(), [query], "night")["item_id"].tolist()


def test_what_is_denied_counts_where_it_would_have_stood():
    """Once for each answer that had it without the rule; the rule of one query counts there alone."""
    would = [query for query in ASKED if "b2" in found(without_rules(), query)]
    assert "garden" in would
    assert effects(under(rule("out", "deny", item_id="b2"))) == {"out": (len(would), 0)}
    for_one = under(rule("out", "deny", item_id="b2", query="Garden"))
    assert effects(for_one) == {"out": (1, 0)}
    assert effects(replace(for_one, whole=replace(for_one.engine, shop=for_one.whole.shop))) == {"out": (1, 0)}


def test_what_is_not_allowed_counts_for_the_first_that_allows_something_else():
    """A deny of the same item counts before it."""
    told = effects(under(rule("only", "allow_only", brand="Acme", query="garden"), rule("out", "deny", item_id="b2")))
    assert told["only"] == (0, 0)
    assert effects(under(rule("only", "allow_only", brand="Acme", query="garden"))) == {"only": (1, 0)}


def test_rules_that_speak_to_no_answer_are_not_told_of_there():
    """Nor is anything that another placement is denied counted."""
    assert effects(under(rule("away", "deny", item_id="b2", placement="discover"))) == {}


def test_a_rule_that_moves_answers_is_counted_beside():
    """The pin stands in one answer, and what it pins is not taken by a deny of another item."""
    one = under(rule("top", "pin", item_id="c3", value=1, query="garden"), rule("out", "deny", item_id="a1"))
    assert effects(one)["top"] == (0, 1)
    assert found(one.engine, "garden")[0] == "c3"


def test_several_rules_allow_together_in_the_answers_to_one_query(tmp_path: Path):
    """What one query is allowed beside what all are stands there alone, and the engine that is kept knows it."""
    one = under(
        rule("all", "allow_only", item_id="c3", placement="search_results"),
        rule("too", "allow_only", item_id="b2", query="garden"),
    )
    one.engine.save(tmp_path)
    for by in (one.engine, Engine.load(tmp_path)):
        assert "b2" in found(by, "garden")
        assert "a1" not in found(by, "garden")
        assert "b2" not in found(by, "red chair")


def test_queries_to_which_no_rule_speaks_are_answered_once(monkeypatch: pytest.MonkeyPatch):
    """Counting costs nothing where nothing is taken away."""
    again: list[str] = []

    def counted(by: Engine, ranking: Ranking, queries: Sequence[str], run_id: str) -> pd.DataFrame:
        again.extend(queries)
        return results(by, ranking, queries, run_id)

    monkeypatch.setattr(ruled, "results", counted)
    effects(under(rule("out", "deny", item_id="b2", query="garden"), rule("up", "boost", brand="Bolt", value=1)))
    assert again == ["garden"]
