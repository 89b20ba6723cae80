"""Conflicts: rules that cannot all have their way, told of the one that yields."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pipelines.rules.rule import BY_QUERY, ITEM_TABLES, Rule
from pipelines.rules.scope import Goods, People, barring

WISHES = ("pin", "must_include", "boost")  # what wants items to be seen


def found(rules: Sequence[Rule], goods: Goods, shelves: Sequence[str]) -> Mapping[str, list[str]]:
    """By rule_id, a sentence for each rule of more weight that stands in its way on any of the `shelves`; `rules` in
    order of precedence."""
    lines: dict[str, list[str]] = {}
    covered = [goods.covered(rule) for rule in rules]
    for number, rule in enumerate(rules):
        told = [*_barred(rules, goods, rule, covered[number], shelves)]
        for other, items in zip(rules, covered, strict=True):
            if other is not rule and _meet(rule, other, shelves):
                told += _against(rule, other, bool((items & covered[number]).any()))
        if told:
            lines[rule.rule_id] = told
    return lines


def _barred(
    rules: Sequence[Rule], goods: Goods, rule: Rule, covered: np.ndarray, shelves: Sequence[str]
) -> Iterator[str]:
    """A wish for items that other rules take away from everybody whom it speaks to."""
    if rule.action not in WISHES or not covered.any():
        return
    items = np.flatnonzero(covered)
    people = People.alike(len(items), rule.country, rule.segment)
    for placement in (name for name in (*shelves, BY_QUERY) if rule.is_about(name, rule.query)):
        taken = barring(rules, goods, placement, items, people, rule.query)
        for other in sorted({rules[n].rule_id for n in taken if n >= 0}):
            yield f"{other} takes {(taken >= 0).sum()} of its {len(items)} items off {placement}."


def _against(rule: Rule, other: Rule, share_items: bool) -> Iterator[str]:
    """What a rule yields to another one with which it shares lists, and items or not."""
    yields = other.precedence < rule.precedence
    if rule.action == other.action == "pin" and yields and not share_items and rule.value == other.value:
        yield f"{other.rule_id} has place {rule.value}."
    if not share_items:
        return
    if {rule.action, other.action} == {"boost", "bury"} and yields:
        yield f"{other.rule_id} moves some of its items first."
    if rule.action == other.action == "pin" and yields:
        yield f"{other.rule_id} has pinned the item already."
    if rule.action == "must_include" and other.action == "cap" and (rule.value or 0) > (other.value or 0):
        yield f"{other.rule_id} lets no more than {other.value} stand."


def _meet(rule: Rule, other: Rule, shelves: Sequence[str]) -> bool:
    """Whether both hold on some list."""
    told = [(getattr(rule, name), getattr(other, name)) for name in ("country", "segment", "query")]
    query = rule.query or other.query
    lists = (name for name in (*shelves, *ITEM_TABLES) if rule.is_about(name, query) and other.is_about(name, query))
    return all(None in pair or pair[0] == pair[1] for pair in told) and any(lists)
