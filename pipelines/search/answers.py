"""Answers: the candidates of a query, from each source, with what every source says of them."""

import numpy as np
from scipy import sparse

from models import profile, retrieval
from models.candidates import Candidates
from models.item_text import TextTokenizer
from models.profile import ItemProfileEncoder
from models.vocabulary import Vocabulary
from pipelines.marts import Marts, values_at
from pipelines.run import Run
from pipelines.search.lexical import Lexical

SOURCES = ("lexical", "semantic", "behaviour")
QUERIES_PER_BLOCK = 1024
SMOOTHING = 5.0  # events after a query at which half of what they say is believed


class Index:
    """Everything that answers a query, as it stood at the end of one of the night's two trainings."""

    def __init__(self, run: Run, marts: Marts, part: str, queries: Vocabulary, lexical: Lexical):
        folder = run.of("train_profile", part)
        tokenizer = TextTokenizer.load(run.of("train_profile"))
        tokens = tokenizer.encode_queries(list(queries.ids), run.settings.profile.max_tokens)
        self.queries, self.lexical = queries, lexical
        self.item_vectors = np.load(folder / "item_vectors.npy")
        self.query_vectors = profile.encode(ItemProfileEncoder.load(folder), tokens, QUERIES_PER_BLOCK)
        self.behaviour = smoothed(marts.query_clicks(queries, run.cuts[part]))
        self.allowed = marts.known_items(run.cuts[part]) & marts.catalogue["is_available"].to_numpy(dtype=bool)
        self.count, self.memory_bytes = run.settings.search.results, run.settings.fuse.memory_mb << 20

    def answers(self, rows: np.ndarray) -> Candidates:
        """Candidates of some queries (positions): the union of each source's best."""
        vectors = self.query_vectors[rows]
        dense, _ = retrieval.top_items(vectors, self.item_vectors, self.count, None, self.allowed, self.memory_bytes)
        words = self.lexical.scores(self.queries.ids[rows], self.count, self.allowed)
        behaviour = self.behaviour[rows]
        pairs = _indicator(dense, words.shape)
        union = ((pairs + (words > 0) + (behaviour > 0)) @ sparse.diags(self.allowed.astype(float))).tocsr()
        union.eliminate_zeros()
        union.sort_indices()
        query, item = np.repeat(np.arange(len(rows)), np.diff(union.indptr)), union.indices
        cosine = np.einsum("re,re->r", vectors[query], self.item_vectors[item])
        scores = [values_at(words, query, item), cosine, values_at(behaviour, query, item)]
        return Candidates(rows, union.indptr.astype(np.int64), item.astype(np.int64), np.stack(scores, axis=1))


def smoothed(clicks: sparse.csr_matrix) -> sparse.csr_matrix:
    """(Q, I) share of a query's events that went to an item, believed the more, the more events there were."""
    total = np.asarray(clicks.sum(axis=1)).ravel()
    return sparse.diags(1.0 / (total + SMOOTHING)) @ clicks


def _indicator(found: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """1 at the items found (Q, N), which are padded with -1."""
    rows, places = np.nonzero(found >= 0)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, found[rows, places])), shape=shape)
