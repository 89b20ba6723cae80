"""What trees pay to groups of features is each group's Shapley value, to the last digit."""

import itertools
import math
from functools import cache

import lightgbm
import numpy as np
import pytest

from models.shapley import ROWS_PER_BLOCK, Payouts

GROUPS = [0, 1, 1, 2, 0]  # of the features


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Five of them; three are unknown here and there, also while the trees learn."""
    dice = np.random.default_rng(3)
    features = dice.normal(size=(ROWS_PER_BLOCK + 7, 5)).astype(np.float32)
    features[:, :3][dice.random((len(features), 3)) < 0.2] = np.nan
    return features


@pytest.fixture(scope="module")
def booster(features: np.ndarray) -> lightgbm.Booster:
    known = np.nan_to_num(features, nan=-0.5)
    target = known[:, 0] * known[:, 1] + np.abs(known[:, 2]) + known[:, 3] * (known[:, 4] > 0.3)
    settings = {"num_leaves": 12, "bagging_fraction": 0.7, "bagging_freq": 1, "num_threads": 1, "verbosity": -1}
    return lightgbm.train(settings, lightgbm.Dataset(features, label=target), num_boost_round=8)


def test_each_feature_alone_gets_what_lightgbm_says(booster: lightgbm.Booster, features: np.ndarray):
    """Every feature a group of its own: path-dependent SHAP values, also where the trees have never met an unknown."""
    asked = features.copy()
    asked[::5] = np.nan
    told = booster.predict(asked, pred_contrib=True)
    payouts = Payouts.of(booster, range(5))
    assert payouts.to(asked, threads=2) == pytest.approx(told[:, :-1], abs=1e-12)
    assert payouts.base == pytest.approx(told[0, -1], abs=1e-12)


def expected(node: dict, row: np.ndarray, known: frozenset[int]) -> float:
    """What a tree says of a row of which only some groups are known, going down both sides elsewhere."""
    if "leaf_value" in node:
        return node["leaf_value"]
    sides, value = (node["left_child"], node["right_child"]), row[node["split_feature"]]
    if GROUPS[node["split_feature"]] in known:
        left = node["default_left"] if np.isnan(value) else value <= node["threshold"]
        return expected(sides[not left], row, known)
    rows = [side.get("leaf_count", side.get("internal_count")) for side in sides]
    return sum(n * expected(side, row, known) for n, side in zip(rows, sides, strict=True)) / sum(rows)


def test_a_group_gets_what_it_adds_averaged_over_all_orders(booster: lightgbm.Booster, features: np.ndarray):
    """Shapley's own definition, with the groups as the players."""
    trees = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    for row, told in zip(features[:10], Payouts.of(booster, GROUPS).to(features[:10]), strict=True):
        value = cache(lambda known, row=row: sum(expected(tree, row, known) for tree in trees))
        orders = list(itertools.permutations(range(3)))
        for group in range(3):
            before = [frozenset(order[: order.index(group)]) for order in orders]
            earned = math.fsum(value(known | {group}) - value(known) for known in before) / len(orders)
            assert told[group] == pytest.approx(earned, abs=1e-12)


def test_rows_that_go_one_way_are_paid_as_if_each_went_by_itself(booster: lightgbm.Booster, features: np.ndarray):
    """Payouts of float64, whose rows go one by one, are those of float32; and nobody's depend on who else is asked."""
    payouts = Payouts.of(booster, GROUPS)
    paid = payouts.to(features)
    assert payouts.to(features.astype(np.float64)) == pytest.approx(paid, abs=1e-12)
    assert payouts.to(features[40:41]).tolist() == paid[40:41].tolist()


def test_nothing_is_paid_for_no_rows_and_by_trees_without_a_split(booster: lightgbm.Booster):
    """The table has its width still; a lone leaf is the base and nobody's."""
    assert Payouts.of(booster, GROUPS).to(np.empty((0, 5))).shape == (0, 3)
    data = lightgbm.Dataset(np.ones((50, 2)), label=np.arange(50.0))
    lone = Payouts.of(lightgbm.train({"verbosity": -1}, data, num_boost_round=1), [0, 1])
    assert (lone.to(np.ones((3, 2))).tolist(), lone.base) == ([[0.0, 0.0]] * 3, pytest.approx(24.5))
