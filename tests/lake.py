"""A lake written by hand, in the layout that cleaning leaves: marts without Spark."""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pandas as pd

from pipelines import build, contracts, settings
from pipelines.run import Run, write_json

DAY = dt.date(2026, 3, 1)


def lay(home: Path, table: str, arrived_on: str, rows: Iterable[dict[str, object]]) -> Path:
    """A partition of accepted rows; columns that a row lacks are empty, or have the contract's default."""
    columns = [c for c in contracts.raw_tables()[table].columns if c.name != "arrival_date"]
    frame = pd.DataFrame([{c.name: row.get(c.name, c.default) for c in columns} for row in rows])  # noqa: F841
    folder = home / "lake" / table / f"arrival_date={arrived_on}" / "0123456789abcdef"
    (folder / "verdict=accepted").mkdir(parents=True)
    typed = ", ".join(f"cast({c.name} as {c.data_type}) as {c.name}" for c in columns)
    duckdb.sql(f"select {typed}, date '{arrived_on}' as arrived_on from frame").write_parquet(
        str(folder / "verdict=accepted" / "part.parquet")
    )
    return folder


def run_of(home: Path, day: dt.date = DAY, **changes: object) -> Run:
    """A run that nobody has opened."""
    return Run(
        home=home,
        run_id=f"{day}.nightly",
        day=day,
        label="nightly",
        opened_at=dt.datetime(2026, 3, 2, tzinfo=dt.UTC),
        settings=settings.load(home, changes, {}),
        inputs={},
        code_version="test",
        packages={},
    )


def built(home: Path, day: dt.date = DAY, **changes: object) -> Run:
    """A run whose marts are built from all partitions up to its day."""
    run = run_of(home, day, **changes)
    partitions = {
        table: [str(path) for path in sorted((home / "lake" / table).glob("*/*")) if path.parent.name[13:] <= str(day)]
        for table in contracts.raw_tables()
    }
    (run.folder / "clean").mkdir(parents=True)
    write_json(run.folder / "clean" / "partitions.json", partitions)
    cost = dict.fromkeys(("wall_seconds", "cpu_seconds", "peak_memory_mb"), 0.0)
    write_json(run.folder / "clean" / "stage.json", {"stage": "clean", "fingerprint": run.fingerprint} | cost)
    build.run(run)
    return run
