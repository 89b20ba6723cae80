"""A rejected row can be looked at, corrected and replayed: it counts once, with a trace to where it stood."""

import datetime as dt
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines import clean, quarantine, raw, replay
from pipelines.__main__ import app
from pipelines.errors import BadInput, BadSetting
from pipelines.open import open_run
from pipelines.quarantine import Wanted
from pipelines.run import Run, write_json
from tests.conftest import deliver, event

DAY = dt.date(2026, 3, 2)
FIRST = "raw/events/dt=2026-03-01/part.jsonl"
SECOND = "raw/events/dt=2026-03-02/a:b.csv"
HOSTILE = "[red]x[/] [/] \x1b[2J\u202e =1+1"
SETTINGS = {"columns.events.user_id": "Kunde", "columns.events.price_cents": "Preis", "clean.max_rejected_share": 1.0}
SETTINGS |= {"admit.accepted_drift": "events.event_id"}  # one channel has no ids


def opened(home: Path, **changes: object) -> Run:
    return open_run(owner="airflow:test", day=DAY, home=home, overrides=SETTINGS | changes, label="test")


def deliver_dirt(home: Path) -> None:
    """Two days with rows that are cheap, hostile, too late, and none at all."""
    rows = [event(1, Kunde="anna", Preis=1.50), event(None, Kunde=HOSTILE, Preis="cheap", event_id=None), "5"]
    deliver(home, "events", "2026-03-01", rows)
    late = ['view;i1;2025-10-01T10:00:00Z;"b""n";', "view;i2;2025-10-02T10:00:00Z;ben;7"]
    deliver(home, "events", "2026-03-02", ["event_type;item_id;occurred_at;Kunde;Preis", *late], "a:b.csv")
    deliver(home, "events", "2026-03-02", [event(9, "2026-03-02", Kunde="eva", Preis=None)])


def test_the_books_tell_where_every_row_went(dirty: Run, monkeypatch: pytest.MonkeyPatch):
    """By table and rule, with an example as text and the sum; of one arrival day, or of all."""
    monkeypatch.setenv("NIGHTSHELF_HOME", str(dirty.home))
    record = {"table_name": "events", "file": FIRST, "arrival_date": "2026-03-01"}
    records = [{"rule": "accepted", "count_rows": 1200, "example": None}]
    records += [{"rule": "unreadable_price_cents", "count_rows": 34, "example": HOSTILE}]
    later = record | {"arrival_date": "2026-03-02", "rule": "accepted", "count_rows": 5, "example": None}
    write_json(dirty.folder / "clean" / "books.json", [*(record | one for one in records), later])
    words = [row.split()[1:6:2] for row in CliRunner().invoke(app, ["books"]).output.splitlines() if "events" in row]
    assert words == [
        ["events", "accepted", "1,205"],
        ["events", "unreadable_price_cents", "34"],
        ["events", "all", "1,239"],
    ]
    told = CliRunner().invoke(app, ["books", "--arrived", "2026-03-02"]).output
    assert "all" in told
    assert "unreadable" not in told
    assert "[red]x[/]" in CliRunner().invoke(app, ["books"]).output
    assert "2026-03-09" in str(CliRunner().invoke(app, ["books", "--arrived", "2026-03-09"]).exception)


@pytest.fixture
def dirty(shop: Path) -> Run:
    """The dirt in quarantine, without Spark."""
    deliver_dirt(shop)
    run = opened(shop)
    lines = {path: (shop / path).read_text().split("\n") for path in (FIRST, SECOND)}
    broken = {(FIRST, 1): "unreadable_price_cents", (FIRST, 2): "unreadable_price_cents", (FIRST, 3): "unparsable_row"}
    broken |= {(SECOND, 2): "too_late", (SECOND, 3): "too_late"}
    rows = [{"file": f, "line": n, "rule": r, "original": lines[f][n - 1]} for (f, n), r in broken.items()]
    lay(run, {dt.date(2026, 3, 1): rows[:3], DAY: rows[3:]})
    return run


def lay(run: Run, rejected: dict[dt.date, list[dict]], accepted: tuple[str, ...] = ()) -> None:
    """What a cleaning leaves: rejected rows by arrival day, places that accepted rows replay, and receipts."""
    files = raw.inventory(run.home, run.day, ["events"], run.settings)
    folders = []
    for day, rows in rejected.items():
        folder = run.lake / "events" / f"arrival_date={day}" / run.fingerprint[:8]
        told = {"replays": None, "arrived_on": day}
        tables = {"rejected": [told | row for row in rows]}
        tables["accepted"] = [{"file": "f", "line": 1, "rule": None, **told, "replays": p} for p in accepted]
        for verdict, content in tables.items():
            path = folder / f"verdict={verdict}" / "0000-0.parquet"
            path.parent.mkdir(parents=True)
            if content:
                frame = pd.DataFrame(content).astype({"replays": "string", "rule": "string"})
                pq.write_table(pa.Table.from_pandas(frame), path)
        write_json(folder / "files.json", [{"file": f.path, "sha256": f.sha256} for f in files if f.day == day])
        folders.append(str(folder))
    (run.folder / "clean").mkdir(parents=True)
    write_json(run.folder / "clean" / "partitions.json", {"events": folders})
    write_json(run.folder / "clean" / "stage.json", {"fingerprint": run.fingerprint})


def asked(*arguments: str) -> str:
    """What the command prints, with single spaces."""
    result = CliRunner(env={"COLUMNS": "400"}).invoke(app, ["quarantine", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return re.sub(" +", " ", result.output)


def written(run: Run, path: Path, **filters: object) -> list[dict]:
    quarantine.write(run, Wanted(**filters), None, path)
    return [json.loads(line) for line in path.read_text().splitlines()]


def saved(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rejected_rows_are_counted_and_shown(dirty: Run):
    """By table, day, rule and file, with an example that does nothing to a terminal; filters narrow them."""
    told = asked("list")
    assert f"│ events │ 2026-03-01 │ unreadable_price_cents │ {FIRST} │ 2 │ 0 │" in told
    assert f"│ events │ 2026-03-02 │ too_late │ {SECOND} │ 2 │ 0 │" in told
    assert "too_late" not in asked("list", "--arrived", "2026-03-01")
    shown = asked("show", "--rule", "unreadable_price_cents", "--table", "events")
    assert f"{FIRST}:2" in shown
    assert r"[red]x[/] [/] \u001b[2J" in shown
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_rows_are_written_for_correction(dirty: Run, tmp_path: Path):
    """Under the shop's names, as they were written, whatever the format; what could not be split comes as it stands."""
    rows = {row["replays"]: row for row in written(dirty, tmp_path / "rows")}
    assert len(rows) == 5
    assert (rows[f"{FIRST}:1"]["Kunde"], rows[f"{FIRST}:1"]["Preis"]) == ("anna", "1.5")
    assert rows[f"{FIRST}:2"]["Kunde"] == HOSTILE
    assert rows[f"{FIRST}:3"] == {"replays": f"{FIRST}:3", "rule": "unparsable_row", "original": "5"}
    late = {"event_type": "view", "item_id": "i1", "occurred_at": "2025-10-01T10:00:00Z", "Kunde": 'b"n', "Preis": ""}
    assert rows[f"{SECOND}:2"].items() >= late.items()
    with pytest.raises(BadInput, match="exists, perhaps with corrections"):
        quarantine.write(dirty, Wanted(), None, tmp_path / "rows")
    with pytest.raises(BadInput, match="lies in no folder"):
        quarantine.write(dirty, Wanted(), None, tmp_path / "no" / "rows")


def test_a_parquet_row_is_written_as_cleaning_reads_it(shop: Path, tmp_path: Path):
    """A whole float loses its point, as an id in a column of floats does."""
    row, file = event(1, Kunde=12.0, Preis=1.5), "raw/events/dt=2026-03-02/a.parquet"
    deliver(shop, "events", "2026-03-01", [row])
    (shop / file).parent.mkdir()
    pq.write_table(pa.Table.from_pylist([row]), shop / file)
    run = opened(shop)
    lay(run, {DAY: [{"file": file, "line": 1, "rule": "unreadable_price_cents", "original": json.dumps(row)}]})
    (row,) = written(run, tmp_path / "rows")
    assert (row["Kunde"], row["Preis"]) == (12, "1.5")


NO_NAME = "line 1 'Pries' is no column. Did you mean 'Preis'"
NO_PLACE = r"part.jsonl:77', which does not stand in the quarantine"
WRONG: list[tuple[Callable[[list[dict]], list], str]] = [
    (lambda rows: [{"replays": rows[0]["replays"], "Pries": 1}], NO_NAME),
    (lambda rows: [{**rows[0], "replays": f"{FIRST}:77"}], NO_PLACE),
    (lambda rows: [{**rows[0], "replays": "\ud800"}], "which does not stand in the quarantine"),
    (lambda rows: [{k: v for k, v in rows[0].items() if k != "replays"}], "line 1 has no `replays`"),
    (lambda rows: [rows[0], rows[1], rows[0]], "line 3 replays the same row as line 1"),
    (lambda rows: [{"replays": rows[0]["replays"], "rule": "x"}], "line 1 has no column of the shop"),
    (lambda rows: [rows[0], ["a list"]], "line 2 is no JSON object"),
]


@pytest.mark.parametrize(("bend", "told"), WRONG, ids=[told for _, told in WRONG])
def test_a_wrong_correction_is_refused(dirty: Run, tmp_path: Path, bend: Callable, told: str):
    """The line, what is wrong and the nearest name are told; no row of the file is delivered."""
    rows = written(dirty, tmp_path / "rows", rule="unreadable_price_cents")
    with pytest.raises(BadInput, match=told):
        replay.corrected(dirty, saved(tmp_path / "corrected", bend(rows)))
    assert not list((dirty.home / "raw").rglob("*replayed*"))


def test_a_delivery_for_replay_happens_once(dirty: Run, tmp_path: Path):
    """The same file again is no delivery; another one that replays a waiting row is refused, naming what waits."""
    rows = written(dirty, tmp_path / "rows", rule="unreadable_price_cents")
    deliver(dirty.home, "events", "2026-03-02", ["a shop's own"], "replayed-7.jsonl")
    file = saved(tmp_path / "corrected", [row | {"Preis": 150} for row in rows])
    told = asked("replay", str(file))
    (path,) = (dirty.home / "raw/events/dt=2026-03-02").glob("replayed-????????????????.jsonl")
    assert f"2 rows are delivered as {path}" in told
    assert "Next: nightshelf night --day 2026-03-02" in told
    assert f"2 rows were delivered before as {path}" in asked("replay", str(file))
    with pytest.raises(BadInput, match=f"as {path} does; delete that file to take it back"):
        replay.corrected(dirty, saved(tmp_path / "other", [rows[0] | {"Preis": 151}]))
    path.unlink()
    with pytest.raises(BadInput, match="2 of 2 rows arrived after 2026-02-28"):
        replay.corrected(dirty, file, dt.date(2026, 2, 28))


def test_rows_are_replayed_as_they_are(dirty: Run):
    """By table and rule; again, nothing is left to replay. A row that could not be read must be corrected."""
    ours = ["--table", "events", "--rule", "too_late", "--arrived", "2026-03-02"]
    assert "2 rows are delivered" in asked("replay", *ours)
    assert "Nothing to replay" in asked("replay", *ours)
    with pytest.raises(BadInput, match=r"1 of 1 rows, first .*part.jsonl:3, could not be read"):
        replay.as_they_are(dirty, Wanted("events", "unparsable_row"))
    with pytest.raises(BadSetting, match=r"'to_late' is no rule. Did you mean 'too_late'"):
        Wanted("events", "to_late")
    with pytest.raises(BadSetting, match="Name a file of corrected rows, or --table and --rule"):
        asked("replay", "--table", "events")


def test_a_correction_that_was_rejected_is_corrected_again(shop: Path, tmp_path: Path):
    """It stands for the row that came first, which is offered once; of one that counts nothing is offered. The same
    rows may be tried again, in a file of other bytes."""
    deliver_dirt(shop)
    run = opened(shop)
    row = {"file": FIRST, "line": 1, "rule": "unreadable_price_cents", "original": json.dumps(event(1, Preis="x"))}
    again = {**row, "file": "raw/events/dt=2026-03-02/part.jsonl", "original": json.dumps(event(1, Preis="y"))}
    counts = {**row, "line": 2}
    lay(run, {dt.date(2026, 3, 1): [row, counts], DAY: [again | {"replays": f"{FIRST}:1"}]}, (f"{FIRST}:2",))
    (offered,) = written(run, tmp_path / "rows")
    assert (offered["replays"], offered["Preis"]) == (f"{FIRST}:1", "y")
    assert "│ 2 │ 1 │" in asked("list", "--arrived", "2026-03-01")
    wrong = saved(tmp_path / "wrong", [offered | {"replays": "raw/events/dt=2026-03-02/part.jsonl:1"}])
    with pytest.raises(BadInput, match=f"replays a correction; name the row that came first, '{FIRST}:1'"):
        replay.corrected(run, wrong)
    (first,) = replay.corrected(run, saved(tmp_path / "again", [offered]))
    receipts = run.lake.glob("events/arrival_date=2026-03-02/*/files.json")
    write_json(
        next(receipts), [{"file": first.path.name, "sha256": hashlib.sha256(first.path.read_bytes()).hexdigest()}]
    )
    (second,) = replay.corrected(run, tmp_path / "again")
    assert second.is_new
    assert first.path.read_bytes().strip() == second.path.read_bytes().strip()
    done = saved(tmp_path / "done", [offered | {"replays": f"{FIRST}:2"}])
    with pytest.raises(BadInput, match=r"part.jsonl:2', which counts already"):
        replay.corrected(run, done)


def cleaned(home: Path) -> Run:
    """The day with what was delivered since."""
    run = opened(home)
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


@pytest.mark.slow
def test_a_replayed_row_counts_once(shop: Path, tmp_path: Path):
    """Corrected or as it was, the next cleaning lets it in beside the place that it replays; again changes nothing,
    and another file that replays it is rejected by rule."""
    deliver_dirt(shop)
    run = cleaned(shop)
    assert rules(run) == {"accepted": 1, "unreadable_price_cents": 2, "unparsable_row": 1, "too_late": 2}
    rows = written(run, tmp_path / "rows", rule="unreadable_price_cents")
    corrected = saved(tmp_path / "corrected", [row | {"Preis": 150} for row in rows])
    (done,) = replay.corrected(run, corrected)
    replay.as_they_are(run, Wanted("events", "too_late"))
    again = cleaned(shop)
    assert accepted(again, "replays, user_id, price_cents") == [
        (f"{FIRST}:1", "anna", 150),
        (f"{FIRST}:2", HOSTILE, 150),
        (f"{SECOND}:2", 'b"n', None),
        (f"{SECOND}:3", "ben", 7),
        (None, "eva", None),
    ]
    files = sorted(path for path in shop.rglob("*") if path.is_file())
    assert not replay.corrected(again, corrected)[0].is_new
    assert not replay.as_they_are(again, Wanted("events", "too_late"))
    assert sorted(path for path in shop.rglob("*") if path.is_file()) == files
    lines = [json.loads(line) | {"Preis": 151} for line in done.path.read_text().splitlines()]
    deliver(shop, "events", "2026-03-02", lines, "shops-own.jsonl")
    last = cleaned(shop)
    assert rules(last)["replayed_before"] == 2
    assert len(accepted(last, "replays")) == 5
