"""Columns that the contract gives another name: for one version, readers find them by the one of before too."""

from collections.abc import Collection

import duckdb

from pipelines import contracts
from pipelines.contracts import Table


def others(table: Table) -> dict[str, str]:
    """The other name of each column that has two in this version: of the new one the old, of the old one the new."""
    pairs = [(column.name, column.renamed_from) for column in table.columns if column.renamed_from]
    return dict([*pairs, *((old, new) for new, old in pairs)])


def aliases(table: Table, has: Collection[str]) -> dict[str, str]:
    """Names by which columns of a release that `has` these are to be found too, each with the one that is there: the
    old name in a release of this version, the new one in a release of the version before."""
    return {other: own for own, other in others(table).items() if own in has and other not in has}


def definition(table: Table, place: str) -> str:
    """DuckDB's `create table` of a release's table, its old names being columns that take no room."""
    old = [f'"{old}" generated always as ("{new}") virtual' for old, new in aliases(table, table.names).items()]
    return ",\n  ".join([table.ddl(place).removesuffix("\n)"), *old]) + "\n)"


def bridged(release: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """The connection to a release, which reads one of the version before by the new names too."""
    tables = contracts.tables("serving")
    database, schema = release.execute("select current_database(), current_schema()").fetchone() or ("", "")
    for name in {row[0] for row in release.execute("show tables").fetchall()} & set(tables):
        if not any(column.renamed_from for column in tables[name].columns):
            continue
        has = [row[0] for row in release.execute(f'describe "{name}"').fetchall()]
        if further := aliases(tables[name], has):
            told = ", ".join(["*", *(f'"{own}" as "{other}"' for other, own in further.items())])
            place = f'"{database}"."{schema}"."{name}"'
            release.execute(f'create temporary view "{name}" as select {told} from {place}')
    return release
