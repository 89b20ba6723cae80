"""Erasing: the rows of some users out of a DuckDB file, which is written again so that no byte of them is left."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import duckdb

from pipelines.warehouse.tables import summed

OWNERS = ("user_id", "visitor_id")  # columns that say whose a row is
QUOTES = ("example",)  # columns that hold a row as it came
PARQUET = "format parquet, compression zstd"


def broken(columns: Collection[str]) -> tuple[str, str]:
    """When a row of these columns is one of the users $users, and the row as it may be kept, in SQL: an example that
    quotes one is none any more. $pattern finds their ids in text."""
    theirs = [f'"{name}" in (select unnest($users::varchar[]))' for name in columns if name in OWNERS]
    quotes = [f"""case when regexp_matches("{n}", $pattern) then null else "{n}" end as "{n}" """ for n in QUOTES]
    kept = [quote for name, quote in zip(QUOTES, quotes, strict=True) if name in columns]
    return " or ".join(theirs) or "false", f"* replace ({', '.join(kept)})" if kept else "*"


def database(path: Path, users: Collection[str], pattern: str) -> int:
    """Write the file's tables again without the users; how many rows went or were changed. Views are left out.

    A file without any such row is not touched.
    """
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"attach '{_quoted(path)}' as before (read_only)")
        listed = "select table_name from duckdb_tables() where database_name = 'before' and schema_name = 'main'"
        names = [name for (name,) in connection.execute(listed).fetchall()]
        columns = {name: _columns(connection, f'before."{name}"') for name in names}
        count = sum(_count(connection, f'before."{name}"', columns[name], users, pattern) for name in names)
        if not count:
            return 0
        connection.execute(f"attach '{_quoted(partial)}' as after")
        for name in names:
            theirs, kept = broken(columns[name])
            values = _values(f"{theirs} {kept}", users, pattern)
            query = f'create table after."{name}" as select {kept} from before."{name}" where ({theirs}) is not true'
            connection.execute(query, values)
        connection.execute("checkpoint after")
        connection.execute("detach after")
    mode = path.stat().st_mode
    os.chmod(partial, mode)
    os.replace(partial, path)
    return count


def parquet(path: Path, target: Path, users: Collection[str], pattern: str) -> int:
    """Write the file's rows again without the users, to `target`; how many rows went or were changed. Without any such
    row nothing is written."""
    source = f"read_parquet('{_quoted(path)}', hive_partitioning = false)"
    with duckdb.connect() as connection:
        connection.execute(f"create view source as select * from {source}")
        columns = _columns(connection, "source")
        if count := _count(connection, "source", columns, users, pattern):
            theirs, kept = broken(columns)
            target.parent.mkdir(parents=True, exist_ok=True)
            query = f"copy (select {kept} from source where ({theirs}) is not true) to '{_quoted(target)}' ({PARQUET})"
            connection.execute(query, _values(f"{theirs} {kept}", users, pattern))
    return count


def retold(manifest: dict[str, Any], path: Path, sha256: str, count: int) -> dict[str, Any]:
    """The manifest of a release file from which rows were erased: its name stays, and a note says so."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return {**recounted(manifest, connection, count), "sha256": sha256}


def recounted(manifest: dict[str, Any], release: duckdb.DuckDBPyConnection, count: int) -> dict[str, Any]:
    """The manifest of a release that is read there, which has lost so many rows."""
    tables = {name: {**told, **summed(release, f'"{name}"', name)} for name, told in manifest["tables"].items()}
    return {**manifest, "tables": tables, "erased_rows": manifest.get("erased_rows", 0) + count}


def _columns(connection: duckdb.DuckDBPyConnection, place: str) -> list[str]:
    return [row[0] for row in connection.execute(f"describe {place}").fetchall()]


def _count(
    connection: duckdb.DuckDBPyConnection, place: str, columns: list[str], users: Collection[str], pattern: str
) -> int:
    theirs, _ = broken(columns)
    quoting = [f'regexp_matches("{column}", $pattern)' for column in QUOTES if column in columns]
    condition = " or ".join([f"({theirs})", *quoting])
    query = f"select count(*) from {place} where {condition}"
    row = connection.execute(query, _values(condition, users, pattern)).fetchone()
    return row[0] if row else 0


def _values(query: str, users: Collection[str], pattern: str) -> dict[str, object]:
    """Those that the query names: DuckDB refuses others."""
    return {name: told for name, told in (("users", sorted(users)), ("pattern", pattern)) if f"${name}" in query}


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
