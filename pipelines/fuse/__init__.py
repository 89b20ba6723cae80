"""Fuse: every source proposes items, and the ranking that held on the held-out days puts them in order."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from models.candidates import Candidates
from pipelines.fuse import proof
from pipelines.fuse.features import Moment
from pipelines.fuse.rankings import LEARNED, PARTS, Ranking, learn, load, side_by_side
from pipelines.fuse.slate import Lesson, Slate, lessons, slate
from pipelines.fuse.sources import USERS_PER_BLOCK
from pipelines.marts import Marts
from pipelines.placements import items as items_of
from pipelines.rules.scope import Goods, allowed
from pipelines.run import Run, stage, write_json
from pipelines.settings import Settings

LOG = logging.getLogger("nightshelf")
SERVES = {"for_you": ("for_you", "buy_again"), "discover": ("discover",)}  # what each learned ranking puts in order


@stage
def run(run: Run, folder: Path) -> None:
    """Write candidates.parquet (placement, user, item, score, one part per source), the rankings, the figures, and
    held_out_lists with the candidates behind them."""
    marts = Marts(run)
    if run.models_of:
        _write_candidates(run, marts, _adopted(run, folder), folder)
        return
    told = lessons(run, marts)
    chosen, records, held_out, ranked_then = proof.prove(run, marts, told)
    rankings = _taught(run, told, chosen)
    for placement, ranking in rankings.items():
        LOG.info("%s is ranked by %s", placement, chosen[placement])
        ranking.save(folder / f"{placement}.json")
    write_json(folder / "fusion.json", chosen)
    write_json(folder / "metrics.json", records)
    held_out.to_parquet(folder / "held_out_lists.parquet", index=False)
    ranked_then.to_parquet(folder / "held_out_candidates.parquet", index=False)
    del told
    _write_candidates(run, marts, rankings, folder)


def _taught(run: Run, told: Sequence[Lesson], chosen: Mapping[str, str]) -> dict[str, Ranking]:
    """The chosen rankings, by placement, as all lessons teach them."""
    return side_by_side(run, lambda placement: learn(chosen[placement], placement, told, run))


def _adopted(run: Run, folder: Path) -> dict[str, Ranking]:
    """The rankings of another run; with the figures and the held-out lists that were made when they were learnt."""
    before = run.adopted("fuse")
    for name in ("fusion.json", "metrics.json"):
        shutil.copy(before / name, folder)
    held_out = pd.read_parquet(before / "held_out_lists.parquet")
    held_out.assign(run_id=run.run_id).to_parquet(folder / "held_out_lists.parquet", index=False)
    shutil.copy(before / "held_out_candidates.parquet", folder)
    chosen = json.loads((folder / "fusion.json").read_text())
    rankings = {placement: load(chosen[placement], before / f"{placement}.json") for placement in LEARNED}
    for placement, ranking in rankings.items():
        ranking.save(folder / f"{placement}.json")
    return rankings


def _write_candidates(run: Run, marts: Marts, rankings: Mapping[str, Ranking], folder: Path) -> None:
    fields = [("placement", pa.string()), ("user", pa.int32()), ("item", pa.int32()), ("score", pa.float64())]
    schema = pa.schema(fields + [(f"{part}_score", pa.float64()) for part in PARTS])
    moment, may_stand = Moment(run, marts, "final"), standing(run, marts)
    users, depth, declared = moment.sources.known_users, run.settings.fuse.depth, items_of(run, marts)

    def shown(whole: Slate, learned: str) -> list[np.ndarray]:
        placed = whole.only(whole.eligible(learned))
        told = run.settings.considered(learned)
        return ranked(placed, rankings[learned], SERVES[learned], depth, may_stand, told)

    with pq.ParquetWriter(folder / "candidates.parquet", schema, compression="zstd") as writer:
        for start in range(0, len(users), USERS_PER_BLOCK):
            block = users[start : start + USERS_PER_BLOCK]
            tables = list(side_by_side(run, partial(shown, slate(moment, block))).values())
            for name, may in declared.items():
                tables.append(_declared(name, slate(moment, block, may), rankings, run.settings, may_stand))
            for columns in tables:
                writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema))


def _declared(
    name: str,
    some: Slate,
    rankings: Mapping[str, Ranking],
    settings: Settings,
    may_stand: Mapping[str, np.ndarray],
) -> list[np.ndarray]:
    """Columns of a placement that the settings declare, ranked by what ranks the one whose promise it shares."""
    like, told, stands = settings.shelves[name], settings.considered(name), {settings.shelves[name]: may_stand[name]}
    ranking = next(rankings[learned] for learned, served in SERVES.items() if like in served)
    _, *columns = ranked(some.only(some.eligible(like)), ranking, [like], settings.fuse.depth, stands, told)
    return [np.full(len(columns[0]), name, dtype=object), *columns]


def ranked(
    placed: Slate,
    ranking: Ranking,
    placements: Sequence[str],
    depth: int,
    may_stand: Mapping[str, np.ndarray],
    told: int,
) -> list[np.ndarray]:
    """The best `depth` rows per user of each placement, best first, ties by item, as columns of candidates.parquet.

    Parts of scores are given for the first `told` rows whose items, by placement (I,), may stand there, and are NaN
    elsewhere: to take trees apart costs more than all else that is done with a candidate.
    """
    found, score = placed.found, ranking.score(placed)
    best = [_best(found, score, placed.eligible(placement), depth) for placement in placements]
    first = [
        _first(found.row_owners[rows], may_stand[placement][found.items[rows]], told)
        for placement, rows in zip(placements, best, strict=True)
    ]
    rows, is_told = np.concatenate(best), np.concatenate(first)
    apart, place = np.unique(rows[is_told], return_inverse=True)
    parts = np.full((len(rows), len(PARTS)), np.nan)
    parts[is_told] = ranking.parts(placed, apart)[place]
    names = np.repeat(np.array(placements, dtype=object), [len(one) for one in best])
    return [names, found.row_owners[rows].astype(np.int32), found.items[rows].astype(np.int32), score[rows], *parts.T]


def standing(run: Run, marts: Marts) -> dict[str, np.ndarray]:
    """By placement, (I,) bool: what can be bought and no rule takes away from everybody."""
    is_available, goods = marts.catalogue["is_available"].to_numpy(dtype=bool), Goods.of(marts)
    return {name: is_available & allowed(run.rules, goods, name) for name in run.settings.shelves}


def _best(found: Candidates, score: np.ndarray, kept: np.ndarray, depth: int) -> np.ndarray:
    """Rows of each owner's best `depth` of those kept, (R,) bool, owner by owner and best first."""
    rows = np.flatnonzero(kept)
    few = found.only(kept)
    ranks = few.ranks(score[kept])
    top = np.flatnonzero(ranks <= depth)
    return rows[top[np.lexsort((ranks[top], few.rows[top]))]]


def _first(owners: np.ndarray, chosen: np.ndarray, length: int) -> np.ndarray:
    """(R,) bool: the first `length` chosen rows of each owner, whose rows stand together."""
    place = np.cumsum(chosen)
    starts = np.flatnonzero(np.append(True, owners[1:] != owners[:-1])) if len(owners) else np.empty(0, dtype=int)
    before = np.repeat((place - chosen)[starts], np.diff(np.append(starts, len(owners))))
    return chosen & (place - before <= length)
