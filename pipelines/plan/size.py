"""How much a night works on: rows that are counted before it, users and items as far as they can be told."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.costs import costs
from pipelines.errors import BadSetting
from pipelines.raw import RawFile
from pipelines.run import Run

EVENTS_PER_USER = 30  # where no profiles say how many users there are: few, so that they are not underrated
ALIKE = 0.8  # median over longest delivery from which on each delivery of a table is taken for whole


@dataclass(frozen=True)
class Size:
    """What a night reads. `pending_*` count what cleaning has not decided yet, of all tables."""

    count_events: int
    count_users: int
    count_items: int
    pending_rows: int
    pending_days: int


@dataclass(frozen=True)
class Night:
    """A night that was, by which the next one is foretold: its size, and what each stage took.

    `took` has wall and CPU seconds and peak MiB by stage, `disk_bytes` what each stage's folder holds.
    """

    run: Run
    size: Size
    took: dict[str, dict[str, float]]
    disk_bytes: dict[str, int]


def last_night(home: Path) -> Night | None:
    """The newest night that came as far as the gate by models and a proof of its own; None without one that can be
    read."""
    whole = [path for path in (home / "runs").glob("*/run.json") if (path.parent / "validate" / "stage.json").exists()]
    records = [record for record in map(_json, whole) if not record.get("models_of") and not record.get("proof_of")]
    for record in sorted(records, key=lambda record: (record["day"], record["opened_at"]), reverse=True):
        try:
            run = Run.load(record["run_id"], home)
        except BadSetting:  # of other code, whose settings are none any more
            continue
        if (run.folder / "clean" / "cleaned.json").exists():
            return was(run)
    return None


def was(run: Run) -> Night:
    """What a finished run was."""
    return Night(run, _size_of(run), costs(run.folder), _disk_bytes(run))


def of(run: Run, last: Night | None) -> Size:
    """Of a run that has not begun: beside an earlier night, users and items grow as events do; else they are told by
    what was delivered of them."""
    from pipelines.clean import files_of, lake  # brings Spark, for which nobody else waits

    files = files_of(run)
    events = sum(file.count_rows for file in files if file.table == "events")
    pending = [one for days in lake.plan(run, files).values() for one in days if not one.is_clean]
    if last:
        grown = events / max(last.size.count_events, 1)
        users, items = math.ceil(last.size.count_users * grown), math.ceil(last.size.count_items * grown)
    else:
        users = delivered(files, "users") or math.ceil(events / EVENTS_PER_USER)
        items = delivered(files, "items")
    return Size(events, users, items, sum(one.count_rows for one in pending), len(pending))


def delivered(files: Iterable[RawFile], table: str) -> int:
    """Ids that a table's deliveries name: of whole ones, which are all about as long, the longest names them; of
    changes, all together."""
    by_day: Counter[object] = Counter()
    for file in files:
        if file.table == table:
            by_day[file.day] += file.count_rows
    longest = max(by_day.values(), default=0)
    are_whole = bool(by_day) and statistics.median(by_day.values()) >= ALIKE * longest
    return longest if are_whole else sum(by_day.values())


def _size_of(run: Run) -> Size:
    """Of a night that was: what its books and its factors say."""
    books = _json(run.folder / "clean" / "books.json")
    factors = [run.folder / "train_als" / "final" / f"{side}_factors.npy" for side in ("user", "item")]
    users, items = (len(np.load(path, mmap_mode="r", allow_pickle=False)) for path in factors)
    cleaned = _json(run.folder / "clean" / "cleaned.json")
    events = sum(one["count_rows"] for one in books if one["table_name"] == "events")
    return Size(events, users, items, cleaned["count_rows"], cleaned["count_days"])


def _disk_bytes(run: Run) -> dict[str, int]:
    finished = [path.parent for path in run.folder.glob("*/stage.json")]
    return {one.name: sum(path.stat().st_size for path in one.rglob("*") if path.is_file()) for one in finished}


def _json(path: Path):
    return json.loads(path.read_text())
