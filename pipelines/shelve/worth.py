"""Worth: what the list builder costs and gains on held-out days that the lists know nothing of."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from models import metrics
from pipelines.beside.pairs import centred
from pipelines.fuse.rankings import LEARNED
from pipelines.marts import Marts
from pipelines.rules import Rule
from pipelines.run import Run
from pipelines.shelve.builder import STANDS
from pipelines.shelve.placing import Ranked, placings

AT = 10  # rows of a list that are measured


class HeldOut(NamedTuple):
    """Lists of who bought in the held-out days, (B, AT) items padded with -1: by the ranking alone, and built."""

    placement: str
    users: np.ndarray
    fused: np.ndarray
    shelf: np.ndarray


def lists(run: Run, marts: Marts, rules: Sequence[Rule] = ()) -> Iterator[HeldOut]:
    """What people would have been shown at the cut under some rules. What can be bought now says nothing of then."""
    candidates = pd.read_parquet(run.of("fuse", "held_out_candidates.parquet"))
    vectors = centred(np.load(run.of("train_profile", "holdout", "item_vectors.npy")))
    for now in placings(run, marts, LEARNED, rules):
        audience = replace(now.audience, bought=marts.bought(run.holdout_cut))
        everything = np.ones(len(vectors), dtype=bool)
        then = replace(now, length=AT, vectors=vectors, audience=audience, is_available=everything, fills=False)
        rows = candidates[candidates["placement"] == now.placement]
        users, items, scores = (rows[name].to_numpy() for name in ("user", "item", "score"))
        ranked, served = Ranked(users, items, scores, then.barred(users, items) == STANDS), np.unique(users)
        if len(served):
            shelves = np.concatenate([block.items for block in then.shelves(ranked, served)])
            alone = replace(ranked, usable=np.ones(len(rows), dtype=bool))
            yield HeldOut(now.placement, served, alone.pool(served, AT)[0].items, shelves)


def figures(run: Run, marts: Marts) -> list[dict]:
    """`<placement>/shelf/<measure>` of lists built without any rule, `<placement>/fused/<measure>` of the ranking alone
    where no stage before told it, and `<placement>/loss_by_shelf/ndcg_at_10`; where another run's models serve, its
    figures."""
    if run.models_of:
        told = json.loads((run.adopted("shelve") / "metrics.json").read_text())
        return [record for record in told if record["metric"].split("/")[0] in LEARNED]
    vectors = centred(np.load(run.of("train_profile", "holdout", "item_vectors.npy")))
    records = []
    for placement, users, fused, shelf in lists(run, marts):
        wanted, seed = marts.held_out(placement)[users], run.settings.seed
        before, after = (metrics.ndcg_at(one, wanted, AT) for one in (fused, shelf))
        records += [
            interval(f"{placement}/shelf/ndcg_at_10", after, seed),
            interval(f"{placement}/shelf/recall_at_10", metrics.recall_at(shelf, wanted, AT), seed),
            interval(f"{placement}/loss_by_shelf/ndcg_at_10", before - after, seed),
            _single(f"{placement}/shelf/coverage_at_10", metrics.coverage(shelf, wanted.shape[1])),
        ]
        for name, one in (("fused", fused), ("shelf", shelf)):
            records += [
                _single(f"{placement}/{name}/gini_at_10", metrics.gini(one, wanted.shape[1])),
                _single(f"{placement}/{name}/top_share_at_10", metrics.top_share(one, wanted.shape[1])),
                _single(f"{placement}/{name}/likeness_at_10", metrics.likeness(one, vectors)),
            ]
    return [record for record in records if not np.isnan(record["value"])]


def interval(metric: str, values: np.ndarray, seed: int) -> dict:
    """A figure over users with its interval."""
    mean, low, high = metrics.bootstrap_interval(values, seed)
    return {"metric": metric, "value": mean, "low": low, "high": high}


def _single(metric: str, value: float) -> dict:
    return {"metric": metric, "value": value, "low": None, "high": None}
