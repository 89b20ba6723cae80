"""The proof: every ranking on the held-out days, whom it serves, and what it would lose without each source."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy import sparse

from models import metrics
from models.errors import NothingToLearn
from pipelines.fuse.rankings import CONTENDERS, LEARNED, PARTS, Ranking, learn, side_by_side
from pipelines.fuse.slate import Lesson
from pipelines.fuse.sources import SOURCES
from pipelines.marts import Marts
from pipelines.run import Run

MEASURED_AT = (10, 20)
LISTED = 10  # rows of each published held-out list
ABLATED_USERS = 1000  # of each window; a ranking is taught anew for every part
HASTE = 3  # and so many times as fast: what it loses without the part is about the same, at a third of the cost
COUNTRIES = 5  # the most frequent ones have figures of their own
PLAIN = {"for_you": "habit", "discover": "popularity"}  # one line of SQL that every learned ranking must hold against
Learn = Callable[[str, Sequence[Lesson]], Ranking]


@dataclass(frozen=True)
class Judged:
    """Lists of one ranking, (B, 20), and what their users wanted."""

    ranked: np.ndarray
    wanted: sparse.csr_matrix

    @property
    def ndcg(self) -> np.ndarray:
        """(B,) NDCG@10."""
        return metrics.ndcg_at(self.ranked, self.wanted, 10)

    def of(self, users: np.ndarray, items: np.ndarray) -> "Judged":
        """Some users, (B,) bool, as if they had wanted some items only, (I,) bool."""
        wanted = sparse.csr_matrix(self.wanted[users].multiply(items[None, :]))
        wanted.eliminate_zeros()
        return Judged(self.ranked[users], wanted)


def prove(
    run: Run, marts: Marts, told: Sequence[Lesson]
) -> tuple[dict[str, str], list[dict], pd.DataFrame, pd.DataFrame]:
    """The contender that may rank each placement, the night's figures, the lists that they are of, and the candidates
    from which the list builder would have made them.

    Contenders learn from the windows before the last one, and are judged on the last. Where there are none, nobody is
    judged by what was learnt of them either: each half of the users is ranked by what the other half teaches.
    """
    *earlier, last = told
    learns = {name: partial(learn, name, run=run) for name in CONTENDERS}
    scores = side_by_side(
        run, lambda place: {name: foretold(one, place, earlier, last) for name, one in learns.items()}
    )
    chosen, shown, records, deep = {}, {}, [], []
    for placement in LEARNED:
        placed = last.placed(placement)
        judged = {name: _judged(placed, placed.slate.found.scores[:, s]) for s, name in enumerate(SOURCES)}
        judged |= {name: _judged(placed, score) for name, score in scores[placement].items() if score is not None}
        chosen[placement] = choose(judged, placement, run.settings.fuse.ranker, run.settings.seed)
        judged["fused"] = judged[chosen[placement]]
        shown[placement] = judged["fused"].ranked
        score = scores[placement][chosen[placement]]
        assert score is not None  # what is chosen was judged
        deep.append(candidates(placed, placement, score, run.settings.considered(placement)))
        records += figures(placement, judged, slices(run, marts, last), run.settings.seed)
    if run.settings.fuse.ablation:
        losses = side_by_side(run, lambda placement: ablation(run, told, placement, chosen[placement]))
        records += [record for one in losses.values() for record in one]
    return chosen, records, lists(run, marts, last.slate.found.owners, shown), pd.concat(deep, ignore_index=True)


def foretold(learn: Learn, placement: str, earlier: Sequence[Lesson], last: Lesson) -> np.ndarray | None:
    """Scores of the last lesson's placed rows by what the earlier ones teach; where that is nothing, by what the other
    half of its users teaches; None where that is nothing, too."""
    with suppress(NothingToLearn):
        return learn(placement, earlier).score(last.placed(placement).slate)
    with suppress(NothingToLearn):
        return _crossed(learn, placement, last)
    return None


def _crossed(learn: Learn, placement: str, last: Lesson) -> np.ndarray:
    owners, placed = last.slate.found.owners, last.placed(placement)
    halves = [np.flatnonzero(owners % 2 == half) for half in (0, 1)]
    score = np.zeros(len(placed.labels))
    for half, other in (halves, halves[::-1]):
        score[np.isin(placed.slate.found.rows, half)] = learn(placement, [last.of(other)]).score(placed.of(half).slate)
    return score


def choose(judged: Mapping[str, Judged], placement: str, best: str, seed: int) -> str:
    """The first contender, from the one that the shop wishes on, that is not worse than any plainer ranking.

    Worse means beyond chance: the 95 % bootstrap interval of the paired difference in NDCG@10 lies below zero.
    """
    for place, name in enumerate(CONTENDERS):
        rivals = [*CONTENDERS[place + 1 :], PLAIN[placement]]
        if place >= CONTENDERS.index(best) and name in judged:
            lost = [lead(judged[name], judged[rival], seed)["high"] < 0 for rival in rivals if rival in judged]
            if not any(lost):
                return name
    return "rrf"


def lead(ours: Judged, theirs: Judged, seed: int) -> dict[str, float]:
    """Mean paired difference in NDCG@10 over users, with its interval."""
    mean, low, high = metrics.bootstrap_interval(ours.ndcg - theirs.ndcg, seed)
    return {"value": mean, "low": low, "high": high}


def slices(run: Run, marts: Marts, last: Lesson) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Users (B,) bool and items (I,) bool of each part of the shop that is looked at on its own."""
    cut, owners = run.holdout_cut, last.slate.found.owners
    users = marts.frame("select country, first_seen_date from users order by user_id").iloc[owners]
    age = (np.datetime64(cut) - users["first_seen_date"].to_numpy().astype("datetime64[D]")).astype(int)
    breadth = np.diff(marts.bought(cut).indptr)[owners]
    light, heavy = np.quantile(breadth, [1 / 3, 2 / 3]) if len(breadth) else (0, 0)
    everybody, everything = np.ones(len(owners), dtype=bool), np.ones(last.wanted.shape[1], dtype=bool)
    found = {
        "new_users": (age < run.settings.holdout.days, everything),
        "light_users": (breadth <= light, everything),
        "heavy_users": (breadth > heavy, everything),
        "new_items": (everybody, marts.ages_days(cut) < run.settings.holdout.days),
    }
    frequent = users["country"].value_counts().index[:COUNTRIES]
    return found | {f"country_{name}": ((users["country"] == name).to_numpy(), everything) for name in frequent}


def lists(run: Run, marts: Marts, users: np.ndarray, shown: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """held_out_lists: what users (B,) would have been shown at the cut, by placement (B, K) items padded with -1."""
    tables = []
    for placement, ranked in shown.items():
        row, place = np.nonzero(ranked[:, :LISTED] >= 0)
        columns = {"user_id": marts.users.ids[users[row]], "rank": place + 1}
        columns["item_id"] = marts.items.ids[ranked[row, place]]
        tables.append(pd.DataFrame({"placement": placement, **columns}))
    return pd.concat(tables, ignore_index=True).assign(trained_on=run.holdout_cut, run_id=run.run_id)


def candidates(placed: Lesson, placement: str, score: np.ndarray, count: int) -> pd.DataFrame:
    """placement, user, item and score of the best `count` rows of each user of a lesson, best first."""
    found = placed.slate.found
    ranks = found.ranks(score)
    rows = np.flatnonzero(ranks <= count)
    rows = rows[np.lexsort((ranks[rows], found.rows[rows]))]
    columns = {"user": found.row_owners[rows].astype(np.int32), "item": found.items[rows], "score": score[rows]}
    return pd.DataFrame({"placement": placement, **columns})


def figures(
    placement: str, judged: Mapping[str, Judged], parts: Mapping[str, tuple[np.ndarray, np.ndarray]], seed: int
) -> list[dict]:
    """`<placement>/<ranking>/<measure>` for all, and for each part `…/ndcg_at_10/<part>` of what is published."""
    records = []
    for name, one in judged.items():
        for at in MEASURED_AT:
            for measure, function in (("recall", metrics.recall_at), ("ndcg", metrics.ndcg_at)):
                values = function(one.ranked, one.wanted, at)
                records += _record(f"{placement}/{name}/{measure}_at_{at}", values, seed)
        shown = metrics.coverage(one.ranked[:, :10], one.wanted.shape[1])
        records.append({"metric": f"{placement}/{name}/coverage_at_10", "value": shown, "low": None, "high": None})
    for name in dict.fromkeys(["fused", "rrf", PLAIN[placement]]):
        for part, (users, items) in parts.items():
            of_part = judged[name].of(users, items)
            records += _record(f"{placement}/{name}/ndcg_at_10/{part}", of_part.ndcg, seed)
    return records


def ablation(run: Run, told: Sequence[Lesson], placement: str, name: str) -> list[dict]:
    """`<placement>/loss_without_<part>/ndcg_at_10`: what the chosen ranking loses when it must do without a source.

    Every ranking, the whole one too, is taught in haste and judged on the same sample of users.
    """
    *earlier, last = (lesson.of(_every(lesson, ABLATED_USERS)).placed(placement) for lesson in told)
    learns, proposals, records = partial(learn, name, run=run, haste=HASTE), run.settings.fuse.candidates, []
    whole = foretold(learns, placement, earlier, last)
    for part in PARTS:
        less, blind = [one.without(part, proposals) for one in earlier], last.without(part, proposals)
        without = foretold(learns, placement, less, blind)
        if whole is not None and without is not None:
            loss = _judged(last, whole).ndcg - _judged(blind, without).ndcg
            records += _record(f"{placement}/loss_without_{part}/ndcg_at_10", loss, run.settings.seed)
    return records


def _every(lesson: Lesson, most: int) -> np.ndarray:
    """Places of every n-th user, so that there are at most so many."""
    count = len(lesson.slate.found.owners)
    return np.arange(0, count, -(-count // most) or 1)


def _judged(told: Lesson, score: np.ndarray) -> Judged:
    return Judged(told.slate.found.best(score, max(MEASURED_AT)), told.wanted)


def _record(metric: str, values: np.ndarray, seed: int) -> list[dict]:
    """A figure with its interval; none where nobody can be measured."""
    mean, low, high = metrics.bootstrap_interval(values, seed)
    return [] if np.isnan(mean) else [{"metric": metric, "value": mean, "low": low, "high": high}]
