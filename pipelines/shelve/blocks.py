"""Blocks: the ranked candidates of some users at a time, and in their turn the users who have none."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from pipelines.shelve.placing import BLOCK

GROUPS = 4  # row groups that are read at once; each holds all candidates of 1,024 users


def read(path: Path, count_users: int) -> Iterator[tuple[np.ndarray, pd.DataFrame]]:
    """All users (B,) in ascending blocks of at most BLOCK, one at least, and the candidates of each block."""
    begun, file = 0, pq.ParquetFile(path)
    for first in range(0, max(file.num_row_groups, 1), GROUPS):
        groups = range(first, min(first + GROUPS, file.num_row_groups))
        rows = file.read_row_groups(list(groups)).to_pandas()
        is_last = first + GROUPS >= file.num_row_groups
        end = count_users if is_last else int(rows["user"].max()) + 1
        for start in range(begun, max(end, begun + 1), BLOCK):
            users = np.arange(start, min(start + BLOCK, end))
            yield users, rows[rows["user"].between(start, start + BLOCK - 1)] if len(users) else rows
        begun = end
