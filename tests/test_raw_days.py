"""Raw events go after some days, and the lake stands in for them: nights, backfills, quarantine, forgetting go on."""

import datetime as dt
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from pipelines import backfill, check, quarantine, raw, replay, retention, settings
from pipelines.errors import BadInput, NoDataForDay
from pipelines.forget import lake
from pipelines.raw import removed
from pipelines.run import Run, release_lease, take_lease
from tests.conftest import deliver, event
from tests.test_clean import books, cleaned

pytestmark = pytest.mark.slow
NOW = dt.datetime(2026, 3, 5, tzinfo=dt.UTC)
DAYS = [dt.date(2026, 3, n) for n in range(1, 6)]
KEPT = {"retention.raw_days": 2}


@pytest.fixture
def four_days(shop: Path) -> Path:
    """Each day a new event, and one that says again what the first day said; on the first a row without a kind."""
    for n, day in enumerate(DAYS[:4], 1):
        rows = [event(n, str(day)), event(1), event(10 + n, str(day), user_id="bert")]
        deliver(shop, "events", str(day), [*rows, *[event(9, event_type=None)] * (n == 1)])
    return shop


@pytest.fixture
def run(four_days: Path) -> Run:
    """The night of the fourth day, after which nobody works."""
    return _cleaned(four_days, DAYS[3])


def _cleaned(home: Path, day: dt.date, **overrides: object) -> Run:
    run = cleaned(home, day, **KEPT, **overrides)
    release_lease(home, run.run_id, "airflow:test")
    return run


def _partitions(run: Run) -> list[str]:
    return json.loads(run.of("clean", "partitions.json").read_text())["events"]


def test_what_goes_changes_no_night(run: Run, tmp_path_factory: pytest.TempPathFactory):
    """The first two days go; the next night reads the same partitions as one in a home where nothing went, knows the
    repeated event, and the finished night is still finished."""
    other = Path(shutil.copytree(run.home, tmp_path_factory.mktemp("other") / "home"))
    assert retention.clear_raw(run, NOW) == ["2026-03-01", "2026-03-02"]
    assert sorted(path.name for path in (run.home / "raw" / "events").iterdir()) == ["dt=2026-03-03", "dt=2026-03-04"]
    for home in (run.home, other):
        deliver(home, "events", "2026-03-05", [event(5, "2026-03-05"), event(1)])
    night, beside = _cleaned(run.home, DAYS[4]), _cleaned(other, DAYS[4])
    told = [[Path(one).relative_to(home) for one in _partitions(r)] for r, home in ((night, run.home), (beside, other))]
    assert told[0] == told[1]
    assert books(night) == books(beside)
    assert books(night)["events", "duplicate"] == 5
    assert (night.fingerprint, retention.clear_raw(run, NOW)) == (beside.fingerprint, [])
    assert _cleaned(run.home, DAYS[3]).opened_at == run.opened_at


def test_other_rules_clean_only_what_is_there(run: Run):
    """Days that are gone stay as they were cleaned; those that are not are cleaned anew, and still know what was said.
    The day that is the first one now is no beginning of the shop's history."""
    retention.clear_raw(run, NOW)
    deliver(run.home, "events", "2026-03-03", [event(30, "2026-03-01"), event(1)], "late.jsonl")
    before = _partitions(run)
    again = _cleaned(run.home, DAYS[3], **{"clean.look_back_days": 1})
    now = _partitions(again)
    assert (before[:2] == now[:2], set(before[2:]) & set(now[2:])) == (True, set())
    assert books(again)["events", "too_late"] == 4  # what the third day and the fourth say of the first
    assert books(again)["events", "duplicate"] == 2


def test_a_day_that_is_gone_can_be_built_again(run: Run):
    """From the lake: its day is known, and so are its rows, also those in quarantine, which can be replayed."""
    retention.clear_raw(run, NOW)
    assert raw.days(run.home, "events") == DAYS[:4]
    assert [
        one.day for one in backfill.plan([DAYS[0]], KEPT | {"shop.opened_on": "2026-01-01"}, home=run.home)
    ] == DAYS[:1]
    assert books(_cleaned(run.home, DAYS[1]))["events", "accepted"] == 4
    (row,) = quarantine.open_rows(run, quarantine.Wanted("events", "missing_event_type"))
    assert row.values["user_id"] == "anna"
    (done,) = replay.as_they_are(run, quarantine.Wanted("events", "missing_event_type"))
    assert done.day == DAYS[3]
    with pytest.raises(BadInput, match=r"2026-03-01 were removed by retention.raw_days.*later day"):
        replay.as_they_are(run, quarantine.Wanted("events", "duplicate"), DAYS[0])


def test_the_lake_must_stand_in(run: Run):
    """Without its rows, or with ids written otherwise, no night begins: days, run and cure are named."""
    retention.clear_raw(run, NOW)
    with pytest.raises(
        BadInput, match=r"2 days from 2026-03-01 to 2026-03-02 .* clean.ids = keep, .* clean.ids = merge"
    ):
        check.inputs(run.home, settings.load(run.home, {"clean.ids": "merge"}), DAYS[3])
    shutil.rmtree(_partitions(run)[1])
    with pytest.raises(BadInput, match=r"raw files of 2026-03-02 .* last after 2026-03-04.test; .* Put these folders"):
        check.inputs(run.home, run.settings, DAYS[3])
    with pytest.raises(BadInput, match="Nothing was built"):
        backfill.plan([DAYS[1]], home=run.home)


def test_a_day_delivered_since_is_refused_and_one_put_back_counts(run: Run, tmp_path: Path):
    """Half of a day cannot be joined to the rest; a whole one is a day like others."""
    before = shutil.copytree(run.home / "raw" / "events" / "dt=2026-03-01", tmp_path / "backup")
    retention.clear_raw(run, NOW)
    deliver(run.home, "events", "2026-03-01", [event(40)], "new.jsonl")
    with pytest.raises(BadInput, match=r"cannot be joined .* raw/events/dt=2026-03-01/part.jsonl"):
        check.inputs(run.home, run.settings, DAYS[3])
    shutil.copy(before / "part.jsonl", run.home / "raw" / "events" / "dt=2026-03-01" / "part.jsonl")
    files = check.inputs(run.home, run.settings, DAYS[3])
    first_day = [Path(file.path).name for file in files if (file.table, file.day) == ("events", DAYS[0])]
    assert first_day == ["new.jsonl", "part.jsonl"]
    assert [file.day for file in files if file.is_removed] == [DAYS[1]]


@pytest.mark.parametrize("call", [1, 2])
def test_a_removal_that_dies_leaves_each_day_whole_or_gone(run: Run, monkeypatch: pytest.MonkeyPatch, call: int):
    """At the record, or between two folders: a night would come out the same, and the next removal finishes."""
    replace, count = os.replace, iter(range(9))

    def dying(*places: object) -> None:
        if next(count) == call:
            raise KeyboardInterrupt
        replace(*places)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        retention.clear_raw(run, NOW)
    monkeypatch.undo()
    assert {f.path: f.sha256 for f in check.inputs(run.home, run.settings, DAYS[3])} == run.inputs
    retention.clear_raw(run, NOW)
    assert [path.name for path in sorted((run.home / "raw" / "events").iterdir())] == ["dt=2026-03-03", "dt=2026-03-04"]


def _unread(run: Run) -> None:
    deliver(run.home, "events", "2026-03-01", [event(50)], "unread.jsonl")


def _at_work(run: Run) -> None:
    take_lease(run.home, "2026-03-09.trial", "airflow:other", dt.datetime.now(dt.UTC))


@pytest.mark.parametrize(("spoil", "gone"), [(_unread, ["2026-03-02"]), (_at_work, [])])
def test_what_somebody_may_still_read_stays(run: Run, spoil: Callable[[Run], None], gone: list[str]):
    """A day of which the night did not read everything, and all days while another run is at work."""
    spoil(run)
    assert retention.clear_raw(run, dt.datetime.now(dt.UTC)) == gone


def test_a_user_is_forgotten_in_days_that_are_gone(run: Run):
    """The rows of others, their books and the partitions of later days stay; again, it does nothing."""
    retention.clear_raw(run, NOW)
    before = _partitions(run)
    assert lake.erase(run.home, {"bert"}, None) == 4
    assert lake.erase(run.home, {"bert"}, None) == 0
    assert [Path(folder).exists() for folder in before] == [True, True, False, False]
    for folder, count in zip(before[:2], (1, 1), strict=True):
        rows = duckdb.sql(f"select user_id from '{folder}/verdict=accepted/*.parquet'").fetchall()
        assert rows == [("anna",)] * count
        told = json.loads((Path(folder) / "books.json").read_text())
        (receipt,) = json.loads((Path(folder) / "files.json").read_text())
        assert sum(one["count_rows"] for one in told) == receipt["count_rows"]


def test_the_day_itself_always_stays(run: Run):
    """Of one day kept, it is the run's own; and without the setting nothing goes."""
    kept = settings.parse({"retention": {"raw_days": 1}}).retention
    object.__setattr__(run.settings, "retention", settings.Retention())
    assert retention.clear_raw(run, NOW) == []
    object.__setattr__(run.settings, "retention", kept)
    assert retention.clear_raw(run, NOW) == ["2026-03-01", "2026-03-02", "2026-03-03"]
    with pytest.raises(NoDataForDay):
        check.require_day(run.home, dt.date(2026, 2, 1))
    assert len(removed.load(run.home)) == 3
