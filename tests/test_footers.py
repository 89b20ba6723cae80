"""Parquet files that differ only in how Java listed their encodings become equal, and stay what they were."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.clean.footers import sort_encodings

PLAIN, RLE, DICTIONARY = 0, 3, 8  # of parquet.thrift


def listed(*encodings: int) -> bytes:
    """A list of encodings in Thrift's compact protocol: its length and type, then each number doubled."""
    return bytes([len(encodings) << 4 | 5, *(2 * encoding for encoding in encodings)])


def test_equal_pages_are_equal_bytes(tmp_path: Path):
    """Whatever the order, over several row groups and many columns; rows and statistics do not change."""
    names = [f"c{n}" for n in range(20)]
    table = pa.table({name: ["a", "b", None] * 4 for name in names} | {"flag": [True, None] * 6, "x": [1.5] * 12})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=5)
    data = path.read_bytes()
    assert data.count(listed(PLAIN, RLE, DICTIONARY)) == 3 * (len(names) + 1)  # truths have others
    made = set()
    for order in ((DICTIONARY, PLAIN, RLE), (RLE, DICTIONARY, PLAIN), (PLAIN, RLE, DICTIONARY)):
        path.write_bytes(data.replace(listed(PLAIN, RLE, DICTIONARY), listed(*order)))
        sort_encodings(path)
        made.add(path.read_bytes())
        assert pq.read_table(path).equals(table)
    assert len(made) == 1
