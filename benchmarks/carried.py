"""What it costs in quality to carry a proof: one day's lists, ranked as was proved some days before, and as that day.

    python benchmarks/carried.py                                   # a proof of six days before
    python benchmarks/carried.py --users 500 --items 300 --old 13

A generated shop. Both nights see the same days; each list is judged by what its user bought in the days after, which
neither has seen. Everything is printed in one run, from a fresh home in a temporary folder.
"""

import argparse
import datetime as dt
import tempfile
from pathlib import Path

import growth
import numpy as np
import pandas as pd
from scipy import sparse

from models import metrics
from pipelines import admit, build, clean, gates
from pipelines.compare import Compared
from pipelines.fuse.rankings import LEARNED
from pipelines.generate import generate
from pipelines.marts import Marts
from pipelines.open import open_run
from pipelines.run import Run, release_lease

DAY = dt.date(2026, 3, 1)  # of the proof
JUDGE = "cli:judge:0"


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, default=2000)
    ask.add_argument("--items", type=int, default=600)
    ask.add_argument("--days", type=int, default=90, help="up to the proof")
    ask.add_argument("--old", type=int, default=6, help="days from the proof to the lists that are judged")
    ask.add_argument("--judged", type=int, default=14, help="days after these lists")
    ask.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of all nights")
    told = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, day = Path(folder), DAY + dt.timedelta(days=told.old)
        last = day + dt.timedelta(days=told.judged)
        days = told.days + told.old + told.judged
        generate(home, users=told.users, items=told.items, days=days, last_day=last, seed=17)
        for one, label, keep_days in ((DAY, "nightly", 0), (day, "nightly", told.old), (day, "anew", 0)):
            growth.performed(home, one, [*told.set, f"holdout.keep_days={keep_days}"], label)
        for line in judged(home, day, last):
            print(line)


def judged(home: Path, day: dt.date, last: dt.date) -> list[Compared]:
    """By placement, the lists by the carried ranking beside those by the one proved that day."""
    run = open_run(owner=JUDGE, day=last, label="judge", home=home)
    for stage in (clean, admit, build):
        stage.run(run)
    release_lease(home, run.run_id, JUDGE)
    marts, nights = Marts(run), [Run.load(f"{day}.{label}", home) for label in ("nightly", "anew")]
    assert [one.proof_of is not None for one in nights] == [True, False]
    lists = [pd.read_parquet(one.of("shelve", "user_recommendations.parquet")) for one in nights]
    return [compared(marts, placement, lists, day) for placement in LEARNED]


def compared(marts: Marts, placement: str, lists: list[pd.DataFrame], day: dt.date) -> Compared:
    wanted = marts.bought(marts.run.day, after=day).multiply(marts.people(marts.run.day)[:, None]).tocsr()
    if placement == "discover":
        wanted = sparse.csr_matrix(wanted - wanted.multiply(marts.bought(day)))
        wanted.eliminate_zeros()
    ours, theirs = (gates.ndcg(marts, one[one["placement"] == placement], wanted) for one in lists)
    both = np.isfinite(ours - theirs)
    mean, low, high = metrics.bootstrap_interval((ours - theirs)[both], marts.settings.seed)
    return Compared(placement, int(both.sum()), float(ours[both].mean()), float(theirs[both].mean()), mean, low, high)


if __name__ == "__main__":
    main()
