"""Arranging: the answers to queries in the order that rules ask for, by the builder of the users' lists."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.candidates import Candidates
from models.words import normalise
from pipelines.lists import builder
from pipelines.lists.builder import Cap, Demand, Terms
from pipelines.lists.pool import OWN, PLACED, Pool
from pipelines.rules import Rule
from pipelines.rules.rule import BARS, BROUGHT, BY_QUERY
from pipelines.rules.scope import Goods

SPARE = 3  # best sellers that are at hand for each answer that must stand: some may not be shown


@dataclass(frozen=True)
class Listed:
    """Answers (N,) by query and rank, and what rules took away.

    Attributes:
        lists: number of the query.
        rows: row of the candidates, -1 for an item that nothing but a rule found.
        items, ranks: positions, and places from 1.
        rules: number of the rule that put the answer on its place, -1 for none.
        capped: (C,) number of the cap of each candidate that one took away.
    """

    lists: np.ndarray
    rows: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    rules: np.ndarray
    capped: np.ndarray

    def beside(self, other: "Listed") -> "Listed":
        """Both, by query and rank; no query is in both."""
        both = {name: np.concatenate([one, getattr(other, name)]) for name, one in vars(self).items()}
        order, capped = np.argsort(both["lists"], kind="stable"), both.pop("capped")
        return Listed(**{name: one[order] for name, one in both.items()}, capped=capped)


@dataclass(frozen=True)
class Arranging:
    """The rules beyond deny and allow_only that hold in answers, in their order of precedence.

    Attributes:
        covered: (N, I) bool, the items of each rule.
        groups: (N, I) in which a cap counts each item, -1 for none.
    """

    rules: Sequence[Rule]
    covered: np.ndarray
    groups: np.ndarray

    @classmethod
    def none(cls, count_items: int) -> "Arranging":
        nothing = np.empty((0, count_items))
        return cls((), nothing.astype(bool), nothing.astype(int))

    @classmethod
    def of(cls, rules: Sequence[Rule], goods: Goods) -> "Arranging":
        """Those of a run's rules."""
        ours = [rule for rule in rules if rule.action not in BARS and rule.is_about(BY_QUERY, rule.query)]
        shape = len(ours), len(goods.catalogue)
        covered = np.array([goods.covered(rule) for rule in ours], dtype=bool).reshape(shape)
        return cls(ours, covered, np.array([goods.groups(rule) for rule in ours], dtype=int).reshape(shape))

    @property
    def held(self) -> "Arranging":
        """Those that a user's own order of the answers is held to as well; what the others ask, it begins with."""
        kept = np.array([rule.action in BROUGHT for rule in self.rules], dtype=bool)
        ours = [rule for rule in self.rules if rule.action in BROUGHT]
        return Arranging(ours, self.covered[kept], self.groups[kept])

    def listed(
        self, queries: Sequence[str], found: Candidates, score: np.ndarray, count: int, sold: np.ndarray
    ) -> "Listed":
        """The first `count` answers of each query by a score (R,) and the rules; of `sold`, (I,) items by what is
        bought of them, those above -inf may be brought by rules."""
        told = self._told(queries)
        ruled = np.flatnonzero(told.any(axis=0))
        plain = _plain(found, score, count, np.isin(found.rows, ruled))
        return plain.beside(self._arranged(told[:, ruled], ruled, found, score, count, sold)) if len(ruled) else plain

    def _told(self, queries: Sequence[str]) -> np.ndarray:
        """(N, Q) bool: which rule speaks to which query."""
        names = np.array([normalise(query) for query in queries], dtype=object)
        rows = [np.full(len(names), True) if rule.query is None else names == rule.query for rule in self.rules]
        return np.array(rows, dtype=bool).reshape(len(self.rules), len(names))

    def _arranged(
        self, told: np.ndarray, ruled: np.ndarray, found: Candidates, score: np.ndarray, count: int, sold: np.ndarray
    ) -> "Listed":
        """The answers of the queries `ruled` (B,), of which `told` (N, B) says which rules speak to them."""
        rows = _pooled(found, score, ruled)  # (B, W)
        brought = np.stack([np.full(len(ruled), -1), *self._brought(told, sold)], axis=1)
        own = Pool(np.append(found.items, -1)[rows], np.append(score, 0.0)[rows], np.full(rows.shape[1], OWN))
        built = builder.build(own.beside(brought, PLACED), self._terms(told), count)
        lists, places = np.nonzero(built.columns >= 0)
        columns = built.columns[lists, places]
        from_rows = np.concatenate([rows, np.full(brought.shape, -1)], axis=1)[lists, columns]
        items = np.concatenate([own.items, brought], axis=1)[lists, columns]
        dropped = built.dropped[:, : rows.shape[1]]
        return Listed(ruled[lists], from_rows, items, places + 1, built.rules[lists, places], dropped[dropped >= 0])

    def _brought(self, told: np.ndarray, sold: np.ndarray) -> Iterator[np.ndarray]:
        """(B,) columns of items that rules bring to the answers though nothing found them, -1 where they do not."""
        for rule, lists, covered in zip(self.rules, told, self.covered, strict=True):
            if rule.action in BROUGHT:
                items = np.flatnonzero(covered & (sold > -np.inf))
                first = items[np.argsort(-sold[items], kind="stable")][: SPARE * (rule.value or 0)]
                yield from (np.where(lists, item, -1) for item in first)

    def _terms(self, told: np.ndarray) -> Terms:
        demands: dict[str, list] = {"shifts": [], "pins": [], "caps": [], "least": []}
        for number, (rule, lists) in enumerate(zip(self.rules, told, strict=True)):
            value = -(rule.value or 0) if rule.action == "bury" else rule.value or 0
            if rule.action == "cap":
                demands["caps"].append(Cap(number, lists, self.groups[number], value))
            else:
                kind = {"pin": "pins", "must_include": "least"}.get(rule.action, "shifts")
                demands[kind].append(Demand(number, lists, self.covered[number], value))
        count_items = self.covered.shape[1]  # every item is a family of its own: answers show all variants
        return Terms(np.arange(count_items), np.zeros((count_items, 1)), 0.0, **demands, draws=None)

    def names(self, numbers: np.ndarray) -> np.ndarray:
        """(N,) rule_id of each number, None for none."""
        return np.array([*(rule.rule_id for rule in self.rules), None], dtype=object)[np.maximum(numbers, -1)]

    def save(self, folder: Path) -> None:
        rules = [rule.model_dump(mode="json", exclude_none=True) for rule in self.rules]
        np.savez_compressed(folder / "arranging.npz", rules=json.dumps(rules), covered=self.covered, groups=self.groups)

    @classmethod
    def load(cls, folder: Path) -> "Arranging":
        with np.load(folder / "arranging.npz") as arrays:
            rules = [Rule.model_validate(told) for told in json.loads(str(arrays["rules"]))]
            return cls(rules, arrays["covered"], arrays["groups"])


def _plain(found: Candidates, score: np.ndarray, count: int, is_ruled: np.ndarray) -> Listed:
    """The first answers of the queries to which no rule speaks."""
    ranks = found.ranks(score)
    rows = np.flatnonzero((ranks <= count) & ~is_ruled)
    rows = rows[np.lexsort((ranks[rows], found.rows[rows]))]
    none = np.full(len(rows), -1)
    return Listed(found.rows[rows], rows, found.items[rows], ranks[rows], none, np.empty(0, dtype=int))


def _pooled(found: Candidates, score: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """(B, W) rows of the candidates of some queries, best first, padded with -1."""
    ranks, place = found.ranks(score), np.full(len(found.owners), -1)
    place[lists] = np.arange(len(lists))
    rows = np.flatnonzero(place[found.rows] >= 0)
    pooled = np.full((len(lists), int(np.diff(found.offsets)[lists].max(initial=0))), -1)
    pooled[place[found.rows[rows]], ranks[rows] - 1] = rows
    return pooled
