"""A recalled item is out of every list at once, the lists are full again, and it stays out."""

import datetime as dt
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines import hotfix, rules, warehouse
from pipelines.errors import BadSetting, NothingPublished
from pipelines.rules.rule import ITEM_TABLES
from pipelines.run import Run
from tests.conftest import linked

NOW = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def home(night: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the finished night, to be changed: the files are shared until they are written anew."""
    return linked(night.home, tmp_path_factory.mktemp("copy") / "shop")


def ask(home: Path, query: str) -> int:
    with warehouse.connect(home) as release:
        return release.execute(query).fetchone()[0]


def shown(home: Path, item: str) -> dict[str, int]:
    """Rows that show an item, by table."""
    others = ("similar_items", "bought_together")
    tables = {name: "other_item_id" if name in others else "item_id" for name in (*ITEM_TABLES, "user_recommendations")}
    return {name: ask(home, f"select count(*) from {name} where {c} = '{item}'") for name, c in tables.items()}


@pytest.mark.slow
def test_a_recalled_item_is_out_of_every_list_and_stays_out(night: Run, home: Path):
    """It stood in many; shelves are as full as before, no model was trained, and the rule is kept for all nights."""
    item = "select item_id from popular_items where segment = 'all' and rank = 1"
    with warehouse.connect(home) as release:
        (recalled,) = release.execute(item).fetchone()
    rows = "select count(*) from user_recommendations where placement in ('for_you', 'discover')"
    before, full = shown(home, recalled), ask(home, rows)
    assert min(before["user_recommendations"], before["popular_items"]) > 0
    run = hotfix.exclude(home, recalled, "recalled, by the maker", "ann", "cli:test:1", NOW)
    assert set(shown(home, recalled).values()) == {0}
    assert ask(home, rows) == full
    assert ask(home, "select count(*) from runs where run_id = '2026-03-01.nightly-hotfix1'") == 1
    (rule,) = rules.in_force(home, dt.date(2027, 1, 1))
    assert (rule.item_id, rule.reason, rule.owner) == (recalled, "recalled, by the maker", "ann")
    trained = run.of("fuse", "candidates.parquet"), run.of("train_als", "model.json")
    assert all(os.path.samefile(one, night.folder / one.parent.name / one.name) for one in trained)
    assert hotfix.current(home).run_id == run.run_id


def test_a_recall_in_all_markets_goes_where_the_item_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The rule is kept for all of them, also for those that have no release yet, or the item only later."""
    for market in ("at", "ch", "de"):
        (tmp_path / "markets" / market).mkdir(parents=True)
    items = {"at": ["i1", "i2"], "ch": ["i2"]}

    def current(home: Path) -> SimpleNamespace:
        if home.name not in items:
            raise NothingPublished("no release")
        return SimpleNamespace(run_id=home.name, items=SimpleNamespace(ids=np.array(items[home.name])))

    monkeypatch.setattr(hotfix, "current", current)
    monkeypatch.setattr(hotfix, "Marts", lambda run: run)
    assert hotfix.everywhere(tmp_path, "i1", "recalled", "ann") == ["at"]
    assert [rule.item_id for rule in rules.read(tmp_path / "markets" / "de")] == ["i1"]
    with pytest.raises(BadSetting, match="at: The catalogue of at has no item 'i3'"):
        hotfix.everywhere(tmp_path, "i3", "recalled", "ann")


@pytest.mark.slow
def test_an_item_that_nobody_has_is_refused_with_the_nearest(night: Run):
    """Before anything is written."""
    with pytest.raises(BadSetting, match=r"has no item 'i00001'. The nearest: i0001"):
        hotfix.rule_of(night, "i00001", "why", "ann")
    with pytest.raises(BadSetting, match="wants a reason"):
        hotfix.rule_of(night, "i000001", " ", "ann")


def test_without_a_release_there_is_nothing_to_correct(tmp_path: Path):
    """A night comes first."""
    with pytest.raises(NothingPublished, match="Run a night first"):
        hotfix.current(tmp_path)


def test_rules_of_hotfixes_are_kept_once(tmp_path: Path):
    """As rows that the rule files take, whatever is in the reason."""
    rule = rules.Rule(rule_id="hotfix-a", action="deny", item_id="a", owner="ann", reason='they said "no", twice')
    other = rule.model_copy(update={"rule_id": "hotfix-b", "item_id": "b"})
    for one in (rule, other, rule):
        hotfix.keep(tmp_path, one)
    assert rules.read(tmp_path) == [rule, other]
