"""A release derived from another: its tables, some of them with further rows, and some replaced."""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import pandas as pd

from pipelines import contracts
from pipelines.contracts import Table
from pipelines.warehouse import renamed
from pipelines.warehouse.releases import names
from pipelines.warehouse.tables import summary


def derive(
    release: duckdb.DuckDBPyConnection,
    path: Path,
    more: Mapping[str, pd.DataFrame],
    instead: Mapping[str, pd.DataFrame],
) -> dict[str, dict[str, object]]:
    """Write the tables of a release that is read there, with `more` rows or others `instead`, into one DuckDB file, by
    key; columns, count_rows and hash by table. A table that an older release lacks is empty."""
    tables, known = contracts.tables("serving"), names(release)
    place = str(path).replace("'", "''")
    release.execute(f"attach '{place}' as derived (read_write)")
    for name, table in tables.items():
        release.execute(renamed.definition(table, f"derived.{name}"))
        frames = [frame for frame in (instead.get(name), more.get(name)) if frame is not None]
        sources = [f'"{name}"'] if name in known and name not in instead else []
        for number, frame in enumerate(frames):
            release.register(f"added_{number}", frame)
            sources.append(f"added_{number}")
        _fill(release, table, sources)
    written = {name: summary(release, table, f"derived.{name}") for name, table in tables.items()}
    release.execute("checkpoint derived")
    release.execute("detach derived")
    return written


def _fill(release: duckdb.DuckDBPyConnection, table: Table, sources: list[str]) -> None:
    if sources:
        order = ", ".join(f'"{name}"' for name in table.key)
        parts = [f"select {_known(release, table, source)} from {source}" for source in sources]
        rows = " union all by name ".join(parts)
        release.execute(f"insert into derived.{table.name} by name select * from ({rows}) order by {order}")


def _known(release: duckdb.DuckDBPyConnection, table: Table, source: str) -> str:
    """The columns of a source that the contract names, without those that stand there under a second name."""
    has = release.sql(f"select * from {source}").columns
    return ", ".join(f'"{name}"' for name in table.names if name in has)
