"""The books of cleaning: each delivered row accounted for by file and rule, and each rejected one kept as it came."""

import datetime as dt
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import contracts, forgotten
from pipelines.clean import footers
from pipelines.clean.lake import VERDICTS, Partition
from pipelines.errors import BadInput
from pipelines.raw import RawFile
from pipelines.raw.files import shown
from pipelines.raw.records import originals
from pipelines.run import Run, write_json

# A zone's calendar is looked up once a minute instead of once an event: it is what costs most here.
MINUTES = """(
    select date_trunc('minute', occurred_at) as occurred_at, arrived_on, count(*) as n from accepted group by all
)"""
SHOWN_CHARS = 500  # of an example in a message: a row may be long


@dataclass(frozen=True)
class Counted:
    """How many rows and lines cleaning read from one file."""

    file: RawFile
    count_rows: int


def close(
    run: Run, partition: Partition, written: Path, counted: Sequence[Counted], repeated: Mapping[str, int]
) -> list[dict]:
    """Finish what Spark wrote of one day: one file for each verdict and bucket, originals beside rejected rows, and
    the books, which it returns.

    `repeated` are the rows of each file that another one repeats. Raises BadInput when a file's rows are not all
    accounted for.
    """
    written.mkdir(exist_ok=True)
    for verdict in VERDICTS:
        _rename(written / f"verdict={verdict}")
    with duckdb.connect(config={"threads": 1}) as connection:
        if rejected := sorted((written / "verdict=rejected").glob("*.parquet")):
            _quote(run, partition, rejected, connection)
        books = [record for verdict in VERDICTS for record in _count(written / f"verdict={verdict}", connection)]
        _balance(partition, books, counted)
        books += _repeats(partition, repeated)
        write_json(written / "files.json", [_receipt(one) for one in counted])
        write_json(written / "profile.json", _profile(run, partition, written, books, connection))
        write_json(written / "books.json", books)
    return books


def refuse_flood(pending: Sequence[Partition], books: Sequence[dict], max_share: float) -> None:
    """Stop when so much is rejected that the files, not the rows, must be wrong."""
    rejected: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for record in books:
        if record["rule"] not in ("accepted", *contracts.SAID_AGAIN):
            rejected[record["rule"]] += record["count_rows"]
            examples.setdefault(record["rule"], record["example"])
    total = sum(record["count_rows"] for record in books)
    if not total or rejected.total() / total <= max_share:
        return
    (rule, count), days = rejected.most_common(1)[0], [partition.day for partition in pending]
    raise BadInput(
        f"{pending[0].table}: {rejected.total()} of {total} rows of {_span(days)} would be rejected, most ({count}) by "
        f"the rule {rule}{_example(examples[rule])}. Correct the files or the mapping in "
        f"nightshelf.toml; if this is right, raise clean.max_rejected_share above {rejected.total() / total:.3f}."
    )


def _example(original: str | None) -> str:
    return f", for example {shown(original[:SHOWN_CHARS])}" if original else ""


def _rename(folder: Path) -> None:
    """Files by their bucket, not by what Spark happened to call them, with footers in one order."""
    for bucket in sorted(folder.glob("bucket=*")):
        for number, path in enumerate(sorted(bucket.glob("*.parquet"))):
            footers.sort_encodings(path.rename(folder / f"{bucket.name.partition('=')[2]:0>4}-{number}.parquet"))
        shutil.rmtree(bucket)


def _quote(run: Run, partition: Partition, paths: Sequence[Path], connection: duckdb.DuckDBPyConnection) -> None:
    """Put the text of each rejected row, as it stands in its file, beside it; of a forgotten user's nothing.

    Where users have pseudonyms it is nowhere but in the raw file, from which `count_lines` tells how to read it again.
    """
    is_open = not run.settings.clean.pseudonym_key
    files = {file.path: file for file in partition.files}
    for path in paths:
        rows = pq.read_table(path)
        places: dict[str, dict[int, int]] = {}
        keys = list(zip(*(rows[name].to_pylist() for name in ("file", "line", "count_lines")), strict=True))
        for file, line, count in keys:
            places.setdefault(file, {})[line] = count
        read = places.items() if is_open else ()
        texts = {f: originals(files[f], run.home, lines, run.settings.clean) for f, lines in read}
        is_kept = [is_open and rule != forgotten.RULE for rule in rows["rule"].to_pylist()]
        told = [texts[file][line] if kept else None for (file, line, _), kept in zip(keys, is_kept, strict=True)]
        original = pa.array(told, pa.string())
        quoted = (rows.drop_columns(["count_lines"]) if is_open else rows).append_column("original", original)
        named = quoted.append_column("run_id", pa.array([run.run_id] * len(rows), pa.string()))
        pq.write_table(named, path, compression="zstd")


def _count(folder: Path, connection: duckdb.DuckDBPyConnection) -> list[dict]:
    if not any(folder.glob("*.parquet")):
        return []
    is_rejected = folder.name == "verdict=rejected"
    rule, example = ("rule", "min(original)") if is_rejected else ("'accepted'", "null")
    rows = connection.execute(
        f"select file, {rule} as rule, count(*), {example} from read_parquet(?, hive_partitioning = false)"
        " group by all order by all",
        [f"{folder}/*.parquet"],
    ).fetchall()
    return [{"file": f, "rule": rule, "count_rows": n, "example": example} for f, rule, n, example in rows]


def _balance(partition: Partition, books: Sequence[dict], counted: Sequence[Counted]) -> None:
    accounted: Counter[str] = Counter()
    for record in books:
        accounted[record["file"]] += record["count_rows"]
    wrong = [one for one in counted if accounted[one.file.path] != one.count_rows]
    if wrong:
        told = ", ".join(f"{one.file.path} holds {one.count_rows}, {accounted[one.file.path]} counted" for one in wrong)
        raise BadInput(
            f"{partition.table}: rows of {partition.day} are not accounted for: {told}. Clean the day again."
        )


def _repeats(partition: Partition, rows: Mapping[str, int]) -> list[dict]:
    return [
        {"file": path, "rule": "repeated_file", "count_rows": rows[first], "example": f"the same bytes as {first}"}
        for path, first in sorted(partition.repeats.items())
        if rows[first]
    ]


def _receipt(one: Counted) -> dict:
    return {
        "file": one.file.path,
        "sha256": one.file.sha256,
        "count_lines": one.file.count_lines,
        "count_rows": one.count_rows,
    }


def _profile(
    run: Run, partition: Partition, written: Path, books: Sequence[dict], connection: duckdb.DuckDBPyConnection
) -> dict:
    """What the day looked like, for those who compare days."""
    rejected: Counter[str] = Counter()
    for record in books:
        rejected[record["rule"]] += record["count_rows"]
    accepted = rejected.pop("accepted", 0)
    told: dict = {"count_rows": accepted + rejected.total(), "accepted": accepted, "rejected": dict(rejected)}
    view = _view(connection, "accepted", written)
    told |= _accepted_profile(connection, partition.table, run.settings.shop.timezone) if view else {}
    if partition.table == "events" and _view(connection, "rejected", written):
        told["too_late"] = _too_late(connection, run.settings.shop.timezone)
    return told


def _view(connection: duckdb.DuckDBPyConnection, verdict: str, written: Path) -> bool:
    folder = written / f"verdict={verdict}"
    if not any(folder.glob("*.parquet")):
        return False
    quoted = str(folder).replace("'", "''")
    rows = f"read_parquet('{quoted}/*.parquet', hive_partitioning = false)"
    connection.execute(f"create or replace view {verdict} as select * from {rows}")
    return True


def _accepted_profile(connection: duckdb.DuckDBPyConnection, table: str, timezone: str) -> dict:
    names = [row[0] for row in connection.execute("describe accepted").fetchall()]
    counts = ", ".join(f'count(*) - count("{name}")' for name in names)
    nulls = connection.execute(f"select {counts} from accepted").fetchone() or ()
    told: dict = {"nulls": dict(zip(names, nulls, strict=True))}
    for name in ("item", "user"):
        if f"{name}_id" in names:
            told[f"count_{name}s"] = _one(connection, f"select count(distinct {name}_id) from accepted")
    if table == "events":
        told["event_types"] = _counts(connection, "event_type")
        lag = f"datediff('day', {_event_date(timezone)}, arrived_on)::varchar"
        told["lags"] = _counts(connection, lag, MINUTES, "sum(n)::bigint")
        told["last_occurred_at"] = _one(connection, "select max(occurred_at)::varchar from accepted")
    return told


def _too_late(connection: duckdb.DuckDBPyConnection, timezone: str) -> dict[str, int]:
    return _counts(connection, f"({_event_date(timezone)})::varchar", "rejected where rule = 'too_late'")


def _event_date(timezone: str) -> str:
    return f"(occurred_at at time zone 'UTC' at time zone '{timezone}')::date"


def _counts(
    connection: duckdb.DuckDBPyConnection, value: str, rows: str = "accepted", count: str = "count(*)"
) -> dict[str, int]:
    return dict(connection.execute(f"select {value}, {count} from {rows} group by 1 order by 1").fetchall())


def _one(connection: duckdb.DuckDBPyConnection, query: str):
    row = connection.execute(query).fetchone()
    return row and row[0]


def _span(days: Sequence[dt.date]) -> str:
    return f"{days[0]} to {days[-1]}" if len(days) > 1 else f"{days[0]}"
