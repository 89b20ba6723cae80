"""On the generated shop, whose items are made for known tastes, the profile finds them for items that nobody met."""

import datetime as dt
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from models import metrics
from models.encoder import encode
from models.item_text import TextTokenizer
from models.profile import ProfileConfig
from models.profile_training import train_encoder
from pipelines import generate
from pipelines.generate import behaviour, catalogue

USERS, ITEMS, DAYS = 1500, 400, 60
IS_NEW = np.arange(ITEMS) % 10 == 0  # nobody is known to have met these
FIELDS = ("title", "description", "category", "brand")
NO_QUERIES = np.empty((0, 2), dtype=np.int64)

pytestmark = pytest.mark.slow


class Shop(NamedTuple):
    """Users' purchases (U, I), the themes (I,) and categories (I,) of items, and their vectors (I, E)."""

    bought: sparse.csr_matrix
    themes: np.ndarray
    categories: np.ndarray
    vectors: np.ndarray

    @property
    def known(self) -> sparse.csr_matrix:
        return sparse.csr_matrix(self.bought.multiply(~IS_NEW))


@pytest.fixture(scope="module")
def shop() -> Shop:
    """Its encoder has read all items, and learnt from what was bought together of the others."""
    made = generate.make_shop(ITEMS, dt.date(2026, 1, 1), DAYS, seed=3)
    people = behaviour.make_users(np.random.default_rng(1), USERS, made)
    events = behaviour.events(np.random.default_rng(2), people, made)
    purchases = events[events["act"] == behaviour.PURCHASE].drop_duplicates(["user", "item"])
    texts = catalogue.texts(made.catalogue, np.arange(ITEMS), 0)
    tokenizer = TextTokenizer.train(texts["title"], 1500)
    config = ProfileConfig(tokenizer.vocabulary_size, embedding_size=32, hidden_size=48)
    items = tokenizer.encode_items({name: list(texts[name]) for name in FIELDS}, config.max_tokens)
    taught = purchases[~IS_NEW[purchases["item"]]]
    pairs = taught.merge(taught, on=["user", "day"])
    pairs = pairs.loc[pairs["item_x"] != pairs["item_y"], ["item_x", "item_y"]].to_numpy()
    popularity = np.bincount(taught["item"], minlength=ITEMS).astype(float)
    queries = tokenizer.encode_queries([])
    encoder, _ = train_encoder(items, queries, pairs, NO_QUERIES, popularity, config, steps=150, batch_size=128, seed=5)
    shape = (USERS, ITEMS)
    bought = sparse.csr_matrix((np.ones(len(purchases)), (purchases["user"], purchases["item"])), shape=shape)
    return Shop(bought, made.catalogue.theme, texts["category"].to_numpy(), encode(encoder, items))


def recall(shop: Shop, scores: np.ndarray) -> np.ndarray:
    """(U,) recall@5 of the new items that each user bought, when scores (U, new items) rank them; NaN without any."""
    ranked = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return metrics.recall_at(ranked, sparse.csr_matrix(shop.bought[:, IS_NEW]), 5)


def test_new_items_reach_whom_they_are_made_for(shop: Shop):
    """By what users bought before, the profile foretells their purchases of items that nobody had met better than the
    sales of the items' categories do, and than chance, beyond chance."""
    sold = pd.Series(shop.known.getnnz(axis=0)).groupby(shop.categories).transform("sum").to_numpy()[IS_NEW]
    by_profile = recall(shop, shop.known @ shop.vectors @ shop.vectors[IS_NEW].T)
    by_category = recall(shop, np.tile(sold, (USERS, 1)))
    by_chance = recall(shop, np.random.default_rng(0).random((USERS, IS_NEW.sum())))
    for other in (by_category, by_chance):
        assert metrics.bootstrap_interval(by_profile - other, seed=0)[1] > 0


def test_neighbours_are_of_one_theme(shop: Shop):
    """Of the five items whose texts are read most alike, new ones included, most are of the theme."""
    vectors = shop.vectors - shop.vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness.argsort(axis=1)[:, -5:]
    assert np.bincount(shop.themes).max() < 0.1 * ITEMS
    assert (shop.themes[nearest] == shop.themes[:, None]).mean() > 0.85
