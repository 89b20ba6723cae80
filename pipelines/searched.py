"""Searched: which query that a user typed lately asks for an item, by its words and by what people took to after it."""

import datetime as dt
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy import sparse

from models.words import tokens
from pipelines.marts import Marts, smoothed, values_at

ENOUGH = 1 - 1e-9  # shares of the query's words and of what others took to after it: all the words, or both together
FIELDS = ("title", "brand", "category")
ROWS_PER_SLICE = 1 << 18


class Searched:
    """The users' queries of the last days as of one day; users, queries and items are positions."""

    def __init__(self, marts: Marts, until: dt.date):
        self.queries, self.typed = marts.typed(until, marts.settings.fuse.query_days)  # (U, Q) weight of each query
        self.chosen = smoothed(marts.query_clicks(self.queries, until))  # (Q, I)
        texts = (" ".join(filter(None, row)) for row in marts.catalogue[list(FIELDS)].itertuples(index=False))
        self.asked, self.named = _words(
            self.queries.ids, texts if len(self.queries) else [], marts.settings.search.language
        )

    def best(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(R,) the query of each user that asks most for the item, None where none does."""
        slices = [slice(start, start + ROWS_PER_SLICE) for start in range(0, len(users), ROWS_PER_SLICE)]
        return np.concatenate([np.empty(0, dtype=object), *(self._best(users[one], items[one]) for one in slices)])

    def _best(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        found = np.full(len(users), None, dtype=object)
        row = np.repeat(np.arange(len(users)), np.diff(self.typed.indptr)[users])
        mine, item = self.typed[users], items[row]
        if len(row):
            words = self.asked[mine.indices].multiply(self.named[item]).sum(axis=1).A1
            match = pd.Series(words + values_at(self.chosen, mine.indices, item))
            best = (match * mine.data)[match >= ENOUGH].groupby(row[match >= ENOUGH]).idxmax()
            found[best.index] = self.queries.ids[mine.indices[best]]
        return found


def _words(queries: Iterable[str], texts: Iterable[str], language: str) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
    """(Q, W) each word's share of its query; (I, W) 1 where an item's text has the word. Words are those of queries."""
    asked = [sorted(set(tokens(query, language))) for query in queries]
    position = {word: place for place, word in enumerate(sorted({word for words in asked for word in words}))}
    known = [sorted(position.keys() & tokens(text, language, keep_stop_words=True)) for text in texts]
    return _table(asked, position, is_share=True), _table(known, position, is_share=False)


def _table(rows: list[list[str]], position: dict[str, int], is_share: bool) -> sparse.csr_matrix:
    lengths = np.array([len(words) for words in rows], dtype=np.int64)
    columns = [position[word] for words in rows for word in words]
    values = np.repeat(1.0 / np.maximum(lengths, 1) if is_share else np.ones(len(rows)), lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_matrix((values, columns, starts), shape=(len(rows), len(position)))
