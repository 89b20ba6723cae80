"""Fuse: every source proposes items, and the ranking that held on the held-out days puts them in order."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.fuse import proof
from pipelines.fuse.features import Moment
from pipelines.fuse.rankings import LEARNED, PARTS, Ranking, learn
from pipelines.fuse.slate import PLACEMENTS, Slate, lessons, slate
from pipelines.fuse.sources import USERS_PER_BLOCK
from pipelines.marts import Marts
from pipelines.run import Run, stage, write_json

LOG = logging.getLogger("nightshelf")


@stage
def run(run: Run, folder: Path) -> None:
    """Write candidates.parquet (placement, user, item, score, one part per source), the rankings, and the figures."""
    marts = Marts(run)
    told = lessons(run, marts)
    chosen, records = proof.prove(run, marts, told)
    rankings = {placement: learn(chosen[placement], told, run)[placement] for placement in LEARNED}
    for placement, ranking in rankings.items():
        LOG.info("%s is ranked by %s", placement, chosen[placement])
        ranking.save(folder / f"{placement}.json")
    write_json(folder / "fusion.json", chosen)
    write_json(folder / "metrics.json", records)
    del told
    _write_candidates(run, marts, rankings, folder)


def _write_candidates(run: Run, marts: Marts, rankings: dict[str, Ranking], folder: Path) -> None:
    columns = [("placement", pa.string()), ("user", pa.int32()), ("item", pa.int32()), ("score", pa.float64())]
    schema = pa.schema(columns + [(f"{part}_score", pa.float64()) for part in PARTS])
    moment, is_available = Moment(run, marts, "final"), marts.catalogue["is_available"].to_numpy(dtype=bool)
    users, depth, length = moment.known_users, run.settings.fuse.depth, run.settings.shelve.length
    with pq.ParquetWriter(folder / "candidates.parquet", schema, compression="zstd") as writer:
        for start in range(0, len(users), USERS_PER_BLOCK):
            whole = slate(moment, users[start : start + USERS_PER_BLOCK])
            for placement in PLACEMENTS:
                shown = ranked(whole, placement, rankings, depth, lambda items: is_available[items], length)
                writer.write_table(pa.table(dict(zip(schema.names, shown, strict=True)), schema=schema))


def ranked(
    whole: Slate,
    placement: str,
    rankings: Mapping[str, Ranking],
    depth: int,
    may_stand: Callable[[np.ndarray], np.ndarray],
    length: int,
) -> list[np.ndarray]:
    """The best `depth` rows per user of a placement, best first, ties by item, as columns of candidates.parquet.

    Parts of scores are told for the first `length` rows that may stand on a shelf, and NaN elsewhere: to take trees
    apart costs more than all else that is done with a candidate.
    """
    kept = whole.eligible(placement)
    if placement in rankings:
        placed, ranking = whole.only(kept), rankings[placement]
        score, rows = ranking.score(placed), np.arange(kept.sum())
    else:  # buy_again: for_you's order, of what was bought
        placed, ranking = whole, rankings["for_you"]
        score, rows = ranking.score(whole)[kept], np.flatnonzero(kept)
    found = whole.found.only(kept)
    ranks = found.ranks(score)
    top = np.flatnonzero(ranks <= depth)
    top = top[np.lexsort((ranks[top], found.rows[top]))]
    owners, items = found.row_owners[top], found.items[top]
    is_told = _first(owners, may_stand(items), length)
    parts = np.full((len(top), len(PARTS)), np.nan)
    parts[is_told] = ranking.parts(placed, rows[top[is_told]])
    return [np.full(len(top), placement), owners.astype(np.int32), items.astype(np.int32), score[top], *parts.T]


def _first(owners: np.ndarray, chosen: np.ndarray, length: int) -> np.ndarray:
    """(R,) bool: the first `length` chosen rows of each owner, whose rows stand together."""
    place = np.cumsum(chosen)
    starts = np.flatnonzero(np.append(True, owners[1:] != owners[:-1])) if len(owners) else np.empty(0, dtype=int)
    before = np.repeat((place - chosen)[starts], np.diff(np.append(starts, len(owners))))
    return chosen & (place - before <= length)
