"""Worth: what the list builder, and each thing that it heeds, costs and gains on held-out days that the lists know
nothing of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from models import metrics
from pipelines.beside.pairs import centred
from pipelines.fuse.rankings import LEARNED
from pipelines.lists.builder import DRAWN, FRESH, STANDS
from pipelines.marts import Marts
from pipelines.rules import Rule
from pipelines.run import Run
from pipelines.shelve.effects import PUT_BY
from pipelines.shelve.placing import Placing, Ranked, placings, shares

AT = 10  # rows of a list that are measured
NDCG = "ndcg_at_10"
UNTOLD = ("gini_at_10", "top_share_at_10", "likeness_at_10")  # what no stage before measures of the ranking
Measured = dict[str, np.ndarray | float]  # by measure, of each user or of all


class HeldOut(NamedTuple):
    """Lists of who bought in the held-out days, (B, AT) items padded with -1: by the ranking alone, and built."""

    placement: str
    users: np.ndarray
    fused: np.ndarray
    shelf: np.ndarray


@dataclass(frozen=True)
class Then:
    """A placement as of the cut, with the candidates of its users."""

    placing: Placing
    users: np.ndarray
    ranked: Ranked

    def built(self, placing: Placing) -> np.ndarray:
        """(B, AT) items of the lists under other terms, padded with -1."""
        usable = placing.barred(self.ranked.users, self.ranked.items) == STANDS
        blocks = placing.shelves(replace(self.ranked, usable=usable), self.users)
        return np.concatenate([block.items for block in blocks])

    @property
    def fused(self) -> np.ndarray:
        """(B, AT) items by the ranking alone, padded with -1."""
        return self.ranked.pool(self.users, AT)[0].items


def lists(run: Run, marts: Marts, rules: Sequence[Rule] = ()) -> Iterator[HeldOut]:
    """What people would have been shown at the cut under some rules."""
    for then in _at_the_cut(run, marts, rules):
        yield HeldOut(then.placing.placement, then.users, then.fused, then.built(then.placing))


def _at_the_cut(run: Run, marts: Marts, rules: Sequence[Rule]) -> Iterator[Then]:
    """The placements that were learnt, without what cannot be known: what can be bought now says nothing of then."""
    candidates = pd.read_parquet(run.of("fuse", "held_out_candidates.parquet"))
    vectors = centred(np.load(run.of("train_profile", "holdout", "item_vectors.npy")))
    for now in placings(run, marts, LEARNED, rules, {}):
        audience = replace(now.audience, bought=marts.bought(run.holdout_cut))
        everything = np.ones(len(vectors), dtype=bool)
        placing = replace(now, length=AT, vectors=vectors, audience=audience, is_available=everything, fills=False)
        rows = candidates[candidates["placement"] == now.placement]
        users, items, scores = (rows[name].to_numpy() for name in ("user", "item", "score"))
        if len(users):
            then = Then(placing, np.unique(users), Ranked(users, items, scores, np.ones(len(users), dtype=bool)))
            yield replace(then, placing=_shared(run, marts, then))


def _shared(run: Run, marts: Marts, then: Then) -> Placing:
    """With the shares as of the cut. What stood on a shelf the day before is not known: it is what would stand there if
    nothing had to be fresh, as on a day on which nothing has happened."""
    stood, ages_days = np.full((len(marts.users), AT), -1), marts.ages_days(run.holdout_cut)
    if run.settings.shelve.freshness:
        stale = [share for share in shares(run, ages_days, stood) if share.code != FRESH]
        stood[then.users] = then.built(replace(then.placing, shares=stale))
    return replace(then.placing, shares=tuple(shares(run, ages_days, stood)))


def figures(run: Run, marts: Marts) -> list[dict]:
    """`<placement>/shelf/<measure>` of lists built without any rule, `<placement>/fused/<measure>` of the ranking alone
    where no stage before told it, `<placement>/loss_by_shelf/ndcg_at_10`, and `<placement>/change_by_<part>/<measure>`
    of each part of the list builder that is on: with it less without it."""
    vectors = centred(np.load(run.of("train_profile", "holdout", "item_vectors.npy")))
    records = []
    for then in _at_the_cut(run, marts, ()):
        name = then.placing.placement
        measured = partial(_measured, bought=marts.held_out(name)[then.users], vectors=vectors)
        fused, shelf = measured(then.fused), measured(then.built(then.placing))
        told = {"shelf": shelf, "fused": {measure: fused[measure] for measure in UNTOLD}}
        told["loss_by_shelf"] = {NDCG: fused[NDCG] - shelf[NDCG]}
        told |= {f"change_by_{part}": _less(shelf, measured(then.built(one))) for part, one in without(then.placing)}
        if run.rules:
            ruled = measured(then.built(replace(then.placing, rules=run.rules)))
            told["change_by_rules"] = _less(ruled, shelf)
        for of, values in told.items():
            records += [_record(f"{name}/{of}/{measure}", one, run.settings.seed) for measure, one in values.items()]
    return [record for record in records if not np.isnan(record["value"])]


def without(placing: Placing) -> Iterator[tuple[str, Placing]]:
    """Each part of the list builder that is on, beside the rules, and the placement without it alone."""
    if placing.diversity:
        yield "diversity", replace(placing, diversity=0.0)
    for share in placing.shares:
        yield PUT_BY[share.code], replace(placing, shares=tuple(one for one in placing.shares if one is not share))
    if placing.draws:
        yield PUT_BY[DRAWN], replace(placing, draws=None)


def interval(metric: str, values: np.ndarray, seed: int) -> dict:
    """A figure over users with its interval."""
    mean, low, high = metrics.bootstrap_interval(values, seed)
    return {"metric": metric, "value": mean, "low": low, "high": high}


def _measured(lists: np.ndarray, bought: sparse.csr_matrix, vectors: np.ndarray) -> Measured:
    """What lists (B, AT) are worth."""
    count_items = bought.shape[1]
    return {
        NDCG: metrics.ndcg_at(lists, bought, AT),
        "recall_at_10": metrics.recall_at(lists, bought, AT),
        "coverage_at_10": metrics.coverage(lists, count_items),
        "gini_at_10": metrics.gini(lists, count_items),
        "top_share_at_10": metrics.top_share(lists, count_items),
        "likeness_at_10": metrics.likeness(lists, vectors),
    }


def _less(ours: Measured, theirs: Measured) -> Measured:
    return {measure: value - theirs[measure] for measure, value in ours.items()}


def _record(metric: str, value: np.ndarray | float, seed: int) -> dict:
    if isinstance(value, np.ndarray):
        return interval(metric, value, seed)
    return {"metric": metric, "value": value, "low": None, "high": None}
