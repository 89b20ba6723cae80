"""Words that weigh by field: BM25F, whose every score can be told word by word and field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import sparse

from models.vocabulary import Vocabulary

K1 = 1.2  # how soon a word that is said again says nothing new
B = 0.75  # how much of a field's length is held against it


@dataclass(frozen=True)
class Bm25:
    """An index of items by the words of their fields (Robertson and Zaragoza, 2009, section 3.6).

    Attributes:
        words: T of them.
        fields: by name (T, I) how often each word stands in the field, times the field's weight, less for a long field.
    """

    words: Vocabulary
    fields: Mapping[str, sparse.csr_matrix]

    @classmethod
    def index(cls, texts: Mapping[str, Sequence[Sequence[str]]], weights: Mapping[str, float]) -> Bm25:
        """Index the words of I items, given field by field."""
        words = Vocabulary(word for field in texts.values() for text in field for word in text)
        return cls(words, {name: _frequencies(words, field) * weights[name] for name, field in texts.items()})

    @cached_property
    def weights(self) -> sparse.csr_matrix:
        """(T, I) float32 what a word of the query adds to the score of an item."""
        return self._saturated(self.fields)

    def lowered(self, cells: Sequence[set[str]], weights: Mapping[str, float], most: float) -> sparse.csr_matrix:
        """(T, I) float32 what the words of `cells`, a set per item, lose where no field counts for more than `most`.

        Args:
            weights: of the fields, as the index was given them.
        """
        places = self.words.positions(word for words in cells for word in sorted(words))
        owners, known = np.repeat(np.arange(len(cells)), [len(words) for words in cells]), places >= 0
        chosen = sparse.csr_matrix((np.ones(known.sum()), (places[known], owners[known])), shape=self._shape)
        less = {name: field.multiply(chosen) * min(most / weights[name], 1.0) for name, field in self.fields.items()}
        lost = sparse.csr_matrix(self._saturated(less) - self.weights.multiply(chosen), dtype=np.float32)
        lost.eliminate_zeros()
        return lost

    def _saturated(self, fields: Mapping[str, sparse.csr_matrix]) -> sparse.csr_matrix:
        said = sparse.csr_matrix(sum(fields.values(), sparse.csr_matrix(self._shape)))
        said.data = said.data / (K1 + said.data)
        return sparse.csr_matrix(sparse.diags(self.rarity) @ said, dtype=np.float32)

    @cached_property
    def rarity(self) -> np.ndarray:
        """(T,) inverse document frequencies, as Lucene counts them."""
        found = np.diff(self.present(*self.fields).indptr)
        return np.log1p((self.count_items - found + 0.5) / (found + 0.5))

    @property
    def count_items(self) -> int:
        return next(iter(self.fields.values())).shape[1]

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.words), self.count_items

    def present(self, *names: str) -> sparse.csr_matrix:
        """(T, I) 1 where a word stands in one of the fields."""
        found = sparse.csr_matrix(sum((self.fields[name] for name in names), sparse.csr_matrix(self._shape)))
        return sparse.csr_matrix((np.ones(found.nnz, np.float32), found.indices, found.indptr), shape=found.shape)

    def asked(self, queries: Sequence[Mapping[str, float]]) -> sparse.csr_matrix:
        """(Q, T) queries given as words with their weights; words that no item has are left out."""
        counts = [len(query) for query in queries]
        places = self.words.positions(word for query in queries for word in query)
        weights = np.array([weight for query in queries for weight in query.values()], dtype=np.float32)
        rows, known = np.repeat(np.arange(len(queries)), counts), places >= 0
        shape = len(queries), len(self.words)
        return sparse.csr_matrix((weights[known], (rows[known], places[known])), shape=shape)

    def told(self, query: Mapping[str, float], item: int) -> list[tuple[str, str, float]]:
        """(word, field, what it adds) for the words of a query that an item has; the sum is its score."""
        found = []
        for word, place in zip(query, self.words.positions(query), strict=True):
            if place < 0 or not (score := float(self.weights[place, item]) * query[word]):
                continue
            said = {name: float(field[place, item]) for name, field in self.fields.items()}
            found += [(word, name, score * one / sum(said.values())) for name, one in said.items() if one]
        return sorted(found, key=lambda one: -one[2])

    def save(self, path: Path) -> None:
        """Write one file of arrays."""
        arrays = {"words": self.words.ids.astype(str), "fields": np.array(list(self.fields))}
        for name, field in self.fields.items():
            arrays |= {f"{name}/{part}": getattr(field, part) for part in ("data", "indices", "indptr")}
        np.savez(path, count_items=self.count_items, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Bm25:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            words = Vocabulary(arrays["words"].tolist())
            shape = len(words), int(arrays["count_items"])
            parts = {
                name: [arrays[f"{name}/{part}"] for part in ("data", "indices", "indptr")] for name in arrays["fields"]
            }
        return cls(words, {str(name): sparse.csr_matrix(tuple(three), shape=shape) for name, three in parts.items()})


def _frequencies(words: Vocabulary, texts: Sequence[Sequence[str]]) -> sparse.csr_matrix:
    """(T, I) float32 counts of each word, over a length that is 1 in a text of mean length; empty ones are no texts."""
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    places = words.positions(word for text in texts for word in text)
    owners = np.repeat(np.arange(len(texts)), lengths.astype(int))
    counts = sparse.csr_matrix((np.ones(len(places)), (places, owners)), shape=(len(words), len(texts)))
    relative = lengths * np.count_nonzero(lengths) / max(float(lengths.sum()), 1.0)
    return sparse.csr_matrix(counts @ sparse.diags(1.0 / (1.0 - B + B * relative)), dtype=np.float32)
