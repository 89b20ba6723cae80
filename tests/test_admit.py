"""The input gate sees a day that is not like the days before, lets ordinary ones pass, and can be told to go on."""

import datetime as dt
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines import admit, figures, gaps, night, profiles, warehouse
from pipelines.__main__ import app
from pipelines.errors import BadSetting, InputRefused
from pipelines.open import open_run
from pipelines.profiles import Profile
from pipelines.run import Override, Run, write_json
from pipelines.settings import Admit
from tests.conftest import SMALL, deliver, event

DAY = dt.date(2026, 3, 1)
TYPES = {"search": 200, "view": 500, "cart": 200, "purchase": 100}
EMPTY = {"user_id": 50, "item_id": 200, "query": 700, "price_cents": 200, "order_id": 900, "replays": 1000}


def events(day: dt.date, scale: float = 1, **changes: object) -> Profile:
    """A day of 1,000 events that a test then bends; the last one is an hour before midnight."""
    types = {name: round(count * scale) for name, count in TYPES.items()}
    told = {"count_rows": sum(types.values()), "accepted": sum(types.values()), "event_types": types}
    told |= {"nulls": {name: round(count * scale) for name, count in EMPTY.items()}, "lags": {"0": 1000}}
    return Profile("events", day, **told | {"last_occurred_at": f"{day} 23:00:00"} | changes)


def items(day: dt.date, count: int = 500, **changes: object) -> Profile:
    nulls = {"price_cents": 0, "title": 0}
    return Profile(
        "items", day, **{"count_rows": count, "accepted": count, "count_items": count, "nulls": nulls} | changes
    )


def shop(days: int = 40) -> Iterator[Profile]:
    """Days before the run's, a little busier at the weekend."""
    for n in range(days, 0, -1):
        day = DAY - dt.timedelta(days=n)
        yield events(day, 1.3 if day.weekday() >= 5 else 1.0)


def verdict(newest: Profile, *before: Profile, **settings: object) -> dict[str, list[str]]:
    """The names of the failed checks by level."""
    told = figures.of_day(DAY, {newest.table: [*before, newest]}, "UTC", Admit(**settings))
    failed = [one for one in admit.judged(told, Admit(**settings)) if not one["is_ok"]]
    return {level: [one["check_name"] for one in failed if one["level"] == level] for level in ("warn", "stop")}


def test_an_ordinary_day_passes():
    """A Sunday like the Sundays before breaks nothing, although it is busier than the week."""
    assert verdict(events(DAY, 1.3), *shop()) == {"warn": [], "stop": []}


NO_SEARCH = {"event_types": {"search": 0, "view": 700, "cart": 200, "purchase": 100}, "nulls": EMPTY | {"query": 1000}}


@pytest.mark.parametrize(
    ("newest", "warn", "stop"),
    [
        (events(DAY, 0.65), ["events/volume"], []),
        (events(DAY, 0.13), ["events/volume"], ["events/volume"]),
        (events(DAY, 13), ["events/volume"], ["events/volume"]),
        (
            events(DAY, nulls=EMPTY | {"price_cents": 1000}),
            ["events/filled/price_cents"],
            ["events/filled/price_cents"],
        ),
        (events(DAY, **NO_SEARCH), ["events/filled/query", "events/mix"], ["events/filled/query", "events/mix"]),
        (
            events(DAY, count_rows=1100, rejected={"unknown_item": 100}),
            ["events/rejected", "events/rejected/unknown_item"],
            [],
        ),
        (events(DAY, count_rows=1500, rejected={"duplicate": 500}), *[["events/rejected/duplicate"]] * 2),
        (events(DAY, last_occurred_at=f"{DAY} 12:00:00"), ["events/hours_behind"], []),
        (events(DAY, last_occurred_at="2026-02-27 12:00:00"), ["events/hours_behind"], ["events/hours_behind"]),
    ],
    ids=["halved", "a tenth", "tenfold", "no prices", "no searches", "rejects", "twice", "half a day", "old news"],
)
def test_a_day_that_is_not_like_the_days_before_is_named(newest: Profile, warn: list[str], stop: list[str]):
    """Each accident fails its own figure and no other, at the level that it deserves."""
    assert verdict(newest, *shop()) == {"warn": warn, "stop": stop}


def test_a_young_shop_has_nothing_to_compare_with():
    """Thirteen days are too few: every comparison holds and says so."""
    told = figures.of_day(DAY, {"events": [*shop(13), events(DAY, 13)]}, "UTC", Admit())
    seen = {one["check_name"]: one["observed"] for one in admit.judged(told, Admit())}
    assert seen.pop("events/missing_days") == "0"
    assert set(seen.values()) == {"nothing to measure"}


def test_a_catalogue_of_a_tenth_stops_and_changes_do_not():
    """Whole catalogues are compared with the one before; where only changes come, their number says nothing."""
    days = [DAY - dt.timedelta(days=n) for n in (4, 3, 2, 1)]
    whole, changes = [items(day) for day in days], [items(days[0]), *(items(day, 120) for day in days[1:])]
    assert verdict(items(DAY, 50), *whole) == {"warn": ["items/catalogue"], "stop": ["items/catalogue"]}
    assert verdict(items(DAY, 12), *changes) == {"warn": [], "stop": []}
    no_price = items(DAY, nulls={"price_cents": 500})
    assert verdict(no_price, *whole)["stop"] == ["items/filled/price_cents"]


def test_what_is_spoiled_does_not_become_the_usual_thing():
    """Medians: one day tenfold and without prices a week ago changes no verdict."""
    before = [*shop()]
    before[-7] = events(before[-7].day, 13, nulls=EMPTY | {"price_cents": 13000})
    assert verdict(events(DAY, 1.3), *before) == {"warn": [], "stop": []}


def test_bounds_are_settings():
    """What would stop passes when the shop says so."""
    assert verdict(events(DAY, 0.13), *shop(), volume_stop_below=0, volume_warn_below=0) == {"warn": [], "stop": []}


def weekdays(weeks: int) -> set[dt.date]:
    """Every day but the Saturdays, up to the Friday before the Sunday that is DAY."""
    days = (DAY - dt.timedelta(days=n) for n in range(1, 7 * weeks + 1))
    return {day for day in days if day.weekday() != 5}


@pytest.mark.parametrize(
    ("absent", "missing"),
    [([], []), ([dt.date(2026, 2, 27)], [dt.date(2026, 2, 27)]), ([dt.date(2026, 2, 10)], [])],
    ids=["a shop without Saturdays", "a Friday", "long ago"],
)
def test_missing_days_are_found(absent: list[dt.date], missing: list[dt.date]):
    """A weekday with deliveries in three of the four weeks before is expected; a day on which none came is no gap."""
    assert gaps.before(weekdays(8) - set(absent), DAY) == missing


@pytest.mark.parametrize(("weeks", "missing"), [((1, 2, 4), [dt.date(2026, 2, 28)]), ((1, 4), [])])
def test_three_weeks_of_four_make_a_habit(weeks: tuple[int, ...], missing: list[dt.date]):
    """A Saturday is missed when three of the last four brought something, not when two did."""
    saturdays = {dt.date(2026, 2, 28) - dt.timedelta(days=7 * week) for week in weeks}
    assert gaps.before(weekdays(8) | saturdays, DAY) == missing


def test_a_gap_long_ago_is_shown_and_not_counted_again():
    """`nightshelf check` lists the last weeks; the gate counts what is missing since the delivery before."""
    delivered = weekdays(8) - {dt.date(2026, 2, 10)}
    assert gaps.recent(delivered, DAY) == [dt.date(2026, 2, 10)]
    assert figures.missing_days(delivered, DAY).value == 0


def test_a_new_shop_expects_nothing():
    """Two weeks tell no habit."""
    assert gaps.recent(weekdays(2), DAY) == []


def test_arrivals_tell_what_came_when():
    """Rows let in by their lag, rows that came too late by the day on which they happened."""
    told = profiles.arrivals([events(DAY, lags={"0": 990, "2": 10}, too_late={"2026-01-05": 3})])
    assert [tuple(map(str, row.values())) for row in told] == [
        ("2026-03-01", "2026-01-05", "0", "3"),
        ("2026-03-01", "2026-02-27", "10", "0"),
        ("2026-03-01", "2026-03-01", "990", "0"),
    ]


@pytest.fixture
def cleaned(shop_with_history: Path) -> Callable[..., Run]:
    """A maker of runs whose partitions are forty ordinary days and a tenth of one."""
    home = shop_with_history

    def make(leave: Override | None = None) -> Run:
        run = open_run(owner="airflow:test", day=DAY, home=home, admit_anyway=leave)
        partitions: dict[str, list[str]] = {"items": [], "users": [], "events": []}
        for profile in [*shop(), events(DAY, 0.13, too_late={"2026-01-05": 3})]:
            folder = home / "lake" / "events" / f"arrival_date={profile.day}" / "key"
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / "profile.json", {k: v for k, v in vars(profile).items() if k not in ("table", "day")})
            partitions["events"].append(str(folder))
        (run.folder / "clean").mkdir(exist_ok=True)
        write_json(run.folder / "clean" / "partitions.json", partitions)
        write_json(run.folder / "clean" / "stage.json", {"stage": "clean", "fingerprint": run.fingerprint})
        return run

    return make


@pytest.fixture
def shop_with_history(tmp_path: Path) -> Path:
    deliver(tmp_path, "items", "2026-03-01", [{"item_id": "i1", "title": "Mug"}])
    deliver(tmp_path, "events", "2026-03-01", [event(1)])
    return tmp_path


def test_a_stop_names_figure_bound_cause_and_cure(cleaned: Callable[..., Run]):
    """The message is all that a person on call needs."""
    with pytest.raises(InputRefused) as refused:
        admit.run(cleaned())
    told = str(refused.value)
    assert (
        "input.events/volume: 0.1 (130 events, usually 1,300 on a Sunday), expected at least 0.2 and at most 5" in told
    )
    assert admit.CURES["volume"] in told
    assert '--admit-anyway "<reason>"' in told


def test_an_override_is_of_one_run_and_recorded(cleaned: Callable[..., Run]):
    """The night goes on from where it stopped; who gave leave, and why, stands beside the failed check."""
    with pytest.raises(InputRefused):
        admit.run(cleaned())
    judged = (refused := cleaned()).of("admit", "checks.json").stat().st_mtime_ns
    run = cleaned(Override("moving house", "anna"))
    admit.run(run)
    assert run.fingerprint == refused.fingerprint
    assert run.of("admit", "checks.json").stat().st_mtime_ns == judged
    assert Run.load(run.run_id, run.home).admit_anyway == Override("moving house", "anna")
    leaves = {one["override"] for one in admit.checks(run) if not one["is_ok"] and one["level"] == "stop"}
    assert leaves == {"moving house (anna)"}
    assert {one["override"] for one in admit.checks(run) if one["is_ok"] or one["level"] == "warn"} == {None}
    assert cleaned() == run  # opened again without a word: what was let pass stays so
    assert cleaned(Override("another", "bob")) == run
    assert json.loads((run.folder / "run.json").read_text())["admit_anyway"]["who"] == "anna"
    assert replace(run, admit_anyway=None).fingerprint == run.fingerprint


def test_late_prints_the_command_that_takes_the_rows_in(cleaned: Callable[..., Run], monkeypatch: pytest.MonkeyPatch):
    """By event day, with one command for each day of arrival; a day without such rows has none."""
    monkeypatch.setenv("NIGHTSHELF_HOME", str(cleaned().home))
    told = CliRunner().invoke(app, ["late", "--day", "2026-03-01"]).output
    assert [row.split() for row in told.splitlines() if "2026-01-05" in row] == [
        ["│", "2026-01-05", "│", "2026-03-01", "│", "3", "│"]
    ]
    assert "nightshelf quarantine replay --table events --rule too_late --arrived 2026-03-01\n" in told
    assert "Nothing came too late" in CliRunner().invoke(app, ["late", "--day", "2026-02-28"]).output


@pytest.mark.parametrize("reason", ["", "  "])
def test_an_override_without_a_reason_is_refused(reason: str):
    """Leave is never given in silence."""
    with pytest.raises(BadSetting, match="wants a reason"):
        Override(reason, "anna")


@pytest.mark.slow
def test_a_refused_night_goes_on_with_a_reason(tmp_path: Path):
    """The page says why it stopped; told to go on, the night publishes, with the reason beside the failed check."""
    deliver(tmp_path, "items", "2026-02-01", [{"item_id": f"i{n}", "title": f"Mug {n}"} for n in range(5)])
    for n in range(15):
        day = str(DAY - dt.timedelta(days=n))
        views = [event(20 * n + k, day, item_id=f"i{k % 5}", user_id=f"u{k % 4}") for k in range(20 if n else 2)]
        deliver(tmp_path, "events", day, views)
    small = SMALL | {"admit.min_rows": 10, "gates.min_against_popularity": 0}
    with pytest.raises(InputRefused, match="events/volume"):
        night.run(day=DAY, overrides=small, home=tmp_path)
    page = tmp_path / "runs" / f"{DAY}.nightly" / "report" / "report.html"
    assert "Not published" in page.read_text()
    night.run(day=DAY, overrides=small, home=tmp_path, admit_anyway=Override("inventory", "anna"))
    assert '<strong class="good">Published' in page.read_text()
    with warehouse.connect(tmp_path) as release:
        query = "select check_name, override from quality_checks where not is_ok and level = 'stop'"
        assert release.execute(query).fetchall() == [("events/volume", "inventory (anna)")]
        assert release.execute("select sum(count_rows)::int from arrivals").fetchone() == (282,)
