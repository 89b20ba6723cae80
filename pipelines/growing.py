"""Growing: published tables that a stage writes block by block, each with the types of its contract."""

from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import contracts

ARROW = {
    "varchar": pa.string(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
}


class Growing(ExitStack):
    """`<table>.parquet` files of a folder, a row group per block; closed with the block of code that they grow in."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._writers: dict[str, pq.ParquetWriter] = {}

    def add(self, name: str, rows: pa.Table) -> None:
        """Append a block; the first one says what the columns are, and may be empty."""
        if name not in self._writers:
            writer = pq.ParquetWriter(self.folder / f"{name}.parquet", rows.schema, compression="zstd")
            self._writers[name] = self.enter_context(writer)
        if rows.num_rows:
            self._writers[name].write_table(rows, row_group_size=rows.num_rows)


def schema(name: str) -> pa.Schema:
    """The columns of a published table."""
    columns = contracts.tables("serving")[name].columns
    return pa.schema([(column.name, ARROW[column.data_type]) for column in columns])


def typed(name: str, rows: pd.DataFrame) -> pa.Table:
    """Rows of a published table with its types, also where a column is empty; raises KeyError without one of them."""
    return pa.Table.from_pandas(rows, schema(name), preserve_index=False)
