"""Days as shops have them, one after the other: each ends as it should, the next one goes on, readers always have one
whole release, and under a key nothing that all of it leaves tells who a user is."""

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

import pytest

from pipelines import admit, clean, night, warehouse
from pipelines.errors import BadInput, InputRefused, NoDataForDay
from pipelines.open import open_run
from pipelines.run import Override, Run
from tests.conftest import KEY, SMALL, deliver, event
from tests.test_forget import holding
from tests.test_pseudonyms import CANARY, NAMED

pytestmark = pytest.mark.slow
LEAP, ORDINARY, EMPTY, SPIKE, LATE, AFTER, RENAMED, SPRING = (
    dt.date(2024, month, day) for month, day in ((2, 29), (3, 1), (3, 4), (3, 5), (3, 6), (3, 7), (3, 8), (3, 10))
)
USERS = [f"{CANARY}-{n}" for n in range(4)]
SETTINGS = SMALL | {
    "clean.pseudonym_key": "SHOP_KEY",
    "bots.max_acts_per_day": 500,  # fewer than the hundredfold day has of each user
    "bots.allow": f"{USERS[0]}, {NAMED.of(USERS[1])}, {USERS[2]}",
    "shop.timezone": "America/New_York",  # whose clocks go forward on the tenth of March 2024
    "shop.opened_on": "2024-01-01",
    "admit.min_rows": 10,
    "gates.min_against_popularity": 0,
}
COUNT = 24  # events of an ordinary day: one an hour, in the shop's own time, without an offset


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four weeks of ordinary days, up to the leap day."""
    monkeypatch.setenv("SHOP_KEY", KEY)
    deliver(tmp_path, "items", "2024-02-01", [{"item_id": f"i{n}", "title": f"Mug {n}"} for n in range(5)])
    for n in range(28):
        bring(tmp_path, LEAP - dt.timedelta(days=n))
    return tmp_path


def hourly(day: dt.date, times: int = 1) -> Iterable[dict]:
    """An event in every hour of the day, more than once each where asked for."""
    for n in range(COUNT * times):
        moment = f"{day}T{n % 24:02}:30:00"
        yield event(0, event_id=f"{day}-{n}", occurred_at=moment, user_id=USERS[n % 4], item_id=f"i{n % 5}")


def bring(home: Path, day: dt.date, times: int = 1) -> None:
    deliver(home, "events", str(day), hourly(day, times))


def admitted(home: Path, day: dt.date, leave: Override | None = None, **more: object) -> Run:
    """The day's run, as far as to whether a night is built on it."""
    told = SETTINGS | {name.replace("__", "."): value for name, value in more.items()}
    run = open_run(owner="airflow:test", day=day, overrides=told, home=home, admit_anyway=leave)
    clean.run(run)
    admit.run(run)
    return run


def failed(run: Run) -> dict[str, str]:
    return {one["check_name"]: one["level"] for one in admit.checks(run) if not one["is_ok"]}


def seen(home: Path) -> set[str]:
    """The runs whose rows readers find, over all tables of the current release that are not empty."""
    with warehouse.connect(home) as release:
        tables = [name for (name,) in release.execute("show tables").fetchall()]
        have = [name for name in tables if "run_id" in release.table(name).columns]
        return {one for name in have for (one,) in release.execute(f"select distinct run_id from {name}").fetchall()}


def accepted_on(run: Run, day: dt.date) -> int:
    """Events that happened on a day by the shop's own clocks."""
    with warehouse.connect(run.home) as release:
        query = "select sum(count_rows)::int from arrivals where event_date = ?"
        return release.execute(query, [day]).fetchone()[0]


def flagged(home: Path) -> set[str]:
    with warehouse.connect(home) as release:
        return {visitor for (visitor,) in release.execute("select distinct visitor_id from bot_flags").fetchall()}


def test_days_of_every_kind_end_as_they_should(shop: Path, caplog: pytest.LogCaptureFixture):
    """A leap day, an ordinary one, an empty one, a hundredfold one, a late one, one of new columns, and one of 23
    hours. Raw files alone hold an id, nothing holds the key, and who is allowed by either name is no bot."""
    first = night.run(day=LEAP, overrides=SETTINGS, home=shop)
    assert seen(shop) == {first.run_id}
    assert accepted_on(first, LEAP) == COUNT

    bring(shop, ORDINARY)
    assert failed(admitted(shop, ORDINARY)) == {}

    for n in (2, 3):
        bring(shop, ORDINARY.replace(day=n))
    deliver(shop, "events", str(EMPTY), [])
    with pytest.raises(NoDataForDay, match=f"raw/events/dt={EMPTY} holds no rows"):
        admitted(shop, EMPTY)
    assert not (shop / "runs" / f"{EMPTY}.nightly").exists()

    bring(shop, SPIKE, times=100)
    with pytest.raises(InputRefused, match=r"events/volume: 100 \(2,400 events, usually 24 on a Tuesday\)"):
        admitted(shop, SPIKE)
    passed = admitted(shop, SPIKE, Override("a sale", "anna"))
    assert failed(passed)["events/volume"] == "stop"
    assert {one["override"] for one in admit.checks(passed) if one["level"] == "stop" and not one["is_ok"]} == {
        "a sale (anna)"
    }

    bring(shop, AFTER)
    with pytest.raises(NoDataForDay, match=f"No events arrived on {LATE}"):
        admitted(shop, LATE)
    assert failed(without := admitted(shop, AFTER)) == {"events/missing_days": "warn"}
    bring(shop, LATE)
    assert failed(complete := admitted(shop, AFTER)) == {}
    assert complete.inputs.keys() - without.inputs.keys() == {f"raw/events/dt={LATE}/part.jsonl"}

    rows = [row | {"shopper": row.pop("user_id"), "channel": "app"} for row in hourly(RENAMED)]
    deliver(shop, "events", str(RENAMED), rows)
    with pytest.raises(BadInput, match=r'(?s)column .user_id.*\[columns\.events\] user_id = "shopper"'):
        admitted(shop, RENAMED)
    assert failed(admitted(shop, RENAMED, columns__events__user_id="shopper")) == {"events/drift": "warn"}

    for day in (RENAMED.replace(day=9), SPRING):
        bring(shop, day)
    assert seen(shop) == {first.run_id}
    last = night.run(day=SPRING, overrides=SETTINGS | {"columns.events.user_id": "shopper"}, home=shop)
    assert seen(shop) == {last.run_id}
    assert accepted_on(last, SPRING) == COUNT
    assert flagged(shop) == {NAMED.of(USERS[3])}

    assert {place.partition("/")[0] for place in holding(shop, CANARY)} == {"raw"}
    assert holding(shop, KEY) == []
    assert CANARY not in caplog.text
