"""Build: dbt turns the lake into marts, under enforced contracts and with its tests."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

import duckdb

from pipelines import contracts, costs, placements, pseudonyms, shortages
from pipelines.errors import BadInput, NightshelfError
from pipelines.run import Run, stage
from pipelines.settings import Section

SHOWN_FAILURES = 5
BATCH = 100_000  # sessions that are looked at together
# Unit tests hold the SQL against examples, which no night's data can change: the project's own tests perform them.
BUILD = ("build", "--exclude", "source:release", "--exclude-resource-type", "unit_test")
POPULAR_LENGTH = 200  # rows of `popular_items` per segment; shelves are filled from them


class BuildFailed(NightshelfError):
    """dbt could not build a table, or a test on it failed."""


@stage
def run(run: Run, folder: Path) -> None:
    """Show dbt the run's part of the lake, build and test all tables into one warehouse file of the run's own."""
    marts = folder / "marts.duckdb"
    _show_lake(run, marts)
    dbt(run, folder, marts, *BUILD)
    _settle(marts)
    _require_catalogue(marts)
    with duckdb.connect(str(marts), read_only=True) as connection:
        placements.refuse_unknown(connection, run.settings)


def _show_lake(run: Run, marts: Path) -> None:
    """Views on the accepted rows of exactly the partitions that the run may see; an undelivered table is empty."""
    partitions = json.loads(run.of("clean", "partitions.json").read_text())
    with duckdb.connect(str(marts)) as connection:
        connection.execute("create schema lake")
        for name, table in contracts.raw_tables().items():
            paths = [str(path) for place in partitions.get(name, []) for path in _accepted(Path(place))]
            if paths:
                listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
                rows = f"read_parquet([{listed}], hive_partitioning = false)"
                names = ", ".join([c.name for c in table.columns if c.name != "arrival_date"] + ["arrived_on"])
                connection.execute(f"create view lake.{name} as select {names} from {rows}")
            else:
                connection.execute(table.ddl(f"lake.{name}"))
                connection.execute(f"alter table lake.{name} rename column arrival_date to arrived_on")


def _accepted(partition: Path) -> list[Path]:
    return sorted(partition.glob("verdict=accepted/*.parquet"))


def dbt(run: Run, folder: Path, marts: Path, *asked: str) -> None:
    """Have dbt do something with the run's marts, and leave its records in `folder`.

    Raises BuildFailed; for want of room or memory the system's own error.
    """
    places = {"project-dir": contracts.DBT, "profiles-dir": contracts.DBT, "target-path": folder, "log-path": folder}
    command = [sys.executable, "-m", "dbt.cli.main", "--quiet", *asked]
    command += [part for name, place in places.items() for part in (f"--{name}", str(place))]
    environment = {
        **os.environ,
        "NIGHTSHELF_MARTS": str(marts),
        "NIGHTSHELF_DBT_THREADS": str(run.settings.machine.threads),
        "NIGHTSHELF_DBT_MEMORY": f"{run.settings.machine.database_mb}MiB",
        "DO_NOT_TRACK": "1",
    }
    command += ["--vars", json.dumps(_variables(run, marts))]
    with TemporaryFile("w+") as output:
        status = costs.waited(subprocess.Popen([*_with_us(), *command], env=environment, stdout=output, stderr=output))
        output.seek(0)
        said = output.read()
    if status == -signal.SIGKILL:
        raise MemoryError("dbt was killed, as a system without memory does")
    if status:
        failures = _failures(folder, said)
        raise shortages.spoken_of(failures) or BuildFailed(failures)


def _with_us() -> list[str]:
    """What a command is started with so that it ends when we are killed, and writes nothing more where we wrote."""
    return ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []  # of util-linux: on every Linux


def _variables(run: Run, marts: Path) -> dict[str, object]:
    """What the SQL reads of the run and its settings."""
    settings = run.settings
    return {
        "run_id": run.run_id,
        "day": run.day.isoformat(),
        "holdout_cuts": [cut.isoformat() for cut in run.holdout_cuts],
        "timezone": settings.shop.timezone,
        **_prefixed("sessions", settings.sessions),
        **_prefixed("bots", settings.bots),
        "bots_allow": allowed(run, marts),
        "weight_view": settings.weights.view,
        "weight_cart": settings.weights.cart,
        "weight_purchase": settings.weights.purchase,
        "weight_half_life_days": settings.weights.half_life_days,
        "preference_weight": settings.search.preference_weight,
        "popularity_days": settings.fuse.popularity_days,
        "popular_length": max(POPULAR_LENGTH, 2 * settings.shelve.length),
        "shelf_length": settings.shelve.length,
        "pair_days": settings.shelve.pair_days,
        "trend_days": settings.shelve.trend_days,
    }


def allowed(run: Run, marts: Path) -> list[str]:
    """Visitors that are never flagged, as the tables have them: users by their names, sessions by their ids, which the
    run does not keep where users have names of their own."""
    told, wanted = run.settings.clean, set(run.settings.bots.allow)
    if not wanted or not told.pseudonym_key:
        return sorted(wanted | {pseudonyms.of(told, visitor) for visitor in wanted})
    named = pseudonyms.names(told)
    with duckdb.connect(str(marts), read_only=True) as connection:
        rows = connection.execute("select distinct session_id from lake.events where session_id is not null")
        sessions = (session for batch in iter(lambda: rows.fetchmany(BATCH), []) for (session,) in batch)
        return sorted(wanted | {session for session in sessions if named.of(session) in wanted})


def _prefixed(name: str, section: Section) -> dict[str, object]:
    return {f"{name}_{key}": value for key, value in section}


def _failures(folder: Path, output: str) -> str:
    results = folder / "run_results.json"
    broken = []
    if results.exists():
        told = json.loads(results.read_text())["results"]
        broken = [
            f"{r['unique_id']}: {r['message']}" for r in told if r["status"] in ("error", "fail", "runtime error")
        ]
    head = "\n".join(broken[:SHOWN_FAILURES]) or output[-3000:]
    return f"dbt build failed. {head}\nCorrect the rows it names in the raw files, or the table under dbt/models."


def _settle(marts: Path) -> None:
    """Bring all rows into the one file: where dbt finds no room for that at its end, it leaves them in a log beside it,
    and says nothing."""
    with duckdb.connect(str(marts)) as connection:
        connection.execute("checkpoint")


def _require_catalogue(marts: Path) -> None:
    with duckdb.connect(str(marts), read_only=True) as connection:
        counts = connection.execute("select (select count(*) from catalogue), (select count(*) from users)").fetchone()
    if not counts or not counts[0]:
        raise BadInput("items: the catalogue has no true row. Deliver raw/items before the first night.")
