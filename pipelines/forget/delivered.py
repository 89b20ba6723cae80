"""Raw files without some users' rows: written again in the same format, each file whole or not at all."""

import datetime as dt
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import contracts, pseudonyms, raw
from pipelines.clean import landing
from pipelines.errors import BadInput
from pipelines.raw import RawFile
from pipelines.raw.files import shown
from pipelines.raw.records import originals
from pipelines.raw.stream import unpacked
from pipelines.settings import Settings

TABLES = ("events", "users")  # whose rows are of users
OF_USERS = """
    select line, count_lines from read_parquet(?)
    where {user} in (select unnest(?::varchar[]))
"""
UNREADABLE = "select line, count_lines from read_parquet(?) where problem is not null"
FOLDED = "lower(regexp_replace(user_id, '\\s+', ' ', 'g'))"


def erase(home: Path, told: Settings, users: Collection[str], said: Collection[str]) -> tuple[int, dt.date | None]:
    """Rows that were taken out, and the first arrival day of which one was.

    `users` are as the tables have them. Of rows that could not be read, those in which one of the ids `said` stands go
    too.
    """
    raw.removed.clear(home)
    count, days = 0, []
    for file in (file for file in raw.inventory(home, dt.date.max, TABLES, told) if not file.is_removed):
        rows = (
            _of_parquet(home, file, told, users)
            if file.format == "parquet"
            else _of_text(home, file, told, users, said)
        )
        count += rows
        days += [file.day] * bool(rows)
    return count, min(days, default=None)


def mentions(users: Collection[str]) -> re.Pattern[str]:
    """What finds the ids of users where they stand alone; DuckDB reads it too."""
    return re.compile(rf"(?:^|[^\w-])(?:{'|'.join(map(re.escape, sorted(users)))})(?:$|[^\w-])")


def _of_text(home: Path, file: RawFile, told: Settings, users: Collection[str], said: Collection[str]) -> int:
    found = _lines(home, file, told, users, said)
    if found:
        gone = np.array([line + n for line, count in found.items() for n in range(count)])
        _replace(home / file.path, _without(home / file.path, file, told, gone), file.dialect.compression)
    return len(found)


def _lines(home: Path, file: RawFile, told: Settings, users: Collection[str], said: Collection[str]) -> dict[int, int]:
    """First line of each row that goes, and how many lines it has."""
    table, mapping = contracts.raw_tables()[file.table], getattr(told.columns, file.table)
    user = FOLDED if told.clean.ids == "merge" else "user_id"
    with TemporaryDirectory(dir=home / "lake") as folder, duckdb.connect(config={"threads": 1}) as connection:
        landed = landing.land(file, home, table, mapping, told.clean, Path(folder) / "rows.parquet", 0)
        rows = str(landed.path)
        found = dict(connection.execute(OF_USERS.format(user=user), [rows, sorted(users)]).fetchall())
        unreadable = dict(connection.execute(UNREADABLE, [rows]).fetchall())
    texts, pattern = originals(file, home, unreadable, told.clean), mentions(said)
    return found | {line: unreadable[line] for line, text in texts.items() if pattern.search(text)}


def _without(path: Path, file: RawFile, told: Settings, gone: np.ndarray) -> Iterator[bytes]:
    """The file's bytes, unpacked, but for the lines `gone`, from 1."""
    newline, lines = file.dialect.newline.encode(), set(gone.tolist())
    if file.dialect.newline.encode(file.dialect.encoding) != newline:
        raise BadInput(
            f"{file.table}: {shown(path)} is written in {file.dialect.encoding}, from which no rows can be taken "
            "out. Put it there again as UTF-8."
        )
    number, rest = 1, b""
    for chunk in unpacked(path, file.dialect.compression, told.clean.max_file_mb):
        *whole, rest = (rest + chunk).split(newline)
        kept = [line + newline for n, line in enumerate(whole, number) if n not in lines]
        number += len(whole)
        yield b"".join(kept)
    if number not in lines:
        yield rest


def _of_parquet(home: Path, file: RawFile, told: Settings, users: Collection[str]) -> int:
    path, table = home / file.path, contracts.raw_tables()[file.table]
    column = table.sources(getattr(told.columns, file.table), file.columns)["user_id"]
    if column not in file.columns:
        return 0
    with raw.parquet(path, file.dialect, told.clean.max_file_mb, home / "lake") as opened:
        rows, codec = opened.read(), opened.metadata.row_group(0).column(0).compression if len(file.columns) else "NONE"
    names = pseudonyms.names(told.clean)
    kept = np.array([names.of(_text(value)) not in users for value in rows[column].to_pylist()], dtype=bool)
    if kept.all():
        return 0
    sink = pa.BufferOutputStream()
    pq.write_table(rows.filter(pa.array(kept)), sink, compression=codec)
    _replace(path, iter([sink.getvalue().to_pybytes()]), file.dialect.compression)
    return int((~kept).sum())


def _text(value: object) -> str:
    """An id as cleaning reads it: a whole float loses its point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _replace(path: Path, chunks: Iterator[bytes], compression: str) -> None:
    partial = path.with_name(f".{path.name}.partial")  # hidden: no raw file
    with pa.output_stream(str(partial), compression=compression or None) as stream:
        for chunk in chunks:
            stream.write(chunk)
    os.replace(partial, path)
