"""What is known of one delivered file before its rows are read."""

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowInvalid

from pipelines.errors import BadInput


@dataclass(frozen=True)
class Dialect:
    """How a file is written. `newline` is the byte that ends a line: `\\n`, also after `\\r`, or a lone `\\r`."""

    format: str  # csv, jsonl or parquet
    compression: str = ""  # gzip, zstd, or empty
    encoding: str = "utf-8"
    delimiter: str = ","
    quote: str = '"'
    newline: str = "\n"
    has_header: bool = False


@dataclass(frozen=True)
class RawFile:
    """One delivered file; `path` is relative to the home, `sha256` names its content.

    `count_lines` are the physical lines of the unpacked text, header and blank ones included; rows for Parquet. Of one
    that `is_removed` nothing is left but what is told here.
    """

    table: str
    day: dt.date
    path: str
    columns: tuple[str, ...]
    count_lines: int
    sha256: str
    dialect: Dialect
    is_removed: bool = False

    @property
    def format(self) -> str:
        return self.dialect.format

    @property
    def count_rows(self) -> int:
        """Lines below the header; right for files without blank lines and without breaks inside fields."""
        return max(self.count_lines - self.dialect.has_header, 0)

    @classmethod
    def remembered(cls, entry: Mapping[str, Any]) -> "RawFile":
        """The file that `dataclasses.asdict` and JSON turned into `entry`."""
        day, columns = dt.date.fromisoformat(entry["day"]), tuple(entry["columns"])
        return cls(**{**entry, "day": day, "columns": columns, "dialect": Dialect(**entry["dialect"])})


@contextmanager
def expected_whole(path: Path, table: str, day: dt.date) -> Iterator[None]:
    """Turn what readers raise over a cut-off or corrupt file into a BadInput with the cure."""
    try:
        yield
    except (OSError, EOFError, ArrowInvalid) as error:
        if isinstance(error, OSError) and error.errno:  # the system's, not a reader's: a full disk, say
            raise
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{table}: {shown(path)} is cut off or broken ({reason}). Deliver the file of {day} again, whole."
        ) from None


def whole_stream(chunks: Iterator[bytes], path: Path, table: str, day: dt.date) -> Iterator[bytes]:
    """The same chunks; only what goes wrong while they are read is turned into a BadInput."""
    with expected_whole(path, table, day):
        yield from chunks


def shown(text: object) -> str:
    """A path, or what a file says, on one line and without what acts on a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
