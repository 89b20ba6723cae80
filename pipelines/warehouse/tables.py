"""What a run publishes, table by table.

A stage that makes a published table writes `<table>.parquet` into its folder; tables that dbt makes stand in the marts.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pandas as pd

from pipelines import contracts, profiles
from pipelines.contracts import Table
from pipelines.costs import costs
from pipelines.raw import RawFile
from pipelines.run import Run
from pipelines.warehouse import renamed

SERVING = "serving"
PART = 1 << 19  # rows of a table that are a frame at once
UNHASHED = {"runs": "false", "metrics": "kind <> 'cost'"}  # what differs between two equal nights: times and costs
RETURNS = {
    "order": "matched_by_order",
    "quantity": "matched_by_quantity",
    "first_in": "matched_first_in",
    None: "unmatched",
}


def relation(run: Run, name: str, folder: Path | None = None) -> str:
    """SQL that reads a published table from where its stage wrote it; `folder` is that of a stage still at work."""
    found = sorted(run.folder.glob(f"*/{name}.parquet"))
    places = [place for place in found if not place.parent.name.endswith(".partial") or place.parent == folder]
    if places:
        return f"read_parquet('{_quoted(places[-1])}')"
    if name == "rejected_rows":
        return _rejected_rows(run)
    return f"marts.{name}"


def frame(run: Run, name: str, folder: Path | None = None) -> pd.DataFrame:
    """A table as it would be published, with the contract's types."""
    with _reader(run) as connection:
        connection.execute(contracts.tables(SERVING)[name].ddl(f"memory.{name}"))
        _insert(connection, run, contracts.tables(SERVING)[name], f"memory.{name}", folder)
        return connection.execute(f"select * from memory.{name}").df()


def parts(run: Run, name: str, folder: Path | None = None) -> Iterator[pd.DataFrame]:
    """A table in parts of about PART rows, an empty one as one part; rows of one key are in one part."""
    table, source = contracts.tables(SERVING)[name], relation(run, name, folder)
    key = ", ".join(f'"{column}"' for column in table.key)
    with _reader(run) as connection:
        counted = connection.execute(f"select count(*) from {source}").fetchone()
        count = -(-counted[0] // PART) if counted and counted[0] else 1
        for number in range(count):
            connection.execute(table.ddl(f"memory.{name}").replace("create table", "create or replace table"))
            own = f"(select * from {source} where hash({key}) % {count} = {number})"
            connection.execute(f"insert into memory.{name} by name select * from {own} order by {key}")
            rows = connection.execute(f"select * from memory.{name}").df()
            if len(rows) or count == 1:  # of few rows some parts may have none
                yield rows


def broken(run: Run, name: str, conditions: Sequence[str], folder: Path | None = None) -> tuple[int, ...]:
    """Rows of a table; rows that share their key with another; rows for which each condition in SQL is true."""
    key = ", ".join(f'"{column}"' for column in contracts.tables(SERVING)[name].key)
    source = relation(run, name, folder)
    told = ", ".join(f"({condition}) as c{n}" for n, condition in enumerate(conditions))
    counts = ", ".join(f"count(*) filter (where c{n})" for n in range(len(conditions)))
    query = f"""
        with judged as (select {told} from {source}),
        doubles as (select count(*) as n from {source} group by {key} having n > 1)
        select count(*), (select coalesce(sum(n), 0)::bigint from doubles), {counts} from judged
    """
    with _reader(run) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row


def write(run: Run, path: Path, folder: Path | None = None) -> dict[str, dict[str, object]]:
    """Write all tables into one DuckDB file, rows sorted by key; columns, count_rows and hash by table."""
    tables = contracts.tables(SERVING)
    with _reader(run) as connection:
        connection.execute(f"attach '{_quoted(path)}' as release")
        for name, table in tables.items():
            connection.execute(renamed.definition(table, f"release.{name}"))
            _insert(connection, run, table, f"release.{name}", folder)
        written = {name: summary(connection, table, f"release.{name}") for name, table in tables.items()}
        connection.execute("checkpoint release")
        connection.execute("detach release")
    return written


def receipts(run: Run) -> list[dict]:
    """What cleaning read from each file that counts: table, path, sha256, lines and rows. A partition keeps the paths
    of the night that cleaned it, so that a file renamed since is known by its content only."""
    partitions = json.loads(run.of("clean", "partitions.json").read_text())
    return [
        {"table_name": table, **one}
        for table, folders in partitions.items()
        for folder in folders
        for one in json.loads((Path(folder) / "files.json").read_text())
    ]


def delivered_rows(run: Run) -> dict[str, int | None]:
    """Rows of each raw file of the run, repeated ones included; None where no receipt tells of all its lines."""
    inventory = [RawFile.remembered(one) for one in json.loads((run.lake / "inventory.json").read_text()).values()]
    lines = {(file.table, file.sha256, file.count_lines) for file in inventory}
    rows = {
        (one["table_name"], one["sha256"]): one["count_rows"]
        for one in receipts(run)
        if (one["table_name"], one["sha256"], one["count_lines"]) in lines
    }
    return {path: rows.get((Path(path).parts[1], sha256)) for path, sha256 in run.inputs.items()}


def write_runs(run: Run, folder: Path) -> None:
    """One row that tells how the night was made."""
    chosen = json.loads(run.of("fuse", "fusion.json").read_text())
    row = {
        "run_id": run.run_id,
        "run_date": run.day,
        "label": run.label,
        "opened_at": pd.Timestamp(run.opened_at).tz_convert("UTC").tz_localize(None),
        "code_version": run.code_version,
        "settings": run.settings.model_dump_json(),
        "packages": json.dumps(dict(run.packages), sort_keys=True),
        "models_of": run.models_of or run.run_id,
        "proof_of": run.proved_by,
        "proved_on": run.proved_on,
        "fusion": chosen["for_you"],
        "fusion_discover": chosen["discover"],
        "fusion_buy_again": chosen["for_you"],  # the same ranking of what was bought
    }
    pd.DataFrame([row]).to_parquet(folder / "runs.parquet", index=False)


def write_arrivals(run: Run, folder: Path) -> None:
    """When the events of each day arrived, from the profiles of the run's partitions."""
    told = pd.DataFrame(profiles.arrivals(profiles.of(run, "events")))
    told.assign(run_id=run.run_id).to_parquet(folder / "arrivals.parquet", index=False)


def write_metrics(run: Run, folder: Path) -> None:
    """Quality from the stages that measured it, volumes from cleaning, costs from every stage so far."""
    rows = [
        {"kind": "quality", **record}
        for stage in ("fuse", "shelve", "search")
        for record in json.loads(run.of(stage, "metrics.json").read_text())
    ]
    for record in pd.DataFrame(json.loads(run.of("clean", "books.json").read_text())).groupby("table_name"):
        name, books = record
        accepted = books["rule"] == "accepted"
        for metric, count in (("accepted", books[accepted]), ("rejected", books[~accepted])):
            rows.append(
                {"kind": "volume", "metric": f"{name}/{metric}_rows", "value": float(count["count_rows"].sum())}
            )
    rows += [{"kind": "volume", "metric": f"returns/{name}", "value": float(n)} for name, n in returns(run).items()]
    for stage, figures in costs(run.folder).items():
        rows += [{"kind": "cost", "metric": f"cost/{stage}/{name}", "value": value} for name, value in figures.items()]
    columns = ["metric", "kind", "value", "low", "high"]
    pd.DataFrame(rows).reindex(columns=columns).assign(run_id=run.run_id).to_parquet(
        folder / "metrics.parquet", index=False
    )


def returns(run: Run) -> dict[str, int]:
    """How returns found their purchases: rows of `returned_purchases`, and pieces."""
    query = "select matched_by, count(*), sum(quantity) from marts.returned_purchases group by matched_by"
    with _reader(run) as connection:
        counted = {matched_by: figures for matched_by, *figures in connection.execute(query).fetchall()}
    return {
        f"{name}{unit}": figure
        for matched_by, name in RETURNS.items()
        for unit, figure in zip(("", "_pieces"), counted.get(matched_by, (0, 0)), strict=True)
    }


@contextmanager
def _reader(run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
    """The marts, read within the machine's bounds: what is too large for them lies in the run's folder meanwhile."""
    told = run.settings.machine
    with TemporaryDirectory(prefix="duckdb.", dir=run.folder) as spilled, duckdb.connect() as connection:
        connection.execute(f"set threads = {told.threads}")
        connection.execute(f"set memory_limit = '{told.database_mb}MiB'")
        connection.execute(f"set temp_directory = '{_quoted(Path(spilled))}'")
        connection.execute(f"attach '{_quoted(run.of('build', 'marts.duckdb'))}' as marts (read_only)")
        yield connection


def _insert(
    connection: duckdb.DuckDBPyConnection, run: Run, table: Table, target: str, folder: Path | None = None
) -> None:
    order = ", ".join(f'"{name}"' for name in table.key)
    connection.execute(
        f"insert into {target} by name select * from {relation(run, table.name, folder)} order by {order}"
    )


def _rejected_rows(run: Run) -> str:
    """The books, which are kept by file, by table, arrival day and rule."""
    table = contracts.tables(SERVING)["rejected_rows"]
    columns = ", ".join(f"{column.name}: '{column.data_type}'" for column in table.columns if column.name != "run_id")
    books = f"read_json('{_quoted(run.of('clean', 'books.json'))}', columns = {{{columns}}})"
    return (
        "(select table_name, arrival_date, rule, sum(count_rows)::bigint as count_rows, min(example) as example,"
        f" '{run.run_id}' as run_id from {books} where rule <> 'accepted' group by all)"
    )


def summary(connection: duckdb.DuckDBPyConnection, table: Table, place: str) -> dict[str, object]:
    """Of a table at a place in SQL: columns, row count and hash."""
    columns = {column.name: column.data_type for column in table.columns}
    return {"columns": columns, **summed(connection, place, table.name)}


def summed(connection: duckdb.DuckDBPyConnection, place: str, name: str) -> dict[str, object]:
    """Row count of the table `name` at `place`, and a hash that does not depend on the order of rows."""
    hashed = f"coalesce(sum(md5_number_lower(cast(t as varchar))) filter ({UNHASHED.get(name, 'true')}), 0)"
    row = connection.execute(f"select count(*), {hashed} from {place} as t").fetchone()
    assert row is not None
    return {"count_rows": row[0], "hash": f"{int(row[1]):x}"}


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
