"""Asked: the pairs of user and item in `audit.csv` of the home, of which somebody wants to know what becomes."""

import csv
import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from pipelines.errors import BadSetting

FILE = "audit.csv"
COLUMNS = ("user_id", "item_id", "placement")
MOST = 1000  # pairs: of each user every source ranks the whole catalogue


class Pair(NamedTuple):
    """An item that somebody seeks on a user's shelves: on one, or, without a placement, on all."""

    user_id: str
    item_id: str
    placement: str | None


def read(home: Path, shelves: Collection[str]) -> list[Pair]:
    """The pairs, each once, none without a file; raises BadSetting with the line where a row is not right as a whole.

    `shelves` are the placements that there are.
    """
    path = home / FILE
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.DictReader(file, restkey="", strict=True)
            _require_columns(path, lines.fieldnames or ())
            pairs = [_pair(f"{path}, line {lines.line_num}", row, shelves) for row in lines]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadSetting(f"{path} is no readable CSV in UTF-8: {error}. Correct it.") from None
    if len(pairs) > MOST:
        raise BadSetting(f"{path} has {len(pairs)} rows, {MOST} at most. `user_candidates` tells of all candidates.")
    return list(dict.fromkeys(pairs))


def digest(home: Path) -> str | None:
    """Hash of the file, None without one."""
    path = home / FILE
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def _require_columns(path: Path, names: Collection[str]) -> None:
    wrong = sorted(set(names) - set(COLUMNS)) + [name for name in COLUMNS[:2] if name not in names]
    if wrong:
        raise BadSetting(
            f"{path}, line 1: {', '.join(map(repr, wrong))} is missing, or no column. The first line is "
            f"`{','.join(COLUMNS)}`; `placement` may be left out."
        )


def _pair(place: str, row: dict[str, str | None], shelves: Collection[str]) -> Pair:
    if "" in row:
        raise BadSetting(f"{place}: more cells than columns. Quote the cell that has a comma.")
    user_id, item_id, placement = ((row.get(name) or "").strip() for name in COLUMNS)
    if not user_id or not item_id:
        raise BadSetting(f"{place}: {dict(row)}. Each row needs user_id and item_id.")
    if placement and placement not in shelves:
        raise BadSetting(f"{place}, placement: {placement!r} is none of {', '.join(shelves)}. Empty: all of them.")
    return Pair(user_id, item_id, placement or None)
