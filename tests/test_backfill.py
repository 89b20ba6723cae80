"""Days are built again without a glimpse of what came later, once each, and never in place of a newer one."""

import datetime as dt
import json
from functools import partial
from pathlib import Path

import pytest

from pipelines import backfill, clean, gates, night, settings
from pipelines.backfill import Planned, days
from pipelines.clean import lake
from pipelines.errors import BadInput, BadSetting, DaysFailed, GateFailed
from pipelines.open import described, open_run
from pipelines.run import Override, Run
from tests.conftest import deliver, event
from tests.test_warehouse import put

FIRST, LAST = dt.date(2026, 3, 1), dt.date(2026, 3, 3)
NOW = dt.datetime(2026, 3, 9, tzinfo=dt.UTC)
LEAVES = {"admit_anyway": Override("inventory", "anna"), "start_anyway": None}


@pytest.fixture
def shop(shop: Path) -> Path:
    """Events on three days."""
    for n in (2, 3):
        deliver(shop, "events", f"2026-03-0{n}", [event(n, day=f"2026-03-0{n}")])
    return shop


def finish(home: Path, day: dt.date, *stages: str) -> Run:
    """Open the day's run and let it have finished the stages."""
    run = open_run(owner="airflow:test", day=day, label="backfill", home=home)
    for stage in stages:
        (run.folder / stage).mkdir()
        (run.folder / stage / "stage.json").write_text(json.dumps({"fingerprint": run.fingerprint}))
    return run


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dt.date, bool]]:
    """Stands in for the nights: days and whether they were to be published; the second of March fails its gate."""
    calls: list[tuple[dt.date, bool]] = []

    def run(*, day: dt.date, label: str, overrides: object, publish: bool, home: Path, **leaves: Override) -> None:
        assert label == "backfill"
        assert leaves == LEAVES
        calls.append((day, publish))
        if day.day == 2:
            raise GateFailed("users served: 0.41")

    monkeypatch.setattr(night, "run", run)
    return calls


def test_days_are_named_alone_and_in_spans():
    """Each once, oldest first, over the end of a month."""
    named = days(["2026-03-02", "2026-02-28..2026-03-01", "2026-03-02"])
    assert [str(day) for day in named] == ["2026-02-28", "2026-03-01", "2026-03-02"]


@pytest.mark.parametrize("word", ["yesterday", "2026-02-30", "2026-03-02..2026-03-01", "2026-03-01..", ".."])
def test_what_names_no_day_is_refused(word: str):
    """The message quotes it."""
    with pytest.raises(BadSetting, match=word.replace(".", r"\.")):
        days([word])


def test_a_day_is_the_same_whatever_arrived_later(shop: Path):
    """Events, items and corrections of later days are planted: inputs, fingerprint and partitions stay."""
    before = described(shop, settings.load(shop), FIRST, "backfill", NOW)
    deliver(shop, "items", "2026-03-02", [{"item_id": "i9", "title": "Item 9", "price_cents": 1}])
    deliver(shop, "events", "2026-03-02", [event(4, day="2026-03-01", item_id="i9")], name="late.jsonl")
    after = described(shop, settings.load(shop), FIRST, "backfill", NOW)
    assert after == before
    assert {path.partition("dt=")[2][:10] for path in after.inputs} == {"2026-03-01"}
    assert lake.plan(after, clean.files_of(after)) == lake.plan(before, clean.files_of(before))


def test_the_gates_do_not_look_at_a_release_of_a_later_day(shop: Path):
    """An earlier day cannot replace it, so that nothing is held against it."""
    later, earlier = finish(shop, LAST), finish(shop, FIRST)
    put(later, str(LAST), 1)
    assert [gates._may_replace(run) for run in (later, earlier)] == [True, False]


def test_a_finished_day_is_done_until_something_of_it_changes(shop: Path):
    """A day without its report is not done; one that was not published is not done once it is to be."""
    finish(shop, FIRST, "validate", "report")
    finish(shop, LAST, "validate")
    plan = partial(backfill.plan, [FIRST, LAST], home=shop)
    assert [one.is_done for one in plan()] == [True, False]
    assert [one.is_done for one in plan(promote=True)] == [False, False]
    assert [one.is_done for one in plan(overrides={"seed": 18})] == [False, False]
    deliver(shop, "events", "2026-03-01", [event(9)], name="again.jsonl")
    assert [one.is_done for one in plan()] == [False, False]


def test_only_days_that_may_replace_the_current_release_are_published(shop: Path):
    """And where none may, it is refused with the release's name."""
    put(finish(shop, FIRST), "2026-03-02", 1)
    wanted = days(["2026-03-01..2026-03-03"])
    assert [one.publishes for one in backfill.plan(wanted, home=shop)] == [False, False, False]
    assert [one.publishes for one in backfill.plan(wanted, promote=True, home=shop)] == [False, True, True]
    with pytest.raises(BadSetting, match=r"2026-03-02\.nightly\.00000001 already"):
        backfill.plan([FIRST], promote=True, home=shop)


def test_what_cannot_be_built_is_told_of_all_days_and_leaves_no_trace(shop: Path):
    """Two days were never delivered; and more days than are kept would clear each other."""
    with pytest.raises(BadInput, match=r"(?s)2026-02-28: No events arrived.*2026-03-04: No events arrived"):
        backfill.plan(days(["2026-02-28..2026-03-04"]), home=shop)
    with pytest.raises(BadSetting, match="3 days are more than the 2 that retention"):
        backfill.plan(days(["2026-03-01..2026-03-03"]), {"retention.backfills": 2}, home=shop)
    assert not (shop / "runs").exists()


def test_a_day_that_fails_does_not_keep_the_others(built: list):
    """Done days are passed over; what failed is told at the end."""
    planned = [Planned(dt.date(2026, 3, day), day == 4, is_done=day == 1) for day in (1, 2, 3, 4)]
    with pytest.raises(DaysFailed, match=r"1 days are not built(.|\n)*2026-03-02: users served: 0\.41"):
        backfill.perform_all(planned, **LEAVES)
    assert built == [(dt.date(2026, 3, 2), False), (dt.date(2026, 3, 3), False), (dt.date(2026, 3, 4), True)]
