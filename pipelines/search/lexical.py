"""Lexical: what the words of a query say about the items that have them, and which items it calls by their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from scipy import sparse

from models import words
from models.bm25 import Bm25
from models.understanding import Understood

FIELDS = {  # what a word weighs in each
    "item_id": 3.0,  # whoever types it means it
    "title": 3.0,  # says what the item is
    "brand": 3.0,  # a few words, most of them worth a search
    "category": 3.0,
    "description": 1.0,
}
LONGEST_NUMBER = 20  # items that share a model number; beyond, it is a standard or a series: `ddr4`, `1080p`
SYNONYM = 0.5  # what a word that means the same counts
SHORTEST_NUMBER = 4  # characters; `ps4` names too much


@dataclass(frozen=True)
class Lexical:
    """BM25F over the items' fields, and the numbers that name one item."""

    index: Bm25

    @classmethod
    def of(cls, catalogue: pd.DataFrame, language: str) -> Self:
        """Index a catalogue in the order of its items."""
        texts = {
            name: [words.tokens(str(text), language, keep_stop_words=True) for text in catalogue[name].fillna("")]
            for name in FIELDS
        }
        return cls(Bm25.index(texts, FIELDS))

    def asked(self, queries: Sequence[Understood]) -> sparse.csr_matrix:
        """(Q, T) the words of queries."""
        return self.index.asked([words_of(query) for query in queries])

    def exact(self, queries: Sequence[Understood]) -> sparse.csr_matrix:
        """(Q, I) 1 where a query says the item's id, or a model number of its title that few items have."""
        asked = self.index.asked([dict.fromkeys(filter(_is_number, words_of(query)), 1.0) for query in queries])
        alone = self.index.asked([dict.fromkeys(query.tokens[: _is_one_word(query)], 1.0) for query in queries])
        named, titled = self.index.present("item_id"), self.index.present("title")
        few = sparse.diags((np.diff(titled.indptr) <= LONGEST_NUMBER).astype(np.float32))
        found = sparse.csr_matrix(asked @ (few @ titled) + (asked + alone) @ named)
        found.data[:] = 1.0
        return found

    def save(self, folder: Path) -> None:
        self.index.save(folder / "lexical.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(Bm25.load(folder / "lexical.npz"))


def words_of(query: Understood) -> Mapping[str, float]:
    """The words of a query with what each counts: as meant, two neighbours written as one, and what means the same."""
    joined = [left + right for left, right in pairwise(query.tokens)]
    others = {word: SYNONYM for synonym in query.synonyms for word in synonym.other}
    return others | dict.fromkeys([*query.tokens, *joined], 1.0)


def best(scores: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """The `count` largest scores of each row, ties at the border by position."""
    scores.sort_indices()
    counts = np.diff(scores.indptr)
    owners = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((-scores.data, owners))  # stable, and positions ascend
    kept = np.sort(order[np.arange(len(order)) - np.repeat(scores.indptr[:-1], counts) < count])
    indptr = np.concatenate([[0], np.cumsum(np.minimum(counts, count))])
    return sparse.csr_matrix((scores.data[kept], scores.indices[kept], indptr), shape=scores.shape)


def _is_number(word: str) -> bool:
    """Letters and digits that are no size: what makers and shops call an item by."""
    is_mixed = any(map(str.isdigit, word)) and any(map(str.isalpha, word))
    return is_mixed and len(word) >= SHORTEST_NUMBER and not words.SIZE.fullmatch(word)


def _is_one_word(query: Understood) -> bool:
    return len(query.query.split()) == 1
