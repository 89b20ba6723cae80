"""Building: everybody's shelves, block by block of users, in this process or on Spark's executors.

A block's rows depend on the run's folders alone: whoever builds them reads there, and nothing is sent but the number of
a part of the candidates, as in `pipelines/fuse/scoring.py`.
"""

import datetime as dt
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.evidence import Evidence
from pipelines.fuse.rankings import PARTS
from pipelines.growing import Growing, typed
from pipelines.lists.builder import STANDS
from pipelines.marts import Marts
from pipelines.run import Run
from pipelines.shelve import blocks, effects, stood
from pipelines.shelve.placing import FALLBACKS, Placed, Placing, Ranked, fates, placings

SCORES = [f"{part}_score" for part in PARTS]
TABLES = ("user_candidates", "user_recommendations", "short_shelves")


@dataclass(frozen=True)
class Builder:
    """All that the shelves of a block of users are built and explained with."""

    run: Run
    marts: Marts
    made: Sequence[Placing]
    reasons: Evidence

    @classmethod
    def load(cls, run: Run) -> "Builder":
        """Raises NothingPublished when the release that the run follows is not kept any more."""
        marts = Marts(run)
        made = placings(run, marts, list(run.settings.shelves), run.rules, stood.before(run, marts))
        return cls(run, marts, list(made), Evidence(run, marts))

    def write(self, folder: Path) -> effects.Tally:
        """Write what the users get, and what became of their candidates; returns what rules did to it."""
        candidates, told = self.run.of("fuse", "candidates.parquet"), effects.Tally()
        with Growing(folder) as tables:
            if self.run.settings.shelve.engine == "spark":
                _on_executors(self.run, blocks.count(candidates), len(self.marts.users), tables, told)
            else:
                for part in range(blocks.count(candidates)):
                    self.part(part, tables, told)
        return told

    def part(self, number: int, tables: Growing, told: effects.Tally) -> None:
        """Append the shelves of a part of the candidates, block by block; `told` counts what rules did to them."""
        for users, candidates in blocks.part(self.run.of("fuse", "candidates.parquet"), len(self.marts.users), number):
            placed = list(built(self.made, candidates.assign(is_told=candidates[SCORES[0]].notna()), users))
            fate = pd.concat([pd.Series(effects.names(one), index=one.candidates.index) for one in placed])
            tables.add("user_candidates", kept(self.run, self.marts, candidates, fate.reindex(candidates.index)))
            tables.add("user_recommendations", self._listed(placed))
            short = pd.concat([effects.short_shelves(one, self.marts) for one in placed], ignore_index=True)
            tables.add("short_shelves", typed("short_shelves", short.assign(run_id=self.run.run_id)))
            told.add(placed)

    def _listed(self, placed: Sequence[Placed]) -> pa.Table:
        """The lists of a block as they are published."""
        lists = [flat(one) for one in placed]
        shelves = pd.concat([one for one in lists if len(one)] or lists[:1], ignore_index=True)
        return typed("user_recommendations", named(self.run, self.marts, self.reasons.explain(shelves)))


def _on_executors(run: Run, count: int, count_users: int, tables: Growing, told: effects.Tally) -> None:
    """The same parts in the same order, each a task, which leaves its tables in a folder that all share."""
    from pipelines import spark

    home, run_id, scratch = run.home, run.run_id, tables.folder / "parts"
    scratch.mkdir()

    def build(number: int) -> tuple[str, effects.Tally]:
        return _in_folder(_builder(home, run_id), number, scratch)

    with spark.session(run, count_users) as session:
        parts = spark.each(session, build, range(count))
    for name, tally in parts:
        told.include(tally)
        for table in TABLES:
            file = pq.ParquetFile(scratch / name / f"{table}.parquet")
            tables.add(table, file.schema_arrow.empty_table())
            for group in range(file.num_row_groups):
                tables.add(table, file.read_row_group(group))
    shutil.rmtree(scratch)


@cache
def _builder(home: Path, run_id: str) -> Builder:
    """One for all tasks of a Python process on an executor."""
    return Builder.load(Run.load(run_id, home))


def _in_folder(builder: Builder, number: int, scratch: Path) -> tuple[str, effects.Tally]:
    """A part as files in a folder of its own, whose name is returned: a task that is done again has another one."""
    folder, told = scratch / f"{number}.{secrets.token_hex(4)}", effects.Tally()
    folder.mkdir()
    with Growing(folder) as tables:
        builder.part(number, tables, told)
    return folder.name, told


def built(made: Iterable[Placing], candidates: pd.DataFrame, users: np.ndarray) -> Iterator[Placed]:
    """The lists of some users (B,), which leave none out, on every placement, of the candidates (a frame) that are
    told."""
    for placing in made:
        own = candidates[candidates["placement"] == placing.placement]
        owners, items = own["user"].to_numpy(), own["item"].to_numpy()
        barred = placing.barred(owners, items)
        usable = (barred == STANDS) & own["is_told"].to_numpy()
        ranked = Ranked(owners, items, own["score"].to_numpy(), usable)
        shelves = list(placing.shelves(ranked, users if placing.fills else np.unique(owners)))
        yield Placed(placing, own, shelves, fates(ranked, barred, shelves))


def flat(placed: Placed) -> pd.DataFrame:
    """Lists as rows, by user and rank. What nobody proposed to the user has no parts, and a score that keeps order."""
    told = np.concatenate([placed.candidates[["score", *SCORES]].to_numpy(dtype=float), np.zeros((1, 1 + len(SCORES)))])
    names = ["placement", "user", "rank", "item", "fallback", "rule_id", "propensity", "score", *SCORES]
    tables = [pd.DataFrame(columns=names).astype({"user": int, "rank": int, "item": int, "propensity": float})]
    for block in placed.blocks:
        lists, places = np.nonzero(block.items >= 0)
        rows, rules = block.rows[lists, places], np.maximum(block.rules[lists, places], -1)  # below 0 no rule
        parts = told[rows]  # -1, which is no candidate, finds the zeros at the end
        parts[:, 0] = np.where(rows < 0, -1.0 - places, parts[:, 0])
        facts = {
            "placement": placed.placing.placement,
            "user": block.users[lists],
            "rank": places + 1,
            "item": block.items[lists, places],
            "fallback": np.array(FALLBACKS, dtype=object)[block.sources[lists, places]],
            "rule_id": np.array([*(rule.rule_id for rule in placed.placing.rules), None], dtype=object)[rules],
            "propensity": block.chances[lists, places],
        }
        tables.append(pd.DataFrame(facts | dict(zip(["score", *SCORES], parts.T, strict=True))))
    return pd.concat(tables[-1:] if len(tables) == 1 else tables[1:], ignore_index=True)


def kept(run: Run, marts: Marts, candidates: pd.DataFrame, fate: pd.Series) -> pa.Table:
    """The candidates as they are published, ranked from 1; ids are written once each, for the rows are many."""
    rank = candidates.groupby(["placement", "user"], sort=False).cumcount() + 1
    columns = {
        "placement": pa.array(candidates["placement"], pa.string()).dictionary_encode(),
        "user_id": _ids(marts.users.ids, candidates["user"]),
        "rank": pa.array(rank, pa.int64()),
        "item_id": _ids(marts.items.ids, candidates["item"]),
        "score": pa.array(candidates["score"], pa.float64()),
        **{part: pa.array(candidates[part], pa.float64(), from_pandas=True) for part in SCORES},
        "dropped_by": pa.array(fate, pa.string(), from_pandas=True).dictionary_encode(),
        "run_id": _ids([run.run_id], np.zeros(len(rank))),
    }
    return pa.table(columns)


def _ids(ids: Sequence[str] | np.ndarray, positions: pd.Series | np.ndarray) -> pa.DictionaryArray:
    places = pa.array(np.asarray(positions, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(places, pa.array(ids, pa.string()))


def named(run: Run, marts: Marts, shelves: pd.DataFrame) -> pd.DataFrame:
    """Positions become ids again."""
    evidence = shelves["evidence"].to_numpy()
    trained = json.loads(run.of("train_als", "model.json").read_text())
    return pd.DataFrame(
        {
            "placement": shelves["placement"].astype(str),
            "user_id": marts.users.ids[shelves["user"]],
            "rank": shelves["rank"].astype("int64"),
            "item_id": marts.items.ids[shelves["item"]],
            "score": shelves["score"].astype(float),
            **{part: shelves[part].astype(float) for part in SCORES},
            "reason": shelves["reason"],
            "evidence_item_id": np.where(evidence >= 0, marts.items.ids[evidence], None),
            "evidence_query": shelves["query"],
            "fallback": shelves["fallback"],
            "rule_id": shelves["rule_id"],
            "propensity": shelves["propensity"].astype(float),
            "trained_on": dt.date.fromisoformat(trained["trained_on"]),
            "run_id": run.run_id,
        }
    )
