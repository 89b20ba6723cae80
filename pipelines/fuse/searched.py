"""Searched: how well an item matches what a user typed lately, by its words and by what people took to after it."""

import datetime as dt
import re
from collections.abc import Iterable

import numpy as np
import pandas as pd
import Stemmer
from scipy import sparse

from pipelines.marts import Marts, values_at

COLUMNS = ("chosen", "words")
SMOOTHING = 5.0  # acts after a query at which half of what they say is believed
FIELDS = ("title", "brand", "category")
WORD = re.compile(r"\w+")


class Searched:
    """The users' queries of the last days as of one day; users, queries and items are positions."""

    def __init__(self, marts: Marts, until: dt.date):
        self.queries, self.typed = marts.typed(until, marts.settings.fuse.query_days)  # (U, Q) weight of each query
        self.chosen = _shares(marts.query_clicks(self.queries, until))  # (Q, I)
        texts = (" ".join(filter(None, row)) for row in marts.catalogue[list(FIELDS)].itertuples(index=False))
        self.asked, self.named = _words(self.queries.ids, texts if len(self.queries) else [])

    def at(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R, 2) what the user's queries say of the item: acts that went to it after them, and words that it has."""
        told = np.zeros((len(users), len(COLUMNS)), dtype=np.float32)
        rows = np.flatnonzero(np.diff(self.typed.indptr)[users])
        if len(rows):
            own, place = np.unique(users[rows], return_inverse=True)
            typed = self.typed[own]
            told[rows, 0] = values_at((typed @ self.chosen).tocsr(), place, items[rows])
            told[rows, 1] = (typed @ self.asked)[place].multiply(self.named[items[rows]]).sum(axis=1).A1
        return told

    def best(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R,) the query of the user that says most for the item, None where none does."""
        counts = np.diff(self.typed.indptr)[users]
        row = np.repeat(np.arange(len(users)), counts)
        mine = self.typed[users]
        query, item = mine.indices, items[row]
        words = self.asked[query].multiply(self.named[item]).sum(axis=1).A1 if len(row) else np.empty(0)
        said = pd.Series(mine.data * (values_at(self.chosen, query, item) + words))
        best = said[said > 0].groupby(row[said > 0]).idxmax()
        found = np.full(len(users), None, dtype=object)
        found[best.index] = self.queries.ids[query[best]]
        return found


def _shares(clicks: sparse.csr_matrix) -> sparse.csr_matrix:
    """(Q, I) share of what followed a query that went to an item, believed the more, the more followed."""
    total = np.asarray(clicks.sum(axis=1)).ravel()
    return (sparse.diags(1.0 / (total + SMOOTHING)) @ clicks).tocsr()


def _words(queries: Iterable[str], texts: Iterable[str]) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """(Q, W) each word's share of its query; (I, W) 1 where an item's text has the word. Words are stems of queries."""
    stem = Stemmer.Stemmer("english").stemWords
    asked = [sorted(set(stem(WORD.findall(query)))) for query in queries]
    position = {word: place for place, word in enumerate(sorted({word for words in asked for word in words}))}
    known = [sorted(position.keys() & stem(WORD.findall(text.lower()))) for text in texts]
    return _table(asked, position, is_share=True), _table(known, position, is_share=False)


def _table(rows: list[list[str]], position: dict[str, int], is_share: bool) -> sparse.csr_matrix:
    lengths = np.array([len(words) for words in rows], dtype=np.int64)
    columns = [position[word] for words in rows for word in words]
    values = np.repeat(1.0 / np.maximum(lengths, 1) if is_share else np.ones(len(rows)), lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_matrix((values, columns, starts), shape=(len(rows), len(position)))
