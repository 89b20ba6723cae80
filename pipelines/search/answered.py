"""Answered: the rows of search_results for some queries, and what rules took out of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.reasons import BY_SHOP
from pipelines.search.answers import SOURCES, Engine
from pipelines.search.rankings import Ranking, reasons

COLUMNS = ["query", "rank", "item_id", "score", "lexical_score", "semantic_score", "behaviour_score",
           "popularity_score", "reason", "rule_id", "run_id"]  # fmt: skip


@dataclass(frozen=True)
class Answered:
    """Rows of search_results, by query and by rank, and by rule how many candidates or answers it took away."""

    rows: pd.DataFrame
    removed: Counter[str]

    @classmethod
    def joined(cls, parts: Sequence["Answered"]) -> "Answered":
        """All of them, one after the other."""
        tables = [one.rows for one in parts] or [pd.DataFrame(columns=COLUMNS)]
        return cls(pd.concat(tables, ignore_index=True), sum((one.removed for one in parts), Counter()))


def results(engine: Engine, ranking: Ranking, queries: Sequence[str], run_id: str) -> pd.DataFrame:
    """Rows of search_results for some queries, in their order and by rank."""
    return answered(engine, ranking, queries, run_id).rows


def answered(engine: Engine, ranking: Ranking, queries: Sequence[str], run_id: str) -> Answered:
    """The same with what caps took away."""
    told = Answered.joined([_found(one, ranking, some, run_id) for one, some in engine.parted(queries)])
    place = {query: number for number, query in enumerate(queries)}
    order = np.argsort(told.rows["query"].map(place).to_numpy(dtype=int), kind="stable")
    return Answered(told.rows.iloc[order].reset_index(drop=True), told.removed)


def _found(engine: Engine, ranking: Ranking, queries: Sequence[str], run_id: str) -> Answered:
    """What only a rule brings to an answer has no score of any source, and one that keeps order."""
    slate = engine.answers(queries)
    score = ranking.score(slate)
    told = engine.arranging.listed(slate.queries, slate.found, score, engine.count, engine.sold)
    scores = np.concatenate([slate.found.scores, np.zeros((1, len(SOURCES)))])
    values = [
        np.array(slate.queries, dtype=object)[told.lists],
        told.ranks,
        engine.items.ids[told.items],
        np.where(told.rows < 0, -1.0 - told.ranks, np.append(score, 0.0)[told.rows]),
        *scores[told.rows].T,  # -1, which is no candidate, finds the zeros at the end
        engine.shop.popularity[told.items].astype(float),
        np.append(reasons(slate).astype(object), BY_SHOP)[told.rows],
        engine.arranging.names(told.rules),
    ]
    rows = pd.DataFrame(dict(zip(COLUMNS, [*values, run_id], strict=True)))
    return Answered(rows, Counter(engine.arranging.names(told.capped).tolist()))
