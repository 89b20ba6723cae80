"""The lake without some users: partitions that hold them go, and those whose raw files have changed."""

import datetime as dt
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import duckdb

from pipelines.forget.delivered import TABLES, mentions

HOLDS = """
    select count(*) from read_parquet(?, union_by_name = true, hive_partitioning = false)
    where user_id in (select unnest(?::varchar[])) or regexp_matches({original}, ?)
"""


def erase(home: Path, users: Collection[str], since: dt.date | None) -> int:
    """Partitions that were removed: the next night cleans their days anew from what is left of the raw files."""
    gone = [folder for folder in _partitions(home) if _is_stale(folder, since) or _holds(folder, users)]
    for folder in gone:
        shutil.rmtree(folder)
    return len(gone)


def _partitions(home: Path) -> Iterator[Path]:
    for table in TABLES:
        yield from sorted((home / "lake" / table).glob("arrival_date=*/*/"))


def _is_stale(folder: Path, since: dt.date | None) -> bool:
    """Whether a file of its day, or of one before, has changed: its name tells of the old ones."""
    return since is not None and dt.date.fromisoformat(folder.parent.name.removeprefix("arrival_date=")) >= since


def _holds(folder: Path, users: Collection[str]) -> bool:
    with duckdb.connect(config={"threads": 1}) as connection:
        for verdict, original in (("accepted", "''"), ("rejected", "original")):
            paths = sorted(str(path) for path in folder.glob(f"verdict={verdict}/*.parquet"))
            told = [paths, sorted(users), mentions(users).pattern]
            if paths and connection.execute(HOLDS.format(original=original), told).fetchone() != (0,):
                return True
    return False
