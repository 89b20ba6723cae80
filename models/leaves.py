"""Scores of an ensemble of small trees: which conditions a row breaks is a number, and a table has its leaf.

LightGBM leads each row down each tree by itself, and a processor guesses wrong at every other split. Here a tree asks
all of its conditions of thousands of rows at once. The scores are LightGBM's to the last bit: the same leaves, added up
in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np

MOST_SPLITS = 16  # of one tree: its table has a cell for each set of them
ROWS_PER_BLOCK = 16384  # so many stay in the cache on their way through the trees


@dataclass(frozen=True)
class Tree:
    """What a row gets that breaks some of the tree's conditions.

    Attributes:
        conditions: up to 16: the place of its bit, its column of the ensemble, and the threshold (float32) by more than
            which a row breaks it.
        unused: places of bits without a condition.
        scores: (2^S,) float64, by the numbers of `_numbers`.
    """

    conditions: Sequence[tuple[int, int, np.float32]]
    unused: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Ensemble:
    """Trees whose values are added up.

    Attributes:
        features: (C,) which feature each column is of.
        unknown: (C,) float32, what stands there for NaN: what makes it go where the trees send it.
    """

    trees: Sequence[Tree]
    features: np.ndarray
    unknown: np.ndarray

    @classmethod
    def of(cls, booster: lightgbm.Booster) -> Ensemble | None:
        """That of a trained booster; None where a tree has more conditions than a table can tell apart."""
        told = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
        splits = [list(_splits(node)) for node in told]
        if max(map(len, splits), default=0) > MOST_SPLITS:
            return None
        asked = [_column(split) for some in splits for split in some]
        columns = dict.fromkeys([(0, 0.0), *asked])  # the first so that there is one
        places = {column: place for place, column in enumerate(columns)}
        trees = [_tree(node, some, places) for node, some in zip(told, splits, strict=True)]
        features, unknown = np.array(list(columns)).T
        return cls(trees, features.astype(int), unknown.astype(np.float32))

    def scores(self, features: np.ndarray, threads: int = 1) -> np.ndarray:
        """(R,) float64 for features (R, K) float32."""
        blocks = [features[start : start + ROWS_PER_BLOCK] for start in range(0, len(features), ROWS_PER_BLOCK)]
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate([np.empty(0), *pool.map(self._of_block, blocks)])

    def numbers(self, features: np.ndarray) -> Iterator[np.ndarray]:
        """Tree by tree (R,) which of its conditions rows (R, K) break: equal numbers, equal ways down to the leaves."""
        told = np.ascontiguousarray(features.T, dtype=np.float32)  # (K, R)
        columns = [
            _filled(told[feature], unknown) for feature, unknown in zip(self.features, self.unknown, strict=True)
        ]
        bits = np.empty((MOST_SPLITS, len(features)), dtype=np.uint8)
        broken = list(bits.view(bool))
        for tree in self.trees:
            for bit, column, threshold in tree.conditions:
                np.greater(columns[column], threshold, out=broken[bit])
            bits[tree.unused] = 0
            yield _numbers(bits)

    def _of_block(self, features: np.ndarray) -> np.ndarray:
        total = np.zeros(len(features))
        for tree, numbers in zip(self.trees, self.numbers(features), strict=True):
            total += tree.scores.take(numbers)
        return total


def _filled(column: np.ndarray, unknown: np.float32) -> np.ndarray:
    """A column (R,) with what stands for NaN."""
    if unknown == np.inf:
        return np.fmin(column, unknown)  # of NaN and a number it takes the number, sooner than a mask is made
    if unknown == 0 and np.isnan(column).any():
        return np.where(np.isnan(column), unknown, column)
    return column  # like minus infinity, NaN is above no threshold


def _numbers(bits: np.ndarray) -> np.ndarray:
    """(R,) one number for the 16 bits (16, R) of each row, which are overwritten: half is laid over half."""
    for half in (8, 4, 2):
        upper = bits[half : 2 * half]
        for _ in range(8 // half):
            upper += upper  # a shift, which takes numpy longer
        bits[:half] |= upper
    numbers = bits[1].astype(np.uint16)  # half of the bytes of what follows, until it must be an index
    numbers *= 256
    numbers |= bits[0]
    return numbers.astype(np.intp)


RISING = np.argsort(_numbers(np.eye(MOST_SPLITS, dtype=np.uint8)))  # the bit worth 1 in a number, that worth 2, …


def _splits(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The splits of a tree of LightGBM's dump, each before those below it."""
    if "leaf_value" not in node:
        yield node
        yield from _splits(node["left_child"])
        yield from _splits(node["right_child"])


def _column(split: Mapping[str, Any]) -> tuple[int, float]:
    """The feature that a split asks for, and what stands for NaN: where none was seen in learning, it is 0."""
    if split["missing_type"] != "NaN":
        return split["split_feature"], 0.0
    return split["split_feature"], -np.inf if split["default_left"] else np.inf


def _tree(root: Mapping[str, Any], splits: Sequence[Mapping[str, Any]], places: Mapping[tuple, int]) -> Tree:
    conditions = [
        (int(bit), places[_column(split)], _at_most(split["threshold"]))
        for split, bit in zip(splits, RISING, strict=False)
    ]
    grid = np.empty((2,) * len(splits))
    axes = {split["split_index"]: len(splits) - 1 - place for place, split in enumerate(splits)}
    _fill(root, grid, axes, [slice(None)] * len(splits))
    return Tree(conditions, RISING[len(splits) :], grid.reshape(-1))


def _fill(node: Mapping[str, Any], grid: np.ndarray, axes: Mapping[int, int], cell: list) -> None:
    """Write what the leaves below a node pay into the table's cells that lead there."""
    if "leaf_value" in node:
        grid[tuple(cell)] = node["leaf_value"]
        return
    axis = axes[node["split_index"]]
    for is_broken, side in enumerate(("left_child", "right_child")):
        _fill(node[side], grid, axes, [*cell[:axis], is_broken, *cell[axis + 1 :]])


def _at_most(threshold: float) -> np.float32:
    """The largest float32 that is no larger: no float32 lies between the two."""
    with np.errstate(over="ignore"):  # beyond all of them is infinity, which is then too large
        near = np.float32(threshold)
    return near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))
