"""Search: answer the queries that people typed, from the items' words, the profile space and what people did next."""

import logging
from functools import partial
from pathlib import Path

import bm25s
import numpy as np
import pandas as pd
import Stemmer
from scipy import sparse

from models import encoder, fusion, metrics, retrieval
from models.candidates import Candidates
from models.errors import NothingToLearn
from models.fusion import LinearBlend
from models.item_text import TextTokenizer
from models.vocabulary import Vocabulary
from pipelines.marts import Marts, values_at
from pipelines.run import Run, stage, write_json

SOURCES = ("lexical", "semantic", "behaviour")
QUERIES_PER_BLOCK = 1024
LOG = logging.getLogger("nightshelf")
TITLE_REPEATS = 3  # a word in the title says more about what an item is than one in the description
SMOOTHING = 5.0  # events after a query at which half of what they say is believed
COLUMNS = ["query", "rank", "item_id", "score", "lexical_score", "semantic_score", "behaviour_score", "run_id"]


class Index:
    """Everything that answers a query, as it stood at the end of one of the night's two trainings."""

    def __init__(self, run: Run, marts: Marts, part: str, queries: Vocabulary, lexical: "Lexical"):
        folder = run.of("train_profile", part)
        tokenizer = TextTokenizer.load(run.of("train_profile"))
        tokens = tokenizer.encode_queries(list(queries.ids), run.settings.profile.max_tokens)
        self.queries, self.lexical = queries, lexical
        self.item_vectors = np.load(folder / "item_vectors.npy")
        self.query_vectors = encoder.encode(encoder.load(folder), tokens, QUERIES_PER_BLOCK)
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


@stage
def run(run: Run, folder: Path) -> None:
    """Write search_results and the figures on held-out clicks."""
    marts = Marts(run)
    queries = Vocabulary(marts.queries()["query"])
    lexical = Lexical(marts)
    blend, records = learn(run, marts, queries, lexical)
    index = Index(run, marts, "final", queries, lexical)
    blocks = [
        np.arange(start, min(start + QUERIES_PER_BLOCK, len(queries)))
        for start in range(0, len(queries), QUERIES_PER_BLOCK)
    ]
    tables = [_published(run, marts, index, rows, blend) for rows in blocks]
    results = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    results.to_parquet(folder / "search_results.parquet", index=False)
    write_json(folder / "metrics.json", records)


def item_documents(catalogue: pd.DataFrame) -> list[str]:
    """All that is written about each item, as one text."""
    parts = [catalogue["item_id"], *[catalogue["title"]] * TITLE_REPEATS]
    parts += [catalogue[name] for name in ("brand", "category", "description")]
    return [" ".join(str(value) for value in row if isinstance(value, str)) for row in zip(*parts, strict=True)]


def smoothed(clicks: sparse.csr_matrix) -> sparse.csr_matrix:
    """(Q, I) share of a query's events that went to an item, believed the more, the more events there were."""
    total = np.asarray(clicks.sum(axis=1)).ravel()
    return sparse.diags(1.0 / (total + SMOOTHING)) @ clicks


def learn(run: Run, marts: Marts, queries: Vocabulary, lexical: Lexical) -> tuple[LinearBlend | None, list[dict]]:
    """Weights from the clicks of the held-out days, and the night's figures; None, hence RRF, when nobody clicked."""
    wanted = marts.query_clicks(queries, run.day, after=run.holdout_cut)
    rows = np.flatnonzero(np.diff(wanted.indptr))
    if not len(rows):
        return None, []
    answers = Index(run, marts, "holdout", queries, lexical).answers(rows)
    labels = values_at(wanted[rows], answers.rows, answers.items) > 0
    features, halves = answers.scaled, np.arange(len(rows)) % 2
    scores = {name: answers.scores[:, s] for s, name in enumerate(SOURCES)}
    scores["rrf"] = answers.reciprocal_ranks.sum(axis=1)
    blend = LinearBlend(SOURCES)
    try:
        blend.fit(features, answers.offsets, labels)
        scores["blend"] = fusion.cross_fitted_scores(
            partial(LinearBlend, SOURCES), features, answers.offsets, labels, halves
        )
    except NothingToLearn as error:
        LOG.warning("reciprocal-rank fusion answers the queries: %s", error)
    figures = {name: measure(answers, value, wanted[rows], run.settings.seed) for name, value in scores.items()}
    is_better = "blend" in figures and figures["blend"]["value"] >= figures["rrf"]["value"]
    figures["fused"] = figures["blend" if is_better else "rrf"]
    records = [{"metric": f"search/{name}/ndcg_at_10", **figure} for name, figure in figures.items()]
    return (blend if is_better else None), records


def measure(answers: Candidates, score: np.ndarray, wanted: sparse.csr_matrix, seed: int) -> dict[str, float]:
    """NDCG@10 on the items that people went to from a query, with its bootstrap interval over queries."""
    mean, low, high = metrics.bootstrap_interval(metrics.ndcg_at(answers.best(score, 10), wanted, 10), seed)
    return {"value": mean, "low": low, "high": high}


def _published(run: Run, marts: Marts, index: Index, rows: np.ndarray, blend: LinearBlend | None) -> pd.DataFrame:
    answers = index.answers(rows)
    score = blend.score(answers.scaled) if blend else answers.reciprocal_ranks.sum(axis=1)
    ranks = answers.ranks(score)
    kept = np.flatnonzero(ranks <= run.settings.search.results)
    kept = kept[np.lexsort((ranks[kept], answers.rows[kept]))]
    values = [
        index.queries.ids[answers.row_owners[kept]],
        ranks[kept],
        marts.items.ids[answers.items[kept]],
        score[kept],
    ]
    return pd.DataFrame(dict(zip(COLUMNS, [*values, *answers.scores[kept].T, run.run_id], strict=True)))


def _largest(score: np.ndarray, count: int) -> np.ndarray:
    """Positions of the largest values, ties at the border by position."""
    border = np.partition(score, len(score) - count)[len(score) - count]
    above, level = np.flatnonzero(score > border), np.flatnonzero(score == border)
    return np.concatenate([above, level[: count - len(above)]])


def _indicator(found: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """1 at the items found (Q, N), which are padded with -1."""
    rows, places = np.nonzero(found >= 0)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, found[rows, places])), shape=shape)
