"""The lake without some users: partitions that hold them go, and those whose raw files have changed; where there are no
raw files any more of which a partition could be made again, the users' rows go alone."""

import datetime as dt
import json
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import duckdb

from pipelines.forget.delivered import TABLES, mentions
from pipelines.raw import removed
from pipelines.run import write_json

THEIRS = """
    coalesce(user_id in (select unnest($users::varchar[])), false)
    or coalesce(regexp_matches({original}, $pattern), false)
"""
ROWS = "read_parquet($paths, union_by_name = true, hive_partitioning = false)"
ORIGINAL = {"accepted": "''", "rejected": "original"}  # by verdict


def erase(home: Path, users: Collection[str], since: dt.date | None) -> int:
    """Partitions that were removed, whose days the next night cleans anew from what is left of the raw files, or
    written again without the users."""
    alone = {home / one.partition for one in removed.load(home).values()}
    count = 0
    for folder in _partitions(home):
        holds = _holds(folder, users)
        if folder in alone and holds:
            _rewrite(folder, users)
        elif folder not in alone and (holds or _is_stale(folder, since)):
            shutil.rmtree(folder)
        else:
            continue
        count += 1
    return count


def _partitions(home: Path) -> Iterator[Path]:
    for table in TABLES:
        yield from sorted((home / "lake" / table).glob("arrival_date=*/*/"))


def _is_stale(folder: Path, since: dt.date | None) -> bool:
    """Whether a file of its day, or of one before, has changed: its name tells of the old ones."""
    return since is not None and dt.date.fromisoformat(folder.parent.name.removeprefix("arrival_date=")) >= since


def _holds(folder: Path, users: Collection[str]) -> bool:
    with duckdb.connect(config={"threads": 1}) as connection:
        for verdict, paths in _files(folder).items():
            query = f"select count(*) from {ROWS} where {THEIRS.format(original=ORIGINAL[verdict])}"
            if connection.execute(query, _told(paths, users)).fetchone() != (0,):
                return True
    return False


def _rewrite(folder: Path, users: Collection[str]) -> None:
    """The books first: as long as a file holds the users, doing it again finishes it."""
    with duckdb.connect(config={"threads": 1}) as connection:
        _recount(folder, users, connection)
        for verdict, paths in _files(folder).items():
            for path in paths:
                partial = f"{path}.partial"
                query = f"select * from {ROWS} where not ({THEIRS.format(original=ORIGINAL[verdict])})"
                connection.sql(query, params=_told([path], users)).write_parquet(partial, compression="zstd")
                os.replace(partial, path)


def _recount(folder: Path, users: Collection[str], connection: duckdb.DuckDBPyConnection) -> None:
    """Books and receipts of what will be left. The day's profile stays: it says how much arrived, and of nobody."""
    left: Counter[tuple[str, str]] = Counter()
    for verdict, paths in _files(folder).items():
        rule = "rule" if verdict == "rejected" else "'accepted'"
        kept = f"not ({THEIRS.format(original=ORIGINAL[verdict])})"
        query = f"select file, {rule}, count(*) from {ROWS} where {kept} group by all"
        left.update({(file, rule): n for file, rule, n in connection.execute(query, _told(paths, users)).fetchall()})
    books, pattern = json.loads((folder / "books.json").read_text()), mentions(users)
    for record in books:
        if record["rule"] != "repeated_file":
            record["count_rows"] = left[record["file"], record["rule"]]
        if pattern.search(record["example"] or ""):
            record["example"] = None
    receipts = json.loads((folder / "files.json").read_text())
    for one in receipts:
        one["count_rows"] = sum(n for (file, _), n in left.items() if file == one["file"])
    write_json(folder / "files.json", receipts)
    write_json(folder / "books.json", [record for record in books if record["count_rows"]])


def _files(folder: Path) -> dict[str, list[str]]:
    """Parquet files by verdict, of verdicts that there are."""
    found = {verdict: sorted(map(str, folder.glob(f"verdict={verdict}/*.parquet"))) for verdict in ORIGINAL}
    return {verdict: paths for verdict, paths in found.items() if paths}


def _told(paths: list[str], users: Collection[str]) -> dict[str, object]:
    return {"paths": paths, "users": sorted(users), "pattern": mentions(users).pattern}
