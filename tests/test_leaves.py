"""A table per tree gives the scores of LightGBM, to the last bit."""

import lightgbm
import numpy as np
import pytest

from models import leaves
from models.leaves import Ensemble

DICE = np.random.default_rng(31)


def learnt(known: np.ndarray, target: np.ndarray, **settings: object) -> lightgbm.Booster:
    settings = {"num_leaves": 15, "min_data_in_leaf": 5, "num_threads": 1, "verbosity": -1} | settings
    return lightgbm.train(settings, lightgbm.Dataset(known, label=target), num_boost_round=30)


def rows(count: int) -> np.ndarray:
    """Of seven features: some hold NaN, one whole numbers, one infinities, one nothing but ones and zeros."""
    known = DICE.normal(size=(count, 7)).astype(np.float32)
    known[DICE.random(known.shape) < 0.2] = np.nan
    known[:, 2] = DICE.integers(0, 9, count)
    known[:, 3] = np.where(DICE.random(count) < 0.1, np.inf, known[:, 3])
    known[:, 4] = DICE.random(count) < 0.5
    return known


def wish(known: np.ndarray) -> np.ndarray:
    parts = np.nan_to_num(known, nan=0.7, posinf=2.0)
    return parts[:, 0] * parts[:, 1] + parts[:, 2] + parts[:, 3] * parts[:, 4] + DICE.normal(size=len(known))


@pytest.mark.parametrize("settings", [{}, {"num_leaves": 17}, {"num_leaves": 2}, {"use_missing": False}], ids=str)
def test_scores_are_those_of_lightgbm(monkeypatch, settings):
    """Also of NaN where the trees have seen none, and of infinities; in one block or many, in one thread or two."""
    monkeypatch.setattr(leaves, "ROWS_PER_BLOCK", 300)
    known, asked = rows(2000), rows(1000)
    asked[::5, 2], asked[::7, 6] = np.nan, -np.inf
    booster = learnt(known, wish(known), **settings)
    expected = booster.predict(asked, raw_score=True)
    for threads in (1, 2):
        np.testing.assert_array_equal(Ensemble.of(booster).scores(asked, threads), expected)


def test_no_float32_falls_between_a_threshold_and_what_is_compared_with():
    """Thresholds are float64: rows at each, and one step of float32 on either side, come to the leaf of LightGBM."""
    known = rows(2000)
    booster = learnt(known, wish(known))
    told = [
        part.split("=")[1].split() for part in booster.model_to_string().split("\n") if part.startswith("threshold=")
    ]
    at = np.array(sorted({float(one) for line in told for one in line}), dtype=np.float32)
    at = np.concatenate([np.nextafter(at, np.float32(-np.inf)), at, np.nextafter(at, np.float32(np.inf))])
    asked = np.repeat(at[:, None], 7, axis=1)
    np.testing.assert_array_equal(Ensemble.of(booster).scores(asked), booster.predict(asked, raw_score=True))


def test_a_tree_of_one_leaf_and_no_rows():
    """Where nothing can be learnt a tree is one value; no rows have no scores."""
    known = np.ones((50, 3), dtype=np.float32)
    booster = learnt(known, np.arange(50.0))
    found = Ensemble.of(booster)
    np.testing.assert_array_equal(found.scores(known), booster.predict(known, raw_score=True))
    assert found.scores(known[:0]).shape == (0,)


def test_large_trees_have_no_table():
    """18 leaves take 17 conditions, one more than fit: LightGBM answers then."""
    known = rows(2000)
    assert Ensemble.of(learnt(known, wish(known), num_leaves=18)) is None
