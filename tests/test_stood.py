"""Shelves differ from those of the day before: which release that is stays decided, and what stood there is read."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from models.vocabulary import Vocabulary
from pipelines import warehouse
from pipelines.errors import NothingPublished
from pipelines.open import open_run
from pipelines.run import Run, release_lease
from pipelines.shelve import stood
from pipelines.warehouse.manifest import Judged

DAY = dt.date(2026, 3, 1)
FRESH: Mapping[str, float] = {"shelve.freshness": 0.3}
MARTS = SimpleNamespace(users=Vocabulary(["anna", "bert", "carl"]), items=Vocabulary(["i1", "i2", "i3"]))
SHELVES = """
    create table user_recommendations as
    from (
        values ('for_you', 'anna', 2, 'i1'), ('for_you', 'anna', 1, 'i3'), ('for_you', 'carl', 1, 'gone'),
            ('for_you', 'left', 1, 'i1'), ('discover', 'bert', 1, 'i2')
    ) as shelf (placement, user_id, rank, item_id)
"""


def opened(shop: Path, label: str = "nightly", **overrides: object) -> Run:
    run = open_run(owner="airflow:test", day=DAY, label=label, overrides=FRESH | overrides, home=shop)
    release_lease(shop, run.run_id, "airflow:test")
    return run


def publish(run: Run, day: str, number: int) -> str:
    """Shelves that readers see from now on, as of a day."""
    path = run.home / f"made-{number}.duckdb"
    with duckdb.connect(str(path)) as release:
        release.execute(SHELVES)
    made = {"release": f"{day}.nightly.{number:08x}", "code_version": str(number), "settings": {}, "inputs": {}}
    on_day = replace(run, day=dt.date.fromisoformat(day), run_id=f"{day}.nightly")
    return warehouse.publish(on_day, Judged(path, made))["release"]


def test_a_run_follows_the_release_of_an_earlier_day_that_readers_had_last(shop: Path):
    """Not one of its own day, nor a later one, nor one that readers were taken back from; and none at first."""
    first = opened(shop, "first")
    assert first.follows is None
    before = publish(first, "2026-02-27", 1)
    publish(first, "2026-02-28", 2)
    warehouse.rollback(shop, None, "bad prices", "anna")
    publish(first, "2026-03-01", 3)
    publish(first, "2026-03-02", 4)
    assert opened(shop).follows == before


def test_what_a_run_follows_stays_when_it_is_opened_again(shop: Path):
    """Whatever was published since, so that what it has finished stays finished; it decides the rows of fresh shelves
    alone."""
    before = publish(opened(shop, "first"), "2026-02-27", 1)
    then = opened(shop)
    publish(then, "2026-02-28", 2)
    again = opened(shop)
    assert (again.follows, again.fingerprint) == (before, then.fingerprint)
    assert replace(again, follows="another").fingerprint != then.fingerprint
    assert opened(shop, "other").follows == "2026-02-28.nightly.00000002"
    assert opened(shop, "stale", **{"shelve.freshness": 0}).follows is None


def test_what_stood_on_a_shelf_is_told_by_user_and_rank(shop: Path):
    """Of whom and what tonight knows; who had no shelf had nothing on it."""
    run = opened(shop, "first")
    found = stood.before(replace(run, follows=publish(run, "2026-02-27", 1)), MARTS)
    assert {name: items.tolist() for name, items in found.items()} == {
        "for_you": [[2, 0], [-1, -1], [-1, -1]],
        "discover": [[-1], [1], [-1]],
    }
    assert stood.before(run, MARTS) == {}


def test_a_release_that_is_gone_is_named_with_the_cure(shop: Path):
    """Lists that would be others are not made in silence."""
    run = opened(shop, "first")
    with pytest.raises(NothingPublished, match=r"differ from 2026-02-20\.nightly\.00000001 .* another --label"):
        stood.before(replace(run, follows="2026-02-20.nightly.00000001"), MARTS)
