"""Leanings: what a user's past says of an item that some query found, in a few numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from pipelines.marts import Marts, values_at
from pipelines.run import Run
from pipelines.search.facets import FACETS

PARTS = (*FACETS, "likeness", "met", "bought")


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

    Attributes:
        values: by facet, (I,) the number of each item's value, -1 where it has none.
        usual: by facet, (C,) share of each value in what people did.
        prior: event weight at which a user's leanings are believed half.
    """

    values: Mapping[str, np.ndarray]
    usual: Mapping[str, np.ndarray]
    prior: float

    @classmethod
    def of(cls, run: Run, marts: Marts, part: str) -> "Leanings":
        people = marts.people(marts.cuts[part])
        done = np.asarray(marts.interactions(marts.cuts[part])[people].sum(axis=0)).ravel()
        values = {facet: pd.factorize(marts.catalogue[facet])[0] for facet in FACETS}
        usual = {facet: _shares(done, told) for facet, told in values.items()}
        return cls(values, usual, run.settings.search.preference_weight)

    def parts(self, past: Past, vectors: np.ndarray, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R, PARTS): logarithms of `user_preferences.lift`, cosine of item and past by the items' vectors (I, E),
        logarithm of 1 + event weight, whether it was bought. All are 0 for users without a past."""
        columns = [
            *self._lifts(past.weights, users, items),
            np.einsum("re,re->r", _units(past.weights @ vectors)[users], vectors[items]),
            np.log1p(values_at(past.weights, users, items)),
            values_at(past.bought, users, items),
        ]
        return np.stack(columns, axis=1)

    def _lifts(self, weights: sparse.csr_matrix, users: np.ndarray, items: np.ndarray) -> Iterator[np.ndarray]:
        for facet, values in self.values.items():
            usual, value = self.usual[facet], values[items]
            sums = sparse.csr_matrix(weights @ _members(values, len(usual)))
            total, known = np.asarray(sums.sum(axis=1)).ravel()[users], np.maximum(value, 0)
            against = values_at(sums, users, known) / np.where(usual[known] > 0, usual[known], np.inf)
            yield np.where(value >= 0, np.log((against + self.prior) / (total + self.prior)), 0.0)

    def save(self, path: Path) -> None:
        arrays = {f"values_{facet}": told for facet, told in self.values.items()}
        arrays |= {f"usual_{facet}": told for facet, told in self.usual.items()}
        np.savez(path, prior=self.prior, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Leanings":
        with np.load(path) as told:
            values, usual = ({facet: told[f"{name}_{facet}"] for facet in FACETS} for name in ("values", "usual"))
            return cls(values, usual, float(told["prior"]))


def _members(values: np.ndarray, count: int) -> sparse.csr_matrix:
    """(I, C) 1 where an item has a value."""
    known = np.flatnonzero(values >= 0)
    return sparse.csr_matrix((np.ones(len(known)), (known, values[known])), shape=(len(values), count))


def _shares(done: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(C,) share of each value in what was done (I,) with items that have one; never empty."""
    sums = np.bincount(values[values >= 0], weights=done[values >= 0], minlength=int(values.max(initial=0)) + 1)
    return sums / max(sums.sum(), 1e-9)


def _units(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
