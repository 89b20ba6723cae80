"""Releases in PostgreSQL: one schema per release, and views that show readers the current one."""

import importlib.util
import io
import os
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import duckdb
import psycopg2
import pyarrow as pa
from psycopg2 import errors, sql
from psycopg2.extensions import parse_dsn
from psycopg2.extras import Json, RealDictCursor
from pyarrow import csv

from pipelines import contracts
from pipelines.contracts import Table
from pipelines.errors import BadSetting, NoRoom, NoWarehouse, ReadersInTheWay
from pipelines.settings import Warehouse
from pipelines.warehouse import renamed
from pipelines.warehouse.erase import OWNERS, QUOTES
from pipelines.warehouse.manifest import Judged

READY = {
    "loader": "select has_database_privilege(current_database(), 'create')"
    " and has_table_privilege('{audit}.manifests', 'insert')",
    "publisher": "select has_schema_privilege('{views}', 'create')"
    " and has_table_privilege('{audit}.releases', 'insert')",
    "reader": "select has_schema_privilege('{views}', 'usage')",
}
NAME = re.compile(r"\d{4}-\d{2}-\d{2}\..+\.[0-9a-f]{8}")  # schemas of the loader that are releases
LONGEST_NAME = 63  # bytes; PostgreSQL cuts what is longer
LOCK_MS = 50  # for so long a publication may make readers wait; below deadlock_timeout, so that none is ever ended
PATIENCE_SECONDS = 60.0  # for so long it tries again while readers hold the views
BATCH_ROWS = 50_000


class Postgres:
    """Three roles do three things: the loader fills schemas, the publisher moves views, the reader reads them.

    A release is loaded in one transaction, with frozen rows, so that a reader whose snapshot is older than the release
    sees them too once the views lead there. All views are replaced in one transaction, which waits for every reader's:
    no statement, and no transaction, sees two releases.
    """

    def __init__(self, told: Warehouse, market: str = "", environment: Mapping[str, str] = os.environ) -> None:
        self.told, self.market, self.environment = told, market, environment
        self.views = told.schema_of(market)
        self.audit = f"{self.views}_audit"
        if len(self.audit) > LONGEST_NAME:
            raise BadSetting(f"{self.audit} is longer than the {LONGEST_NAME} bytes of a name: shorten its views.")

    @property
    def where(self) -> str:
        """Where readers find the current release."""
        return f"schema {self.views} of the database in {self.told.reader}"

    def ready(self) -> None:
        """Raises NoWarehouse, naming the variable, when a role cannot connect or lacks its rights."""
        for role, question in READY.items():
            try:
                ((is_so,),) = self._rows(question.format(views=self.views, audit=self.audit), role=role)
            except (errors.UndefinedTable, errors.InvalidSchemaName, errors.InsufficientPrivilege):
                is_so = False
            if not is_so:
                raise NoWarehouse(
                    f"{getattr(self.told, role)}: the {role} lacks its rights on schema {self.views} or "
                    f"{self.audit}. `nightshelf warehouse init` gives them."
                )

    def init(self) -> None:
        """Make schemas and audit tables and grant the three roles their rights; done again, it changes nothing."""
        names = {"views": self.views, "audit": self.audit, "database": self._facts("admin").get("dbname", "postgres")}
        names |= {role: self._user(role) for role in READY}
        text = Path(__file__).with_name("init.sql").read_text()
        with self._session("admin") as cursor:
            cursor.execute(sql.SQL(text).format(**{name: sql.Identifier(told) for name, told in names.items()}))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One publication, rollback or clearing at a time; the lock ends with the connection that holds it."""
        with self._session("publisher") as cursor:
            cursor.execute("set local idle_in_transaction_session_timeout = 0")  # a load may take long
            cursor.execute("select pg_advisory_xact_lock(hashtext(%s))", [self.audit])
            yield

    def current(self) -> str | None:
        """The release that readers see, or None before the first night."""
        query = "select obj_description(oid, 'pg_namespace') from pg_namespace where nspname = %s"
        return next((name for (name,) in self._rows(query, self.views, role="reader")), None)

    def kept(self) -> list[str]:
        query = "select nspname from pg_namespace where pg_get_userbyid(nspowner) = current_user order by 1"
        schemas, before = [schema for (schema,) in self._rows(query, role="loader")], self._schema("")
        names = [schema.removeprefix(before) for schema in schemas if schema.startswith(before)]
        return [name for name in names if NAME.fullmatch(name)]

    def manifest(self, name: str) -> dict[str, Any] | None:
        """What a release was made from; kept longer than the release where it was gone back from."""
        query = f'select manifest from "{self.audit}".manifests where release = %s'
        return next((manifest for (manifest,) in self._rows(query, name)), None)

    def history(self) -> list[dict[str, Any]]:
        """Every move, oldest first."""
        with self._session("publisher", cursor_factory=RealDictCursor) as cursor:
            cursor.execute(f'select * from "{self.audit}".releases order by number')
            return [{**row.pop("details"), **row} for row in cursor.fetchall()]

    def place(self, made: Judged) -> None:
        """Load a release that nobody sees yet, in one transaction; one that is there already holds the same rows."""
        name = self._schema(made.name)
        if len(name.encode()) > LONGEST_NAME:
            raise BadSetting(f"{name} is longer than the {LONGEST_NAME} bytes of a schema: shorten the label.")
        if made.name in self.kept():
            return
        schema, publisher = sql.Identifier(name), sql.Identifier(self._user("publisher"))
        with self._session("loader") as cursor, duckdb.connect(str(made.path), read_only=True) as release:
            cursor.execute(sql.SQL("create schema {}").format(schema))
            for table in made.manifest["tables"]:
                _fill(cursor, release, contracts.tables("serving")[table], made, name)
            cursor.execute(sql.SQL("grant usage on schema {} to {}").format(schema, publisher))
            cursor.execute(sql.SQL("grant select on all tables in schema {} to {}").format(schema, publisher))
            query = f'insert into "{self.audit}".manifests values (%s, %s) on conflict do nothing'
            cursor.execute(query, [made.name, Json(made.manifest)])

    def record(self, told: dict[str, Any], show: bool) -> None:
        """Write a move down and, to `show` its release, replace the views: both or neither.

        Raises ReadersInTheWay when transactions hold the views for PATIENCE_SECONDS.
        """
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with self._session("publisher") as cursor:
                    self._note(cursor, told)
                    if show:
                        self._show(cursor, told["release"])
                return
            except errors.LockNotAvailable:
                if time.monotonic() > until:
                    raise ReadersInTheWay(self._in_the_way()) from None
            time.sleep(4 * LOCK_MS / 1000)

    def connect(self, name: str | None = None) -> duckdb.DuckDBPyConnection:
        """The current views, read through DuckDB as the reader: the same SQL as on a release file; or, as the loader, a
        release that is kept."""
        place = importlib.util.find_spec("duckdb_extension_postgres_scanner")
        if place is None or place.origin is None:
            raise NoWarehouse("duckdb-extension-postgres-scanner is not installed. Install requirements.txt anew.")
        file = Path(place.origin).parent / "extensions" / f"v{duckdb.__version__}" / "postgres_scanner.duckdb_extension"
        role, schema = ("loader", self._schema(name)) if name else ("reader", self.views)
        connection, address = duckdb.connect(), self._address(role).replace("'", "''")
        connection.execute(f"load '{file}'")
        try:
            connection.execute(f"attach '{address}' as release (type postgres, read_only, schema '{schema}')")
        except duckdb.Error:
            raise NoWarehouse(f"{getattr(self.told, role)}: the {role} cannot connect. Correct the variable.") from None
        connection.execute(f'use release."{schema}"')
        return renamed.bridged(connection)

    def drop(self, name: str) -> bool:
        """Remove a release, unless the views lead to it or a transaction still reads it."""
        try:
            with self._session("loader") as cursor:
                cursor.execute(f"set local lock_timeout = {LOCK_MS}")
                cursor.execute("select tablename from pg_tables where schemaname = %s", [schema := self._schema(name)])
                tables = [sql.Identifier(schema, table) for (table,) in cursor.fetchall()]
                for statement, things in (("drop table {}", tables), ("drop schema {}", [sql.Identifier(schema)])):
                    for thing in things:
                        cursor.execute(sql.SQL(statement).format(thing))
            return True
        except (errors.LockNotAvailable, errors.DependentObjectsStillExist):
            return False

    def erase(self, name: str, users: Collection[str], pattern: str) -> int:
        """Delete the users' rows, and have the tables written again, so that no page of them is left. Returns the rows,
        of which the manifest tells."""
        counts, schema = {}, self._schema(name)
        with self._session("loader") as cursor:
            for table, columns in self._columns(cursor, schema).items():
                target = sql.Identifier(schema, table)
                counts[table] = sum(_erase(cursor, target, column, users, pattern) for column in columns)
        for table in (table for table, count in counts.items() if count):
            with self._session("loader", is_transaction=False) as cursor:
                cursor.execute(sql.SQL("vacuum (full, analyze) {}").format(sql.Identifier(schema, table)))
        if total := sum(counts.values()):
            query = f"""
                update "{self.audit}".manifests set manifest = manifest
                || jsonb_build_object('erased_rows', coalesce((manifest->>'erased_rows')::bigint, 0) + %s)
                where release = %s
            """
            with self._session("publisher") as cursor:
                cursor.execute(query, [total, name])
        return total

    def _columns(self, cursor: Any, schema: str) -> dict[str, list[str]]:
        """By table of a release the columns that name users, or quote rows as they came."""
        query = """
            select table_name, array_agg(column_name::text) from information_schema.columns
            where table_schema = %s and column_name = any(%s) group by table_name order by 1
        """
        cursor.execute(query, [schema, [*OWNERS, *QUOTES]])
        return dict(cursor.fetchall())

    def tidy(self, names: set[str]) -> None:
        """Remove manifests of others than these releases; a killed load leaves nothing."""
        with self._session("publisher") as cursor:
            cursor.execute(f'delete from "{self.audit}".manifests where not release = any(%s)', [list(names)])

    def _note(self, cursor: Any, told: dict[str, Any]) -> None:
        columns = ("at", "action", "release", "is_current", "replaced", "who", "why")
        details = {name: value for name, value in told.items() if name not in columns}
        marks = ", ".join(["%s"] * (len(columns) + 1))
        query = f'insert into "{self.audit}".releases ({", ".join(columns)}, details) values ({marks})'
        cursor.execute(query, [*map(told.get, columns), Json(details)])

    def _show(self, cursor: Any, name: str) -> None:
        """Lead each view to the release; one whose table the release lacks goes. Each statement takes its view from
        all readers until the end, so that none can have seen one view of before and another one of after."""
        cursor.execute(f"set local lock_timeout = {LOCK_MS}")
        cursor.execute("select viewname from pg_views where schemaname = %s order by 1", [self.views])
        views = [view for (view,) in cursor.fetchall()]
        schema = self._schema(name)
        tables = _tables(cursor, schema)
        told = sql.SQL("comment on schema {} is {}").format(sql.Identifier(self.views), sql.Literal(name))
        gone = [sql.SQL("drop view {}").format(sql.Identifier(self.views, view)) for view in set(views) - set(tables)]
        leads = [
            (
                sql.Identifier(self.views, table),
                sql.SQL("select {} from {}").format(_shown(table, columns), sql.Identifier(schema, table)),
            )
            for table, columns in tables.items()
        ]
        _lead(cursor, [told, *gone], leads)

    def _schema(self, name: str) -> str:
        """Where a release lies: markets may have releases of one name."""
        return f"{self.market}.{name}" if self.market else name

    def _in_the_way(self) -> str:
        query = """
            select distinct a.pid, a.usename, a.application_name
            from pg_locks as l
            join pg_class as c on c.oid = l.relation
            join pg_namespace as n on n.oid = c.relnamespace
            join pg_stat_activity as a on a.pid = l.pid
            where n.nspname = %s
        """
        held = ", ".join(f"{pid} ({user}, {name})" for pid, user, name in self._rows(query, self.views))
        return (
            f"Transactions have held the views of {self.views} for {PATIENCE_SECONDS:.0f} s: "
            f"{held or 'ended just now'}. The current release stays. End them (`select pg_terminate_backend(pid)`) and "
            "publish again."
        )

    def _rows(self, query: str, *values: object, role: str = "publisher") -> list[tuple[Any, ...]]:
        with self._session(role) as cursor:
            cursor.execute(query, values)
            return cursor.fetchall()

    @contextmanager
    def _session(self, role: str, is_transaction: bool = True, **options: Any) -> Iterator[Any]:
        """A transaction of a role; raises NoWarehouse naming the variable that is missing or wrong, not its value, and
        NoRoom when the server has none."""
        try:
            told = f"nightshelf {role}"
            connection = psycopg2.connect(self._address(role), application_name=told, connect_timeout=10, **options)
        except psycopg2.Error as error:
            variable = getattr(self.told, role)
            raise NoWarehouse(f"{variable}: {_silent(error)}. Correct the variable, or start the server.") from None
        connection.autocommit = not is_transaction
        try:
            with connection if is_transaction else nullcontext(), connection.cursor() as cursor:
                yield cursor
        except errors.DiskFull as error:
            raise NoRoom(
                f"The disk of the server in {getattr(self.told, role)} is full ({error.diag.message_primary}). Nothing "
                "was changed there, readers have what they had. Free some, or lower `retention.releases`, then do the "
                "same again."
            ) from None
        finally:
            connection.close()

    def _address(self, role: str) -> str:
        variable = getattr(self.told, role)
        if address := self.environment.get(variable):
            return address
        raise NoWarehouse(
            f"{variable} is not set. It holds the address of the {role}: postgresql://user:…@host/database."
        )

    def _facts(self, role: str) -> dict[str, str]:
        try:
            return parse_dsn(self._address(role))
        except psycopg2.Error:
            raise NoWarehouse(f"{getattr(self.told, role)} is no address: postgresql://user:…@host/database.") from None

    def _user(self, role: str) -> str:
        if user := self._facts(role).get("user"):
            return user
        raise NoWarehouse(f"{getattr(self.told, role)} names no user: postgresql://user:…@host/database.")


def _erase(cursor: Any, target: sql.Identifier, column: str, users: Collection[str], pattern: str) -> int:
    """Delete rows of the users; of a column that quotes them, the quotation."""
    name = sql.Identifier(column)
    if column in OWNERS:
        cursor.execute(sql.SQL("delete from {} where {} = any(%s)").format(target, name), [sorted(users)])
    else:
        cursor.execute(sql.SQL("update {0} set {1} = null where {1} ~ %s").format(target, name), [pattern])
    return cursor.rowcount


class _Rows(io.RawIOBase):
    """Arrow batches as CSV, read as a file: what is there stands in quotes, what is not there is nothing."""

    def __init__(self, batches: pa.RecordBatchReader) -> None:
        self.parts, self.left = map(_csv, batches), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self.left and (part := next(self.parts, None)) is not None:
            self.left = part
        size = min(len(target), len(self.left))
        target[:size], self.left = self.left[:size], self.left[size:]
        return size


def _csv(batch: pa.RecordBatch) -> memoryview:
    sink = io.BytesIO()
    csv.write_csv(batch, sink, csv.WriteOptions(include_header=False, quoting_style="all_valid"))
    return sink.getbuffer()


def _fill(cursor: Any, release: duckdb.DuckDBPyConnection, table: Table, made: Judged, schema: str) -> None:
    """One table with its rows, an index that finds them by id, and what the planner wants to know."""
    target = sql.Identifier(schema, table.name)
    cursor.execute(table.ddl(target.as_string(cursor)))
    columns = ", ".join(f'"{name}"' for name in table.names)
    rows = _Rows(release.execute(f"select {columns} from {table.name}").to_arrow_reader(BATCH_ROWS))
    cursor.copy_expert(sql.SQL("copy {} from stdin (format csv, freeze)").format(target), io.BufferedReader(rows))
    expected = made.manifest["tables"][table.name]["count_rows"]
    if cursor.rowcount != expected:
        raise NoWarehouse(f"{made.name}.{table.name} took in {cursor.rowcount} of {expected} rows. Publish it again.")
    _index(cursor, target, _sought(table))
    cursor.execute(sql.SQL("analyze {}").format(target))


def _index(cursor: Any, target: sql.Identifier, key: list[str]) -> None:
    """On the key; where a text of the shop is too long for that, on a hash of what the key begins with."""
    columns = [sql.Identifier(name) for name in key]
    cursor.execute("savepoint bare")
    try:
        cursor.execute(sql.SQL("create unique index on {} ({})").format(target, sql.SQL(", ").join(columns)))
    except errors.ProgramLimitExceeded:
        cursor.execute("rollback to savepoint bare")
        cursor.execute(sql.SQL("create index on {} using hash ({})").format(target, columns[0]))


def _sought(table: Table) -> list[str]:
    """The key in the order of an index: a column of a few words, such as a placement, finds nothing and comes last."""
    return sorted(table.key, key=lambda name: bool(table[name].accepted_values))


def _tables(cursor: Any, schema: str) -> dict[str, list[str]]:
    """The columns of each table of a release, tables by name."""
    query = """
        select table_name, array_agg(column_name::text) from information_schema.columns
        where table_schema = %s group by table_name order by 1
    """
    cursor.execute(query, [schema])
    return dict(cursor.fetchall())


def _shown(table: str, has: Collection[str]) -> sql.Composable:
    """What a view shows of a table: its columns, and those that have another name in the version before or after."""
    known = contracts.tables("serving").get(table)
    further = renamed.aliases(known, has).items() if known else ()
    pairs = [sql.SQL("{} as {}").format(sql.Identifier(own), sql.Identifier(other)) for other, own in further]
    return sql.SQL(", ").join([sql.SQL("*"), *pairs])


Lead = tuple[sql.Identifier, sql.Composable]  # a view and what it shows


def _lead(cursor: Any, further: list[sql.Composable], leads: list[Lead]) -> None:
    """Replace all views, and do further statements with that. All is sent at once: readers wait for the server alone,
    not for each of its answers too. Where the columns of a view differ, one after the other."""
    replaced = [sql.SQL("create or replace view {} as {}").format(*lead) for lead in leads]
    cursor.execute("savepoint before")
    try:
        cursor.execute(sql.SQL("; ").join([*further, *replaced]))
    except errors.InvalidTableDefinition:
        cursor.execute("rollback to savepoint before")
        for statement in further:
            cursor.execute(statement)
        for lead in leads:
            _replace(cursor, *lead)


def _replace(cursor: Any, view: sql.Identifier, query: sql.Composable) -> None:
    """Replace a view; one whose columns differ is made anew, and then nothing may stand upon it."""
    cursor.execute("savepoint before")
    try:
        cursor.execute(sql.SQL("create or replace view {} as {}").format(view, query))
    except errors.InvalidTableDefinition:
        cursor.execute("rollback to savepoint before")
        cursor.execute(sql.SQL("drop view {}").format(view))
        cursor.execute(sql.SQL("create view {} as {}").format(view, query))


def _silent(error: psycopg2.Error) -> str:
    """What the server said, without what it quotes: names are part of the address."""
    _, fatal, told = str(error).partition("FATAL:")
    return re.sub(r'"[^"]*"', "…", told.strip()) if fatal else "no server answers there, or it is no address"
