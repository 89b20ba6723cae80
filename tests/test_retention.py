"""The newest runs and releases stay, and what readers see, hold or could go back to; killed runs leave nothing."""

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from pipelines import retention, settings, warehouse
from pipelines.open import open_run
from pipelines.run import Run, take_lease
from tests.test_warehouse import put

NOW = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
DEAD = f"cli:{os.uname().nodename}:999999999"


@pytest.fixture
def opened(shop: Path) -> Run:
    return open_run(owner="airflow:test", day=dt.date(2026, 3, 1), home=shop)


def told(**changes: int) -> settings.Settings:
    return settings.parse({"retention": changes})


def lay_run(home: Path, n: int, is_whole: bool, owner: str | None = DEAD) -> str:
    """A run that was opened n minutes after the first, with what a kill leaves behind."""
    name = f"2026-03-01.r{n}"
    for place in (f"runs/{name}/fuse.partial", f"lake/events.{name}.partial/landed", f"spark/{name}/blocks"):
        (home / place).mkdir(parents=True)
        (home / place / "rows").write_text("half")
    if is_whole:
        (home / "runs" / name / "validate").mkdir()
        (home / "runs" / name / "validate" / "stage.json").write_text("{}")
    opened_at = (NOW + dt.timedelta(minutes=n)).isoformat()
    (home / "runs" / name / "run.json").write_text(json.dumps({"opened_at": opened_at}))
    if owner:
        take_lease(home, name, owner, dt.datetime.now(dt.UTC))
    return name


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_thousand_killed_runs_leave_room(tmp_path: Path):
    """The disk holds the newest few all the while, and nothing of theirs elsewhere."""
    most = 0
    for n in range(1000):
        lay_run(tmp_path, n, is_whole=False)
        retention.clear_runs(tmp_path, told(runs=3), dt.datetime.now(dt.UTC))
        if n % 20 == 19:
            most = max(most, sum(path.is_file() for path in tmp_path.rglob("*")))
    assert names(tmp_path / "runs") == {f"2026-03-01.r{n}{end}" for n in (997, 998, 999) for end in ("", ".lease")}
    assert most == 9  # three runs: what they hold, `run.json`, the lease
    assert (names(tmp_path / "lake"), names(tmp_path / "spark")) == (set(), set())


def test_whole_runs_are_not_pushed_out_by_killed_ones(tmp_path: Path):
    """Each kind has its own newest few."""
    for n in range(10):
        lay_run(tmp_path, n, is_whole=n < 5, owner=None)
    gone = retention.clear_runs(tmp_path, told(runs=2), NOW)
    assert {name.partition(".r")[2] for name in gone} == set("012567")


def test_backfilled_days_and_nights_do_not_push_each_other_out(tmp_path: Path):
    """A month that is built again leaves the nights, and has its own newest few, whole or not."""
    for n in range(8):
        lay_run(tmp_path, n, is_whole=n % 2 == 0, owner=None)
        os.replace(tmp_path / "runs" / f"2026-03-01.r{n}", tmp_path / "runs" / f"2026-03-01.{n}.backfill")
    lay_run(tmp_path, 9, is_whole=True, owner=None)
    retention.clear_runs(tmp_path, told(runs=1, backfills=3), NOW)
    kept = {f"2026-03-01.{n}.backfill" for n in (5, 6, 7)}
    assert names(tmp_path / "runs") == kept | {"2026-03-01.r9"}


def test_a_run_that_somebody_works_on_stays(tmp_path: Path):
    """However old it is; and so does its scratch."""
    old = lay_run(tmp_path, 0, is_whole=False, owner="airflow:nightly")
    for n in (1, 2):
        lay_run(tmp_path, n, is_whole=False)
    assert retention.clear_runs(tmp_path, told(runs=1), dt.datetime.now(dt.UTC)) == ["2026-03-01.r1"]
    assert (tmp_path / "runs" / old / "run.json").exists()
    assert names(tmp_path / "lake") == {f"events.{old}.partial"}


def test_the_run_behind_the_current_release_stays(opened: Run):
    """Its marts and its report belong to what readers see."""
    put(opened, "2026-03-01", 1)
    assert [lay_run(opened.home, n, is_whole=True) for n in (1, 2)]
    (opened.home / "runs" / "2026-03-01.nightly.lease").unlink()
    assert retention.clear_runs(opened.home, told(runs=1), NOW) == ["2026-03-01.r1"]
    assert opened.folder.exists()


def test_a_run_that_was_never_opened_goes(tmp_path: Path):
    """A folder without `run.json`, one whose removal was cut short, and what was killed while it claimed a lease."""
    for name in ("2026-03-01.nightly", "2026-03-01.trial.gone"):
        (tmp_path / "runs" / name / "clean").mkdir(parents=True)
    (tmp_path / "runs" / "2026-03-01.nightly.lease.0a1b2c3d").touch()
    assert retention.clear_runs(tmp_path, told(runs=1), NOW) == ["2026-03-01.nightly"]
    assert names(tmp_path / "runs") == set()


def test_the_newest_releases_the_current_and_the_way_back_stay(opened: Run):
    """Of five nights two are kept, and after a rollback the one that readers see and the one before it as well."""
    nights = [put(opened, f"2026-03-0{n}", n, code_version=str(n)) for n in range(1, 6)]
    warehouse.rollback(opened.home, nights[1], "bad", "anna")
    assert retention.clear_releases(opened.home, told(releases=2)) == [nights[2], nights[3]]
    assert warehouse.of(opened.home).kept() == [nights[0], nights[1], nights[4]]


def test_a_release_that_a_reader_holds_stays(opened: Run):
    """Until the reader has closed it."""
    put(opened, "2026-03-01", 1)
    with warehouse.connect(opened.home) as reader:
        for n in range(2, 5):
            put(opened, f"2026-03-0{n}", n)
        assert retention.clear_releases(opened.home, told(releases=1)) == ["2026-03-02.nightly.00000002"]
        assert reader.execute("select count(*) from runs").fetchone() == (1,)
    assert retention.clear_releases(opened.home, told(releases=1)) == ["2026-03-01.nightly.00000001"]


def test_what_was_barred_is_known_when_its_release_is_gone(opened: Run):
    """The manifest outlives the file, so that the cause is still compared; leftovers of killed publications go."""
    put(opened, "2026-03-01", 1)
    bad = put(opened, "2026-03-02", 2)
    warehouse.rollback(opened.home, None, "bad", "anna")
    for n in (3, 4, 5):
        put(opened, f"2026-03-0{n}", n, code_version="2")
    (opened.home / "warehouse" / "releases" / "x.duckdb.partial").write_text("half")
    retention.clear_releases(opened.home, told(releases=1))
    house = warehouse.of(opened.home)
    assert bad not in house.kept()
    assert house.manifest(bad)["code_version"] == "1"
    assert names(opened.home / "warehouse" / "releases") == {f"{name}.duckdb" for name in house.kept()} | {
        f"{name}.json" for name in [*house.kept(), bad]
    }
