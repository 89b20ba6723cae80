"""What it takes to read everything that people did from the marts: as matrix, as histories, as blocks of rows, and as
what the ranker's features know of users, items and pairs of them.

    python benchmarks/acts.py --users 200000 --items 20000 --rows 4000000

Rows are days on which a user met an item. Each figure is of a process of its own, in a temporary folder.
"""

import argparse
import datetime as dt
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import duckdb
from rich.console import Console
from rich.table import Table

from pipelines import settings
from pipelines.costs import Meter
from pipelines.fuse.knowledge import Knowledge
from pipelines.marts import Marts

DAY = dt.date(2026, 3, 1)
READS = ("interactions", "histories", "acts", "knowledge")
MARTS = """
    create table users as
    select 'u' || lpad(range::varchar, 9, '0') as user_id, null::date as flagged_date, 'DE' as country
    from range({users});
    create table catalogue as
    select 'i' || lpad(range::varchar, 9, '0') as item_id, date '{day}' - 90 as first_arrival_date
    from range({items});
    create table item_history as
    select item_id, first_arrival_date as valid_from, null::date as valid_to, 'c' as category, 'b' as brand,
        100 as price_cents
    from catalogue;
    create table interactions as
    select
        'u' || lpad((hash(range) % {users})::varchar, 9, '0') as user_id,
        'i' || lpad((hash(-range) % {items})::varchar, 9, '0') as item_id,
        date '{day}' - (range % 90)::integer as event_date,
        event_date as known_date,
        1.0 as weight,
        (range % 5 = 0)::integer as count_purchases
    from range({rows})
    order by user_id, item_id, event_date;
    create table item_days as
    select item_id, event_date, known_date, count(*) as count_visitors, sum(count_purchases) as count_buyers
    from interactions group by all;
"""


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, default=200_000)
    ask.add_argument("--items", type=int, default=20_000)
    ask.add_argument("--rows", type=int, default=4_000_000)
    ask.add_argument("--read", choices=("nothing", *READS), help=argparse.SUPPRESS)
    ask.add_argument("--path", help=argparse.SUPPRESS)
    told = ask.parse_args()
    if told.read:
        print(*measured(told.path, told.read))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "marts.duckdb")
        with duckdb.connect(path) as connection:
            connection.execute(MARTS.format(users=told.users, items=told.items, rows=told.rows, day=DAY))
        print_costs(path, told.rows)


def measured(path: str, read: str) -> tuple[float, float]:
    """CPU seconds, and peak resident MiB of this process; of `nothing`, with ids at hand and no rows."""
    run = SimpleNamespace(settings=settings.Settings(), of=lambda *_: path)
    meter, marts = Meter(), Marts(run)  # type: ignore[arg-type]
    held: list[object] = [len(marts.users), len(marts.items)]
    if read == "acts":
        for _ in marts.acts(DAY):
            pass
    elif read != "nothing":
        held.append(Knowledge(marts, DAY) if read == "knowledge" else getattr(marts, read)(DAY))
    told = meter.read()
    del held
    return told["cpu_seconds"], told["peak_memory_mb"]


def print_costs(path: str, rows: int) -> None:
    table = Table("read", "CPU s", "peak MiB", "bytes a row", title=f"{rows:,} rows")
    least = 0.0
    for read in ("nothing", *READS):
        asked = [sys.executable, __file__, "--read", read, "--path", path]
        seconds, peak = map(float, subprocess.run(asked, check=True, capture_output=True, text=True).stdout.split())
        least = least or peak
        table.add_row(read, f"{seconds:.1f}", f"{peak:.0f}", f"{(peak - least) * 2**20 / rows:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
