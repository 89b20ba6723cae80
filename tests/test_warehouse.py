"""Readers see one whole release; moving the pointer is all that publishing and going back do."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from pipelines import warehouse
from pipelines.errors import BadSetting, HeldBack, NothingPublished
from pipelines.open import open_run
from pipelines.run import Override, Run
from pipelines.warehouse.manifest import Judged

MADE = {"code_version": "1", "settings": {"seed": 17}, "inputs": {"raw/a.csv": "aa"}}


@pytest.fixture
def opened(shop: Path) -> Run:
    return open_run(owner="airflow:test", day=dt.date(2026, 3, 1), home=shop)


def put(
    run: Run, day: str, rows: int, leave: Override | None = None, attempt: Path | None = None, **made: object
) -> str:
    """Publish a release of one table with that many rows."""
    path = run.home / f"made-{day}-{rows}.duckdb"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"create table runs as select * from range({rows})")
    on_day = replace(run, day=dt.date.fromisoformat(day), run_id=f"{day}.nightly", publish_anyway=leave)
    judged = Judged(path, {"release": f"{on_day.run_id}.{rows:08x}", **MADE, **made})
    return warehouse.publish(on_day, judged, attempt)["release"]


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


def test_what_was_rolled_back_does_not_come_back_with_the_next_night(opened: Run):
    """Neither itself nor a night of the same making on more input; the message names release, person and reason."""
    first, bad = put(opened, "2026-03-01", 1), put(opened, "2026-03-02", 2)
    warehouse.rollback(opened.home, None, "bad prices", "anna")
    more = {"raw/a.csv": "aa", "raw/b.csv": "bb"}
    for day, rows in (("2026-03-02", 2), ("2026-03-03", 3)):
        with pytest.raises(HeldBack, match=rf"{bad}, which .* by anna: bad prices"):
            put(opened, day, rows, inputs=more)
    assert warehouse.current(opened.home) == first
    assert warehouse.of(opened.home).kept() == [first, bad]


@pytest.mark.parametrize(
    ("cause", "made"),
    [
        ("code", {"code_version": "2"}),
        ("settings", {"settings": {"seed": 18}}),
        ("inputs", {"inputs": {"raw/a.csv": "corrected"}}),
        ("inputs", {"inputs": {}}),
    ],
)
def test_a_night_goes_out_once_a_cause_has_changed(opened: Run, cause: str, made: dict):
    """And the record says what is different from the release that was gone back from."""
    put(opened, "2026-03-01", 1)
    bad = put(opened, "2026-03-02", 2)
    warehouse.rollback(opened.home, None, "bad prices", "anna")
    put(opened, "2026-03-03", 3, **made)
    assert count(opened.home) == 3
    assert warehouse.history(opened.home)[-1]["changed_since"] == {bad: [cause]}


def test_a_reason_lets_it_out_and_frees_the_nights_after(opened: Run):
    """The reason stands in the history, and is asked for once."""
    put(opened, "2026-03-01", 1)
    bad = put(opened, "2026-03-02", 2)
    warehouse.rollback(opened.home, None, "bad prices", "anna")
    put(opened, "2026-03-03", 3, leave=Override("prices were right", "bert"))
    told = warehouse.history(opened.home)[-1]
    assert (told["why"], told["freed"]) == ("prices were right", [bad])
    put(opened, "2026-03-04", 4)
    assert count(opened.home) == 4
    with pytest.raises(BadSetting, match="wants a reason"):
        Override(" ", "bert")


def test_a_rollback_to_a_barred_release_frees_it(opened: Run):
    """Who goes forward again has decided."""
    put(opened, "2026-03-01", 1)
    bad = put(opened, "2026-03-02", 2)
    warehouse.rollback(opened.home, None, "bad prices", "anna")
    warehouse.rollback(opened.home, bad, "they were right", "anna")
    put(opened, "2026-03-03", 3)
    assert count(opened.home) == 3


def test_a_rollback_takes_less_than_a_second(opened: Run):
    """There and back, the faster way of several: the machine may be busy."""
    nights = [put(opened, f"2026-03-0{n}", n) for n in (1, 2)]
    assert min(seconds_of(lambda n=n: warehouse.rollback(opened.home, nights[n % 2], "x", "a")) for n in range(6)) < 1


def seconds_of(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
