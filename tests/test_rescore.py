"""New stock and rules reach the shelves by models that are there; what would need training is refused."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipelines import compare, rescore, retention, warehouse
from pipelines.errors import BadSetting, NothingPublished, StageNotReady
from pipelines.marts import Marts
from pipelines.run import Run
from pipelines.settings import Settings
from tests.conftest import SMALL, deliver, linked

RULES = {name: value for name, value in SMALL.items() if name.partition(".")[0] not in rescore.TRAINED}


def rows(home: Path, query: str) -> pd.DataFrame:
    with warehouse.connect(home) as release:
        return release.execute(query).df()


def candidates(run: Run) -> pd.DataFrame:
    names = ["placement", "user_id", "rank", "item_id", "score"]
    return pd.read_parquet(run.of("shelve", "user_candidates.parquet"))[names]


def said(run: Run, item_id: str) -> dict[str, object]:
    """What the catalogue says of an item."""
    names = "item_id, title, description, category, brand, price_cents"
    found = Marts(run).connection.execute(f"select {names} from catalogue where item_id = ?", [item_id]).fetchone()
    return {name: value for name, value in zip(names.split(", "), found, strict=True) if value is not None}


def shelf_lengths(run: Run) -> dict[str, int]:
    """Of the shelves that are filled up."""
    shelves = pd.read_parquet(run.of("shelve", "user_recommendations.parquet")).groupby("user_id")["placement"]
    return shelves.apply(lambda one: int((one != "buy_again").sum())).to_dict()


@pytest.mark.slow
def test_what_is_sold_out_since_the_night_leaves_the_shelves(night: Run, tmp_path: Path):
    """The item that most users were shown is nobody's any more; candidates and their scores, figures and held-out lists
    are those of the night, and the release says whose models made it."""
    home = linked(night.home, tmp_path / "home")
    shown = "select item_id from user_recommendations where placement = 'for_you' group by 1 order by count(*) desc, 1"
    (sold_out,) = rows(home, f"{shown} limit 1")["item_id"]
    deliver(home, "items", "2026-03-02", [said(night, sold_out) | {"is_available": False}])
    before = rows(home, "select * from metrics where kind = 'quality' order by metric")
    run = rescore.perform(overrides=RULES, home=home)
    assert warehouse.current(home).startswith("2026-03-01.rescore.")
    assert rows(home, "select models_of from runs")["models_of"].tolist() == [night.run_id]
    assert sold_out not in set(rows(home, "select item_id from user_recommendations")["item_id"])
    assert shelf_lengths(run) == shelf_lengths(night)
    pd.testing.assert_frame_equal(candidates(run), candidates(night))
    after = rows(home, "select * from metrics where kind = 'quality' order by metric")
    pd.testing.assert_frame_equal(after.drop(columns="run_id"), before.drop(columns="run_id"))
    assert [(one.difference, one.low, one.high) for one in compare.compare(run, night)] == [(0, 0, 0)] * 2
    retention.clear_runs(home, Settings.model_validate({"retention": {"runs": 1}}), run.opened_at)
    assert rescore.behind(home).run_id == night.run_id


@pytest.mark.slow
def test_settings_that_models_are_made_by_are_refused(night: Run):
    """Before a run is opened, with the name of the setting."""
    with pytest.raises(BadSetting, match=r"als\.factors, seed: a rescore trains nothing"):
        rescore.perform(overrides={"als.factors": 8, "seed": 3, "shelve.length": 5}, home=night.home)
    assert not (night.home / "runs" / f"{night.day}.rescore").exists()


@pytest.mark.slow
def test_models_of_other_code_are_refused(night: Run, monkeypatch: pytest.MonkeyPatch):
    """What reads them may have changed."""
    monkeypatch.setattr("pipelines.run.code_version", lambda: "0.0.2+abc")
    with pytest.raises(BadSetting, match=r"are of code .*, and this is 0\.0\.2\+abc"):
        rescore.behind(night.home)


def test_without_a_release_or_a_run_there_are_no_models(tmp_path: Path):
    """Each is told by name."""
    with pytest.raises(NothingPublished, match="no models"):
        rescore.behind(tmp_path)
    with pytest.raises(StageNotReady, match=r"No run 2026-03-01\.nightly"):
        rescore.behind(tmp_path, "2026-03-01.nightly")


@pytest.mark.slow
def test_runs_of_other_days_are_not_compared(night: Run):
    """Their held-out days differ."""
    with pytest.raises(BadSetting, match=f"is measured on the days after {night.holdout_cut} up to {night.day}"):
        compare.compare(night, replace(night, day=night.day - dt.timedelta(days=1)))
