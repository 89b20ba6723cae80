"""A stage is whole or not there, is done once, and a run has one owner."""

import datetime as dt
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from models.errors import Damaged
from pipelines import run as runs
from pipelines.errors import NoDataForDay, RunBusy, StageNotReady
from pipelines.open import day_before, open_run
from pipelines.run import Run, stage

NOW = dt.datetime(2026, 3, 2, 3, tzinfo=dt.UTC)
CALLS: list[str] = []


@pytest.fixture
def opened(shop: Path) -> Run:
    CALLS.clear()
    return open_run(owner="airflow:test", day=dt.date(2026, 3, 1), home=shop)


@stage
def write_a_file(run: Run, folder: Path) -> None:
    CALLS.append(run.run_id)
    (folder / "rows.txt").write_text("rows")


@stage
def fail_half_way(run: Run, folder: Path) -> None:
    (folder / "rows.txt").write_text("half")
    raise ValueError("half way")


@stage
def read_what_is_damaged(run: Run, folder: Path) -> None:
    raise Damaged(f"{folder / 'factors.npy'} is not the file that was written there. Remove it")


def names(run: Run) -> set[str]:
    return {path.name for path in run.folder.iterdir()}


def test_a_finished_stage_is_whole_and_is_not_done_again(opened: Run):
    """The folder appears with all its files; the second call does nothing."""
    write_a_file(opened)
    write_a_file(opened)
    assert [opened.run_id] == CALLS
    assert names(opened) == {"run.json", "test_run"}
    assert opened.of("test_run", "rows.txt").read_text() == "rows"


def test_a_failed_stage_leaves_nothing(opened: Run):
    """No folder, no partial folder."""
    with pytest.raises(ValueError, match="half way"):
        fail_half_way(opened)
    assert names(opened) == {"run.json"}
    with pytest.raises(StageNotReady, match="stage test_run has not finished"):
        opened.of("test_run")


def test_what_is_damaged_is_told_as_a_stage_that_is_not_there(opened: Run):
    """In one line with the file and the cure, as people read it, and without a half-written folder."""
    with pytest.raises(StageNotReady, match=r"factors.npy is not the file that was written there. Remove it\.$"):
        read_what_is_damaged(opened)
    assert names(opened) == {"run.json"}


def test_an_attempt_that_was_thought_dead_ends_without_its_work(opened: Run):
    """While it slept, another attempt began and finished: what that one made stays, and nothing else."""

    @stage
    def sleep_long(run: Run, folder: Path) -> None:
        write_a_file(run)
        (folder.parent / "test_run" / "rows.txt").write_text("of the second attempt")

    with pytest.raises(RunBusy, match="another attempt has begun"):
        sleep_long(opened)
    assert names(opened) == {"run.json", "test_run"}
    assert opened.of("test_run", "rows.txt").read_text() == "of the second attempt"


def test_other_settings_do_a_stage_again(opened: Run):
    """A stage that finished under another configuration does not count."""
    write_a_file(opened)
    write_a_file(replace(opened, settings=opened.settings.model_copy(update={"seed": 99})))
    assert len(CALLS) == 2


def test_a_night_that_keeps_less_of_the_past_goes_on(opened: Run, shop: Path):
    """Who makes room by `retention` does not begin the night anew; the new number holds from then on."""
    write_a_file(opened)
    again = open_run(owner="airflow:test", day=opened.day, home=shop, overrides={"retention.releases": 1})
    assert (again.settings.retention.releases, again.opened_at) == (1, opened.opened_at)
    assert Run.load(opened.run_id, shop) == again
    write_a_file(again)
    assert [opened.run_id] == CALLS


def test_opening_again_with_nothing_changed_is_the_same_run(opened: Run, shop: Path):
    """The time of the first opening stays, so that a finished night stays finished."""
    assert open_run(owner="airflow:test", day=opened.day, home=shop) == opened


def test_a_run_of_other_code_is_opened_anew(opened: Run, shop: Path):
    """Its settings may be none any more; the record is written again."""
    record = opened.folder / "run.json"
    old = json.loads(record.read_text()) | {"code_version": "0.0.1", "settings": {"weights": {"gone": 1}}}
    record.write_text(json.dumps(old))
    assert open_run(owner="airflow:test", day=opened.day, home=shop).fingerprint == opened.fingerprint
    assert Run.load(opened.run_id, shop).settings == opened.settings


def test_a_run_is_read_back_as_it_was_written(opened: Run, shop: Path):
    """run.json holds all that later stages read."""
    assert Run.load(opened.run_id, shop) == opened
    assert set(opened.inputs) == {"raw/events/dt=2026-03-01/part.jsonl", "raw/items/dt=2026-03-01/part.jsonl"}


def test_the_second_owner_is_refused(opened: Run, shop: Path):
    """The message names who works on the run and what to do."""
    with pytest.raises(RunBusy, match=r"being worked on by airflow:test .* another --label"):
        open_run(owner="airflow:other", day=opened.day, home=shop)


def test_a_dead_process_does_not_keep_a_run(shop: Path):
    """A lease of a process of this host that no longer lives is taken over."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    runs.take_lease(shop, "r", f"cli:{os.uname().nodename}:{child}", NOW)
    runs.take_lease(shop, "r", "airflow:new", NOW)
    runs.release_lease(shop, "r", "airflow:new")
    assert not list((shop / "runs").glob("*.lease"))


def test_only_the_owner_releases(shop: Path):
    """A stranger's release changes nothing."""
    runs.take_lease(shop, "r", "airflow:one", NOW)
    runs.release_lease(shop, "r", "airflow:two")
    assert list((shop / "runs").glob("*.lease"))


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("UTC", dt.date(2026, 3, 1)),
        ("America/Los_Angeles", dt.date(2026, 2, 28)),
        ("Asia/Kolkata", dt.date(2026, 3, 1)),
    ],
)
def test_the_day_is_yesterday_in_the_shop(zone: str, day: dt.date):
    """At 03:00 UTC it is still the evening before in California."""
    assert day_before(NOW, zone) == day


def test_a_day_that_did_not_arrive_is_refused_without_a_trace(shop: Path):
    """Neither a run folder nor a lease is left."""
    with pytest.raises(NoDataForDay, match=r"No events arrived on 2026-03-02.*nearest: 2026-03-01"):
        open_run(owner="airflow:test", day=dt.date(2026, 3, 2), home=shop)
    assert not (shop / "runs").exists()
