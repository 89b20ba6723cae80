"""Fuse: every source proposes items, and the ranking that held on the held-out days puts them in order."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipelines.fuse import proof, scoring
from pipelines.fuse.lessons import Notes, windows
from pipelines.fuse.rankings import LEARNED, Ranking, learn, load, side_by_side
from pipelines.marts import Marts
from pipelines.run import Run, stage, write_json

LOG = logging.getLogger("nightshelf")


@stage
def run(run: Run, folder: Path) -> None:
    """Write candidates.parquet (placement, user, item, score, one part per source), the rankings, the figures, and
    held_out_lists; the candidates behind these lie with the run that proved them."""
    if run.ranked_by:
        _adopt(run, folder)
    else:
        _learn(run, folder)
    scoring.write(run, folder)


def _learn(run: Run, folder: Path) -> None:
    """What ranks from tonight on, what it was chosen by, and the lists that it is judged by."""
    marts = Marts(run)
    chosen, records, held_out, ranked_then, told = proof.prove(run, marts, windows(run, marts))
    rankings = _taught(run, told, chosen)
    for placement, ranking in rankings.items():
        LOG.info("%s is ranked by %s", placement, chosen[placement])
        ranking.save(folder / f"{placement}.json")
    write_json(folder / "fusion.json", chosen)
    write_json(folder / "metrics.json", records)
    held_out.to_parquet(folder / "held_out_lists.parquet", index=False)
    ranked_then.to_parquet(folder / "held_out_candidates.parquet", index=False)


def _taught(run: Run, told: Sequence[Notes], chosen: Mapping[str, str]) -> dict[str, Ranking]:
    """The chosen rankings, by placement, as all windows teach them."""
    return side_by_side(run, lambda placement: learn(chosen[placement], placement, told, run))


def _adopt(run: Run, folder: Path) -> None:
    """The rankings of another run; with the figures and the held-out lists that were made when they were learnt, of
    items that the catalogue still names."""
    before = run.adopted("fuse")
    for name in ("fusion.json", "metrics.json"):
        shutil.copy(before / name, folder)
    held_out = pd.read_parquet(before / "held_out_lists.parquet")
    held_out = held_out[Marts(run).items.positions(held_out["item_id"]) >= 0]
    held_out.assign(run_id=run.run_id).to_parquet(folder / "held_out_lists.parquet", index=False)
    chosen = json.loads((folder / "fusion.json").read_text())
    for placement in LEARNED:
        load(chosen[placement], before / f"{placement}.json").save(folder / f"{placement}.json")
