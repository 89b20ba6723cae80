"""Shelve: build each user's finished lists from the ranked candidates, full length, with a reason on every row."""

import datetime as dt
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import beside, evidence
from pipelines.fuse.rankings import PARTS
from pipelines.marts import Marts
from pipelines.run import Run, stage, write_json
from pipelines.settings import Settings

SCORES = [f"{part}_score" for part in PARTS]
FILLED = ("for_you", "discover")  # buy_again is as long as what the user bought


@stage
def run(run: Run, folder: Path) -> None:
    """Write user_recommendations, user_candidates and rule_effects, and what stands beside the shelves."""
    marts = Marts(run)
    candidates = pd.read_parquet(run.of("fuse", "candidates.parquet"))
    is_available = marts.catalogue["is_available"].to_numpy(dtype=bool)
    pq.write_table(kept(run, marts, candidates), folder / "user_candidates.parquet", compression="zstd")
    effects = removed(candidates, is_available, list(run.settings.shelves)).assign(run_id=run.run_id)
    shelves = fill(run, marts, cut(candidates[is_available[candidates["item"]]], run.settings))
    shelves["placement"] = pd.Categorical(shelves["placement"], list(run.settings.shelves), ordered=True)
    shelves = shelves.sort_values(["placement", "user", "rank"], ignore_index=True)
    named(run, marts, evidence.explain(run, marts, shelves)).to_parquet(
        folder / "user_recommendations.parquet", index=False
    )
    effects.to_parquet(folder / "rule_effects.parquet", index=False)
    beside.write(run, marts, folder)
    write_json(folder / "metrics.json", beside.proof(run, marts))


def kept(run: Run, marts: Marts, candidates: pd.DataFrame) -> pa.Table:
    """The candidates as they are published, ranked from 1; ids are written once each, for the rows are many."""
    rank = candidates.groupby(["placement", "user"], sort=False).cumcount() + 1
    columns = {
        "placement": pa.array(candidates["placement"], pa.string()).dictionary_encode(),
        "user_id": _ids(marts.users.ids, candidates["user"]),
        "rank": pa.array(rank, pa.int64()),
        "item_id": _ids(marts.items.ids, candidates["item"]),
        "score": pa.array(candidates["score"], pa.float64()),
        **{part: pa.array(candidates[part], pa.float64(), from_pandas=True) for part in SCORES},
        "run_id": _ids([run.run_id], np.zeros(len(rank))),
    }
    return pa.table(columns)


def _ids(ids: Sequence[str] | np.ndarray, positions: pd.Series | np.ndarray) -> pa.DictionaryArray:
    places = pa.array(np.asarray(positions, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(places, pa.array(ids, pa.string()))


def removed(candidates: pd.DataFrame, is_available: np.ndarray, placements: Sequence[str]) -> pd.DataFrame:
    """What availability took away, a row per placement, also when it took nothing."""
    gone = candidates[~is_available[candidates["item"]]].groupby("placement")["user"]
    effects = pd.DataFrame({"count_rows": gone.size(), "count_users": gone.nunique()})
    present = [placement for placement in placements if (candidates["placement"] == placement).any()]
    effects = effects.reindex(present, fill_value=0).rename_axis("placement").reset_index()
    return effects.assign(rule="not_available").astype({"count_rows": "int64", "count_users": "int64"})


def cut(candidates: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The first rows of each placement and user, as many as its shelves are long, ranked from 1; candidates stand best
    first."""
    rank = candidates.groupby(["placement", "user"], sort=False).cumcount() + 1
    length = candidates["placement"].map({name: settings.length_of(name) for name in settings.shelves})
    return candidates.assign(rank=rank, fallback=None)[rank <= length]


def fill(run: Run, marts: Marts, shelves: pd.DataFrame) -> pd.DataFrame:
    """The shelves at full length: the short ones go on with what is popular in the user's segment, then in the shop."""
    popular = {
        segment: marts.items.positions(rows["item_id"])
        for segment, rows in marts.frame("select * from popular_items order by segment, rank").groupby("segment")
    }
    countries = marts.frame("select user_id, country from users order by user_id")["country"].to_numpy(dtype=object)
    bought, length = marts.bought(run.day), run.settings.shelve.length
    rows: list[tuple] = []
    for placement in FILLED:
        placed = shelves[shelves["placement"] == placement]
        have = np.bincount(placed["user"], minlength=len(marts.users)).tolist()
        short = [user for user, count in enumerate(have) if count < length]
        own = placed[placed["user"].isin(short)].groupby("user")["item"].agg(set)
        for user in short:
            taken = set(own.get(user, ()))
            if placement == "discover":
                taken |= set(bought[user].indices)
            segment = popular.get(countries[user], ())
            lists = [("segment_popularity", segment), ("shop_popularity", popular.get("all", ()))]
            rows += _missing(placement, user, have[user], length, taken, lists)
    filled = pd.DataFrame(rows, columns=["placement", "user", "item", "rank", "fallback", "score"])
    filled = filled.assign(**dict.fromkeys(SCORES, 0.0)).astype(shelves.dtypes)
    return pd.concat([shelves, filled], ignore_index=True)


def _missing(placement: str, user: int, have: int, length: int, taken: set, lists: list) -> list[tuple]:
    """Rows from rank have + 1; their scores lie below every candidate's and fall with the rank."""
    rows: list[tuple] = []
    for fallback, items in lists:
        for item in items:
            rank = have + len(rows) + 1
            if rank > length:
                return rows
            if item not in taken:
                taken.add(item)
                rows.append((placement, user, item, rank, fallback, -float(rank)))
    return rows


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
            "trained_on": dt.date.fromisoformat(trained["trained_on"]),
            "run_id": run.run_id,
        }
    )
