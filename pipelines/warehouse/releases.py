"""What readers see and what they saw: publishing, going back, and what may not come back without a reason."""

import datetime as dt
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import duckdb

from pipelines import markets, settings
from pipelines import run as runs
from pipelines.errors import HeldBack, NothingPublished
from pipelines.run import Run
from pipelines.warehouse.files import Files
from pipelines.warehouse.manifest import Judged

Record = dict[str, Any]


class Warehouse(Protocol):
    """Where releases live. A release is placed whole before it can be shown; showing one is a single step."""

    @property
    def where(self) -> str: ...
    def ready(self) -> None: ...
    def locked(self) -> AbstractContextManager[None]: ...
    def current(self) -> str | None: ...
    def kept(self) -> list[str]: ...
    def manifest(self, name: str) -> Record | None: ...
    def history(self) -> list[Record]: ...
    def place(self, made: Judged) -> None: ...
    def record(self, told: Record, show: bool) -> None: ...
    def connect(self, name: str | None = None) -> duckdb.DuckDBPyConnection: ...
    def drop(self, name: str) -> bool: ...
    def tidy(self, names: set[str]) -> None: ...
    def erase(self, name: str, users: Collection[str], pattern: str) -> int: ...


def of(home: Path, told: settings.Settings | None = None) -> Warehouse:
    """The warehouse of a home, as `told` or its settings name it."""
    told = told or settings.load(home)
    if told.store.releases:
        from pipelines.warehouse import mirror

        return mirror.of(home, told)
    if told.warehouse.engine == "duckdb":
        return Files(home)
    if told.warehouse.engine == "spark":
        from pipelines.warehouse.spark_sql import SparkSql

        return SparkSql(home, told, markets.name(home))
    from pipelines.warehouse.postgres import Postgres

    return Postgres(told.warehouse, markets.name(home))


def current(home: Path, told: settings.Settings | None = None) -> str | None:
    """The release that readers see, or None before the first night."""
    return of(home, told).current()


def seen_before(home: Path, told: settings.Settings, day: dt.date) -> str | None:
    """The release that readers had last of those of earlier days than `day`, None where it is not kept any more."""
    house = of(home, told)
    moves = [record["release"] for record in house.history() if record["is_current"]]
    earlier = [name for name in moves if day_of(name) < day]
    return earlier[-1] if earlier and earlier[-1] in house.kept() else None


def connect(home: Path, told: settings.Settings | None = None) -> duckdb.DuckDBPyConnection:
    """Read the current release; raises NothingPublished before the first night."""
    house = of(home, told)
    if house.current() is None:
        raise NothingPublished(
            f"Nothing is published yet: no release at {house.where}. Run a night first: `nightshelf night`."
        )
    return house.connect()


def names(release: duckdb.DuckDBPyConnection) -> set[str]:
    """The tables of a release: one of an earlier version lacks some."""
    return {name for (name,) in release.execute("show tables").fetchall()}


def history(home: Path) -> list[Record]:
    """Everything that was published or gone back to, oldest first."""
    return of(home).history()


def publish(run: Run, made: Judged, attempt: Path | None = None) -> Record:
    """Bring a judged release in and, unless readers have a later day already, show it.

    Raises HeldBack, and then changes nothing, when it would bring back what readers were taken back from; and RunBusy
    when the folder of the `attempt` is gone, since a later one has begun.
    """
    house, leave = of(run.home, run.settings), run.publish_anyway
    with house.locked():
        if attempt is not None:
            runs.keep_attempt(run, attempt)
        before = house.current()
        is_current = before is None or day_of(before) <= run.day
        bars = barred(house.history()) if is_current else {}
        changed = {name: _causes(house.manifest(name), made) for name in bars}
        if (back := [name for name, causes in changed.items() if not causes]) and leave is None:
            raise HeldBack(_held(made.name, back[0], bars[back[0]], run))
        house.place(made)
        record: Record = {
            "at": dt.datetime.now(dt.UTC),
            "action": "publish",
            "release": made.name,
            "run_id": run.run_id,
            "is_current": is_current,
            "replaced": before,
            "who": leave.who if leave else runs.holder(run),
            "why": leave and leave.reason,
            "freed": back,
            "changed_since": {name: causes for name, causes in changed.items() if causes},
        }
        house.record(record, show=is_current)
    return record


def rollback(home: Path, to: str | None, why: str, who: str) -> str:
    """Show readers an earlier release again: `to`, else the one that the current one replaced. Returns its name.

    The release that they leave is barred: see `publish`.
    """
    house = of(home)
    now = house.current()
    if now is None:
        raise NothingPublished(f"{house.where} does not exist: nothing was published yet, so there is no way back.")
    with house.locked():
        name, kept = to or predecessor(house.history(), now), house.kept()
        if name not in kept:
            raise NothingPublished(
                f"No release {name or 'before ' + now} is kept. Say --to with one of: {', '.join(kept)}."
            )
        at = dt.datetime.now(dt.UTC)
        told = {"at": at, "action": "rollback", "release": name, "replaced": now, "why": why, "who": who}
        house.record(told | {"is_current": True}, show=True)
    return name


def barred(book: list[Record]) -> dict[str, Record]:
    """Releases that readers were taken back from, each with the record that says so. Who returns to one takes that
    rollback back: it is free, and the one that readers leave is not barred. Publishing with a reason frees too."""
    bars: dict[str, Record] = {}
    for record in book:
        if record["action"] == "rollback" and record["release"] not in bars:
            bars[record["replaced"]] = record
        for name in (*record.get("freed", ()), *[record["release"]] * record.get("is_current", True)):
            bars.pop(name, None)
    return bars


def _causes(then: Record | None, made: Judged) -> list[str]:
    """What of a barred release's making is different now: code, settings, rules, or inputs, that is a file which it
    read and which has changed or is gone (further files change nothing); nothing where it would simply come back."""
    now = made.manifest
    if then is None:
        return ["unknown"]
    if then["release"] == now["release"]:
        return []
    causes = {
        "code": then["code_version"] != now["code_version"],
        "settings": then["settings"] != now["settings"],
        "inputs": not then["inputs"].items() <= now["inputs"].items(),
        "rules": then.get("rules") != now.get("rules"),
    }
    return [name for name, is_so in causes.items() if is_so]


def _held(name: str, back: str, record: Record, run: Run) -> str:
    same = "is" if name == back else "has the code, the settings, the rules and all the input of"
    return (
        f"{name} {same} {back}, which readers were taken back from on {str(record['at'])[:16]} by {record['who']}: "
        f"{record['why']}. Nothing is published. Correct the cause (a setting, a rule, the code, or a delivered file) "
        f'and run the night again, or say why it is right: `nightshelf publish {run.run_id} --why "…"`.'
    )


def predecessor(book: list[Record], name: str) -> str | None:
    """The release that `name` replaced when it last became current; publishing equal tables again replaces nothing."""
    moves = [r for r in book if r["release"] == name and r["action"] == "publish" and r["is_current"]]
    others = [move["replaced"] for move in moves if move["replaced"] != name]
    return others[-1] if others else None


def day_of(release: str) -> dt.date:
    """The last day of data that a release knows."""
    return dt.date.fromisoformat(release[:10])
