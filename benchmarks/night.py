"""One whole night, timed, and its quality beside the baselines that a shop has in one line of SQL.

    python benchmarks/night.py --users 2000 --items 600 --days 90     # a generated shop
    python benchmarks/night.py --online-retail FILE --day 2011-11-11   # the UCI table

Everything is printed in one run, from a fresh home in a temporary folder.
"""

import argparse
import datetime as dt
import resource
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipelines import night, warehouse
from pipelines.run import Run, costs

QUALITY = """
    select split_part(metric, '/', 1) as placement, split_part(metric, '/', 2) as ranked_by, value, low, high
    from metrics
    where metric like '%/ndcg_at_10'
    order by placement, value
"""


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, default=2000)
    ask.add_argument("--items", type=int, default=600)
    ask.add_argument("--days", type=int, default=90)
    ask.add_argument("--online-retail", type=Path)
    ask.add_argument("--day", type=dt.date.fromisoformat, default=dt.date(2026, 3, 1))
    told = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        lay_out(told, home)
        started = time.monotonic()
        run = night.run(day=told.day, home=home)
        print_costs(run, time.monotonic() - started)
        print_quality(home)


def lay_out(told: argparse.Namespace, home: Path) -> None:
    if told.online_retail:
        from pipelines.online_retail import import_online_retail

        print(import_online_retail(told.online_retail, home))
    else:
        from pipelines.generate import generate

        print(generate(home, users=told.users, items=told.items, days=told.days, last_day=told.day, seed=17))


def print_costs(run: Run, wall_seconds: float) -> None:
    table = Table("stage", "wall s", "CPU s", title=f"{run.run_id}: {wall_seconds:.0f} s")
    for name, cost in costs(run).items():
        table.add_row(name, f"{cost['wall_seconds']:.1f}", f"{cost['cpu_seconds']:.1f}")
    Console().print(table)
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        f"Peak memory: {own / 2**20:.2f} GiB in Python, {children / 2**20:.2f} GiB in its largest child (Spark's Java)"
    )


def print_quality(home: Path) -> None:
    with warehouse.connect(home) as release:
        rows = release.execute(QUALITY).fetchall()
    table = Table("placement", "ranked by", "NDCG@10", "95 % interval", title="Held-out days; fused is published")
    for placement, ranked_by, value, low, high in rows:
        table.add_row(placement, ranked_by, f"{value:.4f}", f"{low:.4f} to {high:.4f}")
    Console().print(table)


if __name__ == "__main__":
    main()
