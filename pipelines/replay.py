"""Replay: quarantined rows delivered once more, corrected or as they are, with a trace to where they stood."""

import datetime as dt
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import contracts, raw, warehouse
from pipelines.errors import BadInput
from pipelines.quarantine import NOTES, Wanted, nearest, open_rows, opened, sources
from pipelines.run import Run

SHOWN_ROWS = 5  # wrong rows that a message names
Wrong = tuple[int, str]  # line in the file of corrections, and what is wrong with it


@dataclass(frozen=True)
class Row:
    """A row to deliver: its line in the file of corrections, the place that it replays, values by the shop's names."""

    number: int
    replays: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """Where a rejected row stands; `origin` is the place of the row that it was before anybody corrected it."""

    table: str
    arrived_on: dt.date
    origin: str
    is_replayed: bool


@dataclass(frozen=True)
class Delivered:
    """A raw file of replayed rows; `is_new` is false for one that was there before."""

    path: Path
    day: dt.date
    count_rows: int
    is_new: bool


def corrected(run: Run, path: Path, day: dt.date | None = None) -> list[Delivered]:
    """Deliver a file of corrected JSON lines: a raw file for each table, arriving on `day` or the table's latest day.

    What was delivered before is not delivered again. Raises BadInput naming the wrong lines; then nothing is delivered.
    """
    rows, wrong = _read(path)
    places = _places(run, [row.replays for row in rows])
    _refuse(path, [*wrong, *_wrong(run, rows, places)])
    by_table: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_table[places[row.replays].table].append(row)
    done = list(_done(run, rows, places))
    before = [one for table, rows in by_table.items() for one in _standing(run, table, rows)[-1:]]
    if len(done) == len(rows) and len(before) == len(by_table):
        return before
    _refuse(path, done)
    return _deliver(run, by_table, {name: place.arrived_on for name, place in places.items()}, day)


def as_they_are(run: Run, wanted: Wanted, day: dt.date | None = None) -> list[Delivered]:
    """Deliver rejected rows unchanged, for rules that let through what a person has looked at.

    Rows that count, or wait for the next night, are left out. Raises BadInput for rows that could not be read.
    """
    waiting = _waiting(run)
    found = [row for row in open_rows(run, wanted) if row.origin not in waiting]
    if unread := [row for row in found if not row.values]:
        raise BadInput(
            f"{len(unread)} of {len(found)} rows, first {unread[0].origin}, could not be read, or their file is gone. "
            "Correct them first: `nightshelf quarantine show --to FILE`. Nothing was delivered."
        )
    by_table: dict[str, list[Row]] = defaultdict(list)
    for number, row in enumerate(found, 1):
        by_table[row.table].append(Row(number, row.origin, row.values))
    return _deliver(run, by_table, {row.origin: row.arrived_on for row in found}, day)


def _read(path: Path) -> tuple[list[Row], list[Wrong]]:
    """The rows of a file of corrections, and the lines that are none."""
    if not path.is_file():
        raise BadInput(f"{path} does not exist. `nightshelf quarantine show --to {path}` writes rows for correction.")
    rows, wrong = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        told = _object(line)
        if told is None:
            wrong.append((number, "is no JSON object; write one on each line"))
        elif not isinstance(told.get("replays"), str):
            wrong.append((number, "has no `replays`; keep what `nightshelf quarantine show --to` wrote there"))
        else:
            rows.append(Row(number, told["replays"], told))
    if not rows and not wrong:
        raise BadInput(f"{path} has no rows.")
    return rows, wrong


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line, parse_float=str)  # numbers digit for digit
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _places(run: Run, wanted: Sequence[str]) -> dict[str, Place]:
    """The rejected rows that stand at these places; what is no text names none."""
    query = (
        "select place, table_name, arrived_on, origin, is_replayed from quarantined where place in (select unnest(?))"
    )
    names = [place.encode("utf-8", "replace").decode() for place in wanted]
    with opened(run) as connection:
        return {place: Place(*told) for place, *told in connection.execute(query, [names]).fetchall()}


def _wrong(run: Run, rows: Sequence[Row], places: Mapping[str, Place]) -> Iterator[Wrong]:
    """Rows that name no row in quarantine, or say it in columns that its table does not have."""
    first: dict[str, int] = {}
    for row in rows:
        place = places.get(row.replays)
        if place is None:
            yield row.number, f"replays {row.replays!r}, which does not stand in the quarantine of {run.run_id}"
            continue
        if first.setdefault(row.replays, row.number) != row.number:
            yield row.number, f"replays the same row as line {first[row.replays]}"
        if place.origin != row.replays:
            yield row.number, f"replays a correction; name the row that came first, {place.origin!r}"
        yield from ((row.number, problem) for problem in _misnamed(row, list(sources(run, place.table).values())))


def _misnamed(row: Row, known: Sequence[str]) -> Iterator[str]:
    if not set(row.values) & set(known) - {"replays"}:
        yield "has no column of the shop; add the corrected ones"
    for name in row.values:
        if name not in known and name not in NOTES:
            yield f"{name!r} is no column.{nearest(name, known)}"


def _done(run: Run, rows: Sequence[Row], places: Mapping[str, Place]) -> Iterator[Wrong]:
    """Rows whose original counts by now, or will after the next night."""
    waiting = _waiting(run)
    for row in rows:
        if places[row.replays].is_replayed:
            yield row.number, f"replays {row.replays!r}, which counts already, by an earlier correction"
        elif row.replays in waiting:
            file = waiting[row.replays]
            yield row.number, f"replays {row.replays!r}, as {file} does; delete that file to take it back"


def _waiting(run: Run) -> dict[str, Path]:
    """The places that are replayed by files which the run has not read, with the file."""
    read = {one["sha256"][:16] for one in warehouse.receipts(run)}
    return {
        told[sources(run, table)["replays"]]: file
        for table in contracts.raw_tables()
        for file in _replayed_files(run, table)
        if file.stem.removeprefix("replayed-") not in read and _is_ours(file)
        for told in map(json.loads, filter(None, file.read_text().split("\n")))
    }


def _standing(run: Run, table: str, rows: Sequence[Row]) -> list[Delivered]:
    """The files that brought exactly these rows before."""
    content, files = _content(run, table, rows), {file.name: file for file in _replayed_files(run, table)}
    found: list[Delivered] = []
    while file := files.get(_name(content + b"\n" * len(found))):
        day = dt.date.fromisoformat(file.parent.name.removeprefix("dt="))
        found.append(Delivered(file, day, len(rows), is_new=False))
    return found


def _replayed_files(run: Run, table: str) -> list[Path]:
    folders = [run.home / "raw" / table / f"dt={day}" for day in raw.days(run.home, table)]
    files = [file for folder in folders for file in sorted(folder.glob("replayed-*.jsonl"))]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def _is_ours(file: Path) -> bool:
    """Whether the content is what the name says; a shop may call its files as it likes."""
    return file.name == _name(file.read_bytes())


def _refuse(path: Path, wrong: Sequence[Wrong]) -> None:
    if wrong:
        told = "; ".join(f"line {number} {problem}" for number, problem in sorted(wrong)[:SHOWN_ROWS])
        more = f"; and {len(wrong) - SHOWN_ROWS} more" * (len(wrong) > SHOWN_ROWS)
        raise BadInput(f"{path}: nothing was delivered, for {told}{more}.")


def _deliver(
    run: Run, by_table: Mapping[str, Sequence[Row]], arrived: Mapping[str, dt.date], day: dt.date | None
) -> list[Delivered]:
    """One raw file for each table, named by its content; all are written before the first appears."""
    written = []
    for table, rows in by_table.items():
        chosen = day or max(raw.days(run.home, table))
        raw.removed.refuse(run.home, table, chosen)
        if early := [row for row in rows if arrived[row.replays] > chosen]:
            raise BadInput(
                f"{table}: {len(early)} of {len(rows)} rows arrived after {chosen}, first {early[0].replays}. "
                "Choose a later --day. Nothing was delivered."
            )
        # Rows that were rejected again need another file: a blank line more makes one, for equal bytes count once.
        content = _content(run, table, rows) + b"\n" * len(_standing(run, table, rows))
        path = run.home / "raw" / table / f"dt={chosen}" / _name(content)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")  # hidden: no raw file
        partial.write_bytes(content)
        written.append((partial, Delivered(path, chosen, len(rows), is_new=True)))
    for partial, delivered in written:
        os.replace(partial, delivered.path)
    return [delivered for _, delivered in written]


def _content(run: Run, table: str, rows: Sequence[Row]) -> bytes:
    """JSON lines with every column, so that the shop's mappings find theirs."""
    names = sources(run, table)
    lines = [{n: row.values.get(n) for n in names.values()} | {names["replays"]: row.replays} for row in rows]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _name(content: bytes) -> str:
    return f"replayed-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
