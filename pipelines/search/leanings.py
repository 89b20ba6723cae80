"""Leanings: what a user's past says of an item that some query found, in a few numbers."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from models.styles import styles
from pipelines.marts import Marts, values_at
from pipelines.run import Run
from pipelines.search.lexical import Lexical

PARTS = ("brand", "price", "style", "met", "bought")
WRITTEN = ("title", "description")  # fields whose words say what sets an item off


@dataclass(frozen=True)
class Past:
    """What some users did until a day: (U, I) event weights, and 1 where an item was bought and kept."""

    weights: sparse.csr_matrix
    bought: sparse.csr_matrix

    @classmethod
    def of(cls, marts: Marts, part: str) -> "Past":
        until = marts.cuts[part]
        return cls(marts.interactions(until), marts.bought(until))

    def only(self, users: np.ndarray) -> "Past":
        return Past(self.weights[users], self.bought[users])


@dataclass(frozen=True)
class Leanings:
    """What is known of the items by which a past speaks for them.

    Which kind of thing is wanted is the query's matter, so that price and style are those among items of one category.

    Attributes:
        brands: (I,) number of each item's brand, -1 where it has none.
        usual: (B,) share of each brand in what people did.
        prices: (I,) logarithm of the price over the median of the category, 0 where unknown.
        styles: (I, E) unit vectors of what sets an item off from the others of its category.
        prior: event weight at which a user's leanings are believed half.
        kinds: (I,) number of each item's category, from 0; items without one are of one kind.
    """

    brands: np.ndarray
    usual: np.ndarray
    prices: np.ndarray
    styles: np.ndarray
    prior: float
    kinds: np.ndarray

    @classmethod
    def of(cls, run: Run, marts: Marts, part: str, written: np.ndarray) -> "Leanings":
        """As one of the night's trainings sees the items; `written` (I, E) are their styles."""
        until, goods = marts.cuts[part], marts.catalogue
        brands = pd.factorize(goods["brand"])[0]
        done = np.asarray(marts.interactions(until)[marts.people(until)].sum(axis=0)).ravel()
        prior = run.settings.search.preference_weight
        return cls(brands, _shares(done, brands), _prices(goods), written, prior, kinds_of(goods))

    def parts(self, past: Past, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R, PARTS): logarithm of the brand's `user_preferences.lift`; product of item's and user's price; cosine of
        item's and user's style, to which each item that was met adds once; logarithm of 1 + event weight; whether it
        was bought. 0 for users without a past."""
        once = (past.weights > 0).astype(float)  # what is bought every week says no more of a taste
        total = np.asarray(past.weights.sum(axis=1)).ravel()
        paid = (past.weights @ self.prices) / (total + self.prior)
        columns = [
            self._brands(past.weights, users, items),
            paid[users] * self.prices[items],
            np.einsum("re,re->r", _units(once @ self.styles)[users], self.styles[items]),
            np.log1p(values_at(past.weights, users, items)),
            values_at(past.bought, users, items),
        ]
        return np.stack(columns, axis=1)

    def _brands(self, weights: sparse.csr_matrix, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        known, brand = np.flatnonzero(self.brands >= 0), np.maximum(self.brands[items], 0)
        shape = len(self.brands), len(self.usual)
        sums = sparse.csr_matrix(
            weights @ sparse.csr_matrix((np.ones(len(known)), (known, self.brands[known])), shape=shape)
        )
        total = np.asarray(sums.sum(axis=1)).ravel()[users]
        against = values_at(sums, users, brand) / np.where(self.usual[brand] > 0, self.usual[brand], np.inf)
        return np.where(self.brands[items] >= 0, np.log((against + self.prior) / (total + self.prior)), 0.0)

    def save(self, path: Path) -> None:
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "Leanings":
        with np.load(path) as told:
            known = {name: told[name] for name in told}
        of_one_kind = np.zeros(len(known["brands"]), dtype=np.int64)  # as a release has it that is older than kinds
        return cls(**{"kinds": of_one_kind} | known)


def written(catalogue: pd.DataFrame, lexical: Lexical) -> np.ndarray:
    """(I, E) styles of the items of a catalogue, by the words that more than one of them has."""
    index = lexical.index
    found = index.present(*WRITTEN)  # (T, I)
    weight = np.where(np.diff(found.indptr) > 1, np.sqrt(index.rarity), 0.0)
    return styles(sparse.csr_matrix((sparse.diags(weight) @ found).T), kinds_of(catalogue))


def kinds_of(catalogue: pd.DataFrame) -> np.ndarray:
    """(I,) number of each item's category, from 0; items without one are of one kind."""
    return pd.factorize(catalogue["category"], use_na_sentinel=False)[0]


def _shares(done: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(C,) share of each value in what was done (I,) with items that have one; never empty."""
    sums = np.bincount(values[values >= 0], weights=done[values >= 0], minlength=int(values.max(initial=0)) + 1)
    return sums / max(sums.sum(), 1e-9)


def _prices(goods: pd.DataFrame) -> np.ndarray:
    cents = goods["price_cents"].astype(float)
    logarithm = pd.Series(np.log(cents.where(cents > 0)), index=goods.index)
    return (logarithm - logarithm.groupby(goods["category"], dropna=False).transform("median")).fillna(0.0).to_numpy()


def _units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
