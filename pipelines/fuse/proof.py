"""The proof: every ranking on the held-out days, whom it serves, and what it would lose without each source."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from models import metrics
from pipelines.fuse.ablation import ABLATED_USERS, ablation
from pipelines.fuse.judging import Bench, Judged, record
from pipelines.fuse.lessons import WEIGHED_USERS, Lesson, Notes, Window
from pipelines.fuse.rankings import CONTENDERS, LEARNED, Score, crossed, learn, side_by_side, taught
from pipelines.marts import Marts
from pipelines.run import Run

MEASURED_AT = (10, 20)
LISTED = 10  # rows of each published held-out list
COUNTRIES = 5  # the most frequent ones have figures of their own
PLAIN = {"for_you": "habit", "discover": "popularity"}  # one line of SQL that every learned ranking must hold against


def prove(
    run: Run, marts: Marts, windows: Sequence[Window]
) -> tuple[dict[str, str], list[dict], pd.DataFrame, pd.DataFrame, list[Notes]]:
    """The contender that may rank each placement, the night's figures, the lists that they are of, the candidates
    from which the list builder would have made them, and notes of all windows.

    Contenders learn from the windows before the last one, and are judged on the last. Where there are none, nobody is
    judged by what was learnt of them either: each half of the users is ranked by what the other half teaches. No window
    is ever there as a whole: its lessons pass block by block.
    """
    *earlier, last = windows
    told = [_read(run, window) for window in earlier]
    scores, notes, lessons = _contenders(run, told, last)
    benches = _judged(run, lessons, scores)
    told, chosen, records = [*told, notes], {}, []
    for placement, bench in benches.items():
        judged = bench.judged()
        chosen[placement] = choose(judged, placement, run.settings.fuse.ranker, run.settings.seed)
        judged["fused"] = judged[chosen[placement]]
        records += figures(placement, judged, slices(run, marts, last), run.settings.seed)
    if run.settings.fuse.ablation:
        samples = [one.sampled for one in told]
        losses = side_by_side(run, lambda placement: ablation(run, samples, placement, chosen[placement]))
        records += [record for one in losses.values() for record in one]
    shown = {placement: bench.judged()[chosen[placement]].ranked for placement, bench in benches.items()}
    deep = pd.concat([bench.candidates(chosen[one]) for one, bench in benches.items()], ignore_index=True)
    return chosen, records, lists(run, marts, last.users, shown), deep, told


def _notes(run: Run, window: Window) -> Notes:
    sampling = window.every(ABLATED_USERS) if run.settings.fuse.ablation else None
    return Notes(run.settings, weighing=window.every(WEIGHED_USERS), sampling=sampling)


def _read(run: Run, window: Window) -> Notes:
    return _notes(run, window).read(window.lessons())


def _contenders(
    run: Run, told: Sequence[Notes], last: Window
) -> tuple[dict[str, dict[str, Score]], Notes, Iterable[Lesson]]:
    """By placement and name what scores the last window's slates; notes of it, and its lessons. These fill the notes
    as they pass, or once before where nothing else teaches."""
    learns, notes = {name: partial(learn, name, run=run) for name in CONTENDERS}, _notes(run, last)
    found = side_by_side(run, lambda place: {name: taught(one, place, told) for name, one in learns.items()})
    if all(score for scores in found.values() for score in scores.values()):
        lessons = notes.taken(last.lessons())
    else:
        notes, lessons = _read(run, last), last.lessons()
        found = side_by_side(
            run, lambda place: {name: one or crossed(learns[name], place, notes) for name, one in found[place].items()}
        )
    held = {place: {name: one for name, one in scores.items() if one} for place, scores in found.items()}
    return held, notes, lessons


def _judged(run: Run, lessons: Iterable[Lesson], scores: Mapping[str, Mapping[str, Score]]) -> dict[str, Bench]:
    benches = {one: Bench(one, run.settings.considered(one)) for one in LEARNED}
    for lesson in lessons:
        side_by_side(run, partial(_take, benches, lesson, scores))
    return benches


def _take(
    benches: Mapping[str, Bench], lesson: Lesson, scores: Mapping[str, Mapping[str, Score]], placement: str
) -> None:
    benches[placement].take(lesson, scores[placement])


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


def slices(run: Run, marts: Marts, last: Window) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Users (B,) bool and items (I,) bool of each part of the shop that is looked at on its own."""
    cut, owners = run.holdout_cut, last.users
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


def figures(
    placement: str, judged: Mapping[str, Judged], parts: Mapping[str, tuple[np.ndarray, np.ndarray]], seed: int
) -> list[dict]:
    """`<placement>/<ranking>/<measure>` for all, and for each part `…/ndcg_at_10/<part>` of what is published."""
    records = []
    for name, one in judged.items():
        for at in MEASURED_AT:
            for measure, function in (("recall", metrics.recall_at), ("ndcg", metrics.ndcg_at)):
                values = function(one.ranked, one.wanted, at)
                records += record(f"{placement}/{name}/{measure}_at_{at}", values, seed)
        shown = metrics.coverage(one.ranked[:, :10], one.wanted.shape[1])
        records.append({"metric": f"{placement}/{name}/coverage_at_10", "value": shown, "low": None, "high": None})
    for name in dict.fromkeys(["fused", "rrf", PLAIN[placement]]):
        for part, (users, items) in parts.items():
            of_part = judged[name].of(users, items)
            records += record(f"{placement}/{name}/ndcg_at_10/{part}", of_part.ndcg, seed)
    return records
