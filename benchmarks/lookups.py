"""One user's shelves, looked up by id: a release file, PostgreSQL with an index, and PostgreSQL with one row per user.

`python benchmarks/lookups.py ADDRESS --users 100000`, where ADDRESS is that of a role that may create schemas in a
database for trying out. Prints size, time to fill, and the median and 99th percentile of a look-up on one connection.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psycopg2
from rich.console import Console
from rich.table import Table

ROWS = """
    select placement, 'u' || lpad(u::varchar, 8, '0') as user_id, r + 1 as rank, 'i' || (hash(u, r) % 20000) as item_id,
           random() as score, random() as als_score, random() as habit_score, 'goes_with' as reason, 'run' as run_id
    from (values ('buy_again'), ('discover'), ('for_you')) as p(placement), range({users}) as a(u), range(20) as b(r)
    order by all
"""
COLUMNS = (
    "placement varchar, user_id varchar, rank bigint, item_id varchar, score double precision,"
    " als_score double precision, habit_score double precision, reason varchar, run_id varchar"
)
PACKED = """
    create table lookups.packed as
    select user_id, placement, jsonb_agg(to_jsonb(s) - 'user_id' - 'placement' order by rank) as shelf
    from lookups.shelves as s
    group by user_id, placement;
    create unique index on lookups.packed (user_id, placement);
    analyze lookups.packed
"""
INDEXED = "create unique index on lookups.shelves (user_id, rank, placement); analyze lookups.shelves"
SHELF = "select item_id, score, reason from {} where user_id = {} and placement = 'for_you' order by rank"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--lookups", type=int, default=2000)
    told = parser.parse_args()
    dice = np.random.default_rng(17)
    wanted = [f"u{user:08d}" for user in dice.integers(0, told.users, told.lookups)]
    table = Table("place", "MiB", "filled in s", "median ms", "p99 ms", title=f"{told.users:,} users")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "release.duckdb"
        seconds = seconds_of(lambda: fill_file(file, told.users))
        with duckdb.connect(str(file), read_only=True) as release:
            query = SHELF.format("shelves", "$1")
            times = [seconds_of(partial(read, release, query, user)) for user in wanted]
        table.add_row("DuckDB file, sorted by key", *figures(file.stat().st_size, seconds, times))
        connection = psycopg2.connect(told.address)
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("drop schema if exists lookups cascade; create schema lookups")
        cursor.execute(f"create table lookups.shelves ({COLUMNS})")
        filled = seconds_of(lambda: fill_server(cursor, file, Path(folder) / "rows.csv"))
        for name, make, query in (
            ("shelves", INDEXED, SHELF.format("lookups.shelves", "%s")),
            ("packed", PACKED, "select shelf from lookups.packed where user_id = %s and placement = 'for_you'"),
        ):
            seconds = filled + seconds_of(partial(cursor.execute, make))
            times = [seconds_of(partial(read, cursor, query, user)) for user in wanted]
            cursor.execute("select pg_total_relation_size(%s)", [f"lookups.{name}"])
            ((size,),) = cursor.fetchall()
            place = {"shelves": "PostgreSQL, a row per item and an index", "packed": "PostgreSQL, a row per shelf"}
            table.add_row(place[name], *figures(size, seconds, times))
        cursor.execute("drop schema lookups cascade")
    Console().print(table)


def fill_file(file: Path, users: int) -> None:
    with duckdb.connect(str(file)) as release:
        release.execute(f"create table shelves as {ROWS.format(users=users)}")
        release.execute("checkpoint")


def fill_server(cursor: Any, file: Path, rows: Path) -> None:
    with duckdb.connect(str(file), read_only=True) as release:
        release.execute(f"copy shelves to '{rows}' (header false)")
    with rows.open() as lines:
        cursor.copy_expert("copy lookups.shelves from stdin (format csv)", lines)


def read(cursor: Any, query: str, user: str) -> list[tuple]:
    cursor.execute(query, [user])
    return cursor.fetchall()


def figures(size: int, seconds: float, times: list[float]) -> list[str]:
    median, p99 = (f"{1000 * np.percentile(times, part):.2f}" for part in (50, 99))
    return [f"{size / 2**20:.0f}", f"{seconds:.1f}", median, p99]


def seconds_of(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
