"""Rules in the answers to queries: they hold for the queries that they name, and leave all others as they were."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.candidates import Candidates
from pipelines.rules import Rule
from pipelines.rules.scope import Goods
from pipelines.search.arranging import Arranging

ITEMS = list("abcdefgh")
GOODS = Goods(
    pd.DataFrame({"item_id": ITEMS, "parent_id": None, "category": None, "brand": ["Acme"] * 4 + ["Bolt"] * 4}
                 | dict.fromkeys(("tags", "seller"))).assign(price_cents=pd.array([1] * 8, dtype="Int64")),
    np.zeros(8, dtype=int),
)  # fmt: skip
SOLD = np.array([1.0, 2, 3, 4, 5, 6, -np.inf, 7])  # g may not be shown
FOUND = Candidates(
    np.arange(2), np.array([0, 4, 8]), np.array([0, 1, 2, 4, 0, 1, 2, 4]), np.zeros((8, 0))
)  # a, b, c and e answer both queries
SCORE = -np.array([0.0, 1, 2, 3, 0, 1, 2, 3])


def rule(rule_id: str, action: str, **told: object) -> Rule:
    told = {"query": "Cups", **told}
    return Rule.model_validate({"rule_id": rule_id, "action": action, "owner": "ann", "reason": "x", **told})


def answers(*rules: Rule, count: int = 4) -> list[str]:
    """Of the queries `cups` and `pots`."""
    listed = Arranging.of(rules, GOODS).listed(["cups", "pots"], FOUND, SCORE, count, SOLD)
    return ["".join(ITEMS[item] for item in listed.items[listed.lists == query]) for query in (0, 1)]


@pytest.mark.parametrize(
    ("rules", "cups"),
    [
        ([], "abce"),
        ([rule("r", "boost", item_id="e", value=2)], "aebc"),
        ([rule("r", "bury", item_id="a", value=2)], "bcae"),
        ([rule("r", "pin", item_id="e", value=1)], "eabc"),
        ([rule("r", "pin", item_id="h", value=2)], "ahbc"),
        ([rule("r", "pin", item_id="g", value=2)], "abce"),
        ([rule("r", "cap", brand="Acme", value=1)], "ae"),
        ([rule("r", "must_include", brand="Bolt", value=2)], "abeh"),
        ([rule("r", "pin", item_id="h", value=1), rule("s", "cap", brand="Bolt", value=1)], "habc"),
    ],
)
def test_rules_hold_in_the_answers_to_their_query_alone(rules: list[Rule], cups: str):
    """Whatever they ask for; what may not be shown is not brought either."""
    assert answers(*rules) == [cups, "abce"]


def test_a_rule_of_all_answers_moves_them_all():
    """It names the table instead of a query; a rule of shelves moves none."""
    assert answers(rule("r", "boost", query=None, placement="search_results", brand="Bolt", value=9)) == ["eabc"] * 2
    assert answers(rule("r", "boost", query=None, brand="Bolt", value=9)) == ["abce"] * 2


def test_answers_say_which_rule_put_them_there_and_what_a_cap_took():
    """What only the rule brought is no candidate, and has no row among them."""
    told = Arranging.of([rule("top", "pin", item_id="h", value=1), rule("few", "cap", brand="Acme", value=2)], GOODS)
    listed = told.listed(["cups", "pots"], FOUND, SCORE, 4, SOLD)
    assert listed.rows.tolist() == [-1, 0, 1, 3, 4, 5, 6, 7]
    assert told.names(listed.rules).tolist() == ["top", *[None] * 7]
    assert told.names(listed.capped).tolist() == ["few"]


def test_what_rules_ask_survives_its_file_and_what_users_lists_are_held_to(tmp_path: Path):
    """Users' own orders are held to what must stand; places by which answers move are in what they begin with."""
    rules = [rule("a", "boost", brand="Bolt", value=2), rule("b", "pin", item_id="h", value=1)]
    Arranging.of(rules, GOODS).save(tmp_path)
    read = Arranging.load(tmp_path)
    assert (read.rules, read.covered.sum(axis=1).tolist()) == (rules, [4, 1])
    assert [one.rule_id for one in read.held.rules] == ["b"]
    assert read.held.covered.tolist() == [[False] * 7 + [True]]
