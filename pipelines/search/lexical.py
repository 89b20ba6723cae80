"""Lexical: what the words of a query say about the items that have them, and which items it calls by their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from scipy import sparse

from models import heads, words
from models.bm25 import Bm25
from models.understanding import Understood

FIELDS = {  # what a word weighs in each
    "item_id": 3.0,  # whoever types it means it
    "title": 3.0,  # says what the item is
    "brand": 3.0,  # a few words, most of them worth a search
    "category": 3.0,
    "kind": 3.0,  # the category's own name, whole
    "description": 1.0,
}
LONGEST_NUMBER = 20  # items that share a model number; beyond, it is a standard or a series: `ddr4`, `1080p`
SYNONYM = 0.5  # what a word that means the same counts
SHORTEST_NUMBER = 4  # characters; `ps4` names too much


@dataclass(frozen=True)
class Lexical:
    """BM25F over the items' fields, and the numbers that name one item.

    Attributes:
        lesser: (T, I) what the score loses where the word says which thing is wanted, and the item is another that
            goes with it: there title and category count no more than a description.
    """

    index: Bm25
    lesser: sparse.csr_matrix

    @classmethod
    def of(cls, catalogue: pd.DataFrame, language: str) -> Self:
        """Index a catalogue in the order of its items."""
        told = {name: catalogue[name].fillna("").astype(str) for name in FIELDS if name != "kind"}
        texts = {name: [words.tokens(text, language, keep_stop_words=True) for text in told[name]] for name in told}
        kinds = {"kind": [[name] if (name := heads.kind(text, language)) else [] for text in told["category"]]}
        index = Bm25.index(texts | kinds, FIELDS)
        pairs = zip(told["title"], told["category"], strict=True)
        beside = [heads.beside(title, category, language) for title, category in pairs]
        return cls(index, index.lowered(beside, FIELDS, FIELDS["description"]))

    def scores(self, queries: Sequence[Understood]) -> sparse.csr_matrix:
        """(Q, I) what the words of queries say of items."""
        wanted = self.index.asked([{query.head: 1.0} if query.head else {} for query in queries])
        return sparse.csr_matrix(self.asked(queries) @ self.index.weights + wanted @ self.lesser)

    def told(self, query: Understood, item: int) -> list[tuple[str, str, float]]:
        """(word, field, what it adds) for the words of a query that an item has; the sum is its score."""
        found = self.index.told(words_of(query), item)
        place = self.index.words.positions([query.head])[0] if query.head else -1
        lost = float(self.lesser[place, item]) if place >= 0 else 0.0
        return [*found, (str(query.head), "what goes with another thing", lost)] if lost else found

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
        sparse.save_npz(folder / "lesser.npz", self.lesser)

    @classmethod
    def load(cls, folder: Path) -> Self:
        return cls(Bm25.load(folder / "lexical.npz"), sparse.csr_matrix(sparse.load_npz(folder / "lesser.npz")))


def words_of(query: Understood) -> Mapping[str, float]:
    """The words of a query with what each counts: as meant, two neighbours as one, all as one, and what means the
    same."""
    joined = [left + right for left, right in pairwise(query.tokens)]
    others = {word: SYNONYM for synonym in query.synonyms for word in synonym.other}
    return others | dict.fromkeys([*query.tokens, *joined, *filter(None, [heads.whole(query.tokens)])], 1.0)


def best(scores: sparse.csr_matrix, count: int) -> sparse.csr_matrix:
    """The `count` largest scores of each row, ties at the border by position."""
    rows = [slice(start, stop) for start, stop in pairwise(scores.indptr)]
    kept = [_largest(scores.indices[row], scores.data[row], count) + row.start for row in rows]
    indptr = np.concatenate([[0], np.cumsum([len(places) for places in kept])])
    chosen = np.concatenate([np.empty(0, dtype=np.int64), *kept])
    return sparse.csr_matrix((scores.data[chosen], scores.indices[chosen], indptr), shape=scores.shape)


def _largest(positions: np.ndarray, scores: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` largest scores by ascending position: a partition is cheaper than a sort of all."""
    chosen = np.arange(len(scores))
    if len(scores) > count:
        least = np.partition(scores, -count)[-count]
        above, border = np.flatnonzero(scores > least), np.flatnonzero(scores == least)
        border = border[np.argsort(positions[border], kind="stable")]
        chosen = np.concatenate([above, border[: count - len(above)]])
    return chosen[np.argsort(positions[chosen], kind="stable")]


def _is_number(word: str) -> bool:
    """Letters and digits that are no size: what makers and shops call an item by."""
    is_mixed = any(map(str.isdigit, word)) and any(map(str.isalpha, word))
    return is_mixed and len(word) >= SHORTEST_NUMBER and not words.SIZE.fullmatch(word)


def _is_one_word(query: Understood) -> bool:
    return len(query.query.split()) == 1
