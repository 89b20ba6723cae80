"""Scoring: everybody's ranked candidates, block by block of users, in this process or on Spark's executors.

A block's rows depend on the run's folders alone: whoever makes them maps the factors that lie there, so that nothing is
sent but the position at which a block begins, and the processes of a machine hold dense vectors once.
docs/decisions/0030-scoring-under-spark.md tells why.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.candidates import Candidates
from pipelines.fuse.features import Moment
from pipelines.fuse.rankings import LEARNED, PARTS, Ranking, load, side_by_side
from pipelines.fuse.slate import Slate, slate
from pipelines.fuse.sources import USERS_PER_BLOCK, Sources
from pipelines.marts import Marts
from pipelines.placements import items as items_of
from pipelines.rules.scope import Goods, allowed
from pipelines.run import Run
from pipelines.settings import Settings

SERVES = {"for_you": ("for_you", "buy_again"), "discover": ("discover",)}  # what each learned ranking puts in order
FIELDS = [("placement", pa.string()), ("user", pa.int32()), ("item", pa.int32()), ("score", pa.float64())]
SCHEMA = pa.schema(FIELDS + [(f"{part}_score", pa.float64()) for part in PARTS])


def write(run: Run, folder: Path) -> None:
    """Write candidates.parquet, a row group per block, by the rankings that `folder` has."""
    with pq.ParquetWriter(folder / "candidates.parquet", SCHEMA, compression="zstd") as writer:
        for block in _on_executors(run, folder) if run.settings.fuse.engine == "spark" else _here(run, folder):
            if block.num_rows:
                writer.write_table(block, row_group_size=block.num_rows)


def _here(run: Run, folder: Path) -> Iterator[pa.Table]:
    scorer = Scorer.load(run, folder)
    for start in range(0, len(scorer.users), USERS_PER_BLOCK):
        yield scorer.block(start, USERS_PER_BLOCK)


def _on_executors(run: Run, folder: Path) -> Iterator[pa.Table]:
    """The same blocks in the same order, each a task; a task that is done again gives the same rows."""
    from pipelines import spark

    home, run_id, size = run.home, run.run_id, USERS_PER_BLOCK
    count_users = len(Sources.load(run, Marts(run), "final").known_users)

    def block(start: int) -> pa.Table:
        return _scorer(home, run_id, folder).block(start, size)

    with spark.session(run, count_users) as session:
        yield from spark.tables(session, block, range(0, count_users, size), SCHEMA, folder / "blocks")


@cache
def _scorer(home: Path, run_id: str, folder: Path) -> "Scorer":
    """One for all tasks of a Python process on an executor."""
    return Scorer.load(Run.load(run_id, home), folder)


@dataclass(frozen=True)
class Scorer:
    """All that a block of users is scored with.

    Attributes:
        users: (U,) ascending positions of those of whom something is known.
        may_stand: by placement, (I,) bool.
        declared: by placement of the shop's own, (I,) bool, what it is for.
    """

    run: Run
    moment: Moment
    users: np.ndarray
    rankings: Mapping[str, Ranking]
    may_stand: Mapping[str, np.ndarray]
    declared: Mapping[str, np.ndarray]

    @classmethod
    def load(cls, run: Run, folder: Path) -> "Scorer":
        """What is known at the end of the run's day, and the rankings that `folder` has."""
        marts, moment = Marts(run), Moment(run, Marts(run), "final")
        chosen = json.loads((folder / "fusion.json").read_text())
        rankings = {placement: load(chosen[placement], folder / f"{placement}.json") for placement in LEARNED}
        return cls(run, moment, moment.sources.known_users, rankings, standing(run, marts), items_of(run, marts))

    def block(self, start: int, size: int) -> pa.Table:
        """Rows of `size` users from `start` on, placement by placement, then by user and best first."""
        users = self.users[start : start + size]
        whole, settings = slate(self.moment, users), self.run.settings
        parts = list(side_by_side(self.run, lambda learned: self._learned(whole, learned)).values())
        for name, may in self.declared.items():
            parts.append(declared(name, slate(self.moment, users, may), self.rankings, settings, self.may_stand))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA)

    def _learned(self, whole: Slate, learned: str) -> list[np.ndarray]:
        """Columns of the placements that one learned ranking serves."""
        placed, told = whole.only(whole.eligible(learned)), self.run.settings.considered(learned)
        depth = self.run.settings.fuse.depth
        return ranked(placed, self.rankings[learned], SERVES[learned], depth, self.may_stand, told)


def declared(
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
