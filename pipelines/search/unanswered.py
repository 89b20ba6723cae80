"""Unanswered: queries of which no item has a word, each with the best that can be done about it."""

from collections.abc import Iterator
from itertools import combinations

import pandas as pd

from models.understanding import Understood
from pipelines.search.typed import Typed

COLUMNS = ["query", "count_searches", "last_searched_date", "count_results", "proposal_kind", "proposal"]
MOST_TOKENS = 8  # of a query that is shortened
COUNT_NEAR = 10  # results by meaning whose categories are asked


def unanswered(typed: Typed, results: pd.DataFrame, answered: set[str]) -> pd.DataFrame:
    """Rows of zero_result_queries: the proposal is the right spelling, else fewer words, else a category."""
    told = typed.searches[~typed.searches["query"].isin(answered)].copy()
    told["count_results"] = told["query"].map(results.groupby("query").size()).fillna(0).astype("int64")
    shorter = _by_tokens(typed, answered)
    near = _near_categories(typed, results[results["query"].isin(told["query"])])
    made = [next(_proposals(typed.read[query], shorter, near.get(query)), ("none", None)) for query in told["query"]]
    told["proposal_kind"], told["proposal"] = [kind for kind, _ in made], [proposal for _, proposal in made]
    return told.reindex(columns=COLUMNS)


def _proposals(read: Understood, shorter: dict[frozenset[str], str], near: str | None) -> Iterator[tuple[str, str]]:
    found = frozenset(read.tokens[:MOST_TOKENS])
    if read.corrections and found in shorter:
        yield "correction", shorter[found]
    for length in range(len(found) - 1, 0, -1):
        kept = [shorter[part] for part in map(frozenset, combinations(sorted(found), length)) if part in shorter]
        yield from (("fewer_words", query) for query in kept)
    yield from (("category", boost.value) for boost in read.boosts if boost.field == "category")
    if near:
        yield "category", near


def _by_tokens(typed: Typed, answered: set[str]) -> dict[frozenset[str], str]:
    """The most searched answered query of each set of tokens."""
    told = typed.searches.sort_values(["recent_searches", "query"], ascending=[True, False])
    return {
        frozenset(typed.read[query].tokens): query
        for query in told["query"]
        if query in answered and not typed.read[query].corrections
    }


def _near_categories(typed: Typed, results: pd.DataFrame) -> dict[str, str]:
    """The most frequent category of the first results of each query, if these have any."""
    first = results[results["rank"] <= COUNT_NEAR].merge(typed.marts.catalogue[["item_id", "category"]], on="item_id")
    counted = first.groupby(["query", "category"]).size().rename("n").reset_index()
    best = counted.sort_values(["n", "category"], ascending=[True, False])
    return dict(zip(best["query"], best["category"], strict=True))
