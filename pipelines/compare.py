"""Compare: the held-out lists of two runs, on the same days and the same users."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

from models import metrics
from pipelines import gates, warehouse
from pipelines.errors import BadSetting, NothingPublished
from pipelines.fuse.rankings import LEARNED
from pipelines.marts import Marts
from pipelines.run import Run


@dataclass(frozen=True)
class Compared:
    """NDCG@10 of one placement: means over the users of whom both have a list, and the paired difference with the ends
    of its 95 % bootstrap interval."""

    placement: str
    count_users: int
    ours: float
    theirs: float
    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"{self.placement}: NDCG@10 {self.ours:.4f}, beside {self.theirs:.4f}: {self.difference:+.4f} "
            f"({self.low:+.4f} to {self.high:+.4f}) over {self.count_users} users"
        )


def compare(run: Run, other: Run) -> list[Compared]:
    """How the lists of `run` do beside those of `other` on the held-out days; a placement without users is left out.

    Raises BadSetting where their held-out days differ.
    """
    windows = [(one.holdout_cut, one.proved_on) for one in (run, other)]
    if windows[0] != windows[1]:
        raise BadSetting(
            f"{run.run_id} is measured on the days after {windows[0][0]} up to {windows[0][1]}, {other.run_id} on "
            f"those after {windows[1][0]} up to {windows[1][1]}. Compare runs of one day with one holdout.days; beside "
            "one that carries a proof, a run of the day of that proof, with holdout.keep_days=0."
        )
    marts = Marts(run)
    lists = [pd.read_parquet(one.of("fuse", "held_out_lists.parquet")) for one in (run, other)]
    return [one for placement in LEARNED if (one := _compared(run, marts, placement, lists))]


def current(home: Path) -> Run:
    """The run that readers' lists were made by; raises NothingPublished without one."""
    name = warehouse.current(home)
    if name is None:
        raise NothingPublished("Nothing is published yet. Name the run to compare with.")
    return Run.load(name.rpartition(".")[0], home)


def table(found: Sequence[Compared], run: Run, other: Run) -> Table:
    told = Table("placement", run.run_id, other.run_id, "difference", "95 % from", "to", "users")
    for one in found:
        figures = [f"{value:.4f}" for value in (one.ours, one.theirs)]
        figures += [f"{value:+.4f}" for value in (one.difference, one.low, one.high)]
        told.add_row(one.placement, *figures, str(one.count_users))
    return told


def _compared(run: Run, marts: Marts, placement: str, lists: Sequence[pd.DataFrame]) -> Compared | None:
    wanted = marts.held_out(placement)
    ours, theirs = (gates.ndcg(marts, one[one["placement"] == placement], wanted) for one in lists)
    both = np.isfinite(ours - theirs)
    if not both.any():
        return None
    mean, low, high = metrics.bootstrap_interval((ours - theirs)[both], run.settings.seed)
    return Compared(placement, int(both.sum()), float(ours[both].mean()), float(theirs[both].mean()), mean, low, high)
