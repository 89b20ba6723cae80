"""Quarantine: the rows that cleaning rejected, counted, shown, and written out for correction."""

import datetime as dt
import difflib
import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines import contracts, forgotten, raw, reference, warehouse
from pipelines.errors import BadInput, BadSetting
from pipelines.raw import RawFile
from pipelines.raw.files import shown
from pipelines.raw.records import PROBLEMS, originals, syntax_of
from pipelines.run import Run

SHOWN_ROWS = 20
SHOWN_CHARS = 2000
NOTES = ("replays", "rule", "original")  # what a correction holds beside the shop's own columns
# `place` is where a row stands, `origin` the place of the row that it was before anybody corrected it.
VIEW = """
    create temp view quarantined as
    with rejected as ({rejected}),
    counted as (select distinct table_name, replays from ({accepted}) where replays is not null),
    placed as (select *, file || ':' || line as place from rejected),
    traced as (
        select placed.*, coalesce(before.place, placed.place) as origin
        from placed
        left join placed as before on before.table_name = placed.table_name and before.place = placed.replays
    )
    select traced.*, counted.replays is not null as is_replayed
    from traced
    left join counted on counted.table_name = traced.table_name and counted.replays = traced.origin
"""
ROWS = """
    select '{table}' as table_name, file, line, {count_lines} as count_lines, rule, {original}, replays, arrived_on
    from read_parquet([{paths}], hive_partitioning = false)
"""
NO_ROWS = """
    select null::varchar as table_name, null::varchar as file, 0::bigint as line, 0 as count_lines,
           null::varchar as rule, null::varchar as original, null::varchar as replays, null::date as arrived_on
    where false
"""
FILTER = """
    table_name = coalesce($table, table_name) and rule = coalesce($rule, rule)
    and arrived_on = coalesce($arrived, arrived_on)
"""
COUNTS = f"""
    select table_name, arrived_on, rule, file, count(*), count(*) filter (is_replayed), left(min(original), 200)
    from quarantined
    where {FILTER}
    group by all
    order by all
"""
SHOWN = f"""
    select table_name, file, line, count_lines, place, rule, is_replayed, original
    from quarantined
    where {FILTER}
    order by table_name, arrived_on, file, line
    limit $limit
"""
OPEN = f"""
    select table_name, file, line, count_lines, rule, arrived_on, origin, original
    from quarantined
    where {FILTER} and not is_replayed and rule <> '{forgotten.RULE}'  -- of them nothing is told
    -- of a row and its rejected corrections the latest
    qualify 1 = row_number() over (
        partition by table_name, origin order by place <> origin desc, arrived_on desc, file, line
    )
    order by table_name, arrived_on, file, line
    limit $limit
"""


@dataclass(frozen=True)
class Wanted:
    """Which rejected rows; None is any. Raises BadSetting for a table or a rule that does not exist."""

    table: str | None = None
    rule: str | None = None
    arrived: dt.date | None = None

    def __post_init__(self) -> None:
        tables = contracts.raw_tables()
        rules = {rule for table in tables.values() for rule, _ in reference.rejection_rules(table)}
        for kind, told, known in (("table", self.table, tables), ("rule", self.rule, rules)):
            if told is not None and told not in known:
                raise BadSetting(f"{told!r} is no {kind}.{nearest(told, known)}")


@dataclass(frozen=True)
class Open:
    """A rejected row that does not count yet.

    `original` is None where it stood in a raw file alone that is gone. `values` are as they were written, under the
    shop's names; none when the row could not be split.
    """

    table: str
    rule: str
    arrived_on: dt.date
    origin: str
    original: str | None
    values: Mapping[str, Any]


def counts(console: Console, run: Run, wanted: Wanted) -> None:
    """How many rows were rejected, by table, arrival day, rule and file, and how many of them count by now."""
    with opened(run) as connection:
        found = connection.execute(COUNTS, asdict(wanted)).fetchall()
    _print(console, ("table", "arrived", "rule", "file", "rows", "replayed", "example"), found)


def show(console: Console, run: Run, wanted: Wanted, limit: int | None) -> None:
    """Rejected rows as they came, as text that does nothing to a terminal."""
    with opened(run) as connection:
        found = connection.execute(SHOWN, {**asdict(wanted), "limit": limit or SHOWN_ROWS}).fetchall()
    texts = _texts(run, _files(run), found)
    rows = [
        (place, rule, is_replayed, (text or "")[:SHOWN_CHARS])
        for (*_, place, rule, is_replayed, _), text in zip(found, texts, strict=True)
    ]
    _print(console, ("file:line", "rule", "replayed", "original"), rows)


def write(run: Run, wanted: Wanted, limit: int | None, path: Path) -> int:
    """Rows that do not count yet, as JSON lines for correction; how many. Raises BadInput when `path` exists."""
    if path.exists() or not path.parent.is_dir():
        what = "exists, perhaps with corrections" if path.exists() else "lies in no folder that exists"
        raise BadInput(f"{path} {what}. Choose another name.")
    lines = [
        json.dumps(
            {"replays": row.origin, "rule": row.rule, "original": row.original, **row.values}, ensure_ascii=False
        )
        for row in open_rows(run, wanted, limit)
    ]
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("".join(line + "\n" for line in lines))
    os.replace(partial, path)
    return len(lines)


def open_rows(run: Run, wanted: Wanted, limit: int | None = None) -> list[Open]:
    """The rejected rows that do not count yet, each once, however often it was corrected in vain."""
    with opened(run) as connection:
        found = connection.execute(OPEN, {**asdict(wanted), "limit": limit}).fetchall()
    files = _files(run)
    texts = _texts(run, files, found)
    return [
        Open(table, rule, arrived_on, origin, text, _values(run, table, rule, text, files.get((table, file))))
        for (table, file, _, _, rule, arrived_on, origin, _), text in zip(found, texts, strict=True)
    ]


def sources(run: Run, table: str) -> dict[str, str]:
    """The shop's name of each column that a file may bring."""
    mapping = getattr(run.settings.columns, table)
    return {c.name: mapping.get(c.name, c.name) for c in contracts.raw_tables()[table].columns if not c.is_filled}


@contextmanager
def opened(run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the view `quarantined`: each rejected row of the run's part of the lake once."""
    partitions = json.loads(run.of("clean", "partitions.json").read_text())
    counted = "count_lines" if run.settings.clean.pseudonym_key else "0"
    parts = {"rejected": _rows(partitions, "rejected", counted), "accepted": _rows(partitions, "accepted", "0")}
    with duckdb.connect(config={"threads": run.settings.machine.threads}) as connection:
        connection.execute(VIEW.format(**parts))
        yield connection


def nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f" Did you mean {near[0]!r}?" if near else f" There are: {', '.join(sorted(known))}."


def _rows(partitions: Mapping[str, list[str]], verdict: str, count_lines: str) -> str:
    """SQL over all tables; accepted rows have no `original`."""
    parts, original = [NO_ROWS], "original" if verdict == "rejected" else "null"
    for table, folders in partitions.items():
        paths = [str(path) for folder in folders for path in sorted(Path(folder).glob(f"verdict={verdict}/*.parquet"))]
        if paths:
            listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
            parts.append(ROWS.format(table=table, original=original, count_lines=count_lines, paths=listed))
    return " union all ".join(parts)


def _files(run: Run) -> dict[tuple[str, str], RawFile]:
    """The raw files by table and the name under which they were cleaned; of renamed ones the content tells."""
    inventory = raw.inventory(run.home, run.last_arrival, contracts.raw_tables(), run.settings)
    known = {(file.table, file.sha256): file for file in inventory}
    told = {(one["table_name"], one["file"]): (one["table_name"], one["sha256"]) for one in warehouse.receipts(run)}
    return {place: known[content] for place, content in told.items() if content in known}


def _texts(run: Run, files: Mapping[tuple[str, str], RawFile], found: Sequence[tuple]) -> list[str | None]:
    """The originals of rows that begin with table, file, line and count_lines and end with their original; one that
    the lake does not have is read from its raw file."""
    wanted: dict[tuple[str, str], dict[int, int]] = defaultdict(dict)
    for table, file, line, count_lines, *_, original in found:
        if original is None and count_lines and (table, file) in files and not files[table, file].is_removed:
            wanted[table, file][line] = count_lines
    read = {place: originals(files[place], run.home, lines, run.settings.clean) for place, lines in wanted.items()}
    return [row[-1] if row[-1] is not None else read.get((row[0], row[1]), {}).get(row[2]) for row in found]


def _values(run: Run, table: str, rule: str, original: str | None, file: RawFile | None) -> dict[str, Any]:
    if file is None or original is None or rule in PROBLEMS:
        return {}
    told = _fields(original, file) if file.format == "csv" else _object(original, file)
    return {name: told[name] for name in sources(run, table).values() if name in told}


def _fields(original: str, file: RawFile) -> dict[str, Any]:
    fields = syntax_of(file.dialect).fields(original.encode()) or []
    if len(fields) != len(file.columns):
        return {}
    return _first_of_each(zip(file.columns, (field.decode() for field in fields), strict=True))


def _object(original: str, file: RawFile) -> dict[str, Any]:
    """A JSON object with its numbers digit for digit; Parquet's whole floats without their point, as cleaning reads."""
    number = _without_point if file.format == "parquet" else str
    try:
        return json.loads(original, parse_float=number, object_pairs_hook=_first_of_each)
    except (ValueError, RecursionError):  # numbers too long, or nested too deep, for a person to correct either
        return {}


def _first_of_each(pairs: Any) -> dict[str, Any]:
    """Of equal names the first, as cleaning does."""
    told: dict[str, Any] = {}
    for name, value in pairs:
        told.setdefault(name, value)
    return told


def _without_point(number: str) -> int | str:
    return int(float(number)) if float(number).is_integer() else number


def _print(console: Console, names: tuple[str, ...], found: list[tuple]) -> None:
    table = Table(*names)
    for row in found:
        table.add_row(*[Text(shown(_word(value))) for value in row])
    console.print(table)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value is None else str(value)
