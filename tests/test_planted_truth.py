"""On the generated shop, whose tastes are known, ALS finds them, and serves users of whom it knows one day."""

import datetime as dt
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from models import als, metrics, retrieval
from models.als import ALSModel
from pipelines import generate
from pipelines.generate import behaviour

USERS, ITEMS, DAYS = 1500, 400, 60
WEIGHTS = {behaviour.VIEW: 1.0, behaviour.CART: 3.0, behaviour.PURCHASE: 5.0}
SETTINGS = {"factors": 32, "regularization": 20.0, "alpha": 1.0, "seed": 1}


class Truth(NamedTuple):
    """Events by time, (I,) the theme of each item, (U, themes) the share of each theme in the user's taste."""

    events: pd.DataFrame
    theme: np.ndarray
    tastes: np.ndarray


@pytest.fixture(scope="module")
def truth() -> Truth:
    shop = generate.make_shop(ITEMS, dt.date(2026, 1, 1), DAYS, seed=3)
    people = behaviour.make_users(np.random.default_rng(1), USERS, shop)
    events = behaviour.events(np.random.default_rng(2), people, shop)
    return Truth(events[events["act"].isin(WEIGHTS)], shop.catalogue.theme, people.tastes)


@pytest.fixture(scope="module")
def model(truth: Truth) -> ALSModel:
    return als.fit(weights(truth.events), **SETTINGS)


def weights(events: pd.DataFrame) -> sparse.csr_matrix:
    """(U, I) sums of the weights of the events."""
    values = events["act"].map(WEIGHTS).to_numpy(dtype=float)
    return sparse.csr_matrix((values, (events["user"], events["item"])), shape=(USERS, ITEMS))


def test_neighbours_share_a_theme(truth: Truth, model: ALSModel):
    """Of the five items whose factors point most the same way, most are of the theme, of which none is a tenth."""
    factors = model.item_factors
    met = np.flatnonzero(factors.any(axis=1))
    unit = factors[met] / np.linalg.norm(factors[met], axis=1, keepdims=True)
    likeness = unit @ unit.T
    np.fill_diagonal(likeness, -1)
    nearest = met[likeness.argsort(axis=1)[:, -5:]]
    assert np.bincount(truth.theme).max() < 0.1 * ITEMS
    assert (truth.theme[nearest] == truth.theme[met][:, None]).mean() > 0.85


def test_lists_follow_the_planted_taste(truth: Truth, model: ALSModel):
    """Where a user has one theme at heart, it fills most of the list, for three in four."""
    ranked, _ = retrieval.top_items(model.user_factors, model.item_factors, 20)
    shown = np.stack([(truth.theme[ranked] == theme).mean(axis=1) for theme in range(truth.tastes.shape[1])], axis=1)
    known = model.user_factors.any(axis=1) & (truth.tastes.max(axis=1) > 0.6)
    assert known.sum() > 300
    assert (shown[known].argmax(axis=1) == truth.tastes[known].argmax(axis=1)).mean() > 0.75


def test_a_new_user_is_served_no_worse_than_by_popularity(truth: Truth):
    """Users who taught nothing, folded in from their first day and asked for what they met later, beyond chance."""
    is_new, user = np.arange(USERS) < USERS // 3, truth.events["user"]
    begun = truth.events["day"] == truth.events.groupby("user")["day"].transform("min")
    taught, first, later = (weights(truth.events[part]) for part in (~is_new[user], begun, ~begun))
    model = als.fit(taught, **SETTINGS)
    fame, alike = np.diff(taught.tocsc().indptr).astype(np.float32)[:, None], np.ones((USERS, 1), np.float32)
    folded, popular = (
        metrics.ndcg_at(retrieval.top_items(users[is_new], items, 10)[0], later[is_new], 10)
        for users, items in ((model.fold_in(first), model.item_factors), (alike, fame))
    )
    assert metrics.bootstrap_interval(folded - popular, seed=0)[1] > 0
