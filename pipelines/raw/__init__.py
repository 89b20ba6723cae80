"""The raw files of a shop: which there are, whether they are whole, and how and with which columns they are written."""

import datetime as dt
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pyarrow.parquet as pq

from pipelines import contracts
from pipelines.errors import BadInput
from pipelines.raw import folders, records, removed
from pipelines.raw.dialect import SAMPLE, detect, sources
from pipelines.raw.files import Dialect, RawFile, expected_whole, shown
from pipelines.raw.folders import delivered
from pipelines.raw.stream import count_lines, text, unpacked
from pipelines.run import digest, write_json
from pipelines.settings import Settings

__all__ = ["Dialect", "RawFile", "days", "first_rows", "inventory"]

SAMPLE_LINES = 200  # lines of a JSON file that are read to learn its columns
DEFAULTS = Settings()


def inventory(home: Path, until: dt.date, tables: Iterable[str], settings: Settings = DEFAULTS) -> list[RawFile]:
    """Every raw file that arrived up to and including `until`, removed ones too, read once and remembered in `lake/`.

    Raises BadInput for a file that is cut off, too large or of no known format, and for what is no file at all.
    """
    book = home / "lake" / "inventory.json"
    remembered: dict[str, Any] = json.loads(book.read_text()) if book.exists() else {}
    book.parent.mkdir(parents=True, exist_ok=True)
    wanted, files = list(tables), []
    for path, table, day in delivered(home, until, wanted):
        told = digest(
            [getattr(settings.files, table).model_dump(), getattr(settings.columns, table), settings.clean.max_file_mb]
        )
        stat = path.stat()
        stamp = f"{path.relative_to(home)}|{stat.st_size}|{stat.st_mtime_ns}|{told[:16]}"
        if stamp not in remembered:
            remembered[stamp] = json.loads(json.dumps(asdict(_read(home, path, table, day, settings)), default=str))
        files.append(RawFile.remembered(remembered[stamp]))
    write_json(book, remembered)
    files += removed.absent(home, until, wanted, files)
    return sorted(files, key=lambda file: (wanted.index(file.table), file.day, file.path))


def days(home: Path, table: str) -> list[dt.date]:
    """Arrival days that the shop delivered for a table, oldest first, those whose files were removed among them."""
    gone = {day for name, day in removed.load(home) if name == table}
    return sorted(gone | {*folders.days(home, table)})


def first_rows(home: Path, file: RawFile, count: int) -> list[dict[str, object]]:
    """The first rows as they stand in the file; lines that are no rows are left out."""
    path, limits = home / file.path, DEFAULTS.clean
    with expected_whole(path, file.table, file.day):
        if file.format == "parquet":
            with parquet(path, file.dialect, limits.max_file_mb, home / "lake") as opened:
                batch = next(opened.iter_batches(batch_size=count), None)
                return batch.to_pylist() if batch else []
        chunks = text(path, file.dialect, limits.max_file_mb, size=SAMPLE)
        block = next(records.blocks(chunks, file.dialect.newline, limits.max_row_kb << 10), None)
    if block is None:
        return []
    if file.format == "jsonl":
        return records.first_objects(block, count)
    rows = itertools.islice(records.first_fields(block, file.dialect, len(file.columns)), count)
    return [dict(zip(file.columns, row, strict=True)) for row in rows]


@contextmanager
def parquet(path: Path, dialect: Dialect, max_mb: int, beside: Path) -> Iterator[pq.ParquetFile]:
    """A Parquet file opened; a compressed one is unpacked into the folder `beside` for as long."""
    options = {"coerce_int96_timestamp_unit": "us", "page_checksum_verification": True}
    if not dialect.compression:
        with pq.ParquetFile(path, **options) as opened:
            yield opened
        return
    with NamedTemporaryFile(dir=beside, suffix=".parquet") as file:
        file.writelines(unpacked(path, dialect.compression, max_mb))
        file.flush()
        with pq.ParquetFile(file.name, **options) as opened:
            yield opened


def _read(home: Path, path: Path, table: str, day: dt.date, settings: Settings) -> RawFile:
    told, max_mb = getattr(settings.files, table), settings.clean.max_file_mb
    names = [column.name for column in contracts.raw_tables()[table].columns if not column.is_filled]
    with expected_whole(path, table, day):
        dialect, columns = detect(path, told, sources(names, getattr(settings.columns, table)), max_mb)
        if dialect.format == "parquet":
            columns, count = _parquet_facts(path, dialect, max_mb, home / "lake")
        else:
            count = count_lines(text(path, dialect, max_mb), dialect.newline)
        if dialect.format == "jsonl":
            columns = _json_columns(path, dialect, settings)
        with path.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    return RawFile(table, day, str(path.relative_to(home)), columns, count, sha256, dialect)


def _parquet_facts(path: Path, dialect: Dialect, max_mb: int, beside: Path) -> tuple[tuple[str, ...], int]:
    """Columns and rows; raises BadInput when the rows are larger than the limit."""
    with parquet(path, dialect, max_mb, beside) as opened:
        groups = (opened.metadata.row_group(n) for n in range(opened.num_row_groups))
        if sum(group.total_byte_size for group in groups) > max_mb << 20:
            raise BadInput(f"{shown(path)} holds more than {max_mb} MiB once unpacked. Raise clean.max_file_mb.")
        return tuple(opened.schema_arrow.names), opened.metadata.num_rows


def _json_columns(path: Path, dialect: Dialect, settings: Settings) -> tuple[str, ...]:
    chunks = text(path, dialect, settings.clean.max_file_mb, size=SAMPLE)
    block = next(records.blocks(chunks, dialect.newline, settings.clean.max_row_kb << 10), None)
    objects = records.first_objects(block, SAMPLE_LINES) if block else []
    return tuple({key: None for row in objects for key in row})
