"""What is kept: the newest runs, releases and raw events; never what somebody works on, or what readers see or hold."""

import datetime as dt
import json
import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from pipelines import proved, raw, warehouse
from pipelines.raw import RawFile, removed
from pipelines.raw.removed import Removed
from pipelines.run import BACKFILL, Run, is_worked_on
from pipelines.settings import Settings

GONE = ".gone"  # a folder that is being removed


def clear_runs(home: Path, told: Settings, now: dt.datetime, needed: Collection[str | None] = ()) -> list[str]:
    """Remove runs beyond the newest `retention.runs` that the gate judged and as many that stopped before, backfilled
    days beyond the newest `retention.backfills`, and what runs that died left elsewhere. The run behind the current
    release stays, that of its models, those whose proof is carried, and what is `needed`. Returns the names of the
    removed."""
    folders = [path for path in (home / "runs").glob("*/") if path.suffix != GONE]
    dead = {path.name: path for path in folders if not is_worked_on(home, path.name, now)}
    current = (warehouse.of(home, told).current() or "").rpartition(".")[0]
    made_current = {current, _models_of(home, current)}
    backfilled = [name for name in dead if name.endswith(f".{BACKFILL}")]
    nights = [name for name in dead if name not in backfilled]
    whole = [name for name in nights if (dead[name] / "validate" / "stage.json").exists()]
    stopped = [name for name in nights if name not in whole]
    limits = [(whole, told.retention.runs), (stopped, told.retention.runs), (backfilled, told.retention.backfills)]
    keep = made_current | {name for names, count in limits for name in _newest(dead, names, count)}
    at_work = {path.name for path in folders} - {*dead}
    keep |= {proved.of(home, name) for name in keep | at_work if name} | {*needed}
    gone = [name for name in dead if name not in keep]
    for name in gone:
        _remove(dead[name])
        for lease in (home / "runs").glob(f"{name}.lease*"):  # and what was killed while it claimed one
            lease.unlink()
    _clear_scratch(home, now)
    return gone


def clear_releases(home: Path, told: Settings) -> list[str]:
    """Remove releases beyond the newest `retention.releases` that were shown or could be, and what killed publications
    left. The current one, the one before it, and one that a reader holds stay. Returns the names of the removed."""
    house = warehouse.of(home, told)
    with house.locked():
        book, kept, current = house.history(), house.kept(), house.current()
        barred = warehouse.barred(book)
        order = list(dict.fromkeys(record["release"] for record in reversed(book) if record["release"] in kept))
        keep = {current, warehouse.predecessor(book, current or ""), *order[: told.retention.releases]}
        gone = [name for name in kept if name not in keep and house.drop(name)]
        house.tidy({*kept} - {*gone} | {*barred})
    return gone


def clear_raw(run: Run, now: dt.datetime) -> list[str]:
    """Remove the raw files of events that arrived before the newest `retention.raw_days` up to the run's day, where the
    run read all of a day and the lake has its rows. Returns the days.

    While anybody else works they stay until the next publication: cleaning may be reading them.
    """
    newest = run.settings.retention.raw_days
    leases = [path.name.removesuffix(".lease") for path in (run.home / "runs").glob("*.lease")]
    if not newest or any(name != run.run_id and is_worked_on(run.home, name, now) for name in leases):
        return []
    days = _settled(run, run.day - dt.timedelta(days=newest))
    removed.remove(run.home, days)
    return [str(one.day) for one in days]


def _settled(run: Run, until: dt.date) -> list[Removed]:
    """The days of events up to `until` whose raw files are all among what the run read, with their partitions."""
    folders = json.loads(run.of("clean", "partitions.json").read_text())["events"]
    partitions = {Path(folder).parent.name.removeprefix("arrival_date="): Path(folder) for folder in folders}
    by_day: dict[dt.date, list[RawFile]] = {}
    for file in raw.inventory(run.home, until, ["events"], run.settings):
        if not file.is_removed:
            by_day.setdefault(file.day, []).append(file)
    ids = removed.written(run.settings.clean)
    return [
        Removed(str(partitions[str(day)].relative_to(run.home)), ids, run.run_id, tuple(files))
        for day, files in by_day.items()
        if str(day) in partitions and all(run.inputs.get(file.path) == file.sha256 for file in files)
    ]


def _models_of(home: Path, name: str) -> str | None:
    record = home / "runs" / name / "run.json"
    return json.loads(record.read_text()).get("models_of") if name and record.exists() else None


def _newest(dead: dict[str, Path], names: Iterable[str], count: int) -> list[str]:
    """By the moment of opening; a folder without `run.json` was never opened."""
    records = {name: dead[name] / "run.json" for name in names}
    opened = {name: json.loads(p.read_text())["opened_at"] for name, p in records.items() if p.exists()}
    return sorted(opened, key=opened.__getitem__, reverse=True)[:count]


def _clear_scratch(home: Path, now: dt.datetime) -> None:
    """Working folders of runs that are not worked on: cleaning's in the lake, Spark's, and half-removed runs."""
    scratch = {path: path.name.removesuffix(".partial").partition(".")[2] for path in (home / "lake").glob("*.partial")}
    scratch |= {path: path.name for path in (home / "spark").glob("*/")}
    for path, run_id in scratch.items():
        if not is_worked_on(home, run_id, now):
            shutil.rmtree(path, ignore_errors=True)
    for path in (home / "runs").glob(f"*{GONE}/"):
        shutil.rmtree(path, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Out of sight first, so that what is killed here leaves no run that looks whole."""
    target = folder.with_name(f"{folder.name}{GONE}")
    os.replace(folder, target)
    shutil.rmtree(target, ignore_errors=True)
