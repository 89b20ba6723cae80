"""Whether the values of a raw file are what the contract says: a look at its first rows."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines import contracts, raw
from pipelines.raw import RawFile
from pipelines.settings import Settings

SAMPLE_ROWS = 1000  # rows of a file that are looked at
BOOLEANS = {"true", "t", "yes", "y", "1", "false", "f", "no", "n", "0"}


@dataclass(frozen=True)
class Unreadable:
    """A column whose values are mostly wrong: how many of how many, one of them, and its row."""

    column: contracts.Column
    count: int
    of: int
    value: str
    row: dict[str, object]

    def __str__(self) -> str:
        words = self.column.accepted_values
        kind = f"one of {', '.join(words)}" if words else f"a {self.column.data_type}"
        return f"{self.count} of the first {self.of} values are not {kind}, for example {self.value!r}."


def unreadable(home: Path, settings: Settings, file: RawFile) -> dict[str, Unreadable]:
    """Columns of the contract that cannot be read in a larger share of rows than cleaning tolerates, by name."""
    table, rows = contracts.raw_tables()[file.table], raw.first_rows(home, file, SAMPLE_ROWS)
    sources = table.sources(getattr(settings.columns, file.table), file.columns)
    told = (_unreadable(rows, source, table[name], settings) for name, source in sources.items())
    return {one.column.name: one for one in told if one}


def _unreadable(
    rows: Sequence[dict[str, object]], source: str, column: contracts.Column, settings: Settings
) -> Unreadable | None:
    told = [(row, str(row[source]).strip()) for row in rows if row.get(source) not in (None, "")]
    wrong = [(row, value) for row, value in told if not _is_readable(value, column, settings)]
    if len(wrong) <= settings.clean.max_rejected_share * len(told):
        return None
    row, value = wrong[0]
    return Unreadable(column, len(wrong), len(told), value, row)


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
