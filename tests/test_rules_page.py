"""The walk-through of docs/rules.md: a draft is previewed, obeyed, seen in the tables, and expires by itself."""

import datetime as dt
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from typer.testing import CliRunner

from pipelines import gates, publish, rules, search, shelve, validate, warehouse
from pipelines.__main__ import app
from pipelines.marts import Marts
from pipelines.night import STAGES
from pipelines.rules import Rule, files, obeyed
from pipelines.rules.preview import preview
from pipelines.rules.rule import ITEM_TABLES
from pipelines.run import Run
from pipelines.search.foretold import foretell
from tests.conftest import linked
from tests.test_night import finish_as

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "rules.md").read_text()
DRAFT = re.sub(r"^ +", "", re.findall(r"```csv\n(.+?)```", PAGE, re.DOTALL)[0], flags=re.MULTILINE)
STATEMENTS = [
    one for block in re.findall(r"```sql\n(.+?)```", PAGE, re.DOTALL) for one in block.split(";") if one.strip()
]
SOURCES = ("user_recommendations", "user_history", "user_search_results", "rules", *ITEM_TABLES)


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("shop")
    (home / "rules").mkdir()
    (home / "rules" / "draft.csv").write_text(DRAFT)
    return home / "rules" / "draft.csv"


def test_the_rule_holds_from_friday_to_sunday(draft: Path):
    """Thursday's night obeys it, Sunday's does not; Wednesday's did not know it yet."""
    nights = [dt.date(2026, 3, day) for day in range(4, 9)]
    held = [[r.rule_id for r in rules.in_force(draft.parents[1], night + dt.timedelta(days=1))] for night in nights]
    assert held == [[], ["weekend"], ["weekend"], ["weekend"], []]


@pytest.fixture(scope="module")
def ruled(night: Run, draft: Path) -> Iterator[Run]:
    """The night again, up to its lists, as if the draft were in force; gone when this page's tests are over."""
    run = replace(night, run_id=f"{night.day}.weekend", rules=tuple(rules.read(draft.parents[1])))
    finish_as(night, run, ("clean", "build", "train_als", "train_neighbours", "train_profile", "fuse", "search"))
    shelve.run(run)
    yield run
    shutil.rmtree(run.folder)


@pytest.mark.slow
def test_the_brand_leaves_the_shelves_of_the_country_and_no_others(night: Run, ruled: Run):
    """Germans see none of it; Austrians still do, and every shelf of these placements is full."""
    marts = Marts(ruled)
    query = f"""
        select country, count(*) filter (where brand = 'Beanworks') as count_rows
        from {warehouse.relation(ruled, "user_recommendations")} join items using (item_id) join users using (user_id)
        group by country
    """
    shown = marts.frame(query).set_index("country")["count_rows"]
    assert (shown["Germany"], shown["Austria"] > 0) == (0, True)
    full = marts.frame(
        f"select placement, user_id, count(*) as n from {warehouse.relation(ruled, 'user_recommendations')}"
        " where placement in ('for_you', 'discover') group by all"
    )
    assert (full["n"] == ruled.settings.shelve.length).all()
    told = marts.frame(f"from {warehouse.relation(ruled, 'rules')}").iloc[0]
    assert (told["rule_id"], bool(told["has_acted"]), told["count_items"] > 0) == ("weekend", True, True)


@pytest.mark.slow
def test_the_gate_holds_these_lists_and_not_those_without_the_rule(night: Run, ruled: Run):
    """The same SQL finds the brand on the shelves of the night before it was denied."""
    marts = Marts(ruled)
    assert all(check["is_ok"] for check in gates._obeyed(ruled, marts))
    before = {name: warehouse.relation(night, name) for name in SOURCES} | {"users": "users", "catalogue": "catalogue"}
    found = obeyed.broken(
        marts.connection,
        before | {"rules": warehouse.relation(ruled, "rules")},
        night.settings.shelves,
        night.day.isoformat(),
    )
    assert found["denied_items"] > 0
    assert sum(found.values()) == found["denied_items"]


@pytest.mark.slow
def test_the_preview_foretells_what_the_night_does(night: Run, ruled: Run, draft: Path):
    """Users and rows that it touches are those whose shelves differ, and nothing of the run changes."""
    before = {path: path.stat().st_mtime_ns for path in night.folder.rglob("*")}
    told = preview(night, draft)
    assert {path: path.stat().st_mtime_ns for path in night.folder.rglob("*")} == before
    key = ["placement", "user_id", "item_id", "rank"]
    then, now = (pd.read_parquet(run.of("shelve", "user_recommendations.parquet"))[key] for run in (night, ruled))
    changed = pd.concat([then, now]).drop_duplicates(key, keep=False).drop_duplicates(["placement", "user_id"])
    touched = told.touched["count_users"]
    assert touched[touched > 0].to_dict() == changed.groupby("placement").size().to_dict()
    assert set(told.leaving["item_id"]) & set(
        Marts(night).frame("select item_id from catalogue where brand = 'Beanworks'")["item_id"]
    )
    assert [one["metric"] for one in told.losses] == ["for_you", "discover"]


BRANDED = """
    select any_value(query) as query, brand from (from {results}) join items using (item_id)
    where brand is not null and rank <= 5 group by brand order by count(*) desc, brand limit 3
"""
ANSWERS = {
    "search_results": ["query", "rank", "item_id", "rule_id"],
    "user_search_results": ["user_id", "query", "rank", "item_id", "search_rank", "rule_id"],
}


@pytest.fixture(scope="module")
def queries_draft(night: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One brand out of all lists, one capped in all answers and out of one, and one moved up and pinned in another."""
    told = Marts(night).frame(BRANDED.format(results=warehouse.relation(night, "search_results")))
    (query, out), (other, few), (_, up) = told[["query", "brand"]].itertuples(index=False)
    item = Marts(night).frame("select min(item_id) as item from items where is_available and brand = ?", up)["item"][0]
    rows = [
        ["out", "deny", "", out, "", "", ""],
        ["few", "cap", "", few, "search_results", "", "2"],
        ["up", "boost", "", up, "", query.upper(), "9"],
        ["top", "pin", item, "", "", query, "3"],
        ["off", "deny", "", few, "", other, ""],
    ]
    draft = tmp_path_factory.mktemp("drafts") / "queries.csv"
    head = ["rule_id", "action", "item_id", "brand", "placement", "query", "value"]
    pd.DataFrame(rows, columns=head).assign(owner="ann", reason="a test").to_csv(draft, index=False)
    return draft


@pytest.fixture(scope="module")
def answering(night: Run, queries_draft: Path) -> Iterator[Run]:
    """The night's answers once more, under the draft; gone when this page's tests are over."""
    drafted = files.judged(files.rows(queries_draft), night.settings.shelves)
    run = replace(night, run_id=f"{night.day}.answering", rules=tuple(drafted))
    finish_as(night, run, ("clean", "build", "train_als", "train_neighbours", "train_profile", "fuse"))
    search.run(run)
    yield run
    shutil.rmtree(run.folder)


@pytest.mark.slow
def test_the_preview_foretells_the_answers_to_queries(night: Run, answering: Run, queries_draft: Path):
    """Queries, users and rows that it names are those that differ in what the night of the draft publishes, and what
    each rule does there is what it then has done."""
    told = preview(night, queries_draft)
    for touched, (name, columns) in zip(told.answers.touched.itertuples(), ANSWERS.items(), strict=True):
        key = [column for column in columns if column not in ("rank", "search_rank", "rule_id")]
        then, now = (pd.read_parquet(run.of("search", f"{name}.parquet")) for run in (night, answering))
        left, came = (
            one[key].merge(other[key], how="left", indicator=True) for one, other in ((then, now), (now, then))
        )
        assert touched.leave == (left["_merge"] == "left_only").sum() > 0
        assert touched.enter == (came["_merge"] == "left_only").sum()
        changed = pd.concat([then, now]).drop_duplicates([*key, "rank"], keep=False)
        assert touched.count_queries == changed["query"].nunique()
    assert set(told.told.loc[told.told["placement"] == "search_results", "rule"]) == {"out", "few", "up", "top", "off"}
    done = pd.read_parquet(answering.of("search", "search_effects.parquet")).set_index("rule")
    said = told.told[told.told["placement"] == "search_results"].set_index("rule")
    assert said["count_rows"].to_dict() == done["count_rows"].to_dict()
    assert said["count_moved"].to_dict() == done["count_moved"].to_dict()
    assert done.loc["out", "count_rows"] > 0
    assert told.answers.leaving["count_searches"].is_monotonic_decreasing
    typed = Marts(night).frame("select query, count_searches from queries").set_index("query")["count_searches"]
    assert (told.answers.queries["count_searches"] == told.answers.queries["query"].map(typed).fillna(0)).all()


@pytest.mark.slow
def test_answers_are_foretold_row_by_row_with_rules_and_without(night: Run, answering: Run):
    """What the night with these rules published is foretold from the night without them, and the other way round."""
    for base, other in ((night, answering), (answering, night)):
        told = foretell(base, Marts(base), other.rules, answering.rules)
        done = pd.read_parquet(other.of("search", "search_effects.parquet"))[told.effects.columns]
        pd.testing.assert_frame_equal(told.effects, done, check_dtype=False)
        for rows, (name, columns) in zip((told.results, told.own), ANSWERS.items(), strict=True):
            published = pd.read_parquet(other.of("search", f"{name}.parquet"))[columns]
            pd.testing.assert_frame_equal(rows[columns], published, check_dtype=False)


@pytest.mark.slow
def test_a_draft_about_a_query_that_nobody_typed_says_so(night: Run, tmp_path: Path):
    """It touches no answer of the night, and no other query is answered anew for it."""
    (tmp_path / "draft.csv").write_text("rule_id,action,brand,query,owner,reason\nr,deny,Velora,Unheard  of,ann,x\n")
    told = preview(night, tmp_path / "draft.csv")
    assert told.answers.touched["count_queries"].tolist() == [0, 0]
    assert [line for line in told.warnings if "nobody has typed 'unheard of'" in line]


@pytest.mark.slow
def test_the_weekend_of_one_market(night: Run, draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """There the draft is previewed, obeyed by Thursday's night, seen in what is published, and gone with Sunday's; the
    other market, which has the same shop, keeps release and rows."""
    at, ch = (linked(night.home, tmp_path / "markets" / name) for name in ("at", "ch"))
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    foretold = CliRunner().invoke(app, ["--market", "at", "rules", "preview", str(draft), "--run", night.run_id]).output
    assert "weekend" in foretold
    assert f"The draft beside the lists of {night.run_id}" in foretold
    before = warehouse.current(at), shown_of(at)
    assert before == (warehouse.current(ch), shown_of(ch))
    assert before[1] > 0

    (at / "rules").mkdir()
    shutil.copy(draft, at / "rules" / "weekend.csv")
    thursday, sunday = dt.date(2026, 3, 5), dt.date(2026, 3, 8)
    assert (publish_as(at, night, thursday, "thursday"), shown_of(at)) == (("weekend",), 0)
    with warehouse.connect(at) as release:
        effects = [release.execute(statement).fetchall() for statement in STATEMENTS[:2]]
    assert {placement for placement, *_ in effects[0]} >= {"for_you", "discover"}
    assert [(rule_id, has_acted) for rule_id, _, has_acted, _ in effects[1]] == [("weekend", True)]

    assert (publish_as(at, night, sunday, "sunday"), shown_of(at)) == ((), before[1])
    assert (warehouse.current(ch), shown_of(ch)) == before


def shown_of(home: Path) -> int:
    """Rows of the brand on the shelves of the rule's country, in what readers see."""
    users = pd.concat(map(pd.read_csv, sorted(home.glob("raw/users/*/*.csv"))))
    germans = users.loc[users["country"] == "Germany", "user_id"].tolist()
    with warehouse.connect(home) as release:
        (count,) = release.execute(
            "select count(*) from user_recommendations join items using (item_id) where brand = 'Beanworks'"
            " and user_id in (select unnest(?::varchar[]))",
            [germans],
        ).fetchone()
    return count


def publish_as(home: Path, night: Run, day: dt.date, label: str) -> tuple[str, ...]:
    """The night's lists once more under the rules of what people see after `day`, and let out; the rules' names."""
    held, done = rules.in_force(home, day + dt.timedelta(days=1)), Run.load(night.run_id, home)
    run = replace(done, run_id=f"{night.day}.{label}", label=label, rules=held)
    finish_as(done, run, set(STAGES) - {"shelve", "validate", "publish", "report"})
    run.save()
    for stage in (shelve, validate, publish):
        stage.run(run)
    return tuple(rule.rule_id for rule in held)


@pytest.mark.slow
def test_a_query_with_a_rule_is_answered_without_what_it_denies(night: Run):
    """What stands first there is gone from its hundred, and what is pinned leads, in users' own orders too;
    every other query finds what it found."""
    query, first = Marts(night).frame(
        f"select query, arg_min(item_id, rank) as first from {warehouse.relation(night, 'search_results')}"
        " group by query having count(*) > 1 order by query limit 1"
    ).iloc[0]  # fmt: skip
    told = Rule(rule_id="not_there", action="deny", item_id=first, query=query.upper(), owner="ann", reason="a test")
    (pinned,) = Marts(night).frame(
        "select max(item_id) as item_id from catalogue where is_available and item_id <> ? and item_id not in"
        f" (select item_id from {warehouse.relation(night, 'search_results')} where query = ?)", first, query
    )["item_id"]  # fmt: skip
    pin = Rule(rule_id="on_top", action="pin", item_id=pinned, value=1, query=query, owner="ann", reason="a test")
    run = replace(night, run_id=f"{night.day}.query", rules=(told, pin))
    finish_as(night, run, ("clean", "build", "train_als", "train_neighbours", "train_profile", "fuse"))
    search.run(run)
    before, after = (
        Marts(night).frame(f"select query, rank, item_id from {warehouse.relation(one, 'search_results')} order by all")
        for one in (night, run)
    )
    assert first not in set(after["item_id"][after["query"] == query])
    assert after[after["query"] != query].values.tolist() == before[before["query"] != query].values.tolist()
    personal = Marts(night).frame(f"from {warehouse.relation(run, 'user_search_results')}")
    assert not ((personal["query"] == query) & (personal["item_id"] == first)).any()
    assert after["item_id"][after["query"] == query].iloc[0] == pinned
    assert (personal.loc[(personal["query"] == query) & (personal["rank"] == 1), "item_id"] == pinned).all()
    effects = pd.read_parquet(run.of("search", "search_effects.parquet"))
    assert effects[["rule", "count_rows", "count_moved"]].values.tolist() == [["not_there", 1, 0], ["on_top", 0, 1]]
    shutil.rmtree(run.folder)


@pytest.mark.slow
@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_statement_of_the_page_runs(night: Run, statement: str):
    """On the release, as it is written there."""
    with duckdb.connect(str(night.home / "warehouse" / "current.duckdb"), read_only=True) as release:
        release.execute(statement).fetchall()
