"""Whether raw files fit the input contract, said before anything is written."""

import datetime as dt
import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines import contracts, raw
from pipelines.errors import BadInput, NoDataForDay
from pipelines.settings import Settings

SAMPLE_ROWS = 1000  # rows of a file that `nightshelf check` looks at
BOOLEANS = {"true", "t", "yes", "y", "1", "false", "f", "no", "n", "0"}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a table's files, and how to cure it."""

    table: str
    column: str
    where: str
    what: str
    cure: str
    example: Mapping[str, object]

    def __str__(self) -> str:
        return f"{self.table}.{self.column} in {self.where}: {self.what} {self.cure} A row there: {dict(self.example)}"


def inputs(home: Path, settings: Settings, day: dt.date) -> list[raw.RawFile]:
    """The run's raw files up to `day`; raises BadInput for whatever keeps a night from starting."""
    require_day(home, day)
    files = raw.inventory(home, day, contracts.raw_tables(), settings)
    if not any(file.table == "events" and file.day == day and file.columns for file in files):
        raise NoDataForDay(f"raw/events/dt={day} holds no rows. Deliver that day's events, or run an earlier --day.")
    if found := problems(home, settings, files):
        raise BadInput("\n".join(map(str, found)))
    return files


def require_day(home: Path, day: dt.date) -> None:
    """Raise unless the catalogue and the day's events were delivered."""
    for table in ("items", "events"):
        if not (home / "raw" / table).is_dir():
            raise BadInput(
                f"No raw folder {home / 'raw' / table}. Lay the shop's files there as dt=YYYY-MM-DD/, import a data "
                "set (`nightshelf import`), or make a shop (`nightshelf generate`)."
            )
    delivered = raw.days(home, "events")
    if day not in delivered:
        around = [d for d in delivered if d < day][-1:] + [d for d in delivered if d > day][:1]
        raise NoDataForDay(
            f"No events arrived on {day}: {home / 'raw' / 'events' / f'dt={day}'} does not exist. Deliver it, or "
            f"choose a --day that arrived; the nearest: {' and '.join(map(str, around)) or 'none at all'}."
        )


def problems(home: Path, settings: Settings, files: Iterable[raw.RawFile]) -> list[Problem]:
    """Required columns that files lack, and mappings that lead nowhere; one per table, column and set of columns.

    A file without any readable row has no columns to judge: its lines are judged one by one.
    """
    found: dict[tuple[str, str, tuple[str, ...]], Problem] = {}
    for file in filter(lambda file: file.columns, files):
        table = contracts.raw_tables()[file.table]
        mapping = getattr(settings.columns, file.table)
        for name in _missing(table, mapping, file.columns):
            key = (file.table, name, file.columns)
            found.setdefault(key, _missing_column(home, file, name, mapping.get(name, name)))
    return list(found.values()) + _bad_mappings(settings)


def unreadable(home: Path, settings: Settings, files: Sequence[raw.RawFile]) -> list[Problem]:
    """Columns whose values are not what the contract says, in the newest file of each table; one per column.

    A look at the first rows: cleaning judges each row, and tolerates the same share.
    """
    found = []
    for table in contracts.raw_tables().values():
        newest = [file for file in files if file.table == table.name][-1:]
        for file in newest:
            rows = raw.first_rows(home, file, SAMPLE_ROWS)
            mapping = getattr(settings.columns, table.name)
            for column in table.columns:
                told = [(row, row.get(mapping.get(column.name, column.name))) for row in rows]
                values = [(row, str(value).strip()) for row, value in told if value not in (None, "")]
                wrong = [(row, value) for row, value in values if not _is_readable(value, column, settings)]
                if len(wrong) > settings.clean.max_rejected_share * len(values):
                    found.append(_wrong_column(file, column, len(values), wrong))
    return found


def _is_readable(value: str, column: contracts.Column, settings: Settings) -> bool:
    """Whether a text is of the contract's type and among its accepted values."""
    words = {word.lower(): meaning for word, meaning in settings.event_types.items()}
    if column.accepted_values:
        return words.get(value.lower(), value.lower()) in column.accepted_values
    try:
        match column.data_type:
            case "integer" | "bigint":
                return float(value).is_integer()
            case "timestamp":
                return len(value) > len("2026-01-01") and bool(dt.datetime.fromisoformat(value))
            case "boolean":
                return value.lower() in BOOLEANS
    except (ValueError, OverflowError):
        return False
    return True


def _wrong_column(file: raw.RawFile, column: contracts.Column, count: int, wrong: list[tuple[dict, str]]) -> Problem:
    row, value = wrong[0]
    kind = f"one of {', '.join(column.accepted_values)}" if column.accepted_values else f"a {column.data_type}"
    what = f"{len(wrong)} of the first {count} values are not {kind}, for example {value!r}."
    cure = "Map the right column or words in nightshelf.toml, or deliver values as docs/input.md says."
    return Problem(file.table, column.name, file.path, what, cure, row)


def _missing(table: contracts.Table, mapping: Mapping[str, str], columns: Sequence[str]) -> list[str]:
    """Contract columns that a file must bring and does not. A mapped column is no longer optional."""
    must = [c.name for c in table.columns if not c.is_filled and (not c.is_optional or c.name in mapping)]
    return [name for name in must if mapping.get(name, name) not in columns]


def _missing_column(home: Path, file: raw.RawFile, name: str, source: str) -> Problem:
    near = difflib.get_close_matches(source, file.columns, n=1, cutoff=0.4)
    guess = near[0] if near else "<column of your export>"
    return Problem(
        file.table,
        name,
        file.path,
        f"column {source!r} is missing; the file has {', '.join(file.columns)}.",
        f'Name it in nightshelf.toml: [columns.{file.table}] {name} = "{guess}".',
        next(iter(raw.first_rows(home, file, 1)), {}),
    )


def _bad_mappings(settings: Settings) -> list[Problem]:
    wrong = []
    for name, table in contracts.raw_tables().items():
        for column in set(getattr(settings.columns, name)) - {c.name for c in table.columns if not c.is_filled}:
            what = f"[columns.{name}] maps a column that the contract does not have."
            wrong.append(Problem(name, column, "nightshelf.toml", what, f"It has: {', '.join(table.names)}.", {}))
    known = contracts.raw_tables()["events"]["event_type"].accepted_values
    for word, meaning in settings.event_types.items():
        if meaning not in known:
            what = f"{word!r} is mapped to {meaning!r}."
            wrong.append(
                Problem("events", "event_type", "nightshelf.toml", what, f"Use one of {', '.join(known)}.", {})
            )
    return wrong
