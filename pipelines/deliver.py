"""How an importer lays rows out as raw day folders: all of a delivery appears, or none of it."""

import datetime as dt
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import BadInput

TABLES = ("events", "items", "users")


class Delivery:
    """Day folders under `home/raw` while they are filled; a context that shows them when it ends well.

    `is_whole_shop`: the delivery is all that the shop has, so that day folders of another one beside it are refused
    (BadInput, nothing written). A day folder that the delivery fills replaces the one of that name.
    """

    def __init__(self, home: Path, is_whole_shop: bool = False) -> None:
        self.raw = home / "raw"
        self.is_whole_shop = is_whole_shop
        self._filled: set[Path] = set()

    def path(self, table: str, day: dt.date, name: str) -> Path:
        """Where to write the file `name` of one table and arrival day."""
        folder = self.raw / table / f"dt={day}"
        partial = _partial(folder)
        if folder not in self._filled:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            self._filled.add(folder)
        return partial / name

    def __enter__(self) -> "Delivery":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._refuse_strangers()
                for folder in sorted(self._filled):
                    shutil.rmtree(folder, ignore_errors=True)
                    os.replace(_partial(folder), folder)
        finally:
            for folder in self._filled:
                shutil.rmtree(_partial(folder), ignore_errors=True)

    def _refuse_strangers(self) -> None:
        standing = {folder for table in TABLES for folder in (self.raw / table).glob("dt=*")}
        strangers = sorted(folder for folder in standing - self._filled if folder.suffix != ".partial")
        if strangers and self.is_whole_shop:
            raise BadInput(
                f"{self.raw} already holds {len(strangers)} day folders of other data, first {strangers[0]}. Use "
                f"another NIGHTSHELF_HOME, or delete {self.raw}. Nothing was written."
            )


def write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    """Columns (equally long sequences or arrays) as one small Parquet file."""
    pq.write_table(pa.table(columns), path, compression="zstd")


def settle_shop(home: Path, settings: str) -> None:
    """Write `nightshelf.toml` unless the shop has one; a person's settings are never touched."""
    path = home / "nightshelf.toml"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        path.write_text(settings)


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")
