"""Readers see one whole release; moving the link is all that publishing and going back do."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from pipelines import warehouse
from pipelines.errors import NothingPublished
from pipelines.open import open_run
from pipelines.run import Run


@pytest.fixture
def opened(shop: Path) -> Run:
    return open_run(owner="airflow:test", day=dt.date(2026, 3, 1), home=shop)


def put(run: Run, day: str, rows: int) -> str:
    """Publish a release of one table with that many rows."""
    made = run.home / "made.duckdb"
    with duckdb.connect(str(made)) as connection:
        connection.execute(f"create table runs as select * from range({rows})")
    on_day = replace(run, day=dt.date.fromisoformat(day), run_id=f"{day}.nightly")
    return str(warehouse.publish(on_day, made, {"runs": {"count_rows": rows}})["release"])


def count(home: Path) -> int:
    with warehouse.connect(home) as connection:
        return connection.execute("select count(*) from runs").fetchone()[0]


def test_the_link_follows_the_newest_day(opened: Run):
    """A later day replaces an earlier one; an earlier day published later does not."""
    put(opened, "2026-03-01", 1)
    put(opened, "2026-03-02", 2)
    assert count(opened.home) == 2
    put(opened, "2026-02-27", 3)
    assert count(opened.home) == 2
    assert [r["is_current"] for r in warehouse.history(opened.home)] == [True, True, False]


def test_rollback_shows_what_stood_before(opened: Run):
    """Going back moves the link, keeps the file, and is written down with its reason."""
    first = put(opened, "2026-03-01", 1)
    second = put(opened, "2026-03-02", 2)
    assert warehouse.rollback(opened.home, None, "bad prices", "anna") == first
    assert count(opened.home) == 1
    last = warehouse.history(opened.home)[-1]
    assert (last["action"], last["replaced"], last["why"], last["who"]) == ("rollback", second, "bad prices", "anna")
    assert warehouse.rollback(opened.home, second, "prices are right after all", "anna") == second
    assert count(opened.home) == 2


def test_publishing_equal_tables_again_does_not_forget_what_stood_before(opened: Run):
    """The second publication of the same content is the same release; going back still leads to the one before it."""
    first = put(opened, "2026-03-01", 1)
    assert put(opened, "2026-03-02", 2) == put(opened, "2026-03-02", 2)
    assert warehouse.rollback(opened.home, None, "wrong", "anna") == first


def test_rollback_without_a_release_before_says_which_are_kept(opened: Run):
    """The message lists what can be chosen, and nothing moves."""
    only = put(opened, "2026-03-01", 1)
    with pytest.raises(NothingPublished, match=only):
        warehouse.rollback(opened.home, None, "why not", "anna")
    with pytest.raises(NothingPublished, match="No release nothing is kept"):
        warehouse.rollback(opened.home, "nothing", "why not", "anna")
    assert count(opened.home) == 1


def test_nothing_published_is_a_clear_word(opened: Run):
    """Reading and going back before the first night both say so."""
    with pytest.raises(NothingPublished, match="Run a night first"):
        warehouse.connect(opened.home)
    with pytest.raises(NothingPublished, match="nothing was published yet"):
        warehouse.rollback(opened.home, None, "x", "anna")


def test_a_reader_keeps_the_release_that_it_opened(opened: Run):
    """A connection that is open while the link moves goes on reading the old release; a new one reads the new."""
    put(opened, "2026-03-01", 1)
    with warehouse.connect(opened.home) as reader:
        put(opened, "2026-03-02", 2)
        assert reader.execute("select count(*) from runs").fetchone() == (1,)
    assert count(opened.home) == 2
