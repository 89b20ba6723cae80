"""Personal proof: whether a user's own order of the answers beats the order of all, on what users did on later days."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from models import candidates, metrics
from models.candidates import Candidates
from models.errors import NothingToLearn
from models.fusion import LinearBlend
from models.vocabulary import Vocabulary
from pipelines.marts import Marts, values_at
from pipelines.run import Run
from pipelines.search.leanings import PARTS, Leanings, Past
from pipelines.search.personal import Answers, Asked, known, scores
from pipelines.search.rankings import Lesson, first, taught

LOG = logging.getLogger("nightshelf")
MOST_PAIRS = 20_000  # of a window that teach and measure
MEASURED_AT = 10
NEUTRAL = np.zeros(len(PARTS))  # weights under which every user has the order of search_results


@dataclass(frozen=True)
class PersonalLesson:
    """Answers of pairs: scores (R, 1 + PARTS) of `found` are the answer's own and what speaks for it to the user;
    `wanted` (P, I) what the user then did after the query, `exact` (R,) bool as in the answers."""

    found: Candidates
    exact: np.ndarray
    wanted: sparse.csr_matrix

    def ranked(self, weights: np.ndarray) -> np.ndarray:
        """(P, 10) the first items under the weights of PARTS, padded with -1."""
        return self.found.best(first(scores(self.found.scores, weights), self.exact), 10)


def lessons(run: Run, marts: Marts, told: Sequence[Lesson], chosen: str, written: np.ndarray) -> list[PersonalLesson]:
    """One per window in which known users clicked, oldest first; each window's answers are ranked by what the windows
    before it taught; `written` (I, E) are the items' styles."""
    made = []
    for place, lesson in enumerate(told):
        answers = Answers.ranked(lesson.slate, taught(chosen, told[:place], run), run.settings.search.results)
        asked, wanted = _clicked(run, marts, lesson)
        if len(asked.users):
            leanings, past = Leanings.of(run, marts, lesson.part, written), Past.of(marts, lesson.part)
            found, rows = known(answers, asked, leanings, past)
            made.append(PersonalLesson(found, answers.exact[rows], wanted))
    return made


def _clicked(run: Run, marts: Marts, lesson: Lesson) -> tuple[Asked, sparse.csr_matrix]:
    """Pairs of people and queries of a window from which they went to items (P, I), MOST_PAIRS at most."""
    cut = marts.cuts[lesson.part]
    until = cut + (run.day - run.holdout_cut)
    acts = marts.user_query_clicks(Vocabulary(lesson.slate.queries), until, after=cut)
    acts = acts[marts.people(until)[acts["user"]]]
    pairs, place = np.unique(acts[["user", "query"]].to_numpy(), axis=0, return_inverse=True)
    shape = len(pairs), len(marts.items)
    wanted = sparse.csr_matrix((np.ones(len(acts)), (place, acts["item"])), shape=shape)
    drawn = np.sort(np.random.default_rng(run.settings.seed).permutation(len(pairs))[:MOST_PAIRS])
    return Asked(pairs[drawn, 0], pairs[drawn, 1]), wanted[drawn]


def prove(run: Run, told: Sequence[PersonalLesson]) -> tuple[np.ndarray, list[dict]]:
    """The weights of PARTS, and the night's figures over users.

    They learn from the windows before the last one and are judged on the last. Where the order of search_results is as
    good within chance they are NEUTRAL; else they learn from all windows.
    """
    if len(told) < 2:
        return NEUTRAL, []
    *earlier, last = told
    figures = {
        name: _by_user(last, weights) for name, weights in (("impersonal", NEUTRAL), ("personal", learn(earlier)))
    }
    figures["personal_gain"] = figures["personal"] - figures["impersonal"]
    intervals = {name: metrics.bootstrap_interval(values, run.settings.seed) for name, values in figures.items()}
    weights = learn(told) if intervals["personal_gain"][1] > 0 else NEUTRAL
    records = [
        {"metric": f"search/{name}/ndcg_at_10", "value": mean, "low": low, "high": high}
        for name, (mean, low, high) in intervals.items()
    ]
    named = zip(PARTS, weights, strict=True)
    return weights, records + [
        {"metric": f"search/personal/weight_of_{name}", "value": float(weight), "low": None, "high": None}
        for name, weight in named
    ]


def learn(told: Sequence[PersonalLesson]) -> np.ndarray:
    """The weights (PARTS,) under which what users went to was their likeliest choice, in units of the answer's own;
    NEUTRAL where nothing teaches, or the answers' order says nothing."""
    found = candidates.joined([one.found for one in told], 1 + len(PARTS))
    labels = np.concatenate([values_at(one.wanted, one.found.rows, one.found.items) > 0 for one in told])
    try:
        answer, *parts = LinearBlend(("answer", *PARTS)).fit(found.scores, found.offsets, labels).weights
    except NothingToLearn as error:
        LOG.warning("nothing teaches whose answers are whose: %s", error)
        return NEUTRAL
    return np.array(parts) / answer if answer > 0 else NEUTRAL


def _by_user(lesson: PersonalLesson, weights: np.ndarray) -> np.ndarray:
    """(U,) mean NDCG@10 of each user's queries: they are not independent of each other."""
    values = metrics.ndcg_at(lesson.ranked(weights), lesson.wanted, 10)
    users, place = np.unique(lesson.found.owners, return_inverse=True)
    return np.bincount(place, weights=values, minlength=len(users)) / np.bincount(place, minlength=len(users))
