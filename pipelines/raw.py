"""The raw files of a shop: which there are, whether they are whole, and which columns they bring."""

import csv
import datetime as dt
import gzip
import hashlib
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq
from pyarrow import ArrowInvalid

from pipelines.errors import BadInput
from pipelines.run import write_json

FORMATS = ("csv", "jsonl", "parquet")
SAMPLE_LINES = 200  # lines of a JSON file that are read to learn its columns


@dataclass(frozen=True)
class RawFile:
    """One delivered file; `path` is relative to the home, `sha256` names its content."""

    table: str
    day: dt.date
    path: str
    format: str
    columns: tuple[str, ...]
    count_rows: int
    sha256: str


def days(home: Path, table: str) -> list[dt.date]:
    """Arrival days that the shop delivered for a table, oldest first."""
    return sorted(
        _day(folder) for folder in (home / "raw" / table).glob("dt=*") if not folder.name.endswith(".partial")
    )


def inventory(home: Path, until: dt.date, tables: Iterable[str]) -> list[RawFile]:
    """Every raw file that arrived up to and including `until`, read once and remembered under `lake/`.

    Raises BadInput for a file that is cut off, empty or of no known format.
    """
    book = home / "lake" / "inventory.json"
    remembered = json.loads(book.read_text()) if book.exists() else {}
    files = []
    for path, table, day in _paths(home, until, tables):
        stamp = f"{path.relative_to(home)}|{path.stat().st_size}|{path.stat().st_mtime_ns}"
        if stamp not in remembered:
            remembered[stamp] = asdict(_read(home, path, table, day))
        entry = remembered[stamp]
        known = {**entry, "day": dt.date.fromisoformat(str(entry["day"])), "columns": tuple(entry["columns"])}
        files.append(RawFile(**known))
    book.parent.mkdir(parents=True, exist_ok=True)
    write_json(book, remembered)
    return files


def first_rows(home: Path, file: RawFile, count: int) -> list[dict[str, object]]:
    """The first rows as they stand in the file; lines that are no rows are left out."""
    path = home / file.path
    if file.format == "parquet":
        batch = next(pq.ParquetFile(path).iter_batches(batch_size=count), None)
        return batch.to_pylist() if batch else []
    with _text(path) as lines:
        rows: Iterator[dict] = csv.DictReader(lines) if file.format == "csv" else _objects(lines)
        return [dict(row) for row in itertools.islice(rows, count)]


def _paths(home: Path, until: dt.date, tables: Iterable[str]) -> Iterator[tuple[Path, str, dt.date]]:
    for table in tables:
        for day in days(home, table):
            if day <= until:
                folder = home / "raw" / table / f"dt={day}"
                visible = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith((".", "_")))
                yield from ((path, table, day) for path in sorted(visible))


def _day(folder: Path) -> dt.date:
    try:
        return dt.date.fromisoformat(folder.name.removeprefix("dt="))
    except ValueError:
        raise BadInput(f"{folder}: raw folders are named dt=YYYY-MM-DD. Rename or remove it.") from None


def _read(home: Path, path: Path, table: str, day: dt.date) -> RawFile:
    format_ = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if format_ not in FORMATS:
        raise BadInput(f"{path}: no known format. Deliver .csv, .jsonl or .parquet, plain or .gz, or remove the file.")
    try:
        columns, count_rows = _columns(path, format_), _count_rows(path, format_)
    except (EOFError, zlib.error, gzip.BadGzipFile, ArrowInvalid, UnicodeDecodeError) as error:
        raise BadInput(
            f"{table}: {path} is cut off or broken ({error}). Deliver the file of {day} again, whole."
        ) from None
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return RawFile(table, day, str(path.relative_to(home)), format_, tuple(columns), count_rows, sha256)


def _columns(path: Path, format_: str) -> list[str]:
    if format_ == "parquet":
        return list(pq.read_schema(path).names)
    with _text(path) as lines:
        if format_ == "csv":
            return [name.strip() for name in next(csv.reader(lines), [])]
        return list({key: None for row in itertools.islice(_objects(lines), SAMPLE_LINES) for key in row})


def _count_rows(path: Path, format_: str) -> int:
    """Rows counted without the engine that cleans, so that its books can be held against them; reads to the end."""
    if format_ == "parquet":
        return pq.read_metadata(path).num_rows
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
        count_lines = sum(1 for line in lines if line.strip())
    return max(count_lines - 1, 0) if format_ == "csv" else count_lines


def _objects(lines: Iterable[str]) -> Iterator[dict[str, object]]:
    """JSON objects of the lines that are such; broken lines are for cleaning to quarantine."""
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


def _text(path: Path):
    opener = gzip.open if path.suffix == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="")
