"""Releases as tables of Spark SQL: folders of Parquet files, and a Hive metastore in which one pointer moves."""

import json
import os
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import duckdb
from pyspark.errors import PySparkException
from pyspark.sql import Row, SparkSession

from pipelines import contracts, spark
from pipelines.errors import NoWarehouse
from pipelines.settings import Settings
from pipelines.warehouse import erase, renamed
from pipelines.warehouse.files import Files, sync, write
from pipelines.warehouse.manifest import Judged

POINTER = "current_release"  # a view of one row, which each other view reads
PARTITION = "release"  # column of the tables behind the views
ROWS = "rows.parquet"
TYPES = {
    "VARCHAR": "string",
    "INTEGER": "int",
    "BIGINT": "bigint",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIMESTAMP": "timestamp_ntz",  # in UTC, as it is written; a session's time zone changes nothing
}
CONNECT_SECONDS = 10
Columns = dict[str, str]  # types of Spark by name


class SparkSql(Files):
    """`<home>/warehouse/spark`: as with files, but a release is a folder, `<table>/<version>/rows.parquet` in it.

    In the metastore a table holds the rows of all releases, a partition each. A view shows those of the release that
    `current_release` names. Spark looks a view up once in a statement, however many others read it: no statement sees
    two releases, and one metastore call moves all views.
    """

    place_in_home, kind = "warehouse/spark", "parquet"

    def __init__(self, home: Path, told: Settings, market: str = "") -> None:
        super().__init__(home)
        self.home, self.told, self.metastore = home, told, told.warehouse.metastore
        self.views = told.warehouse.schema_of(market)
        self.tables = f"releases_{self.views}"
        self.held = ExitStack()
        self.session: SparkSession | None = None

    @property
    def where(self) -> str:
        """Where readers find the current release."""
        return f"schema {self.views} of the metastore {self.metastore}"

    def ready(self) -> None:
        """Raises NoWarehouse when no metastore answers; its rights are seen when something is published."""
        if not self.metastore:
            raise NoWarehouse("warehouse.metastore is not set. It says where tables are listed: thrift://host:9083.")
        silent = []
        for address in self.metastore.removesuffix(",").split(","):
            host, _, port = address.removeprefix("thrift://").rpartition(":")
            try:
                socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
                return
            except OSError as error:
                silent.append(f"{address} ({error})")
        raise NoWarehouse(f"No metastore answers: {', '.join(silent)}. Start it, or correct warehouse.metastore.")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One publication, rollback or clearing at a time, in one Spark session, which the first statement starts."""
        with super().locked(), ExitStack() as self.held:
            yield

    def record(self, told: dict[str, Any], show: bool) -> None:
        """Make the release known to the metastore and write the move down; then, to `show` it, move the pointer, and
        last the link, which Nightshelf itself follows: a move that died between both is whole when it is done again."""
        self._hold(told["release"])
        super().record(told, show)

    def connect(self, name: str | None = None) -> duckdb.DuckDBPyConnection:
        """Read a release that is kept, by default the current one, by the same SQL as a release file."""
        release = duckdb.connect()
        for table, rows in _newest(self._release(name) if name else self.link.resolve()).items():
            release.execute(f'create view "{table}" as {_rows(rows)}')
        return renamed.bridged(release)

    def drop(self, name: str) -> bool:
        """Remove a release, unless the pointer leads to it; a statement that still reads it fails."""
        if self._pointed() == name:
            return False
        for table in self._listed(self.tables):
            self._perform(f"alter table {_in(self.tables, table)} drop if exists {_partition(name)}")
        folder = self._release(name)
        gone = folder.with_name(f"{folder.name}.partial")
        os.replace(folder, gone)
        shutil.rmtree(gone)
        return True

    def erase(self, name: str, users: Collection[str], pattern: str) -> int:
        """Write the tables again that have rows of the users, and lead the release's partitions to what is left; a
        statement that reads the old rows right then fails. Returns the rows."""
        count, folder = 0, self._release(name)
        for rows in _newest(folder).values():
            target = rows.parents[1] / f"{int(rows.parent.name) + 1}"
            partial = target.with_name(f"{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            if gone := erase.parquet(rows, partial / ROWS, users, pattern):
                _settle(partial)
                os.replace(partial, target)
                count += gone
        self._lead_on(name)
        if count and (manifest := self.manifest(name)):
            with self.connect(name) as release:
                told = erase.recounted(manifest, release, count)
            write(folder.with_suffix(".json"), json.dumps(told, sort_keys=True, default=str))
        return count

    def tidy(self, names: set[str]) -> None:
        for partial in self.releases.glob("*.partial/"):
            shutil.rmtree(partial)
        super().tidy(names)

    def _fill(self, partial: Path, made: Judged) -> None:
        shutil.rmtree(partial, ignore_errors=True)
        with duckdb.connect(str(made.path), read_only=True) as release:
            release.execute(f"set threads = {self.told.machine.threads}")
            for table, told in made.manifest["tables"].items():
                _write(release, table, partial / table / "0", told["count_rows"])
        sync(partial)

    def _hold(self, name: str) -> None:
        """Give each table of the release a partition in the metastore; a table that lacks columns gets them first."""
        folder, known = self._release(name), self._listed(self.tables)
        for table, columns in _columns(folder).items():
            place = _in(self.tables, table)
            if table not in known:
                told = _told({**columns, PARTITION: "string"})
                where = f"location {_text(self.releases)}"
                self._perform(f"create table {place} ({told}) using parquet partitioned by ({PARTITION}) {where}")
            elif new := self._new(table, columns):
                self._perform(f"alter table {place} add columns ({_told(new)})")
            where = f"location {_text(_newest(folder)[table].parent)}"
            self._perform(f"alter table {place} add if not exists {_partition(name)} {where}")

    def _new(self, table: str, columns: Columns) -> Columns:
        """Those columns that the table lacks; raises NoWarehouse for one that has another type there."""
        has = self._has(table)
        if other := [column for column in columns if has.get(column, columns[column]) != columns[column]]:
            column = other[0]
            raise NoWarehouse(
                f"{self.tables}.{table}.{column} is {has[column]} in earlier releases and {columns[column]} in this "
                "one; a table of Spark cannot be both. Readers keep what they have. Let the new contract have a schema "
                "of its own: another name in warehouse.views."
            )
        return {column: kind for column, kind in columns.items() if column not in has}

    def _show(self, name: str) -> None:
        """Make views fit the release, move the pointer, and take away views whose table the release lacks."""
        tables, views = _columns(self._release(name)), self._listed(self.views)
        pointer, leads = _in(self.views, POINTER), f"select {_text(name)} as {PARTITION}"
        self._perform(f"create view if not exists {pointer} as {leads}")
        for table, columns in tables.items():
            shown = _shown(table, columns, self._has(table))
            query = f"select {shown} from {_in(self.tables, table)} where {PARTITION} = (select * from {pointer})"
            self._perform(f"{'alter' if table in views else 'create'} view {_in(self.views, table)} as {query}")
        self._perform(f"alter view {pointer} as {leads}")
        for view in views - {*tables, POINTER}:
            self._perform(f"drop view {_in(self.views, view)}")
        super()._show(name)

    def _lead_on(self, name: str) -> None:
        """Lead partitions to the newest version of their rows, and remove the others."""
        folder = self._release(name)
        newest = {table: rows.parent for table, rows in _newest(folder).items()}
        old = [path for path in folder.glob("*/*/") if path != newest[path.parent.name]]
        if old:
            self._hold(name)
        for table in {path.parent.name for path in old}:
            moved = f"{_partition(name)} set location {_text(newest[table])}"
            self._perform(f"alter table {_in(self.tables, table)} {moved}")
        for path in old:
            shutil.rmtree(path)

    def _pointed(self) -> str | None:
        if POINTER not in self._listed(self.views):
            return None
        return self._perform(f"select * from {_in(self.views, POINTER)}")[0][0]

    def _listed(self, schema: str) -> set[str]:
        return {row.tableName for row in self._perform(f"show tables in {_named(schema)}")}

    def _has(self, table: str) -> Columns:
        """The columns of a table in the metastore."""
        rows = self._perform(f"describe table {_in(self.tables, table)}")
        return {row.col_name: row.data_type for row in takewhile(lambda row: row.col_name != PARTITION, rows)}

    def _perform(self, statement: str) -> list[Row]:
        """Say something to the metastore; raises NoWarehouse with what it answers."""
        try:
            return self._begun().sql(statement).collect()
        except PySparkException as error:
            told = str(error).partition("\n")[0]
            raise NoWarehouse(
                f"{self.metastore}: {told} (`{statement[:200]}`). Readers have one whole release. Correct the cause, "
                "then do the same again."
            ) from None

    def _begun(self) -> SparkSession:
        """The session of what is locked; the two schemas are there."""
        if self.session is None:
            self.session = self.held.enter_context(spark.catalog(self.home, self.told, self.metastore))
            self.held.callback(setattr, self, "session", None)
            for schema in (self.tables, self.views):
                self._perform(f"create schema if not exists {_named(schema)} location {_text(self.folder / schema)}")
        return self.session


def _write(release: duckdb.DuckDBPyConnection, table: str, folder: Path, count_rows: int) -> None:
    """A table's rows in the order in which the judged file has them, which is that of the key."""
    folder.mkdir(parents=True)
    columns = ", ".join(f'"{name}"' for name in contracts.tables("serving")[table].names)
    query = f"copy (select {columns} from {table}) to '{_quoted(folder / ROWS)}' ({erase.PARQUET})"
    found = release.execute(query).fetchone()
    if found != (count_rows,):
        raise NoWarehouse(f"{folder} took in {found} of {count_rows} rows. Publish it again.")
    _settle(folder)


def _settle(folder: Path) -> None:
    """Have the rows reach the disk, not to be written to again."""
    os.chmod(folder / ROWS, 0o444)
    sync(folder / ROWS)
    sync(folder)


def _newest(release: Path) -> dict[str, Path]:
    """The rows of each table in a release's folder: the last version of them."""
    versions = sorted((path for path in release.glob(f"*/*/{ROWS}") if path.parent.name.isdigit()), key=_version)
    return {path.parents[1].name: path for path in versions}


def _version(rows: Path) -> tuple[str, int]:
    return rows.parents[1].name, int(rows.parent.name)


def _columns(release: Path) -> dict[str, Columns]:
    """The columns of each table in a release's folder: its own, whatever the contract is now."""
    found: dict[str, Columns] = {}
    with duckdb.connect() as connection:
        for table, path in _newest(release).items():
            rows = connection.execute(f"describe {_rows(path)}").fetchall()
            found[table] = {column: TYPES[kind] for column, kind, *_ in rows}
    return found


def _rows(path: Path) -> str:
    """DuckDB's query of a file's rows."""
    return f"select * from read_parquet('{_quoted(path)}', hive_partitioning = false)"


def _shown(table: str, columns: Columns, has: Columns) -> str:
    """What a view shows of a table that `has` these columns: those of a release, and by both names those that have two.
    The rows of the releases of before stand under the other name."""
    known = contracts.tables("serving").get(table)
    other = renamed.others(known) if known else {}
    names = dict.fromkeys([*columns, *(other[column] for column in columns if column in other)])
    both = {name: [_named(one) for one in (name, other.get(name)) if one in has] for name in names}
    told = {name: f"coalesce({', '.join(found)})" if found[1:] else found[0] for name, found in both.items()}
    return ", ".join(f"{said} as {_named(name)}" for name, said in told.items())


def _told(columns: Columns) -> str:
    return ", ".join(f"{_named(name)} {kind}" for name, kind in columns.items())


def _partition(name: str) -> str:
    return f"partition ({PARTITION} = {_text(name)})"


def _in(schema: str, name: str) -> str:
    return f"{_named(schema)}.{_named(name)}"


def _named(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(value: object) -> str:
    """A text in Spark's SQL."""
    escaped = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quoted(path: Path) -> str:
    """Within a text in DuckDB's SQL."""
    return str(path).replace("'", "''")
