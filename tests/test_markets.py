"""Markets: homes in a home, each with settings, rules, nights and releases of its own; none touches another's."""

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines import markets, rules, settings, tune, warehouse
from pipelines.__main__ import app
from pipelines.errors import BadRules, BadSetting, MarketsFailed
from pipelines.forget import forget
from pipelines.generate import catalogue, generate, make_shop
from pipelines.run import Run, home
from tests.conftest import LAST_DAY, SMALL, deliver, event, linked
from tests.test_rules import write

CHEAP = SMALL | {
    "als.factors": 8,
    "holdout.windows": 1,
    "profile.history_steps": 10,
    "profile.sequence_epochs": 1,
    "fuse.trees": 10,
    "fuse.ablation": False,
    "gates.min_against_popularity": 0,
}
PAGE = (Path(__file__).resolve().parents[1] / "docs" / "markets.md").read_text()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the markets `at` and `ch`, in which nothing lies."""
    for market in ("at", "ch"):
        (tmp_path / "markets" / market).mkdir(parents=True)
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    return tmp_path


def test_a_markets_settings_go_over_those_of_its_home(house: Path):
    """Section by section, also where the shop names things itself; below the environment and the run's parameters."""
    (house / "nightshelf.toml").write_text(
        "[als]\nfactors = 8\nepochs = 3\n[event_types]\nsaw = 'view'\nbought = 'cart'\n[shop]\ncurrency = 'EUR'\n"
    )
    (house / "markets" / "ch" / "nightshelf.toml").write_text(
        "[als]\nepochs = 4\nalpha = 2.0\n[event_types]\nbought = 'purchase'\n[shop]\ncurrency = 'CHF'\n"
    )
    at, ch = (settings.load(house / "markets" / m, {"seed": 3}, {"NIGHTSHELF_ALS__ALPHA": "5"}) for m in ("at", "ch"))
    assert (at.als.factors, at.als.epochs, at.als.alpha, at.shop.currency) == (8, 3, 5.0, "EUR")
    assert (ch.als.factors, ch.als.epochs, ch.als.alpha, ch.shop.currency) == (8, 4, 5.0, "CHF")
    assert ch.event_types == {"saw": "view", "bought": "purchase"}
    assert (at.seed, ch.seed) == (3, 3)


def test_a_named_file_stands_for_the_homes_and_not_for_the_markets(house: Path, tmp_path: Path):
    """NIGHTSHELF_CONFIG is below what a market says itself, and what is found or generated goes into the market's."""
    (named := tmp_path / "own.toml").write_text("[als]\nfactors = 8\nepochs = 3\n")
    market = house / "markets" / "ch"
    (market / "nightshelf.toml").write_text("[als]\nepochs = 4\n")
    told = settings.load(market, {}, {"NIGHTSHELF_CONFIG": str(named)})
    assert (told.als.factors, told.als.epochs) == (8, 4)
    assert settings.file(market, {"NIGHTSHELF_CONFIG": str(named)}) == market / "nightshelf.toml"


RULE = "rule_id,action,brand,owner,reason\n{name},deny,Beanworks,ann,strike\n"


def test_rules_of_the_home_hold_in_each_market_beside_its_own(house: Path):
    """And those of one market in no other."""
    write(house, "all.csv", RULE.format(name="everywhere"))
    write(house / "markets" / "ch", "own.csv", RULE.format(name="here"))
    held = {market: [rule.rule_id for rule in rules.read(house / "markets" / market)] for market in ("at", "ch")}
    assert held == {"at": ["everywhere"], "ch": ["everywhere", "here"]}


def test_a_rule_has_one_name_in_the_home_and_its_market(house: Path):
    """The message names both files."""
    write(house, "all.csv", RULE.format(name="twice"))
    write(house / "markets" / "ch", "own.csv", RULE.format(name="twice"))
    with pytest.raises(BadRules) as told:
        rules.read(house / "markets" / "ch")
    for place in (house, house / "markets" / "ch"):
        assert str(place / "rules") in str(told.value)
    assert len(rules.read(house / "markets" / "at")) == 1


@pytest.mark.parametrize(
    ("market", "words"),
    [
        (None, "has the markets at, ch. Say which: --market"),
        ("de", "has the markets at, ch, and none called de"),
        ("../ch", "'../ch' is no name for a market"),
        ("CH", "'CH' is no name for a market"),
        ("ch-audit", "'ch-audit' is no name for a market"),
        ("audit", "'audit' is no name for a market"),
        ("x" * 33, "is no name for a market"),
    ],
)
def test_a_market_is_named_and_there(house: Path, market: str | None, words: str):
    """Nothing is done where it is not clear in which; a misspelt one is not made."""
    with pytest.raises(BadSetting, match=words):
        markets.home(house, market)
    assert markets.names(house) == ["at", "ch"]


def test_a_home_has_a_shop_of_its_own_or_markets(house: Path):
    """Nobody would read what lies beside them."""
    (house / "raw").mkdir()
    with pytest.raises(BadSetting, match="raw lies beside markets"):
        markets.home(house, "ch")


def test_a_home_without_markets_is_one_shop(tmp_path: Path):
    """It needs no market and has none; other folders under `markets/` are none either."""
    (tmp_path / "markets" / "Old copy").mkdir(parents=True)
    told = {"NIGHTSHELF_HOME": str(tmp_path)}
    assert home(told) == tmp_path
    assert (markets.name(tmp_path), markets.house(tmp_path)) == ("", tmp_path)
    with pytest.raises(BadSetting, match="has no markets, and none called ch"):
        home(told | {"NIGHTSHELF_MARKET": "ch"})
    assert home(told | {"NIGHTSHELF_MARKET": "ch"}, is_new=True) == tmp_path / "markets" / "ch"


@pytest.mark.parametrize("words", [["late"], ["open"], ["show", "demo"], ["rules", "preview", "x.csv"], ["generate"]])
def test_a_verb_of_one_shop_refuses_a_home_with_several(house: Path, words: list[str]):
    """It names them, and leaves nothing."""
    (house / "x.csv").write_text("")
    words = [str(house / word) if word == "x.csv" else word for word in words]
    assert "at, ch. Say which" in str(CliRunner().invoke(app, words).exception)
    assert not list((house / "markets").glob("*/*"))


def test_a_market_is_chosen_for_one_command(house: Path):
    """By the option before the verb, or by the environment; afterwards none is."""
    write(house / "markets" / "ch", "own.csv", RULE.format(name="here"))
    for told, set_ in ((["--market", "ch"], ""), ([], "ch")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NIGHTSHELF_MARKET", set_)
            assert "1 rules are right" in CliRunner().invoke(app, [*told, "rules", "check"]).output
            assert os.environ["NIGHTSHELF_MARKET"] == set_


@pytest.mark.slow
def test_one_market_that_fails_does_not_keep_the_others(house: Path, capfd: pytest.CaptureFixture):
    """Each is done in a process of its own; the end names those that failed, and is no success."""
    write(house / "markets" / "at", "own.csv", "rule_id,action\nbroken,dney\n")
    write(house / "markets" / "ch", "own.csv", RULE.format(name="here"))
    with pytest.raises(MarketsFailed, match=r"In 1 of 2 markets `rules` failed: at \(exit code 1\)"):
        markets.each(house, ["rules", "check"])
    told = capfd.readouterr()
    assert "Did you mean deny?" in told.err
    assert [line for line in told.out.splitlines() if line] == [
        "── at",
        "── ch",
        "1 rules are right: 1 in force, 0 to come, 0 expired",
    ]


@pytest.mark.parametrize(
    "words",
    [["night"], ["plan"], ["check"], ["status"], ["releases"], ["rescore"], ["rules", "check"], ["rules", "list"],
     ["backfill", "2026-03-01"], ["forget", "u1", "--why", "asked"], ["warehouse", "init"],
     ["store", "follow"], ["store", "restore"]],
)  # fmt: skip
def test_these_verbs_are_done_in_each_market(house: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]):
    """With all that was asked, unless one is chosen; then in that one alone."""
    done = []
    monkeypatch.setattr(
        markets.subprocess, "run", lambda told: done.append(told) or subprocess.CompletedProcess(told, 0)
    )
    monkeypatch.setattr(sys, "argv", ["nightshelf", *words])
    assert CliRunner().invoke(app, words).exception is None
    assert done == [[sys.executable, "-m", "pipelines", "--market", market, *words] for market in ("at", "ch")]


@pytest.fixture(scope="module")
def published(night: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two markets of one chain after one command, with a rule in `ch`, and a third that nothing was delivered to.

    `at` has all but the publication of the night that all tests share: what it would train again is done."""
    house = tmp_path_factory.mktemp("house")
    at, ch = linked(night.home, house / "markets" / "at"), house / "markets" / "ch"
    shutil.rmtree(at / "warehouse")
    shutil.rmtree(at / "runs" / night.run_id / "publish")
    tune.write(SMALL, at)
    generate(ch, users=150, items=150, days=50, last_day=LAST_DAY, seed=7, currency="CHF")
    tune.write(CHEAP, ch)
    only = {"item_id": "only-ch", "title": "Beanworks cow bell", "price_cents": 100, "brand": "Bell"}
    deliver(ch, "items", str(LAST_DAY), [only], "only.jsonl")
    deliver(ch, "events", str(LAST_DAY), [event(1, user_id="only-ch", item_id="only-ch")], "only.jsonl")
    write(ch, "own.csv", RULE.format(name="here"))
    (house / "markets" / "none").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTSHELF_HOME", str(house))
        with pytest.raises(MarketsFailed, match=r"In 1 of 3 markets .*: none "):
            markets.each(house, ["night", "--day", str(LAST_DAY)])
    return house


@pytest.fixture
def both(published: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The releases of both markets beside each other."""
    with duckdb.connect() as connection:
        for market in ("at", "ch"):
            place = published / "markets" / market / "warehouse" / "current.duckdb"
            connection.execute(f"attach '{place}' as {market}_ (read_only)")
        yield connection


@pytest.mark.slow
def test_no_item_and_no_user_stands_in_the_tables_of_another_market(published: Path, both: duckdb.DuckDBPyConnection):
    """In no column of any table that names items or users; the markets share some, which each has at its own price."""
    for kind in ("item", "user"):
        for market, other in (("at", "ch"), ("ch", "at")):
            told = {
                m: f"select {kind}_id from '{published}/markets/{m}/truth/{kind}s.parquet'" for m in (market, other)
            }
            strangers = [one for (one,) in both.execute(f"{told[other]} except {told[market]}").fetchall()]
            strangers += ["only-ch"] * (market == "at")
            assert strangers
            columns = both.execute(
                "select table_name, column_name from duckdb_columns() where database_name = ? and column_name like ?",
                [f"{market}_", f"%{kind}_id"],
            ).fetchall()
            assert len(columns) > 5
            for table, column in columns:
                query = f"select count(*) from {market}_.{table} where {column} in (select unnest(?::varchar[]))"
                assert both.execute(query, [strangers]).fetchone() == (0,), (market, table, column)
    prices = "select count(*), count(*) filter (where at_.items.price_cents <> ch_.items.price_cents)"
    shared, other = both.execute(f"{prices} from at_.items join ch_.items using (item_id)").fetchone()
    assert 0 < shared == other


@pytest.mark.slow
def test_a_rule_of_one_market_does_nothing_in_another(both: duckdb.DuckDBPyConnection):
    """Its brand is gone from the lists of the one, and stands in those of the other, which does not know the rule."""
    shown = "select count(*) from {0}_.user_recommendations join {0}_.items using (item_id) where brand = 'Beanworks'"
    known = "select list(rule_id), bool_or(has_acted) from {0}_.rules"
    found = {m: [both.execute(q.format(m)).fetchone() for q in (shown, known)] for m in ("at", "ch")}
    assert found["ch"] == [(0,), (["here"], True)]
    assert found["at"][0][0] > 0
    assert found["at"][1] == (None, None)


@pytest.mark.slow
def test_one_statement_reads_two_markets(published: Path, monkeypatch: pytest.MonkeyPatch):
    """As docs/markets.md has it: each row with its market and the currency of its price."""
    monkeypatch.chdir(published)
    with duckdb.connect() as connection:
        (text,) = re.findall(r"```sql\n(.+?)```", PAGE, re.DOTALL)
        connection.execute(text)
        found = connection.execute(f"select distinct market, currency from ({text.split(';')[2]})").fetchall()
    assert sorted(found) == [("at", "EUR"), ("ch", "CHF")]


@pytest.mark.slow
def test_each_market_has_its_own_runs_and_nothing_lies_in_their_home(published: Path):
    """Where one had nothing to work on, nothing is left either."""
    assert {path.name for path in published.iterdir()} == {"markets"}
    assert not list((published / "markets" / "none").iterdir())
    assert warehouse.current(published / "markets" / "at") != warehouse.current(published / "markets" / "ch")


def test_a_user_is_forgotten_in_one_market_and_in_the_log_of_all(house: Path):
    """The log of what runs them lies in their home; the other market keeps the rows until its turn comes."""
    for market in ("at", "ch"):
        deliver(house / "markets" / market, "events", str(LAST_DAY), [event(1), event(2, user_id="ben")])
        (house / "markets" / market / "lake").mkdir()
    (log := house / "airflow.log").write_text("anna viewed i1\nben viewed i1\n")
    proof = forget(["anna"], "asked for it", "ann", house / "markets" / "ch")
    assert (proof["counts"]["raw_rows"], proof["counts"]["log_lines"]) == (1, 1)
    assert "anna" not in log.read_text()
    assert "ben" in log.read_text()
    left = {m: "anna" in next((house / "markets" / m / "raw").rglob("part.jsonl")).read_text() for m in ("at", "ch")}
    assert left == {"at": True, "ch": False}


def test_generated_shops_of_one_seed_are_one_chain():
    """An item is the same thing in both, at another price; each has some that the other lacks."""
    first, days = dt.date(2026, 1, 1), 30
    at, ch = (make_shop(200, first, days, 7, market).catalogue for market in ("at", "ch"))
    has_at, has_ch = at.first_day < days, ch.first_day < days
    both = np.flatnonzero(has_at & has_ch)
    last = np.full(len(both), days - 1)
    assert min(len(both), (has_at & ~has_ch).sum(), (has_ch & ~has_at).sum()) > 10
    titles = [catalogue.texts(one, both, days - 1)["title"].tolist() for one in (at, ch)]
    assert titles[0] == titles[1]
    assert (at.price(both, last) != ch.price(both, last)).mean() > 0.9
    assert (at.is_on_sale(both, last) != ch.is_on_sale(both, last)).any()
    again = make_shop(200, first, days, 7, "at").catalogue
    assert (again.old_price == at.old_price).all()
