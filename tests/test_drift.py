"""Columns that come, go or change are seen when a night opens, and those that are read stop it."""

import csv
import datetime as dt
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import check
from pipelines.errors import BadInput
from pipelines.open import open_run
from pipelines.settings import load
from tests.conftest import ITEMS, deliver, event

DAYS = [dt.date(2026, 3, day) for day in range(1, 5)]
COLUMNS = ["event_id", "user_id", "event_type", "item_id", "query", "occurred_at", "price_cents"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    deliver(tmp_path, "items", "2026-03-01", ITEMS)
    put(tmp_path, 0)
    return tmp_path


def put(home: Path, n: int, columns: Iterable[str] = COLUMNS, name: str = "a.csv", **values: object) -> Path:
    """A CSV file of one event of the n-th day."""
    path = home / "raw" / "events" / f"dt={DAYS[n]}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    row = event(n, str(DAYS[n]), query="mug", price_cents=300) | values
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(columns), [row.get(column, "x") for column in columns]])
    return path


def without(*names: str) -> list[str]:
    return [name for name in COLUMNS if name not in names]


def problems(home: Path, n: int, **settings: object) -> list[str]:
    """What `check` says of the n-th day, each as `table.column`."""
    told, files = load(home, settings, {}), check.raw.inventory(home, DAYS[n], check.contracts.raw_tables())
    return [f"{one.table}.{one.column}" for one in check.drifted(home, told, files, DAYS[n])]


def test_equal_columns_are_no_drift(home: Path):
    """The order of columns is no matter."""
    put(home, 1, reversed(COLUMNS))
    assert problems(home, 1) == []


def test_a_column_that_vanished_stops_the_night_before_anything_is_written(home: Path):
    """Also one that a file may lack: table, column, file, day and cure are named, and no run is opened."""
    put(home, 1, without("query"))
    with pytest.raises(BadInput) as refused:
        open_run(owner="airflow:test", day=DAYS[1], home=home)
    told = str(refused.value)
    assert "events.query in raw/events/dt=2026-03-02/a.csv: column 'query' is removed since the delivery of" in told
    assert "--set admit.accepted_drift=events.query" in told
    assert not (home / "runs").exists()


def test_a_file_of_replayed_rows_is_no_drift(home: Path):
    """It has the columns of the rows that were corrected, not those of the shop's export."""
    put(home, 1)
    put(home, 1, [*without("query"), "replays"], "replayed.csv")
    assert problems(home, 1) == []
    put(home, 1, without("query"), "other.csv")
    assert problems(home, 1) == ["events.query"]


def test_a_renamed_column_is_guessed(home: Path):
    """The most similar new column is named, with the line that maps it."""
    put(home, 1, [*without("query"), "querry"])
    files = check.raw.inventory(home, DAYS[1], check.contracts.raw_tables())
    (problem,) = check.drifted(home, load(home, {}, {}), files, DAYS[1])
    assert "New there: 'querry'" in problem.what
    assert '[columns.events] query = "querry"' in problem.cure


def test_a_mapping_of_the_new_name_is_a_cure(home: Path):
    """The days before it go on being read under the old name; the night stops again when both are gone."""
    put(home, 1, [*without("query"), "querry"])
    mapped = {"columns.events.query": "querry"}
    open_run(owner="airflow:test", day=DAYS[1], home=home, overrides=mapped)
    put(home, 2, without("query"))
    assert problems(home, 2, **mapped) == ["events.query"]
    put(home, 2)
    assert problems(home, 2, **mapped) == []


def test_a_change_can_be_accepted(home: Path):
    """By column: the others still stop the night, and a column that does not exist is named."""
    put(home, 1, without("query", "price_cents"))
    assert problems(home, 1, **{"admit.accepted_drift": "events.query"}) == ["events.price_cents"]
    with pytest.raises(BadInput, match=r"names 'events.qery', which is no column. Write it as events.query"):
        open_run(owner="airflow:test", day=DAYS[0], home=home, overrides={"admit.accepted_drift": "events.qery"})


def test_a_stop_does_not_make_the_change_usual(home: Path):
    """Two days without the column, no night between them: the second night stops too; once one opened, none does."""
    put(home, 1)
    put(home, 2, without("query"))
    put(home, 3, without("query"))
    open_run(owner="airflow:test", day=DAYS[1], home=home)
    assert problems(home, 2) == ["events.query"]
    assert problems(home, 3) == ["events.query"]
    open_run(owner="airflow:test", day=DAYS[2], home=home, overrides={"admit.accepted_drift": "events.query"})
    assert problems(home, 3) == []


def test_what_is_added_or_never_read_is_only_said(home: Path, caplog: pytest.LogCaptureFixture):
    """A column that nobody reads may come and go."""
    put(home, 1, [*COLUMNS, "referrer"])
    assert problems(home, 1) == []
    put(home, 2)
    open_run(owner="airflow:test", day=DAYS[1], home=home)
    assert problems(home, 2) == []
    assert "referrer added in raw/events/dt=2026-03-02/a.csv" in caplog.text
    assert "referrer removed in raw/events/dt=2026-03-03/a.csv" in caplog.text


def test_files_that_always_differed_go_on_differing(home: Path):
    """Each file is held against the one most like it: two feeds may differ, and each may lose a column."""
    put(home, 0, without("query"), "b.csv")
    put(home, 1)
    put(home, 1, without("query"), "b.csv")
    assert problems(home, 1) == []
    put(home, 1, without("query", "price_cents"), "b.csv")
    assert problems(home, 1) == ["events.price_cents"]


def test_text_that_is_no_longer_of_the_contracts_type_is_retyped(home: Path):
    """A number that became words; one that was never a number is left to cleaning."""
    put(home, 1, price_cents="cheap")
    assert problems(home, 1) == ["events.price_cents"]
    put(home, 0, price_cents="dear")
    assert problems(home, 1) == []


def test_a_parquet_column_of_another_kind_is_retyped(home: Path):
    """A number that became text is seen in the schema; a wider number is no change, and an empty column no type."""

    def deliver_items(n: int, price: pa.Array) -> None:
        path = home / "raw" / "items" / f"dt={DAYS[n]}" / "part.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"item_id": ["i1"], "title": ["Mug"], "price_cents": price}), path)

    (home / "raw" / "items" / f"dt={DAYS[0]}" / "part.jsonl").unlink()
    deliver_items(0, pa.array([300], pa.int32()))
    put(home, 1)
    for price, found in (
        (pa.array([300.0]), []),
        (pa.nulls(1), []),
        (pa.array(["300"]), ["items.price_cents"]),
    ):
        deliver_items(1, price)
        assert problems(home, 1) == found


def test_a_rare_json_key_is_not_missed(tmp_path: Path):
    """JSON rows name what they have: a key is gone when enough rows should name it and none does."""
    deliver(tmp_path, "items", "2026-03-01", ITEMS)
    for n, rows in ((0, [event(1, query="mug"), *(event(k) for k in range(2, 5))]), (1, [event(9, str(DAYS[1]))])):
        deliver(tmp_path, "events", str(DAYS[n]), rows)
    assert problems(tmp_path, 1) == []
    many = [event(k, str(DAYS[1])) for k in range(100)]
    deliver(tmp_path, "events", str(DAYS[1]), many)
    assert problems(tmp_path, 1) == ["events.query"]
    deliver(
        tmp_path,
        "events",
        str(DAYS[1]),
        [*many, *(event(k, str(DAYS[1])) for k in range(100, 400)), event(400, query="mug")],
    )
    assert problems(tmp_path, 1) == []
