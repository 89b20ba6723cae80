"""A column that gets another name stays readable by the old one for one version of the contract."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from pipelines import contracts, reference, warehouse
from pipelines.contracts import Table
from pipelines.warehouse import renamed
from pipelines.warehouse.manifest import Judged
from pipelines.warehouse.postgres import Postgres
from tests.lake import run_of
from tests.test_contracts import write
from tests.test_postgres import asked

OLD = contracts.tables("serving")["items"]
NEW = replace(
    OLD,
    columns=tuple(replace(c, name="name", renamed_from="title") if c.name == "title" else c for c in OLD.columns),
)


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[[Table], None]:
    """Puts a contract in force that has one table."""
    return lambda table: monkeypatch.setattr(contracts, "tables", lambda layer: {table.name: table})


def publish(home: Path, day: str, title: str, **changes: object) -> str:
    """A release of one item under the contract in force."""
    table = contracts.tables("serving")["items"]
    path = home / f"{day}.duckdb"
    with duckdb.connect(str(path)) as release:
        release.execute(renamed.definition(table, "items"))
        named = "name" if "name" in table.names else "title"
        release.execute(
            f"insert into items (item_id, {named}, is_available, run_id) values ('i1', ?, true, 'r')", [title]
        )
    manifest = {"code_version": day, "settings": {}, "inputs": {}, "tables": {"items": {"count_rows": 1}}}
    made = Judged(path, {"release": f"{day}.nightly.00000001", **manifest})
    run = replace(run_of(home, **changes), day=dt.date.fromisoformat(day), run_id=f"{day}.nightly")
    return warehouse.publish(run, made)["release"]


def test_a_release_file_has_both_names(hold: Callable, tmp_path: Path):
    """Whoever opens the file reads the same values by either name; rows come in by the new one alone."""
    hold(NEW)
    publish(tmp_path, "2026-03-01", "Mug")
    with duckdb.connect(str(tmp_path / "warehouse" / "current.duckdb"), read_only=True) as release:
        assert release.execute("select name, title from items").fetchall() == [("Mug", "Mug")]


def test_a_release_of_before_is_read_by_the_new_name(hold: Callable, tmp_path: Path):
    """On the first night under a new contract the gates hold tonight against a release that has the old name only."""
    hold(OLD)
    publish(tmp_path, "2026-03-01", "Mug")
    hold(NEW)
    with warehouse.connect(tmp_path) as release:
        assert release.execute("select name, title from items").fetchall() == [("Mug", "Mug")]


@pytest.mark.parametrize("before", [OLD, NEW], ids=["old", "new"])
def test_a_release_can_be_derived_over_the_change(hold: Callable, tmp_path: Path, before: Table):
    """Of a release of either version, and with further rows; the second name is no column that anybody fills."""
    hold(before)
    publish(tmp_path, "2026-03-01", "Mug")
    hold(NEW)
    more = pd.DataFrame([{"item_id": "i2", "name": "Jug", "is_available": True, "run_id": "r"}])
    with warehouse.connect(tmp_path) as release:
        told = warehouse.derive(release, tmp_path / "derived.duckdb", {"items": more}, {})
    assert told["items"]["columns"].keys() == set(NEW.names)
    with duckdb.connect(str(tmp_path / "derived.duckdb"), read_only=True) as release:
        assert release.execute("select name, title from items").fetchall() == [("Mug", "Mug"), ("Jug", "Jug")]


@pytest.mark.slow
def test_the_views_of_postgres_have_both_names(hold: Callable, tmp_path: Path, house: Postgres):
    """Once the change is published, and when readers are taken back behind it: no query breaks by the name."""
    both, engine = "select name, title from nightshelf.items", {"warehouse.engine": "postgres"}
    hold(OLD)
    first = publish(tmp_path, "2026-03-01", "Mug", **engine)
    hold(NEW)
    publish(tmp_path, "2026-03-02", "Jug", **engine)
    assert asked(house, both) == [("Jug", "Jug")]
    warehouse.rollback(tmp_path, first, "trial", "anna")
    assert asked(house, both) == [("Mug", "Mug")]


def test_the_old_name_is_declared_beside_the_column(tmp_path: Path):
    """With the version of the contract that took it away; the reference tells readers."""
    told = f"config: {{ meta: {{ renamed_from: {{ name: width, version: {contracts.VERSION} }} }} }}"
    (table,) = contracts._read(write(tmp_path, told))
    assert table["size"].renamed_from == "width"
    assert "Was `width`, and can be read by that name until the next version." in reference._constraints(table["size"])


def test_the_old_name_ends_with_the_next_version(tmp_path: Path):
    """One that was forgotten there is an error that says what to do."""
    told = f"config: {{ meta: {{ renamed_from: {{ name: width, version: {contracts.VERSION - 1} }} }} }}"
    with pytest.raises(contracts.UnknownConstraint, match=r"mugs.size: renamed_from is of version 0.*CHANGELOG"):
        list(contracts._read(write(tmp_path, told)))
