"""The proof: every ranking of the answers on clicks of days that it has not seen."""

import logging
from functools import partial

import numpy as np
from scipy import sparse

from models import fusion, metrics
from models.candidates import Candidates
from models.errors import NothingToLearn
from models.fusion import LinearBlend
from models.vocabulary import Vocabulary
from pipelines.marts import Marts, values_at
from pipelines.run import Run
from pipelines.search.answers import SOURCES, Index
from pipelines.search.lexical import Lexical

LOG = logging.getLogger("nightshelf")


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
