"""Scope: which items a rule covers, which of them it takes away from whom, and what it names that nobody knows."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.marts import Marts
from pipelines.rules.rule import Rule

NAMES = ("item_id", "parent_id", "category", "brand")  # what rules call items by


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
                covered &= (self.catalogue[name] == wanted).fillna(False).to_numpy(dtype=bool)
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
    countries: np.ndarray | None = None,
    query: str | None = None,
) -> np.ndarray:
    """(R,) which of `rules`, in their order, takes each item off a placement; -1 for none.

    A deny counts before an allow_only, and what any allow_only lets stay stays for all of them. `countries` (R,) are
    those of the users; without them only rules that hold everywhere count. Rules about a query count where it is this.
    """
    found = np.full(len(items), -1)
    by_action = {
        action: [(n, rule) for n, rule in enumerate(rules) if rule.action == action and rule.is_about(placement, query)]
        for action in ("deny", "allow_only")
    }
    for number, rule in by_action["deny"]:
        found[(found < 0) & goods.covered(rule)[items] & addressed(rule, countries)] = number
    allowed, limit = np.zeros(len(items), dtype=bool), np.full(len(items), -1)
    for number, rule in by_action["allow_only"]:
        told = addressed(rule, countries)
        allowed |= told & goods.covered(rule)[items]
        limit[(limit < 0) & told] = number
    return np.where((found < 0) & ~allowed, limit, found)


def addressed(rule: Rule, countries: np.ndarray | None) -> np.ndarray | bool:
    """Whether a rule speaks to who lives in each of `countries` (R,)."""
    if rule.country is None:
        return True
    return False if countries is None else countries == rule.country


def allowed(
    rules: Sequence[Rule], goods: Goods, placement: str, country: str | None = None, query: str | None = None
) -> np.ndarray:
    """(I,) bool: the items that no rule takes off a placement, for everybody or for people of a country, for all
    queries or for one."""
    everything = np.arange(len(goods.catalogue))
    countries = None if country is None else np.full(len(everything), country, dtype=object)
    return barring(rules, goods, placement, everything, countries, query) < 0


def unknown(rules: Iterable[Rule], catalogue: pd.DataFrame) -> list[str]:
    """One line per name in a rule that the catalogue does not have, with the nearest that it has."""
    lines = []
    for rule in rules:
        for name in (name for name in NAMES if getattr(rule, name) is not None and name in catalogue):
            wanted, known = getattr(rule, name), catalogue[name].dropna().unique()
            if wanted not in known:
                near = difflib.get_close_matches(wanted, known, n=1, cutoff=0.5)
                told = f" The nearest: {near[0]}." if near else ""
                lines.append(f"{rule.rule_id}: the catalogue has no {name} {wanted!r}; the rule does nothing.{told}")
    return lines


def _within(values: np.ndarray, low: int | None, high: int | None) -> np.ndarray:
    within = np.ones(len(values), dtype=bool)
    if low is not None:
        within &= values >= low
    if high is not None:
        within &= values <= high
    return within
