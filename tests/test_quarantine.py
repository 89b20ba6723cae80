"""A rejected row can be looked at, corrected and replayed: it counts once, with a trace to where it stood."""

import datetime as dt
import json
import re
from collections import Counter
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner, Result

from pipelines import clean, quarantine, replay
from pipelines.__main__ import app
from pipelines.errors import BadInput
from pipelines.open import open_run
from pipelines.quarantine import Wanted
from pipelines.run import Run
from tests.conftest import deliver, event

pytestmark = pytest.mark.slow
DAY = dt.date(2026, 3, 2)
HOSTILE = "[red]x[/] [/] \x1b[2J\u202e =1+1"
FIRST = "raw/events/dt=2026-03-01/part.jsonl"
CSV = "raw/events/dt=2026-03-02/a:b.csv"
SETTINGS = {
    "shop.opened_on": "2025-01-01",
    "clean.max_rejected_share": 1.0,
    "columns.events.user_id": "Kunde",
    "columns.events.price_cents": "Preis",
}


def cleaned(home: Path, **changes: object) -> Run:
    """The day cleaned again with what was delivered since."""
    run = open_run(owner="airflow:test", day=DAY, home=home, overrides=SETTINGS | changes, label="test")
    clean.run(run)
    return run


def accepted(run: Run, columns: str) -> list[tuple]:
    folders = json.loads(run.of("clean", "partitions.json").read_text())["events"]
    paths = [str(path) for folder in folders for path in Path(folder).glob("verdict=accepted/*.parquet")]
    query = f"select {columns} from read_parquet(?, hive_partitioning = false) order by all"
    return duckdb.execute(query, [paths]).fetchall()


def rules(run: Run) -> Counter:
    counts: Counter = Counter()
    for record in json.loads(run.of("clean", "books.json").read_text()):
        counts[record["rule"]] += record["count_rows"] * (record["table_name"] == "events")
    return counts


def lake(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (home / "lake").rglob("*.*") if path.is_file()}


@pytest.fixture
def dirty(shop: Path) -> Path:
    """Two days with rows that are too late, cheap, hostile, and no rows at all."""
    first = [event(1, Kunde="anna", Preis=1.50), event(2, Kunde=HOSTILE, Preis="cheap", event_id=None), "no json"]
    deliver(shop, "events", "2026-03-01", first)
    late = ["2025-10-01T10:00:00Z", "2025-10-02T10:00:00Z"]
    rows = [
        "event_type;item_id;occurred_at;Kunde;Preis",
        *(f"view;i1;{at};ben;" for at in late),
        'view;i1;late;"b""n";7',
    ]
    deliver(shop, "events", "2026-03-02", rows, "a:b.csv")
    deliver(shop, "events", "2026-03-02", [event(9, "2026-03-02", Kunde="eva", Preis=None)])
    return shop


def asked(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "250"}).invoke(app, ["quarantine", *arguments], catch_exceptions=False)


def written(run: Run, path: Path, **filters: object) -> list[dict]:
    quarantine.write(run, Wanted(**filters), None, path)
    return [json.loads(line) for line in path.read_text().splitlines()]


def saved(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_row_is_corrected_and_counts_once(dirty: Path, tmp_path: Path):
    """Shown, corrected, replayed; again, and by another file, changes no count; what it replays stands beside it."""
    run = cleaned(dirty)
    rows = written(run, tmp_path / "rows", table="events", rule="unreadable_price_cents")
    assert [(row["replays"], row["Kunde"], row["Preis"]) for row in rows] == [
        (f"{FIRST}:1", "anna", "1.5"),
        (f"{FIRST}:2", HOSTILE, "cheap"),
    ]
    corrected = saved(tmp_path / "corrected", [row | {"Preis": 150} for row in rows])
    (done,) = replay.corrected(run, corrected)
    assert (done.path.parent.name, done.count_rows, done.is_new) == ("dt=2026-03-02", 2, True)
    assert not replay.corrected(run, corrected)[0].is_new
    again = cleaned(dirty)
    assert accepted(again, "replays, user_id, price_cents")[:2] == [
        (f"{FIRST}:1", "anna", 150),
        (f"{FIRST}:2", HOSTILE, 150),
    ]
    before = lake(dirty)
    assert not replay.corrected(again, corrected)[0].is_new
    assert lake(cleaned(dirty).home) == before
    other = saved(tmp_path / "other", [rows[1] | {"Preis": 151}])
    with pytest.raises(BadInput, match=r"line 1 replays .*part.jsonl:2', which counts already"):
        replay.corrected(again, other)
    (row,) = [json.loads(line) for line in done.path.read_text().splitlines()][1:]
    deliver(dirty, "events", "2026-03-02", [row | {"Preis": 151}], "shops-own.jsonl")
    last = cleaned(dirty)
    assert rules(last)["replayed_before"] == 1
    assert len(accepted(last, "replays")) == 3
    assert "2 │ 2" in re.sub(" +", " ", asked("list", "--rule", "unreadable_price_cents").output)
