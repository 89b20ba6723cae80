"""The proof: every ranking of the answers on the clicks of days that it has not seen."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from models import metrics
from models.errors import NothingToLearn
from models.vocabulary import Vocabulary
from pipelines.marts import Marts
from pipelines.run import Run
from pipelines.search import typed
from pipelines.search.answers import SOURCES, Engine
from pipelines.search.lexical import Lexical
from pipelines.search.rankings import CONTENDERS, UNTAUGHT, Lesson, Ranking, learn

LOG = logging.getLogger("nightshelf")


def lessons(run: Run, marts: Marts, lexical: Lexical, queries: Vocabulary) -> list[Lesson]:
    """One per window of held-out days in which people clicked, oldest first."""
    told = []
    for part, cut in list(marts.cuts.items())[:-1]:
        until = cut + (run.day - run.holdout_cut)
        wanted = marts.query_clicks(queries, until, after=cut)
        rows = np.flatnonzero(np.diff(wanted.indptr))
        if len(rows):
            lexicon = typed.learn(run, marts, cut).lexicon
            slate = Engine.of(run, marts, part, lexicon, lexical, queries).answers(list(queries.ids[rows]))
            told.append(Lesson(slate, wanted[rows], part))
    return told


def prove(run: Run, told: Sequence[Lesson]) -> tuple[Ranking, list[dict]]:
    """What may rank tonight, and the night's figures.

    Trees learn from the windows before the last one, and are judged on the last. They rank where they are not worse
    beyond chance than a plainer ranking or any source alone; then they learn from all windows.
    """
    if not told:
        return Ranking(without_clicks(run.settings.search.ranker)), []
    judged = judge(run, told)
    chosen = choose(judged, run.settings.search.ranker, run.settings.seed)
    judged["fused"] = judged[chosen]
    records = [_record(f"search/{name}/ndcg_at_10", values, run.settings.seed) for name, values in judged.items()]
    return (learn(told, run) if chosen == "lambdarank" else Ranking(chosen)), records


def judge(run: Run, told: Sequence[Lesson]) -> dict[str, np.ndarray]:
    """NDCG@10 (Q,) of each source and contender on the last window; trees learn from those before it, if they can."""
    *earlier, last = told
    found = last.slate.found
    scores = {name: found.scores[:, s] for s, name in enumerate(SOURCES)}
    scores |= {name: Ranking(name).score(last.slate) for name in CONTENDERS[1:]}
    try:
        scores["lambdarank"] = learn(earlier, run).score(last.slate)
    except NothingToLearn as error:
        LOG.warning("no trees rank the answers: %s", error)
    return {name: metrics.ndcg_at(found.best(score, 10), last.wanted, 10) for name, score in scores.items()}


def choose(judged: Mapping[str, np.ndarray], wished: str, seed: int) -> str:
    """The first contender, from the wished one on, than which neither a plainer one nor a source is better.

    Better means beyond chance: the 95 % bootstrap interval of the paired difference in NDCG@10 lies above zero.
    """
    for place, name in enumerate(CONTENDERS):
        if place >= CONTENDERS.index(wished) and name in judged:
            rivals = [values for other, values in judged.items() if other not in CONTENDERS[: place + 1]]
            if not any(metrics.bootstrap_interval(rival - judged[name], seed)[1] > 0 for rival in rivals):
                return name
    return "mix"


def without_clicks(wished: str) -> str:
    """What ranks where nobody has clicked: the wished one, unless clicks must teach it."""
    return UNTAUGHT if wished == CONTENDERS[0] else wished


def _record(metric: str, values: np.ndarray, seed: int) -> dict:
    mean, low, high = metrics.bootstrap_interval(values, seed)
    return {"metric": metric, "value": mean, "low": low, "high": high}
