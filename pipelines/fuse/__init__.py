"""Fuse: every source proposes items, and the ranking that held on the held-out days puts them in order."""

import logging
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
    _write_candidates(run, Moment(run, marts, "final"), rankings, folder)


def _write_candidates(run: Run, moment: Moment, rankings: dict[str, Ranking], folder: Path) -> None:
    columns = [("placement", pa.string()), ("user", pa.int32()), ("item", pa.int32()), ("score", pa.float64())]
    schema = pa.schema(columns + [(f"{part}_score", pa.float64()) for part in PARTS])
    users = moment.known_users
    with pq.ParquetWriter(folder / "candidates.parquet", schema, compression="zstd") as writer:
        for start in range(0, len(users), USERS_PER_BLOCK):
            whole = slate(moment, users[start : start + USERS_PER_BLOCK])
            for placement in PLACEMENTS:
                writer.write_table(ranked(whole, placement, rankings, run.settings.fuse.depth, schema))


def ranked(whole: Slate, placement: str, rankings: dict[str, Ranking], depth: int, schema: pa.Schema) -> pa.Table:
    """The best `depth` rows per user of a placement, best first, ties by item, with the parts of their scores."""
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
    columns = [
        np.full(len(top), placement),
        found.row_owners[top].astype(np.int32),
        found.items[top].astype(np.int32),
        score[top],
        *ranking.parts(placed, rows[top]).T,
    ]
    return pa.table([pa.array(one, kind) for one, kind in zip(columns, schema.types, strict=True)], schema=schema)
