"""Blocks: the ranked candidates of some users at a time, and in their turn the users who have none."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipelines.shelve.placing import BLOCK

GROUPS = 4  # row groups that are read at once, a part; each holds all candidates of 1,024 users


def count(path: Path) -> int:
    """Parts of the candidates, one at least."""
    return max(-(-pq.ParquetFile(path).num_row_groups // GROUPS), 1)


def part(path: Path, count_users: int, number: int) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """The users (B,) of a part in ascending blocks of at most BLOCK, one at least, and the candidates of each block;
    all parts have all users."""
    file = pq.ParquetFile(path)
    first, last = number * GROUPS, min((number + 1) * GROUPS, file.num_row_groups)
    rows = file.read_row_groups(list(range(first, last))).to_pandas()
    begun, end = _end(file, first), count_users if last == file.num_row_groups else _end(file, last)
    for start in range(begun, max(end, begun + 1), BLOCK):
        users = np.arange(start, min(start + BLOCK, end))
        yield users, rows[rows["user"].between(start, start + BLOCK - 1)] if len(users) else rows


def _end(file: pq.ParquetFile, group: int) -> int:
    """The user after the last one of the row groups before one."""
    column = file.schema_arrow.get_field_index("user")
    return file.metadata.row_group(group - 1).column(column).statistics.max + 1 if group else 0
