"""Footers of Parquet files in one order: Java lists the encodings of a column as its process happens to hash them."""

import os
from pathlib import Path

# Of parquet.thrift: FileMetaData.row_groups, RowGroup.columns, ColumnChunk.meta_data, ColumnMetaData.encodings.
ENCODINGS = (4, 1, 3, 2)


def sort_encodings(path: Path) -> None:
    """Sort the encodings of each column in place, so that files of equal pages have equal bytes."""
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        start = file.seek(-8 - length, os.SEEK_END)
        footer = bytearray(file.read(length))
        _Compact(footer).struct(())
        file.seek(start)
        file.write(footer)


class _Compact:
    """A walk through Thrift's compact protocol, as far as a footer has it; a path names fields by their numbers."""

    def __init__(self, data: bytearray):
        self.data, self.at = data, 0

    def struct(self, path: tuple[int, ...]) -> None:
        field = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 15
            field = field + delta if delta else self._varint() // 2
            self._value(kind, (*path, field), is_element=False)

    def _value(self, kind: int, path: tuple[int, ...], is_element: bool) -> None:
        match kind:
            case 1 | 2:  # a field's type is its truth
                self.at += is_element
            case 3:
                self.at += 1
            case 4 | 5 | 6:
                self._varint()
            case 7:
                self.at += 8
            case 8:
                length = self._varint()
                self.at += length
            case 9 | 10:
                self._list(path)
            case 12:
                self.struct(path)
            case _:
                raise ValueError(f"a Parquet footer has no values of Thrift's type {kind}")

    def _list(self, path: tuple[int, ...]) -> None:
        head = self._byte()
        count, kind = head >> 4, head & 15
        count = self._varint() if count == 15 else count
        begin = self.at
        for _ in range(count):
            self._value(kind, path, is_element=True)
        if path == ENCODINGS:  # each is a byte
            self.data[begin : self.at] = sorted(self.data[begin : self.at])

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value, shift = 0, 0
        while (byte := self._byte()) >= 128:
            value |= (byte & 127) << shift
            shift += 7
        return value | byte << shift
