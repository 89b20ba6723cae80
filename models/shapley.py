"""Shapley values of an ensemble of trees: what each group of features adds to a score, by one table per leaf.

A tree gives a row the value of the one leaf whose conditions the row meets. Where a group of features is not known, its
conditions are met by the share of the training rows that met them (Lundberg et al., 2020: path-dependent). A leaf is
then a game of the groups on its path that pays its value times one factor per group: 1 or 0 for a group that is known,
a share for one that is not. What each group earns depends on nothing of the row but which groups break the path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Any

import lightgbm
import numpy as np

from models.leaves import Ensemble

ROWS_PER_BLOCK = 16384  # the more, the more of them go one way through a tree


@dataclass(frozen=True)
class Leaf:
    """What it pays to each of the groups, (2^G, G); bit g of a place is set where group g breaks the path."""

    table: np.ndarray


@dataclass(frozen=True)
class Split:
    """Rows whose `feature` is at most `threshold` go left; `group` is the one that the feature belongs to."""

    feature: int
    group: int
    threshold: float
    unknown_goes_left: bool
    left: Split | Leaf
    right: Split | Leaf


@dataclass(frozen=True)
class Payouts:
    """What an ensemble pays to groups of its features.

    Attributes:
        roots: one node per tree.
        base: the mean score of the training rows, which no group earns.
        count_groups: G.
        ensemble: tells which rows go one way through a tree; without it each goes by itself.
    """

    roots: Sequence[Split | Leaf]
    base: float
    count_groups: int
    ensemble: Ensemble | None

    @classmethod
    def of(cls, booster: lightgbm.Booster, groups: Sequence[int]) -> Payouts:
        """Those of a trained booster to `groups` (K,), numbers from 0; few, for each set of them has a row per leaf."""
        count = max(groups) + 1
        told = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
        roots = [_grown(node, groups, np.ones(count)) for node in told]
        return cls(roots, sum(map(_mean, told)), count, Ensemble.of(booster))

    def to(self, features: np.ndarray, threads: int = 1) -> np.ndarray:
        """Shapley values (R, G) for features (R, K); rows sum to the raw score less the base."""
        blocks = [features[start : start + ROWS_PER_BLOCK] for start in range(0, len(features), ROWS_PER_BLOCK)]
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate([np.empty((0, self.count_groups)), *pool.map(self._to_block, blocks)])

    def _to_block(self, features: np.ndarray) -> np.ndarray:
        paid = np.zeros((len(features), self.count_groups))
        for root, numbers in zip(self.roots, self._numbers(features), strict=False):
            some, place = _distinct(numbers)
            once = np.zeros((len(some), self.count_groups))
            columns = np.ascontiguousarray(features.take(some, axis=0).T, dtype=np.float64)  # (K, D)
            _pay(root, columns, np.zeros(len(some), dtype=np.int64), once)
            paid += once.take(place, axis=0)
        return paid

    def _numbers(self, features: np.ndarray) -> Iterator[np.ndarray]:
        """Tree by tree (R,) numbers; rows with the same one go the same way."""
        if self.ensemble and features.dtype == np.float32:
            return self.ensemble.numbers(features)
        return repeat(np.arange(len(features)))


def _distinct(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D,) a row for each distinct number of rows (R,), and (R,) which of them is a row's own."""
    row = np.full(numbers.max() + 1, -1)
    row[numbers] = np.arange(len(numbers))
    seen = np.flatnonzero(row >= 0)
    place = np.empty_like(row)
    place[seen] = np.arange(len(seen))
    return row[seen], place[numbers]


def _pay(node: Split | Leaf, columns: np.ndarray, broken: np.ndarray, paid: np.ndarray) -> None:
    """Add what the leaves below a node pay to `paid` (R, G); `broken` (R,) has the groups that broke the path to it."""
    if isinstance(node, Leaf):
        paid += node.table[broken]
        return
    column, breaks = columns[node.feature], broken | (1 << node.group)
    left = ~(column > node.threshold) if node.unknown_goes_left else column <= node.threshold
    _pay(node.left, columns, np.where(left, broken, breaks), paid)
    _pay(node.right, columns, np.where(left, breaks, broken), paid)


def _grown(node: Mapping[str, Any], groups: Sequence[int], shares: np.ndarray) -> Split | Leaf:
    """A node of LightGBM's dump; `shares` (G,) of the training rows met each group's conditions on the way to it."""
    if "leaf_value" in node:
        return Leaf(_table(node["leaf_value"], shares))
    feature, threshold = node["split_feature"], node["threshold"]
    children = []
    for side in ("left_child", "right_child"):
        less = shares.copy()
        less[groups[feature]] *= _rows(node[side]) / _rows(node)
        children.append(_grown(node[side], groups, less))
    goes_left = node["default_left"] if node["missing_type"] == "NaN" else threshold >= 0.0  # else unknown is 0
    return Split(feature, groups[feature], threshold, goes_left, *children)


def _table(value: float, shares: np.ndarray) -> np.ndarray:
    """Shapley values (2^G, G) of the game that pays `value` times the factors.

    They are what a group adds where each of the others is known with probability t, integrated over t from 0 to 1
    (Owen, 1972, *Multilinear Extensions of Games*): a polynomial of degree G - 1, whose integral is an exact sum.
    """
    count = len(shares)
    meets = 1.0 - (np.arange(1 << count)[:, None] >> np.arange(count) & 1)  # (2^G, G)
    places, weights = _quadrature(count)
    factors = places * meets[:, :, None] + (1 - places) * shares[:, None]  # (2^G, G, T), none of them 0
    others = factors.prod(axis=1, keepdims=True) / factors
    return value * (meets - shares) * (others @ weights)


@cache
def _quadrature(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre places and weights (T,) on [0, 1] for polynomials of a degree below `count`."""
    places, weights = np.polynomial.legendre.leggauss(-(-count // 2))
    return (places + 1) / 2, weights / 2


def _rows(node: Mapping[str, Any]) -> int:
    return node["leaf_count"] if "leaf_value" in node else node["internal_count"]


def _mean(node: Mapping[str, Any]) -> float:
    """The mean over the training rows below a node; a tree that is one leaf counts none."""
    if "leaf_value" in node:
        return node["leaf_value"]
    return sum(_rows(node[side]) * _mean(node[side]) for side in ("left_child", "right_child")) / _rows(node)
