"""Shelve: build each user's lists from the ranked candidates under the shop's rules, each row with its reason."""

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import beside, evidence
from pipelines.fuse.rankings import PARTS
from pipelines.lists.builder import STANDS
from pipelines.marts import Marts
from pipelines.rules.rule import Rule
from pipelines.rules.withheld import withhold
from pipelines.run import Run, stage, write_json
from pipelines.shelve import audit, effects, stood, worth
from pipelines.shelve.placing import FALLBACKS, Placed, Ranked, fates, placings

SCORES = [f"{part}_score" for part in PARTS]


@stage
def run(run: Run, folder: Path) -> None:
    """Write the users' shelves and what became of their candidates, the lists beside them, rules, their effects and the
    audit."""
    marts = Marts(run)
    candidates = pd.read_parquet(run.of("fuse", "candidates.parquet"))
    candidates["is_told"] = candidates[SCORES[0]].notna()
    placed = list(built(run, marts, candidates, run.rules))
    fate = pd.concat([pd.Series(effects.names(one), index=one.candidates.index) for one in placed]).sort_index()
    pq.write_table(kept(run, marts, candidates, fate), folder / "user_candidates.parquet", compression="zstd")
    lists = [flat(one) for one in placed]
    shelves = pd.concat([one for one in lists if len(one)] or lists[:1], ignore_index=True)
    named(run, marts, evidence.explain(run, marts, shelves)).to_parquet(
        folder / "user_recommendations.parquet", index=False
    )
    beside.write(run, marts, folder)
    effects.write(run, marts, placed, withhold(run, marts, folder), folder)
    audit.write(run, marts, placed, folder)
    write_json(folder / "metrics.json", [*beside.proof(run, marts), *worth.figures(run, marts)])


def built(run: Run, marts: Marts, candidates: pd.DataFrame, rules: Sequence[Rule]) -> Iterator[Placed]:
    """The lists of every placement under some rules, of the candidates (a frame) that are told."""
    for placing in placings(run, marts, list(run.settings.shelves), rules, stood.before(run, marts)):
        own = candidates[candidates["placement"] == placing.placement]
        users, items = own["user"].to_numpy(), own["item"].to_numpy()
        barred = placing.barred(users, items)
        usable = (barred == STANDS) & own["is_told"].to_numpy()
        ranked = Ranked(users, items, own["score"].to_numpy(), usable)
        served = np.arange(len(marts.users)) if placing.fills else np.unique(users)
        blocks = list(placing.shelves(ranked, served))
        yield Placed(placing, own, blocks, fates(ranked, barred, blocks))


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
