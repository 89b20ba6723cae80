"""Whether raw files fit the input contract, said before anything is written."""

import datetime as dt
import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines import contracts, drift, pseudonyms, raw, values
from pipelines.errors import BadInput, NoDataForDay
from pipelines.raw import removed
from pipelines.settings import Settings

LOG = logging.getLogger("nightshelf")
LOSES = ("removed", "retyped")  # changes that stop the night when the column is read


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
        row = f" A row there: {dict(self.example)}" if self.example else ""
        return f"{self.table}.{self.column} in {self.where}: {self.what} {self.cure}{row}"


def inputs(home: Path, settings: Settings, day: dt.date, stock_until: dt.date | None = None) -> list[raw.RawFile]:
    """The run's raw files up to `day`, those of the catalogue up to `stock_until`; raises BadInput for whatever keeps a
    night from starting."""
    pseudonyms.require(home, settings.clean)
    require_day(home, day)
    delivered = raw.inventory(home, stock_until or day, contracts.raw_tables(), settings)
    files = [file for file in delivered if file.day <= day or file.table == "items"]
    if not any(file.table == "events" and file.day == day and file.columns for file in files):
        raise NoDataForDay(f"raw/events/dt={day} holds no rows. Deliver that day's events, or run an earlier --day.")
    removed.require(home, files, settings.clean)
    if found := problems(home, settings, files) or drifted(home, settings, files, day):
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

    A file without any readable row has no columns to judge: its lines are judged one by one. Removed ones are not read.
    """
    found: dict[tuple[str, str, tuple[str, ...]], Problem] = {}
    for file in filter(lambda file: file.columns and not file.is_removed, files):
        table = contracts.raw_tables()[file.table]
        mapping = getattr(settings.columns, file.table)
        for name in _missing(table, mapping, file.columns):
            key = (file.table, name, file.columns)
            row = _first_row(home, settings, file)
            found.setdefault(key, _missing_column(file, name, mapping.get(name, name), row))
    return list(found.values()) + _bad_mappings(settings)


def drifted(home: Path, settings: Settings, files: Sequence[raw.RawFile], day: dt.date) -> list[Problem]:
    """Columns that Nightshelf reads and that are gone or of another type since the delivery before; logs any other
    change."""
    found = []
    for change in drift.found(home, settings, files, day):
        if change.kind in LOSES and change.reads and change.name not in settings.admit.accepted_drift:
            file = next(file for file in files if file.path == change.file)
            found.append(_drifted(change, _first_row(home, settings, file)))
        else:
            LOG.warning("%s: column %s", change.table, change)
    return found


def unreadable(home: Path, settings: Settings, files: Sequence[raw.RawFile]) -> list[Problem]:
    """Columns whose values are not what the contract says, in the newest file of each table; one per column.

    A look at the first rows: cleaning judges each row, and tolerates the same share.
    """
    cure = "Map the right column or words in nightshelf.toml, or deliver values as docs/input.md says."
    newest = {file.table: file for file in files}
    return [
        Problem(file.table, name, file.path, str(wrong), cure, {} if settings.clean.pseudonym_key else wrong.row)
        for file in newest.values()
        for name, wrong in values.unreadable(home, settings, file).items()
    ]


def _missing(table: contracts.Table, mapping: Mapping[str, str], columns: Sequence[str]) -> list[str]:
    """Contract columns that a file must bring and does not. A mapped column is no longer optional."""
    must = [c.name for c in table.columns if not c.is_filled and (not c.is_optional or c.name in mapping)]
    sources = table.sources(mapping, columns)
    return [name for name in must if sources[name] not in columns]


def _first_row(home: Path, settings: Settings, file: raw.RawFile) -> Mapping[str, object]:
    """A row to show; none where users have pseudonyms, for messages end up in logs."""
    rows = () if settings.clean.pseudonym_key else raw.first_rows(home, file, 1)
    return next(iter(rows), {})


def _missing_column(file: raw.RawFile, name: str, source: str, row: Mapping[str, object]) -> Problem:
    near = difflib.get_close_matches(source, file.columns, n=1, cutoff=0.4)
    guess = near[0] if near else "<column of your export>"
    return Problem(
        file.table,
        name,
        file.path,
        f"column {source!r} is missing; the file has {', '.join(file.columns)}.",
        f'Name it in nightshelf.toml: [columns.{file.table}] {name} = "{guess}".',
        row,
    )


def _drifted(change: drift.Drift, row: Mapping[str, object]) -> Problem:
    what = f"column {change.column!r} is {change.kind} since the delivery of {change.before}{change.told}."
    cure = f"Have the file delivered again; if this is meant, accept it: --set admit.accepted_drift={change.name}."
    if change.near:
        what += f" New there: {change.near!r}."
        cure += f' A new name is mapped in nightshelf.toml: [columns.{change.table}] {change.reads} = "{change.near}".'
    return Problem(change.table, change.reads or change.column, change.file, what, cure, row)


def _bad_mappings(settings: Settings) -> list[Problem]:
    wrong = []
    for name, table in contracts.raw_tables().items():
        for column in set(getattr(settings.columns, name)) - {c.name for c in table.columns if not c.is_filled}:
            what = f"[columns.{name}] maps a column that the contract does not have."
            wrong.append(Problem(name, column, "nightshelf.toml", what, f"It has: {', '.join(table.names)}.", {}))
    columns = {f"{table.name}.{name}" for table in contracts.raw_tables().values() for name in table.names}
    for name in sorted(set(settings.admit.accepted_drift) - columns):
        what = f"admit.accepted_drift names {name!r}, which is no column."
        near = difflib.get_close_matches(name, columns, n=1) or ["events.query"]
        place, _, column = name.partition(".")
        wrong.append(Problem(place, column, "the settings", what, f"Write it as {near[0]}.", {}))
    known = contracts.raw_tables()["events"]["event_type"].accepted_values
    for word, meaning in settings.event_types.items():
        if meaning not in known:
            what = f"{word!r} is mapped to {meaning!r}."
            wrong.append(
                Problem("events", "event_type", "nightshelf.toml", what, f"Use one of {', '.join(known)}.", {})
            )
    return wrong
