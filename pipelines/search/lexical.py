"""Lexical: what the words of a query say about the items that have them."""

import bm25s
import numpy as np
import pandas as pd
import Stemmer
from scipy import sparse

from pipelines.marts import Marts

TITLE_REPEATS = 3  # a word in the title says more about what an item is than one in the description


class Lexical:
    """BM25 over the items' fields, the title counting more (Robertson and Zaragoza, 2009; `bm25s`)."""

    def __init__(self, marts: Marts):
        self.stemmer = Stemmer.Stemmer("english")
        self.index = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
        self.count_items = len(marts.items)
        self.index.index(self._tokens(item_documents(marts.catalogue)), show_progress=False)

    def scores(self, queries: np.ndarray, count: int, allowed: np.ndarray) -> sparse.csr_matrix:
        """(Q, I) BM25 of each query's best `count` allowed items, which share at least one word with it."""
        rows, columns, values = [np.empty(0, int)], [np.empty(0, int)], [np.empty(0)]
        weights = allowed.astype(np.float32)
        for row, tokens in enumerate(self._tokens(list(queries), ids=False)):
            if not tokens:
                continue
            score = self.index.get_scores(tokens) * weights
            best = (
                np.lexsort((np.arange(len(score)), -score))[:count] if len(score) <= count else _largest(score, count)
            )
            best = best[score[best] > 0]
            rows.append(np.full(len(best), row))
            columns.append(best)
            values.append(score[best])
        shape = len(queries), self.count_items
        return sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)

    def _tokens(self, texts: list[str], ids: bool = True):
        return bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False, return_ids=ids)


def item_documents(catalogue: pd.DataFrame) -> list[str]:
    """All that is written about each item, as one text."""
    parts = [catalogue["item_id"], *[catalogue["title"]] * TITLE_REPEATS]
    parts += [catalogue[name] for name in ("brand", "category", "description")]
    return [" ".join(str(value) for value in row if isinstance(value, str)) for row in zip(*parts, strict=True)]


def _largest(score: np.ndarray, count: int) -> np.ndarray:
    """Positions of the largest values, ties at the border by position."""
    border = np.partition(score, len(score) - count)[len(score) - count]
    above, level = np.flatnonzero(score > border), np.flatnonzero(score == border)
    return np.concatenate([above, level[: count - len(above)]])
