"""Scope: which items a rule covers, which of them it takes away from whom, and what it names that nobody knows."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.marts import Marts
from pipelines.rules.rule import Rule

NAMES = ("item_id", "parent_id", "category", "brand", "tag", "seller")  # what rules call items by
COLUMNS = {"tag": "tags"}  # where the catalogue has a name, if not under the same one
BETWEEN_TAGS = "|"


@dataclass(frozen=True)
class People:
    """Who reads some lists, (R,) object each, None where unknown."""

    countries: np.ndarray
    segments: np.ndarray

    @classmethod
    def alike(cls, count: int, country: str | None, segment: str | None = None) -> "People":
        """So many of one country and segment."""
        return cls(np.full(count, country, dtype=object), np.full(count, segment, dtype=object))

    def of(self, chosen: np.ndarray) -> "People":
        return People(self.countries[chosen], self.segments[chosen])


@dataclass(frozen=True)
class Goods:
    """The catalogue as rules see it: a frame in the order of items, and (I,) days since each item arrived."""

    catalogue: pd.DataFrame
    ages_days: np.ndarray

    @classmethod
    def of(cls, marts: Marts) -> "Goods":
        return cls(marts.catalogue, marts.ages_days(marts.run.day))

    def covered(self, rule: Rule) -> np.ndarray:
        """(I,) bool: the items in a rule's scope; an item without a price lies in no price range."""
        covered = np.ones(len(self.catalogue), dtype=bool)
        for name in NAMES:
            if (wanted := getattr(rule, name)) is not None:
                covered &= _called(self.catalogue[COLUMNS.get(name, name)], name, wanted)
        prices = self.catalogue["price_cents"].to_numpy(dtype=float, na_value=np.nan)
        covered &= _within(prices, rule.min_price_cents, rule.max_price_cents)
        return covered & _within(self.ages_days, rule.min_age_days, rule.max_age_days)

    def groups(self, rule: Rule) -> np.ndarray:
        """(I,) the group in which a cap counts each item, -1 for items outside of its scope or without a name."""
        covered = self.covered(rule)
        numbers = np.zeros(len(covered), dtype=int) if rule.per is None else pd.factorize(self.catalogue[rule.per])[0]
        return np.where(covered, numbers, -1)


def barring(
    rules: Sequence[Rule],
    goods: Goods,
    placement: str,
    items: np.ndarray,
    people: People | None = None,
    query: str | None = None,
) -> np.ndarray:
    """(R,) which of `rules`, in their order, takes each item off a placement; -1 for none.

    A deny counts before an allow_only, and what any allow_only lets stay stays for all of them. `people` are
    (R,) those who read the list; without them only rules that speak to everybody count. Rules about a query count where
    it is this.
    """
    found = np.full(len(items), -1)
    by_action = {
        action: [(n, rule) for n, rule in enumerate(rules) if rule.action == action and rule.is_about(placement, query)]
        for action in ("deny", "allow_only")
    }
    for number, rule in by_action["deny"]:
        found[(found < 0) & goods.covered(rule)[items] & addressed(rule, people)] = number
    allowed, limit = np.zeros(len(items), dtype=bool), np.full(len(items), -1)
    for number, rule in by_action["allow_only"]:
        told = addressed(rule, people)
        allowed |= told & goods.covered(rule)[items]
        limit[(limit < 0) & told] = number
    return np.where((found < 0) & ~allowed, limit, found)


def addressed(rule: Rule, people: People | None) -> np.ndarray | bool:
    """Whether a rule speaks to each of `people` (R,)."""
    if rule.country is None and rule.segment is None:
        return True
    if people is None:
        return False
    in_country = True if rule.country is None else people.countries == rule.country
    return in_country if rule.segment is None else in_country & (people.segments == rule.segment)


def allowed(
    rules: Sequence[Rule], goods: Goods, placement: str, country: str | None = None, query: str | None = None
) -> np.ndarray:
    """(I,) bool: the items that no rule takes off a placement, for everybody or for people of a country, for all
    queries or for one."""
    everything = np.arange(len(goods.catalogue))
    people = None if country is None else People.alike(len(everything), country)
    return barring(rules, goods, placement, everything, people, query) < 0


def unknown(rules: Iterable[Rule], catalogue: pd.DataFrame) -> list[str]:
    """One line per name in a rule that the catalogue does not have, with the nearest that it has."""
    lines = []
    for rule in rules:
        for name in (name for name in NAMES if getattr(rule, name) is not None):
            wanted, column = getattr(rule, name), COLUMNS.get(name, name)
            known = _known(catalogue[column], name) if column in catalogue else {wanted}
            if wanted not in known:
                near = difflib.get_close_matches(wanted, sorted(known), n=1, cutoff=0.5)
                told = f" The nearest: {near[0]}." if near else ""
                lines.append(f"{rule.rule_id}: the catalogue has no {name} {wanted!r}; the rule does nothing.{told}")
    return lines


def _called(values: pd.Series, name: str, wanted: str) -> np.ndarray:
    """(I,) bool: whether each of `values` is the wanted one, or, of tags, has it among others."""
    told = values.astype("string")
    if name == "tag":
        told, wanted = BETWEEN_TAGS + told + BETWEEN_TAGS, f"{BETWEEN_TAGS}{wanted}{BETWEEN_TAGS}"
        return told.str.contains(wanted, regex=False).fillna(False).to_numpy(dtype=bool)
    return (told == wanted).fillna(False).to_numpy(dtype=bool)


def _known(values: pd.Series, name: str) -> set[str]:
    known = values.dropna().unique()
    return {one for value in known for one in value.split(BETWEEN_TAGS)} if name == "tag" else set(known)


def _within(values: np.ndarray, low: int | None, high: int | None) -> np.ndarray:
    within = np.ones(len(values), dtype=bool)
    if low is not None:
        within &= values >= low
    if high is not None:
        within &= values <= high
    return within
