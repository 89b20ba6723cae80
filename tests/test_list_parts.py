"""The night's lists again with all that the list builder can heed: promises hold, and each part tells its cost."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import pytest

from pipelines import gates, settings, shelve, warehouse
from pipelines.marts import Marts
from pipelines.rules import Rule
from pipelines.run import Run
from tests.test_night import finish_as

pytestmark = pytest.mark.slow
HEEDED = {"freshness": 0.3, "min_new_share": 0.1, "exploration_share": 0.2}
KEY = ["placement", "user_id", "item_id"]


@pytest.fixture(scope="module")
def heeding(night: Run) -> Iterator[Run]:
    """The night again, up to its lists, as if the release that it made had been that of the day before."""
    told = night.settings.model_dump(mode="json")
    told["shelve"] |= HEEDED
    cap = Rule(rule_id="two", action="cap", per="brand", value=2, owner="ann", reason="x")
    follows = warehouse.current(night.home)
    run = replace(night, run_id=f"{night.day}.heeding", settings=settings.parse(told), rules=(cap,), follows=follows)
    finish_as(night, run, ("clean", "build", "train_als", "train_neighbours", "train_profile", "fuse", "search"))
    shelve.run(run)
    yield run
    shutil.rmtree(run.folder)


def shelves(run: Run) -> pd.DataFrame:
    return pd.read_parquet(run.of("shelve", "user_recommendations.parquet"))


def test_shares_are_kept_and_no_rule_gives_way(night: Run, heeding: Run):
    """By the gate's own SQL; of those whose own candidates fill a shelf, everybody has three rows of ten that did not
    stand there."""
    assert all(check["is_ok"] for check in gates._obeyed(heeding, Marts(heeding)))
    rows = shelves(heeding).merge(shelves(night)[KEY].assign(stood=1.0), how="left", on=KEY)
    own = rows[rows.groupby(["placement", "user_id"])["fallback"].transform("count") == 0]
    fresh = own["stood"].isna()[own["placement"].isin(["for_you", "discover"])]
    kept = fresh.groupby([own["placement"], own["user_id"]]).sum()
    assert len(kept) > 100
    assert kept.min() >= 3


def test_drawn_places_say_how_likely_their_rows_were(heeding: Run):
    """Two places of ten, the same for everybody; all others are certain, and nothing is drawn of what was bought."""
    rows = shelves(heeding)
    assert (rows.loc[rows["placement"] == "buy_again", "propensity"] == 1).all()
    drawn = rows[(rows["propensity"] < 1) & (rows["placement"] == "for_you")]
    assert set(drawn["rank"]) == {3, 8}
    effects = pd.read_parquet(heeding.of("shelve", "rule_effects.parquet")).set_index(["placement", "rule"])
    assert effects.loc[("for_you", "exploration"), "count_moved"] > 0
    assert drawn["rule_id"].isna().all()


def test_each_part_that_is_on_tells_what_it_changes(heeding: Run):
    """All measures of both placements; a fresh list is another one than the list of the day before."""
    told = json.loads(heeding.of("shelve", "metrics.json").read_text())
    changes = [record["metric"].split("/") for record in told if "/change_by_" in record["metric"]]
    parts = {part.removeprefix("change_by_") for _, part, _ in changes}
    assert parts == {"diversity", "new_share", "freshness", "exploration", "rules"}
    assert len(changes) == 2 * 5 * 6
    assert {r["value"] for r in told if r["metric"].startswith("for_you/change_by_freshness/")} != {0.0}
