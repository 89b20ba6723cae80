"""Cleaning rejects each broken row by its rule, counts every row once, and gives the same answer every time."""

import datetime as dt
import gzip
import json
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import clean
from pipelines.errors import BadInput
from pipelines.open import open_run
from pipelines.run import Run
from tests.conftest import ITEMS, deliver, event

pytestmark = pytest.mark.slow
DAY = dt.date(2026, 3, 1)
BROKEN = {
    "unparsable_row": ['{"event_id": "x1", "user_id": "an', "no json at all"],
    "missing_event_type": [event(10, event_type=None)],
    "unknown_event_type": [event(11, event_type="teleport")],
    "missing_item_id": [event(12, item_id=" "), event(13, event_type="purchase", item_id=None)],
    "missing_query": [event(14, event_type="search", item_id=None)],
    "missing_occurred_at": [event(15, occurred_at="")],
    "unreadable_occurred_at": [event(16, occurred_at="yesterday"), event(17, occurred_at="2026-13-01T10:00:00Z")],
    "time_in_future": [event(18, occurred_at="2026-03-02T00:00:00Z")],
    "before_shop_opened": [event(19, occurred_at="2025-12-31T23:59:59Z")],
    "unreadable_price_cents": [
        event(20, price_cents="cheap"),
        event(21, price_cents="NaN"),
        event(22, price_cents=1.5),
    ],
    "price_cents_out_of_range": [event(23, price_cents=-1)],
    "quantity_out_of_range": [event(24, quantity=0)],
    "unreadable_quantity": [event(25, quantity="two")],
    "unknown_item": [event(26, item_id="i99")],
    "duplicate": [event(1)],
}
TRUE = [
    event(1),
    event(2, price_cents="250", quantity=3),
    event(3, event_type="search", item_id=None, query="Blue  Mug"),
]


def cleaned(home: Path, day: dt.date = DAY, **overrides: object) -> Run:
    settings = {"shop.opened_on": "2026-01-01", "clean.max_rejected_share": 1.0} | overrides
    run = open_run(owner="airflow:test", day=day, home=home, overrides=settings, label="test")
    clean.run(run)
    return run


def books(run: Run) -> Counter:
    """Rows by table and rule."""
    counts: Counter = Counter()
    for record in json.loads(run.of("clean", "books.json").read_text()):
        counts[record["table_name"], record["rule"]] += record["count_rows"]
    return counts


def accepted(run: Run, columns: str = "event_id", table: str = "events") -> list[tuple]:
    folders = json.loads(run.of("clean", "partitions.json").read_text())[table]
    files = [str(path) for folder in folders for path in Path(folder).glob("verdict=accepted/*.parquet")]
    return duckdb.execute(
        f"select {columns} from read_parquet(?, hive_partitioning = false) order by all", [files]
    ).fetchall()


def test_each_broken_row_is_rejected_by_its_rule_and_its_neighbours_stay(shop: Path):
    """The books name every rule with exactly the rows that break it; quarantine keeps the row as it came."""
    rows = [*TRUE[:2], *(row for rows in BROKEN.values() for row in rows), TRUE[2]]
    deliver(shop, "events", "2026-03-01", rows)
    run = cleaned(shop)
    told = books(run)
    assert {rule: told["events", rule] for rule in BROKEN} == {rule: len(rows) for rule, rows in BROKEN.items()}
    assert accepted(run) == [("e1",), ("e2",), ("e3",)]
    assert sum(n for (table, _), n in told.items() if table == "events") == len(rows)
    (folder,) = json.loads(run.of("clean", "partitions.json").read_text())["events"]
    kept = duckdb.execute(
        "select original from read_parquet(?) where rule = 'unparsable_row'", [f"{folder}/verdict=rejected/*.parquet"]
    )
    assert {row[0] for row in kept.fetchall()} == set(BROKEN["unparsable_row"])


def test_every_format_says_the_same(shop: Path):
    """CSV, gzip JSON lines and Parquet of the same events give the same rows; missing columns take their defaults."""
    rows = [event(n, quantity=n) for n in range(1, 4)]
    names = list(rows[0])
    seen = []
    for day, name in (("2026-03-01", "a.csv"), ("2026-03-02", "a.jsonl.gz"), ("2026-03-03", "a.parquet")):
        path = deliver(shop, "events", day, [], name)
        if name.endswith(".csv"):
            lines = [",".join(names), *(",".join(f'"{row[n]}"' for n in names) for row in rows)]
            path.write_text("\r\n".join(lines) + "\r\n")
        elif name.endswith(".gz"):
            path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
    (shop / "raw/events/dt=2026-03-01/part.jsonl").unlink()
    deliver(shop, "events", "2026-03-04", [event(4)])
    run = cleaned(shop, dt.date(2026, 3, 4))
    partitions = json.loads(run.of("clean", "partitions.json").read_text())["events"]
    for folder in partitions[:3]:
        rows_seen = duckdb.execute(
            "select event_id, user_id, event_type, item_id, occurred_at, quantity from read_parquet(?) order by 1",
            [f"{folder}/verdict=*/*.parquet"],
        ).fetchall()
        seen.append(rows_seen)
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][1] == ("e2", "anna", "view", "i1", dt.datetime(2026, 3, 1, 10), 2)
    assert books(run)["events", "duplicate"] == 6


def test_an_event_delivered_again_on_a_later_day_counts_once(shop: Path):
    """The first arrival stays, whether both days are cleaned at once or one after the other."""
    deliver(shop, "events", "2026-03-02", [event(1), event(2)])
    first = cleaned(shop)
    second = cleaned(shop, dt.date(2026, 3, 2))
    assert accepted(second, "event_id, arrived_on") == [("e1", DAY), ("e2", dt.date(2026, 3, 2))]
    assert books(second)["events", "duplicate"] == 1
    assert accepted(first) == [("e1",)]


def test_the_order_of_files_and_rows_changes_nothing(shop: Path, tmp_path: Path):
    """Two copies that differ in a column: the same one wins whatever the order, so the lake has equal bytes."""
    rows = [event(n % 7, price_cents=n) for n in range(40)]
    results = []
    for turn, ordered in enumerate((rows, rows[::-1])):
        home = tmp_path / f"home{turn}"
        deliver(home, "items", "2026-03-01", ITEMS)
        deliver(home, "events", "2026-03-01", ordered[:13], f"{turn}.jsonl")
        deliver(home, "events", "2026-03-01", ordered[13:], f"{9 - turn}.jsonl")
        results.append(accepted(cleaned(home), "event_id, price_cents"))
    assert results[0] == results[1]
    assert len(results[0]) == 7


def test_an_event_without_an_id_is_identified_by_what_it_says(shop: Path):
    """Exact copies are duplicates; a difference in any column makes another event."""
    rows = [event(1, event_id=None), event(1, event_id=None), event(1, event_id=None, quantity=2)]
    deliver(shop, "events", "2026-03-01", rows)
    run = cleaned(shop)
    assert len(accepted(run)) == 2
    assert books(run)["events", "duplicate"] == 1


def test_a_time_without_a_zone_is_the_shops_own(shop: Path):
    """10:00 in July in London is 09:00 UTC; with an offset the zone of the shop does not matter."""
    rows = [event(1, occurred_at="2025-07-01 10:00:00"), event(2, occurred_at="2025-07-01T10:00:00+02:00")]
    deliver(shop, "events", "2026-03-01", rows)
    run = cleaned(shop, **{"shop.timezone": "Europe/London", "shop.opened_on": "2025-01-01"})
    assert [t for (t,) in accepted(run, "occurred_at")] == [dt.datetime(2025, 7, 1, 8), dt.datetime(2025, 7, 1, 9)]


def test_columns_and_event_types_of_another_export_are_mapped(shop: Path):
    """[columns] and [event_types] translate a shop's own names; ids keep no space around them."""
    deliver(
        shop,
        "events",
        "2026-03-01",
        [{"who": " anna ", "what": "ProductView", "sku": "i1", "ts": "2026-03-01T10:00:00Z"}],
    )
    (shop / "nightshelf.toml").write_text(
        '[columns.events]\nuser_id = "who"\nevent_type = "what"\nitem_id = "sku"\noccurred_at = "ts"\n'
        '[event_types]\nProductView = "view"\n'
    )
    assert accepted(cleaned(shop), "user_id, event_type, item_id") == [("anna", "view", "i1")]


def test_a_column_with_a_new_name_is_read_under_both(shop: Path):
    """The mapping names the new one; a file from before it has the contract's, whatever its format."""
    (shop / "raw" / "events" / "dt=2026-03-01" / "part.jsonl").unlink()
    deliver(shop, "events", "2026-02-27", [event(2, "2026-02-27", query="mug")])
    for day, column, query in (("2026-02-28", "query", "pot"), ("2026-03-01", "querry", "pan")):
        path = shop / "raw" / "events" / f"dt={day}" / "part.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist([event(int(day[-2:]), day, **{column: query})]), path)
    run = cleaned(shop, **{"columns.events.query": "querry", "clean.unknown_items": "keep"})
    assert accepted(run, "query") == [("mug",), ("pan",), ("pot",)]


def test_when_most_rows_break_a_rule_the_files_are_wrong(shop: Path):
    """The night stops, names rule, count, example and cure, and the lake stays as it was."""
    rows = [event(1), *(event(n, price_cents="cheap") for n in range(2, 12))]
    deliver(shop, "events", "2026-03-01", rows)
    with pytest.raises(
        BadInput, match=r"10 of 11 rows .* \(10\) by the rule unreadable_price_cents.*max_rejected_share"
    ):
        cleaned(shop, **{"clean.max_rejected_share": 0.2})
    assert not (shop / "lake" / "events").exists()
    assert not list((shop / "lake").glob("*.partial"))


def test_only_what_arrived_is_cleaned(shop: Path, monkeypatch: pytest.MonkeyPatch):
    """A run over days that the lake has does not start Spark."""
    cleaned(shop)
    monkeypatch.setattr("pipelines.spark.session", lambda run, count_rows: pytest.fail("Spark was started"))
    again = open_run(
        owner="airflow:test", day=DAY, home=shop, overrides={"shop.opened_on": "2026-01-01", "seed": 4}, label="other"
    )
    clean.run(again)
    assert accepted(again) == [("e1",)]


def test_a_file_that_changed_since_the_run_opened_is_refused(shop: Path):
    """The run's manifest names what it reads; other bytes under the same name are another input."""
    run = open_run(owner="airflow:test", day=DAY, home=shop, label="test")
    deliver(shop, "events", "2026-03-01", [event(1), event(2)])
    with pytest.raises(BadInput, match=r"dt=2026-03-01/part.jsonl: changed or gone since 2026-03-01.test was opened"):
        clean.run(run)


def test_tags_are_one_text_however_they_were_written(tmp_path: Path):
    """A text with bars, a list of JSON or of Parquet: each tag once, in order; what is no tag is none."""
    told = ["gift | eco|gift", ["gift", "eco", " "], "[draft]", [], " | ", None]
    deliver(
        tmp_path, "items", str(DAY), [{**ITEMS[0], "item_id": f"j{n}", "tags": tags} for n, tags in enumerate(told)]
    )
    path = deliver(tmp_path, "items", str(DAY), [], name="part.parquet")
    pq.write_table(pa.table({"item_id": ["p0"], "title": ["Pot"], "tags": [["new", "eco"]]}), path)
    deliver(tmp_path, "items", str(DAY), ITEMS, name="without.jsonl")
    deliver(tmp_path, "events", str(DAY), TRUE)
    run = cleaned(tmp_path)
    lake = f"{run.lake}/items/*/*/verdict=accepted/*.parquet"
    found = dict(duckdb.sql(f"select item_id, tags from read_parquet('{lake}')").fetchall())
    assert [found[f"j{n}"] for n in range(len(told))] == ["eco|gift", "eco|gift", "[draft]", None, None, None]
    assert (found["p0"], found["i1"]) == ("eco|new", None)
