"""Suggest: what else to type, the right spelling, how a query may go on and what is near it, with the evidence."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy import sparse

from models.synonyms import SMOOTHING, directions
from pipelines.search.typed import Typed

COLUMNS = ["query", "kind", "rank", "suggestion", "score", "count_searches", "count_visits", "count_items"]
PREFIXES = range(2, 13)  # letters after which a query may be completed
ROWS_PER_BLOCK = 1024


def suggestions(typed: Typed, answered: set[str], count: int) -> pd.DataFrame:
    """Rows of query_suggestions: only rightly spelt queries that are `answered`, at most `count` of each kind."""
    is_right = [_is_right(typed, query) and query in answered for query in typed.searches["query"]]
    right = typed.searches[np.array(is_right, dtype=bool)]  # an empty list would be one of columns
    parts = [corrections(typed, right), completions(right, count), related(typed, right, count)]
    return pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True).reindex(columns=COLUMNS)


def corrections(typed: Typed, right: pd.DataFrame) -> pd.DataFrame:
    """The one query that a misspelt one stands for."""
    rows = []
    meant = {typed.read[query].query: (query, count) for query, count in _searched(right)}
    for query, read in typed.read.items():
        if read.corrections and read.meant in meant:
            suggestion, count = meant[read.meant]
            score = min(one.confidence for one in read.corrections)
            rows.append([query, "correction", 1, suggestion, score, count, 0, 0])
    return pd.DataFrame(rows, columns=COLUMNS)


def completions(right: pd.DataFrame, count: int) -> pd.DataFrame:
    """For each beginning, the queries that were most searched lately; the score is their share of those searches."""
    told = right.sort_values(["recent_searches", "query"], ascending=[False, True])
    parts = [
        told.assign(suggestion=told["query"], query=told["query"].str[:length])[told["query"].str.len() > length]
        for length in PREFIXES
    ]
    rows = pd.concat(parts, ignore_index=True)
    rows = rows[rows["query"].str.strip() == rows["query"]]
    groups = rows.groupby("query", sort=False)
    rows = rows.assign(
        kind="completion",
        rank=groups.cumcount() + 1,
        score=rows["recent_searches"] / groups["recent_searches"].transform("sum"),
        count_visits=0,
        count_items=0,
    )
    return rows.loc[rows["rank"] <= count, COLUMNS]


def related(typed: Typed, right: pd.DataFrame, count: int) -> pd.DataFrame:
    """What leads to the same items, or follows in a visit; the score is likeness and visits, smoothed."""
    followed = {
        (typed.vocabulary.positions([query])[0], typed.vocabulary.positions([after])[0]): visits
        for (query, after), (visits, _) in typed.marts.reformulations(typed.until).items()
    }
    visits = _matrix(followed, len(typed.searches))
    wanted = np.isin(typed.searches["query"].to_numpy(), right["query"].to_numpy())
    rows = [row for block in _near(typed, visits, wanted) for row in _first(typed, *block, count)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _near(
    typed: Typed, visits: sparse.csr_matrix, wanted: np.ndarray
) -> Iterator[tuple[int, sparse.csr_matrix, sparse.csr_matrix, sparse.csr_matrix]]:
    """Block by block: its first row, then scores, visits and shared items (B, Q) of what may be suggested."""
    vectors, allowed = directions(typed.clicks), sparse.diags(wanted.astype(float))
    met = (vectors > 0).astype(float)
    for start in range(0, len(typed.searches), ROWS_PER_BLOCK):
        block = slice(start, start + ROWS_PER_BLOCK)
        shared, followed = met[block] @ met.T @ allowed, visits[block] @ allowed
        likeness = (vectors[block] @ vectors.T @ allowed).multiply(shared)
        evidence = (shared + followed).tocsr()
        total = (likeness + followed).tocsr()
        evidence.data = 1.0 / (evidence.data + SMOOTHING)
        yield start, total.multiply(evidence).tocsr(), followed.tocsr(), shared.tocsr()


def _first(
    typed: Typed,
    start: int,
    scores: sparse.csr_matrix,
    visits: sparse.csr_matrix,
    shared: sparse.csr_matrix,
    count: int,
) -> Iterator[list[object]]:
    """The best of each row that are not the query itself, nor the same one written otherwise."""
    names, searched = typed.searches["query"].to_numpy(), typed.searches["count_searches"].to_numpy()
    for row in range(scores.shape[0]):
        query, found = names[start + row], scores[row]
        order = found.indices[np.lexsort((found.indices, -found.data))]
        others = [o for o in order if typed.read[names[o]].meant != typed.read[query].meant and found[0, o] > 0][:count]
        for rank, other in enumerate(others, start=1):
            evidence = int(visits[row, other]), int(shared[row, other])
            yield [query, "related", rank, names[other], float(found[0, other]), int(searched[other]), *evidence]


def _matrix(pairs: dict[tuple[int, int], int], size: int) -> sparse.csr_matrix:
    known = [(a, b, value) for (a, b), value in pairs.items() if a >= 0 and b >= 0]
    rows, columns, values = zip(*known, strict=True) if known else ((), (), ())
    return sparse.csr_matrix((np.array(values, float), (rows, columns)), shape=(size, size))


def _is_right(typed: Typed, query: str) -> bool:
    """Whether it is a query worth typing: rightly spelt, with words."""
    read = typed.read[query]
    return bool(read.tokens) and not read.corrections


def _searched(right: pd.DataFrame) -> Iterator[tuple[str, int]]:
    """The less searched first, so that of two spellings of one query the more usual one stays."""
    told = right.sort_values(["count_searches", "query"], ascending=[True, False])
    yield from zip(told["query"], told["count_searches"].tolist(), strict=True)
