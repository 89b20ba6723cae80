"""The proof: every ranking of the answers on the clicks of days that it has not seen."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from models import metrics
from models.errors import NothingToLearn
from models.vocabulary import Vocabulary
from pipelines.marts import Marts
from pipelines.run import Run
from pipelines.search.answers import SOURCES, Engine
from pipelines.search.lexical import Lexical
from pipelines.search.rankings import Lesson, Ranking, learn, reciprocal_ranks

LOG = logging.getLogger("nightshelf")


def lessons(run: Run, marts: Marts, lexical: Lexical, queries: Vocabulary) -> list[Lesson]:
    """One per window of held-out days in which people clicked, oldest first."""
    told = []
    for part, cut in list(marts.cuts.items())[:-1]:
        until = cut + (run.day - run.holdout_cut)
        wanted = marts.query_clicks(queries, until, after=cut)
        rows = np.flatnonzero(np.diff(wanted.indptr))
        if len(rows):
            slate = Engine.of(run, marts, part, lexical, queries).answers(list(queries.ids[rows]))
            told.append(Lesson(slate, wanted[rows]))
    return told


def prove(run: Run, told: Sequence[Lesson]) -> tuple[Ranking, list[dict]]:
    """What may rank tonight, and the night's figures.

    Trees learn from the windows before the last one, and are judged on the last. They rank where they are not worse
    beyond chance than reciprocal ranks or any source alone; then they learn from all windows.
    """
    if not told:
        return Ranking(), []
    *earlier, last = told
    found = last.slate.found
    scores = {name: found.scores[:, s] for s, name in enumerate(SOURCES)} | {"rrf": reciprocal_ranks(last.slate)}
    try:
        scores["lambdarank"] = learn(earlier, run).score(last.slate)
    except NothingToLearn as error:
        LOG.warning("reciprocal-rank fusion answers the queries: %s", error)
    judged = {name: metrics.ndcg_at(found.best(score, 10), last.wanted, 10) for name, score in scores.items()}
    chosen = choose(judged, run.settings.search.ranker, run.settings.seed)
    judged["fused"] = judged[chosen]
    records = [_record(f"search/{name}/ndcg_at_10", values, run.settings.seed) for name, values in judged.items()]
    return (learn(told, run) if chosen == "lambdarank" else Ranking()), records


def choose(judged: Mapping[str, np.ndarray], wished: str, seed: int) -> str:
    """`lambdarank` where the shop wishes it and nothing is better, by the 95 % interval of the paired difference."""
    if wished != "lambdarank" or wished not in judged:
        return "rrf"
    rivals = [values for name, values in judged.items() if name != wished]
    worse = [metrics.bootstrap_interval(judged[wished] - rival, seed)[2] < 0 for rival in rivals]
    return "rrf" if any(worse) else wished


def _record(metric: str, values: np.ndarray, seed: int) -> dict:
    mean, low, high = metrics.bootstrap_interval(values, seed)
    return {"metric": metric, "value": mean, "low": low, "high": high}
