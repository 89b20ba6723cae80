"""The gate sees what breaks the contract: an empty table, a wrong row, a check that was not executed."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import contracts, expectations, gates, validate, warehouse
from pipelines.contracts import Column
from pipelines.growing import schema
from pipelines.settings import Settings

MARTS = SimpleNamespace(frame=lambda query: [1])  # a shop that has users, queries and events
ITEM = {
    "item_id": "i1",
    "title": "Mug",
    "category": None,
    "brand": None,
    "price_cents": 1,
    "is_available": True,
    "run_id": "r",
}
RESULT = {"query": "mug", "rank": 1, "item_id": "i1", "score": 1.0, "lexical_score": 1.0, "semantic_score": 0.5}
RESULT |= {"behaviour_score": 0.0, "popularity_score": 0.0, "reason": "words", "run_id": "r"}


def checks(items: list[dict], results: list[dict], marts: object = MARTS) -> dict[str, bool]:
    """Each check of the two tables by `table.check`."""
    serving = contracts.tables("serving")
    frames = {
        "items": pd.DataFrame(items, columns=serving["items"].names),
        "search_results": pd.DataFrame(results, columns=serving["search_results"].names),
    }
    return {f"{c['table_name']}.{c['check_name']}": c["is_ok"] for c in validate._contract_checks(marts, frames)}


def failed(found: Mapping) -> list[str]:
    return [name for name, told in found.items() if not (told["is_ok"] if isinstance(told, dict) else told)]


def test_true_tables_pass():
    """One item, one result: every check holds."""
    assert failed(checks([ITEM], [RESULT])) == []


def test_an_empty_table_fails():
    """Where there are queries, there must be results."""
    assert failed(checks([ITEM], [])) == ["search_results.expect_table_row_count_to_be_between()"]


def test_an_empty_table_is_right_where_its_source_is_empty():
    """`empty_with: queries`: nobody typed anything, so there is nothing to answer."""
    assert failed(checks([ITEM], [], SimpleNamespace(frame=lambda query: []))) == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"item_id": "i9"}, "known(item_id)"),
        ({"rank": 0}, "expect_column_values_to_be_between(rank)"),
        ({"score": None}, "expect_column_values_to_not_be_null(score)"),
        ({}, "expect_compound_columns_to_be_unique()"),
    ],
)
def test_a_row_that_breaks_the_contract_fails_its_check(change: dict, check: str):
    """An item that does not exist, a rank below 1, a missing score, a key that stands twice: each by its own check."""
    found = checks([ITEM], [RESULT | {"rank": 1}, RESULT | {"rank": 2 if change else 1} | change])
    assert failed(found) == [f"search_results.{check}"]


def test_a_table_in_parts_is_judged_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Results in parts of two: a rank of 0, a double and an unknown item are each seen, and all rows are counted."""
    monkeypatch.setattr(warehouse.tables, "PART", 2)
    true = [RESULT | {"rank": rank} for rank in range(1, 10)]
    assert failed(in_parts(tmp_path / "true", true)) == []
    wrong = [true[0] | {"rank": 0}, *true[1:], true[8], true[0] | {"item_id": "i9"}]
    found = {name: told for name, told in in_parts(tmp_path / "wrong", wrong).items() if not told["is_ok"]}
    assert {name: told["observed"].partition(" rows")[0] for name, told in found.items()} == {
        "expect_column_values_to_be_between(rank)": "1 of 11",
        "expect_compound_columns_to_be_unique()": "2 of 11",
        "known(item_id)": "1 of 11",
    }
    assert failed(in_parts(tmp_path / "empty", [])) == ["expect_table_row_count_to_be_between()"]


def in_parts(folder: Path, results: list[dict]) -> dict[str, dict]:
    (folder / "search").mkdir(parents=True)
    table = pa.Table.from_pylist(results, schema("search_results"))
    pq.write_table(table, folder / "search" / "search_results.parquet")
    pd.DataFrame([ITEM]).to_parquet(folder / "search" / "items.parquet")
    with duckdb.connect(str(folder / "marts.duckdb")):
        run = SimpleNamespace(folder=folder, of=lambda *_: folder / "marts.duckdb", settings=Settings())
    return {c["check_name"]: c for c in validate._parted(run, MARTS, "search_results", folder)}


CANDIDATE = {"placement": "for_you", "user_id": "anna", "rank": 1, "item_id": "i1", "score": 1.0, "run_id": "r"}


def asked_in_sql(tmp_path: Path, rows: list[dict], name: str = "user_candidates") -> dict[str, bool]:
    """Each check of a table that is too large to be a frame, by name."""
    table, marts = contracts.tables("serving")[name], tmp_path / "marts.duckdb"
    (tmp_path / "shelve").mkdir()
    pd.DataFrame(rows).reindex(columns=table.names).to_parquet(tmp_path / "shelve" / f"{name}.parquet")
    with duckdb.connect(str(marts)) as connection:
        connection.execute("create table items as select 'i1' as item_id")
    run = SimpleNamespace(folder=tmp_path, of=lambda stage, name: marts, settings=Settings())
    return {c["check_name"]: c["is_ok"] for c in validate._counted(run, table.name, tmp_path)}


def test_true_rows_of_a_large_table_pass(tmp_path: Path):
    """Two places of one user; what need not be there is not."""
    assert failed(asked_in_sql(tmp_path, [CANDIDATE, CANDIDATE | {"rank": 2}])) == []


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"user_id": None}, "not_null(user_id)"),
        ({"rank": 0}, "at_least(rank)"),
        ({"item_id": "i9"}, "known(item_id)"),
        ({"score": None}, "not_null(score)"),
        ({"rank": 1}, "unique(placement, user_id, rank)"),
    ],
)
def test_a_row_of_a_large_table_that_breaks_the_contract_fails_its_check(tmp_path: Path, change: dict, check: str):
    """Each rule by its own check, and no other one."""
    assert failed(asked_in_sql(tmp_path, [CANDIDATE, CANDIDATE | {"rank": 2} | change])) == [check]


def test_a_word_that_a_large_table_may_not_say_fails_its_check(tmp_path: Path):
    """A rhythm has three states."""
    rhythm = {"user_id": "anna", "count_purchase_days": 2, "usual_pause_days": 9.0, "run_id": "r"}
    rows = [rhythm | {"status": "due"}, rhythm | {"user_id": "bert", "status": "later"}]
    assert failed(asked_in_sql(tmp_path, rows, "user_rhythms")) == ["accepted_values(status)"]


@pytest.mark.parametrize(
    ("n", "broken"), [(2, [False, False, False]), (1, [True, True, False]), (9, [True, False, True])]
)
def test_bounds_and_lists_of_one_value_are_asked_in_sql(n: int, broken: list[bool]):
    """A bound holds up to itself, and a list of one value is a list."""
    column = Column("n", "bigint", "N.", accepted_values=("2",), minimum=2, maximum=8)
    asked = ", ".join(dict(validate._broken_when(None, column, Path())).values())
    assert list(duckdb.execute(f"select {asked} from (select {n} as n)").fetchone()) == broken


def test_what_audited_tables_refer_to_is_at_hand():
    """Among them, or in the one column that is read of the answers."""
    tables = contracts.tables("serving")
    pointed = {c.references for name in validate.AUDITED for c in tables[name].columns if c.references}
    assert {known for known in pointed if known[0] not in validate.AUDITED} == {("search_results", "query")}


def test_a_check_that_was_not_executed_is_an_error():
    """Silence is no success: the declared list must equal the executed one."""
    serving = contracts.tables("serving")
    declared = validate.expectations(serving["items"])
    with pytest.raises(expectations.SuiteIncomplete, match="items: declared and executed checks differ"):
        expectations._records("items", declared, [])


def test_an_expectation_that_raises_fails_and_says_what_it_said():
    """A column that is not there cannot be asked about: no check passes for it, and none is missing."""
    declared = validate.expectations(contracts.tables("serving")["items"])
    told = list(expectations.held({"items": declared}, {"items": [pd.DataFrame([ITEM]).drop(columns="title")]}))
    (raised,) = [one for one in told if "not_be_null(title)" in one["check_name"]]
    assert not raised["is_ok"]
    assert "title" in raised["observed"].removeprefix("raised ")


def counted(tmp_path: Path, books: dict[str, int], lines: int = 3) -> bool:
    """Whether the books of two files balance: `a.csv` brought two rows below its header, `b.csv` repeats it."""
    folder, (a, b) = tmp_path / "lake" / "day", (f"raw/events/dt=2026-03-01/{name}.csv" for name in "ab")
    folder.mkdir(parents=True, exist_ok=True)
    file = {"table": "events", "day": "2026-03-01", "columns": [], "sha256": "s", "count_lines": lines}
    inventory = {name: file | {"path": name, "dialect": {"format": "csv"}} for name in (a, b)}
    (tmp_path / "lake" / "inventory.json").write_text(json.dumps(inventory))
    receipt = {"file": a, "sha256": "s", "count_lines": 3, "count_rows": 2}
    (folder / "files.json").write_text(json.dumps([receipt]))
    (tmp_path / "partitions.json").write_text(json.dumps({"events": [str(folder)]}))
    records = [{"file": {"a": a, "b": b}[name], "count_rows": count} for name, count in books.items()]
    (tmp_path / "books.json").write_text(json.dumps(records))
    run = SimpleNamespace(lake=tmp_path / "lake", inputs={a: "s", b: "s"}, of=lambda stage, name: tmp_path / name)
    return gates._books_balance(run)["is_ok"]


def test_the_books_balance_file_by_file(tmp_path: Path):
    """Every row of every file is accounted for: not too few, not in another file's place, and no line unread."""
    assert counted(tmp_path, {"a": 2, "b": 2})
    assert not counted(tmp_path, {"a": 2})
    assert not counted(tmp_path, {"a": 1, "b": 3})
    assert not counted(tmp_path, {"a": 2, "b": 2}, lines=4)
