"""The books of cleaning balance for each file and day, whatever dirt comes and however the work is split."""

import csv
import datetime as dt
import gzip
import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines import clean
from pipelines.open import open_run
from pipelines.run import Run
from tests.conftest import ITEMS, deliver, event

pytestmark = pytest.mark.slow
DAYS = [dt.date(2026, 3, day) for day in (1, 2, 3)]
NAMES = ["event_id", "user_id", "event_type", "item_id", "query", "occurred_at", "quantity", "price_cents"]
DIRT: dict[str, dict[str, object]] = {
    "missing_event_type": {"event_type": ""},
    "unknown_event_type": {"event_type": "teleport"},
    "missing_occurred_at": {"occurred_at": None},
    "unreadable_occurred_at": {"occurred_at": "31/02/2026"},
    "unreadable_price_cents": {"price_cents": "inf"},
    "price_cents_out_of_range": {"price_cents": "100000001"},
    "quantity_out_of_range": {"quantity": "0"},
    "missing_item_id": {"item_id": ""},
    "missing_query": {"event_type": "search", "item_id": ""},
    "unknown_item": {"item_id": "i99"},
    "time_in_future": {"occurred_at": "2026-03-09T10:00:00Z"},
    "before_shop_opened": {"occurred_at": "2025-01-01T10:00:00Z"},
    "time_unit_mixup": {"occurred_at": "1772359200000"},
    "oversized_item_id": {"item_id": "i" * 100},
}
BROKEN = {
    "csv": {
        "unparsable_row": b'"an,open,quote',
        "invalid_encoding": b"\xff,anna,view,i1,,,,",
        "nul_byte": b"\0,anna,view,i1,,,,",
    },
    "jsonl": {
        "unparsable_row": b'{"event_id": ',
        "invalid_encoding": b'{"user_id": "\xff"}',
        "nul_byte": b'{"user_id": "\0"}',
    },
}
ANYTHING = st.sampled_from(["accepted", "duplicate", *DIRT, *BROKEN["csv"]])


def true_event(n: int, day: dt.date) -> dict[str, object]:
    return event(n, str(day), query="blue mug", quantity="2", price_cents="250")


def as_csv(rows: Iterable[dict[str, object] | bytes]) -> bytes:
    lines = [(",".join(NAMES) + "\n").encode()]
    for row in rows:
        if isinstance(row, bytes):
            lines.append(row + b"\n")
        else:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerow([row.get(name) or "" for name in NAMES])
            lines.append(text.getvalue().encode())
    return b"".join(lines)


def as_jsonl(rows: Iterable[dict[str, object] | bytes]) -> bytes:
    return b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)


FORMATS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "csv": ("csv", bytes),
    "csv.gz": ("csv", gzip.compress),
    "jsonl": ("jsonl", bytes),
    "jsonl.zst": ("jsonl", lambda data: pa.compress(data, codec="zstd", asbytes=True)),
}


class Delivery:
    """Files of planted rows, and what must become of each."""

    def __init__(self, home: Path, seed: int):
        self.home, self.random, self.count = home, random.Random(seed), 0
        self.planted: dict[str, Counter[str]] = {}
        self.true: list[dict[str, object]] = []
        deliver(home, "items", "2026-03-01", ITEMS)

    def file(self, day: dt.date, name: str, kind: str, wanted: Iterable[str]) -> None:
        form, pack = FORMATS[kind]
        rows, counts = [], Counter[str]()
        for rule in wanted:
            row, rule = self.row(rule, day, form)
            rows.append(row)
            counts[rule] += 1
        path = self.home / "raw" / "events" / f"dt={day}" / f"{name}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(as_csv(rows) if form == "csv" else as_jsonl(rows)))
        self.planted[str(path.relative_to(self.home))] = counts

    def row(self, rule: str, day: dt.date, form: str) -> tuple[dict[str, object] | bytes, str]:
        if rule in BROKEN[form]:
            return BROKEN[form][rule], rule
        if rule == "duplicate" and self.true:
            return self.random.choice(self.true), rule
        self.count += 1
        row = true_event(self.count, day) | DIRT.get(rule, {})
        if rule == "missing_query":
            row["query"] = ""
        if rule in DIRT:
            return row, rule
        self.true.append(row)
        return row, "accepted"


def cleaned(home: Path, day: dt.date, label: str = "test", **overrides: object) -> Run:
    chosen = {"shop.opened_on": "2026-01-01", "clean.max_rejected_share": 1.0, "clean.max_field_chars": 64}
    chosen |= {"files.events.encoding": "utf-8"} | overrides
    run = open_run(owner="airflow:test", day=day, home=home, overrides=chosen, label=label)
    clean.run(run)
    return run


def books(run: Run) -> dict[str, Counter[str]]:
    """Rows by rule, of each file of events."""
    counts: dict[str, Counter[str]] = {}
    for record in json.loads(run.of("clean", "books.json").read_text()):
        if record["table_name"] == "events":
            counts.setdefault(record["file"], Counter())[record["rule"]] += record["count_rows"]
    return counts


def lake_hashes(run: Run) -> list[str]:
    """Hash of every Parquet file of accepted events, by day."""
    folders = json.loads(run.of("clean", "partitions.json").read_text())["events"]
    paths = [path for folder in folders for path in sorted(Path(folder).glob("verdict=accepted/*.parquet"))]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


def rejected(run: Run, columns: str) -> list[tuple]:
    folders = json.loads(run.of("clean", "partitions.json").read_text())["events"]
    paths = [str(path) for folder in folders for path in Path(folder).glob("verdict=rejected/*.parquet")]
    query = f"select {columns} from read_parquet(?, hive_partitioning = false) order by all"
    return duckdb.execute(query, [paths]).fetchall() if paths else []


@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate], derandomize=True)
@given(
    files=st.lists(
        st.tuples(st.sampled_from(DAYS), st.sampled_from(sorted(FORMATS)), st.lists(ANYTHING, max_size=60)),
        min_size=1,
        max_size=5,
    ),
    seed=st.integers(0, 1000),
)
def test_each_planted_row_is_found_by_its_rule(tmp_path_factory: pytest.TempPathFactory, files: list, seed: int):
    """For each file and day the books say exactly what was planted, and quarantine holds each bad row verbatim."""
    delivery = Delivery(tmp_path_factory.mktemp("home"), seed)
    for number, (day, kind, wanted) in enumerate(sorted(files, key=lambda file: file[0])):
        delivery.file(day, f"part-{number}", kind, wanted)
    delivery.file(DAYS[-1], "last", "jsonl", ["accepted"])
    run = cleaned(delivery.home, DAYS[-1])
    assert books(run) == {file: counts for file, counts in delivery.planted.items() if counts}
    for file, line, original in rejected(run, "file, line, original"):
        with pa.input_stream(delivery.home / file, compression="detect") as stream:
            raw = stream.read().decode("utf-8", "backslashreplace").split("\n")[line - 1]
        assert original == raw.replace("\0", "\\x00")


def shuffled_home(home: Path, seed: int, names: list[str]) -> Path:
    """The same 120 events, half of them said twice with another price, dealt to files in another order."""
    deliver(home, "items", "2026-03-01", ITEMS)
    rows = [true_event(n % 80, DAYS[0]) | {"price_cents": n} for n in range(120)]
    random.Random(seed).shuffle(rows)
    for number, name in enumerate(names):
        deliver(home, "events", "2026-03-01", rows[number :: len(names)], name)
    return home


def test_order_names_threads_and_splits_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Other row order, file names, threads and partitions give files of equal hash, the winners of duplicates too."""
    content = "event_id, user_id, price_cents, occurred_at, arrived_on"
    first = cleaned(shuffled_home(tmp_path / "a", 1, ["x.jsonl"]), DAYS[0])
    second = cleaned(shuffled_home(tmp_path / "b", 1, ["x.jsonl"]), DAYS[0], **{"machine.threads": 1})
    monkeypatch.setattr(clean, "TASK_ROWS", 7)
    third = cleaned(shuffled_home(tmp_path / "c", 1, ["x.jsonl"]), DAYS[0])
    assert lake_hashes(first) == lake_hashes(second) == lake_hashes(third)
    other = cleaned(shuffled_home(tmp_path / "d", 2, ["z.jsonl", "a.jsonl", "deep/er.jsonl"]), DAYS[0])
    assert accepted_rows(first, content) == accepted_rows(other, content)
    assert len(accepted_rows(other, content)) == 80


def accepted_rows(run: Run, columns: str) -> list[tuple]:
    (folder,) = json.loads(run.of("clean", "partitions.json").read_text())["events"]
    query = f"select {columns} from read_parquet(?, hive_partitioning = false)"
    return duckdb.execute(query, [f"{folder}/verdict=accepted/*.parquet"]).fetchall()


def test_a_day_at_a_time_or_all_at_once(tmp_path: Path):
    """Cleaning nights one by one and a whole past in one go leave the same bytes."""
    for name in ("steps", "whole"):
        delivery = Delivery(tmp_path / name, 5)
        for day in DAYS:
            delivery.file(day, f"part-{day}", "jsonl", ["accepted", "duplicate", "unknown_item", "accepted"] * 5)
            deliver(delivery.home, "events", str(day), corrections(day), "corrections.jsonl")
    for day in DAYS:
        last = cleaned(tmp_path / "steps", day)
    whole = cleaned(tmp_path / "whole", DAYS[-1])
    assert lake_hashes(last) == lake_hashes(whole)
    assert books(last) == books(whole)
    told = [counts for file, counts in books(whole).items() if "corrections" in file]
    assert told == [{"accepted": 1, "replayed_before": 2}] * 3


def corrections(day: dt.date) -> list[dict[str, object]]:
    """A rejected row of the day, that of the day before, which was corrected then, and a true one."""
    number = DAYS.index(day)
    places = [(day, 3), (DAYS[max(number - 1, 0)], 3), (DAYS[0], 1)]
    return [
        true_event(100 + 10 * number + n, day) | {"replays": f"raw/events/dt={of}/part-{of}.jsonl:{line}"}
        for n, (of, line) in enumerate(places)
    ]


def test_a_file_that_comes_again_counts_once(tmp_path: Path):
    """Renamed on its day or delivered on a later one: its rows are accounted for as those of a repeated file."""
    delivery = Delivery(tmp_path, 5)
    delivery.file(DAYS[0], "part", "csv", ["accepted"] * 4 + ["missing_item_id"])
    data = (tmp_path / "raw/events/dt=2026-03-01/part.csv").read_bytes()
    for place in ("dt=2026-03-01/renamed.csv", "dt=2026-03-02/part.csv"):
        (tmp_path / "raw/events" / place).parent.mkdir(exist_ok=True)
        (tmp_path / "raw/events" / place).write_bytes(data)
    delivery.file(DAYS[1], "own", "csv", ["accepted"])
    told = books(cleaned(tmp_path, DAYS[1]))
    assert told["raw/events/dt=2026-03-01/part.csv"] == {"accepted": 4, "missing_item_id": 1}
    assert told["raw/events/dt=2026-03-01/renamed.csv"] == {"repeated_file": 5}
    assert told["raw/events/dt=2026-03-02/part.csv"] == {"repeated_file": 5}


def twins(home: Path, policy: str) -> dict[str, Counter[str]]:
    deliver(home, "items", "2026-03-01", [*ITEMS, {"item_id": "I1", "title": "The same in capitals"}])
    rows = [event(1), event(2, item_id=" I1"), event(3, item_id="i2"), event(4, item_id="I2")]
    deliver(home, "events", "2026-03-01", rows)
    return books(cleaned(home, DAYS[0], **{"clean.ids": policy, "clean.unknown_items": "keep"}))


@pytest.mark.parametrize(
    ("policy", "told"),
    [("keep", {"accepted": 4}), ("merge", {"accepted": 4}), ("reject", {"accepted": 2, "item_id_twin": 2})],
)
def test_ids_that_differ_only_in_writing(tmp_path: Path, policy: str, told: dict[str, int]):
    """Others, the same, or a mistake: the shop says which. Of two that came on one day the smaller is the right one."""
    assert twins(tmp_path, policy) == {"raw/events/dt=2026-03-01/part.jsonl": told}
    run = Run.load("2026-03-01.test", tmp_path)
    items = {"keep": ["I1", "I2", "i1", "i2"], "merge": ["i1", "i1", "i2", "i2"], "reject": ["I1", "i2"]}
    assert sorted(item for (item,) in accepted_rows(run, "item_id")) == items[policy]
