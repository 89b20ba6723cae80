"""Beside: what a search team gets beside the results: queries, synonyms, suggestions, facets, what has no answer."""

from pathlib import Path

import pandas as pd

from pipelines.run import Run
from pipelines.search.facets import facets
from pipelines.search.suggest import suggestions
from pipelines.search.typed import Typed, queries
from pipelines.search.unanswered import unanswered


def write(run: Run, typed: Typed, results: pd.DataFrame, folder: Path) -> None:
    """Write the tables; `results` are the rows of search_results."""
    for name, rows in tables(run, typed, results).items():
        rows.assign(run_id=run.run_id).to_parquet(folder / f"{name}.parquet", index=False)


def tables(run: Run, typed: Typed, results: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every table by name. A query is answered when an item has its words, or people went to one from it."""
    answered = set(results.loc[(results["lexical_score"] > 0) | (results["behaviour_score"] > 0), "query"])
    told = queries(typed, results.groupby("query").size(), run.settings.search.head_share)
    head = told.loc[told["is_head"], "query"]
    return {
        "queries": told,
        "query_synonyms": typed.synonyms,
        "query_suggestions": suggestions(typed, answered, run.settings.search.suggestions),
        "query_facets": facets(results, typed.marts.catalogue, head),
        "zero_result_queries": unanswered(typed, results, answered),
    }
