"""What the shop said of an item on a day can be asked later; a day that is built again does not see beyond itself."""

import datetime as dt
from pathlib import Path

import duckdb
import pytest

from pipelines import build, clean
from pipelines.open import open_run
from pipelines.run import Run
from tests.conftest import ITEMS, deliver, event
from tests.lake import built, lay

pytestmark = pytest.mark.slow

ON = (
    "select title, price_cents from item_history where item_id = 'i1'"
    " and valid_from <= $1 and (valid_to is null or valid_to > $1)"
)


def ask(run: Run, query: str, *values: object) -> list[tuple]:
    with duckdb.connect(str(run.of("build", "marts.duckdb")), read_only=True) as marts:
        return marts.execute(query, values).fetchall()


def version(price_cents: int, title: str = "Item 1") -> list[dict[str, object]]:
    return [{"item_id": "i1", "title": title, "price_cents": price_cents}]


def test_what_an_item_was_on_a_day(tmp_path: Path):
    """Before its first day nothing, then the version of the day; one that says the same again begins no new one."""
    lay(tmp_path, "items", "2026-02-01", [*version(100), {"item_id": "i2", "title": "Item 1"}])
    lay(tmp_path, "items", "2026-02-05", version(100))
    lay(tmp_path, "items", "2026-02-10", version(150))
    run = built(tmp_path)
    days = ("2026-01-31", "2026-02-01", "2026-02-09", "2026-02-10", "2026-03-01")
    assert [ask(run, ON, day) for day in days] == [[], *[[("Item 1", 100)]] * 2, *[[("Item 1", 150)]] * 2]
    spans = ask(run, "select item_id, cast(valid_from as varchar), cast(valid_to as varchar) from item_history")
    assert spans == [("i1", "2026-02-01", "2026-02-10"), ("i1", "2026-02-10", None), ("i2", "2026-02-01", None)]


def test_a_day_built_later_shows_the_catalogue_of_that_day(shop: Path):
    """The run of the first of March, made when the second has arrived, knows neither its prices nor its items."""
    deliver(shop, "items", "2026-03-02", [*version(999, "Renamed"), {"item_id": "i9", "title": "Item 9"}])
    deliver(shop, "events", "2026-03-02", [event(2, day="2026-03-02", item_id="i9")])
    run = open_run(owner="airflow:test", day=dt.date(2026, 3, 1), home=shop)
    clean.run(run)
    build.run(run)
    known = [item["item_id"] for item in ITEMS]
    assert ask(run, "select item_id from catalogue order by 1") == [(item,) for item in known]
    assert ask(run, "select title, price_cents from catalogue where item_id = 'i1'") == [("Item 1", 100)]
    assert ask(run, "select item_id, valid_to from item_history") == [(item, None) for item in known]
    assert ask(run, ON, "2026-03-02") == [("Item 1", 100)]
