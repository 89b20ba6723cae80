"""Cleaning at scale: Nightshelf's Spark beside the same rules written for DuckDB and for Polars, in one run.

    python benchmarks/cleaning.py                            # 1 M and 20 M events, Parquet and CSV, three engines
    python benchmarks/cleaning.py --events 2000000 --formats csv
    python benchmarks/cleaning.py --one-more-day 300000      # a day on top of a cleaned year of --events
    python benchmarks/cleaning.py --kill-executor            # on a cluster of two executors, one killed half-way

Dirt is planted by row number, so the number of rows that break each rule is known beforehand; an engine that counts
anything else is an error. CPU and memory are those of the whole process tree.
"""

import argparse
import datetime as dt
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
LAST_DAY = dt.date(2026, 3, 1)
ITEMS, USERS = 20_000, 200_000
PLANTED = {  # rule: every how many rows one breaks it
    "unknown_event_type": 503,
    "missing_item_id": 997,
    "missing_occurred_at": 1009,
    "price_cents_out_of_range": 401,
    "quantity_out_of_range": 607,
    "time_in_future": 2003,
    "unknown_item": 307,
}
COPIED = 101  # every so many true rows, one says again what the row before said
EVENTS = """
    with numbered as (
        select range as n, hash(range) as h, hash(range + {rows}) as g from range({start}, {end})
    ),
    drawn as (
        select
            n, h, g,
            [{planted}] as hits,
            case when h % 100 < 15 then 'search' when h % 100 < 75 then 'view' when h % 100 < 90 then 'cart'
                else 'purchase' end as act
        from numbered
    ),
    told as (
        select
            case when n % {copied} = 0 and n > {start} and len(list_filter(hits, lambda hit: hit)) = 0
                then n - 1 else n end as said, *
        from drawn
    )
    select
        'e' || said as event_id,
        'u' || g % {users} as user_id,
        case when n % 503 = 0 then 'teleport' else act end as event_type,
        case when act = 'search' or n % 997 = 0 then null when n % 307 = 0 then 'gone'
            else 'i' || (h // 100) % {items} end as item_id,
        case when act = 'search' then 'query ' || g % 5000 end as query,
        case when n % 1009 = 0 then null when n % 2003 = 0 then timestamp '{day} 12:00:00' + interval 3 day
            else timestamp '{day}' + to_seconds((g // 7 % 86400)::int) end as occurred_at,
        case when n % 607 = 0 then 0 else 1 + h % 3 end::int as quantity,
        case when n % 401 = 0 then -1 else (h // 1000) % 100000 end::bigint as price_cents,
        's' || g % ({users} * 4) as session_id,
        case when act = 'purchase' then 'o' || g % ({users} * 2) end as order_id
    from told
"""


@dataclass(frozen=True)
class Cost:
    wall_seconds: float
    cpu_seconds: float
    peak_gib: float

    def cells(self, to: "Cost | None") -> list[str]:
        ratio = f"{self.cpu_seconds / to.cpu_seconds:.2f}" if to else ""
        return [f"{self.wall_seconds:.1f}", f"{self.cpu_seconds:.1f}", ratio, f"{self.peak_gib:.2f}"]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--events", type=int, nargs="+", default=[1_000_000, 20_000_000])
    ask.add_argument("--days", type=int, default=30)
    ask.add_argument("--formats", nargs="+", default=["parquet", "csv"], choices=["parquet", "csv"])
    ask.add_argument("--engines", nargs="+", default=["duckdb", "polars", "spark"])
    ask.add_argument("--one-more-day", type=int, metavar="EVENTS")
    ask.add_argument("--kill-executor", action="store_true")
    told = ask.parse_args()
    for form in told.formats:
        for events in told.events:
            with tempfile.TemporaryDirectory() as folder:
                home = Path(folder)
                started = time.monotonic()
                deal(home, events, told.days, form)
                print(f"{events:,} events in {told.days} files of {form}, dealt in {time.monotonic() - started:.0f} s")
                if told.one_more_day:
                    one_more_day(home, events, told.one_more_day, form)
                elif told.kill_executor:
                    kill_executor(home)
                else:
                    compare(home, events, told.engines, form)


def deal(home: Path, events: int, days: int, form: str) -> None:
    """A catalogue, and `events` in one file a day."""
    first = LAST_DAY - dt.timedelta(days=days - 1)
    with duckdb.connect() as connection:
        catalogue = place(home, "items", first, "parquet")
        connection.execute(
            f"copy (select 'i' || range as item_id, 'Item ' || range as title from range({ITEMS})) to '{catalogue}'"
        )
        for number in range(days):
            start, end = events * number // days, events * (number + 1) // days
            deal_day(connection, home, first + dt.timedelta(days=number), start, end, form)


def deal_day(connection: duckdb.DuckDBPyConnection, home: Path, day: dt.date, start: int, end: int, form: str) -> None:
    query = EVENTS.format(
        start=start, end=end, rows=1 << 40, day=day, items=ITEMS, users=USERS, copied=COPIED,
        planted=", ".join(f"n % {every} = 0" for every in PLANTED.values()),
    )  # fmt: skip
    connection.execute(f"copy ({query}) to '{place(home, 'events', day, form)}'")


def place(home: Path, table: str, day: dt.date, form: str) -> Path:
    path = home / "raw" / table / f"dt={day}" / f"part.{form}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def compare(home: Path, events: int, engines: list[str], form: str) -> None:
    costs: dict[str, Cost] = {}
    counts: dict[str, dict[str, int]] = {}
    for engine in engines:
        if engine == "spark":
            costs[engine] = nightshelf(home)
            counts[engine] = counted(home)
        else:
            target = home / engine
            costs[engine] = cost_of([sys.executable, HERE / "cleaning_rivals.py", engine, home, target])
            counts[engine] = json.loads((target / "books.json").read_text())
    if any(count != counts[engines[0]] for count in counts.values()):
        raise SystemExit(f"The engines disagree: {json.dumps(counts, indent=2)}")
    table = Table("engine", "wall s", "CPU s", "CPU to the first", "peak GiB", title=f"{events:,} events, {form}")
    for engine, cost in costs.items():
        table.add_row(engine, *cost.cells(costs[engines[0]]))
    Console().print(table)
    print("All agree:", ", ".join(f"{rule} {count:,}" for rule, count in counts[engines[0]].items()))


def one_more_day(home: Path, events: int, more: int, form: str) -> None:
    """What the next night pays when everything before it is clean."""
    past = nightshelf(home)
    day = LAST_DAY + dt.timedelta(days=1)
    with duckdb.connect() as connection:
        deal_day(connection, home, day, events, events + more, form)
    cost = nightshelf(home, day)
    table = Table("what is cleaned", "wall s", "CPU s", "", "peak GiB")
    table.add_row(f"{events:,} events", *past.cells(None))
    table.add_row(f"one more day of {more:,}", *cost.cells(None))
    Console().print(table)


def kill_executor(home: Path) -> None:
    """The same job on two executors of their own processes; one dies in the middle."""
    alone = nightshelf(home, label="alone")
    bytes_alone = fingerprint(home, "alone")
    shutil.rmtree(home / "lake")  # else all is clean already
    kill = KillOnce(after=alone.wall_seconds / 2)
    cost = nightshelf(home, label="cluster", settings=["clean.spark_master=local-cluster[2,1,2048]"], watch=kill)
    if not kill.killed:
        raise SystemExit("The job ended before an executor was killed. Take more --events.")
    table = Table("where", "wall s", "CPU s", "", "peak GiB")
    table.add_row("one process", *alone.cells(None))
    table.add_row("two executors, one killed", *cost.cells(None))
    Console().print(table)
    if fingerprint(home, "cluster") != bytes_alone:
        raise SystemExit("Different bytes.")
    print("Equal bytes.")


class KillOnce:
    """Kills one Spark executor, once, so many seconds after the first one was seen."""

    def __init__(self, after: float):
        self.after, self.seen_at, self.killed = after, 0.0, False

    def __call__(self, tree: list[psutil.Process]) -> None:
        executors = [process for process in tree if "CoarseGrainedExecutorBackend" in " ".join(process.cmdline())]
        if executors and not self.seen_at:
            self.seen_at = time.monotonic()
        if executors and not self.killed and time.monotonic() - self.seen_at > self.after:
            executors[0].kill()
            self.killed = True


def nightshelf(
    home: Path,
    day: dt.date = LAST_DAY,
    label: str = "bench",
    settings: list[str] | None = None,
    watch: Callable[[list[psutil.Process]], None] = lambda tree: None,
) -> Cost:
    """`nightshelf open` and `nightshelf clean`, as the night does them."""
    settings = ["shop.opened_on=2020-01-01", *(settings or [])]
    chosen = [part for setting in settings for part in ("--set", setting)]
    verbs = [["open", "--day", str(day), "--label", label, *chosen], ["clean", f"{day}.{label}"]]
    costs = [cost_of([sys.executable, "-m", "pipelines", *verb], home, watch) for verb in verbs]
    return Cost(
        sum(cost.wall_seconds for cost in costs),
        sum(cost.cpu_seconds for cost in costs),
        max(cost.peak_gib for cost in costs),
    )


def counted(home: Path, label: str = "bench") -> dict[str, int]:
    """Rows by rule in the books of the run's events."""
    books = json.loads((home / "runs" / f"{LAST_DAY}.{label}" / "clean" / "books.json").read_text())
    counts: Counter[str] = Counter()
    for record in books:
        if record["table_name"] == "events":
            counts[record["rule"]] += record["count_rows"]
    return dict(sorted(counts.items()))


def fingerprint(home: Path, label: str) -> str:
    """Hash of every Parquet file that the run reads, and of the rejected ones beside them but for the run's name."""
    told = json.loads((home / "runs" / f"{LAST_DAY}.{label}" / "clean" / "partitions.json").read_text())
    known = hashlib.sha256()
    for partition in (Path(folder) for folders in told.values() for folder in folders):
        for path in sorted(partition.rglob("verdict=accepted/*.parquet")):
            known.update(str(path.relative_to(partition)).encode() + hashlib.sha256(path.read_bytes()).digest())
        known.update((partition / "books.json").read_bytes())
    return known.hexdigest()


def cost_of(
    command: list, home: Path | None = None, watch: Callable[[list[psutil.Process]], None] = lambda tree: None
) -> Cost:
    """Run a command to its end; wall and CPU seconds, and the most memory that its process tree held at once."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)} | ({"NIGHTSHELF_HOME": str(home)} if home else {})
    started = time.monotonic()
    process = subprocess.Popen(list(map(str, command)), env=environment, stdout=subprocess.DEVNULL)
    peak = [0.0]
    sampler = threading.Thread(target=sample, args=(process, peak, watch))
    sampler.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    sampler.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {process.returncode}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak[0] / 2**30)


def sample(process: subprocess.Popen, peak: list[float], watch: Callable[[list[psutil.Process]], None]) -> None:
    """Proportional set size of the tree, four times a second: a page that two processes share counts once."""
    root = psutil.Process(process.pid)
    while process.returncode is None:
        try:
            tree = [root, *root.children(recursive=True)]
            peak[0] = max(peak[0], sum(one.memory_full_info().pss for one in tree))
            watch(tree)
        except psutil.Error:  # a process ended while it was looked at; the next look sees the others
            continue
        finally:
            time.sleep(0.25)


if __name__ == "__main__":
    main()
