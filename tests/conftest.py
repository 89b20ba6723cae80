"""What several tests stand on: a shop of three lines, and one generated shop with a finished night."""

import datetime as dt
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipelines import spark

LAST_DAY = dt.date(2026, 3, 1)
DATABASES = itertools.count(1)
KEY = "k" * 31 + "1"  # by which users may be named
SMALL = {
    "als.factors": 16,
    "profile.steps": 40,
    "profile.history_steps": 40,
    "profile.embedding_size": 32,
    "profile.hidden_size": 48,
    "profile.vocabulary_size": 1500,
    "profile.batch_size": 128,
    "profile.sequence_size": 32,
    "profile.sequence_epochs": 3,
    "fuse.candidates": 60,
    "shelve.length": 10,
    "clean.max_rejected_share": 0.5,
    "search.queries": "copper kettle, tin opener",
}
ITEMS = [{"item_id": f"i{n}", "title": f"Item {n}", "price_cents": 100 * n} for n in range(1, 6)]


def event(n: int, day: str = "2026-03-01", **changes: object) -> dict[str, object]:
    """A true event that a test then bends."""
    row = {
        "event_id": f"e{n}",
        "user_id": "anna",
        "event_type": "view",
        "item_id": "i1",
        "occurred_at": f"{day}T10:00:00Z",
    }
    return row | changes


def deliver(home: Path, table: str, day: str, rows: Iterable[object], name: str = "part.jsonl") -> Path:
    """Write raw rows; a row that is text is written as it stands."""
    path = home / "raw" / table / f"dt={day}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def linked(home: Path, target: Path) -> Path:
    """A home with the same files for a test that changes it: they are links, for nothing is ever written in place."""
    return Path(shutil.copytree(home, target, symlinks=True, copy_function=os.link))


for size in ("COLUMNS", "LINES"):  # of pytest-xdist's processes: a terminal is as wide as each test says
    os.environ.pop(size, None)
if not hasattr(sys.modules["__main__"], "__file__"):  # in a process of pytest-xdist, which PySpark takes for a doctest
    sys.modules["__main__"].__file__ = __file__


@pytest.fixture(scope="session", autouse=True)
def _one_spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One Spark for all tests of this process: a night starts and stops its own, and starting takes longest. It spills
    into a folder of its own, which no later night clears, and its workers have a key by which users may be named."""
    stop, spark._stop = spark._stop, lambda session: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARK_LOCAL_DIRS", str(tmp_path_factory.mktemp("spark")))
        patch.setenv("SHOP_KEY", KEY)
        yield
    spark._stop = stop
    if session := SparkSession.getActiveSession():
        stop(session)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with five items and one event on 2026-03-01."""
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    deliver(tmp_path, "items", "2026-03-01", ITEMS)
    deliver(tmp_path, "events", "2026-03-01", [event(1)])
    return tmp_path


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """A maker of homes, each with the same small generated shop."""
    from pipelines.generate import generate

    def make() -> Path:
        home = tmp_path_factory.mktemp("shop")
        generate(home, users=300, items=150, days=50, last_day=LAST_DAY, seed=7)
        return home

    return make


@pytest.fixture(scope="session")
def night(generated: Callable[[], Path]):
    """The finished and published run of one whole night on the generated shop."""
    from pipelines import night

    return night.run(day=LAST_DAY, overrides=SMALL, home=generated())


@pytest.fixture(scope="session")
def server() -> Iterator:
    """A PostgreSQL server, started once."""
    from tests.postgres import Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture
def house(server, monkeypatch: pytest.MonkeyPatch):
    """A warehouse in PostgreSQL, in a database of its own."""
    from pipelines import settings
    from pipelines.warehouse.postgres import Postgres

    database = f"shop{next(DATABASES)}"
    server.perform(f"create database {database}")
    for role in ("loader", "publisher", "reader", "admin"):
        monkeypatch.setenv(f"WAREHOUSE_{role.upper()}", server.address(role, database=database))
    monkeypatch.setenv("NIGHTSHELF_WAREHOUSE__ENGINE", "postgres")
    house = Postgres(settings.Warehouse(engine="postgres"))
    house.init()
    house.ready()
    return house
