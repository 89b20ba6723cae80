"""Landing: one raw file, however it is written, as one Parquet file in which every field is trimmed text."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipelines import pseudonyms
from pipelines.contracts import Table
from pipelines.errors import BadInput
from pipelines.pseudonyms import Names
from pipelines.raw import RawFile, parquet
from pipelines.raw.files import expected_whole, shown, whole_stream
from pipelines.raw.records import Block, Record, blank, blocks, first_record, is_utf8, problems, split
from pipelines.raw.stream import text, unpacked
from pipelines.settings import Clean

BATCH_ROWS = 1 << 16  # rows of a Parquet file that are held at once
SPACES = " \t\r\n\x0b\x0c\u00a0\u2003\u3000\ufeff"  # around a value they are no part of it
# Numbers that DuckDB's JSON reader, which keeps them as 64-bit values, would not give back digit for digit.
LONG_NUMBER = r":\s*-?(\d{19,}|\d+\.\d+0\D|\d+\.\d{6,}|\d{10,}\.\d|[\d.]+[eE])"
NATIVE = (  # column types of Parquet that Spark reads as they are
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_boolean,
    pa.types.is_signed_integer,
    lambda kind: pa.types.is_unsigned_integer(kind) and kind.bit_width < 64,
    lambda kind: pa.types.is_floating(kind) and kind.bit_width > 16,
    pa.types.is_date32,
    lambda kind: pa.types.is_timestamp(kind) and kind.unit != "ns",
)


@dataclass(frozen=True)
class Landed:
    """A landed file. `has_all_ids`: each readable row has an `event_id`; `has_replays`: some row may replay another.
    `is_native`: `path` leads to the shop's own Parquet file, with the shop's columns and types."""

    path: Path
    count_rows: int
    count_lines: int
    has_all_ids: bool
    has_replays: bool
    is_native: bool = False


@dataclass(frozen=True)
class Wanted:
    """Which source columns become which contract columns, what marks the file's rows, and how they name users."""

    sources: Mapping[str, str]
    number: int
    users: Names

    @property
    def schema(self) -> pa.Schema:
        texts = [(name, pa.string()) for name in self.sources]
        marks = [("line", pa.int64()), ("count_lines", pa.int32()), ("problem", pa.string())]
        return pa.schema([*texts, *marks, ("file_number", pa.int32())])

    def rows(self, texts: Mapping[str, pa.Array], line: pa.Array, count_lines: object, problem: object) -> pa.Table:
        """Landed rows of the columns that there are; `count_lines` and `problem` for all rows or each."""
        n = len(line)
        marks = {"line": line, "count_lines": count_lines, "problem": problem, "file_number": self.number}
        trimmed = {name: _trimmed(_column(text, pa.string(), n)) for name, text in texts.items()}
        if "user_id" in trimmed:
            trimmed["user_id"] = self.users.column(trimmed["user_id"])
        given = {**trimmed, **{name: value for name, value in marks.items() if value is not None}}
        columns = [_column(given.get(field.name), field.type, n) for field in self.schema]
        return pa.table(columns, schema=self.schema)


def land(
    file: RawFile, home: Path, table: Table, mapping: Mapping[str, str], limits: Clean, target: Path, number: int
) -> Landed:
    """Write the rows of `file` to `target`: contract columns as text, without the space around it and null when nothing
    is left, with `line` (the first one, from 1), `count_lines`, `problem` (null for a row that could be read; else all
    its texts are null) and `file_number`. Users have their pseudonyms here already, where there are any.

    Memory is bounded by the size of a block, whatever the file.
    Raises BadInput for a file that is broken, or not the one that was counted.
    """
    wanted = Wanted(table.sources(mapping, file.columns), number, pseudonyms.names(limits))
    path = home / file.path
    if file.format == "parquet":
        with expected_whole(path, file.table, file.day):
            landed = _land_parquet(file, path, wanted, limits, target)
    else:
        landed = _write(_tables(file, path, wanted, limits), wanted, target)
    if landed.count_lines != file.count_lines:
        raise BadInput(
            f"{file.table}: {shown(path)} had {file.count_lines} lines when it was looked at, {landed.count_lines} "
            "now. Open the run again."
        )
    return landed


def _tables(file: RawFile, path: Path, wanted: Wanted, limits: Clean) -> Iterator[tuple[pa.Table, int]]:
    """Landed rows of each block of a text file, with the lines that are no rows."""
    max_row = limits.max_row_kb << 10
    read = _Csv(file, wanted, max_row) if file.format == "csv" else _Json(wanted, max_row)
    chunks = whole_stream(text(path, file.dialect, limits.max_file_mb), path, file.table, file.day)
    for block in blocks(chunks, file.dialect.newline, max_row):
        yield read(block)


def _write(tables: Iterable[tuple[pa.Table, int]], wanted: Wanted, target: Path) -> Landed:
    """Whole or not at all."""
    partial = target.with_name(f"{target.name}.partial")
    count_rows = count_lines = 0
    has_all_ids, has_replays = "event_id" in wanted.sources, False
    try:
        # Fields are mostly different: a dictionary costs more than it saves.
        with pq.ParquetWriter(
            partial,
            wanted.schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=False,
            write_statistics=False,
        ) as writer:
            for rows, other_lines in tables:
                writer.write_table(rows)
                count_rows += len(rows)
                count_lines += (pc.sum(rows["count_lines"]).as_py() or 0) + other_lines
                has_all_ids = has_all_ids and not rows.filter(pc.is_null(rows["problem"]))["event_id"].null_count
                has_replays = has_replays or rows["replays"].null_count < len(rows)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return Landed(target, count_rows, count_lines, has_all_ids, has_replays)


class _Csv:
    """Reads blocks of one CSV file: lines that are records as they stand all at once, the others one by one."""

    def __init__(self, file: RawFile, wanted: Wanted, max_row: int):
        self.dialect, self.columns, self.wanted, self.max_row = file.dialect, file.columns, wanted, max_row
        self.places = {name: file.columns.index(s) for name, s in wanted.sources.items() if s in file.columns}
        self.header_is_due = file.dialect.has_header

    def __call__(self, block: Block) -> tuple[pa.Table, int]:
        plain, odd = split(block, self.dialect, len(self.columns), self.max_row)
        is_blank = blank(block, self.dialect.delimiter)
        below = 0  # the first line below the header
        if self.header_is_due and (plain.any() or odd):
            _, below = first_record(block, self.dialect)
            plain[:below], odd = False, [record for record in odd if record.line >= below]
            self.header_is_due = False
        taken = len(block) if block.taken < 0 else int(np.searchsorted(block.starts, block.taken))
        is_blank[:below], is_blank[taken:] = True, False
        for record in odd:
            is_blank[record.line : record.line + record.count_lines] = False
        rows = pa.concat_tables([self._plain(block, plain), self._odd(block, odd)])
        return rows.sort_by("line") if odd else rows, int(is_blank.sum())

    def _plain(self, block: Block, plain: np.ndarray) -> pa.Table:
        lines = np.flatnonzero(plain) + block.first_line
        ragged: list[int] = []

        def skip(row: pyarrow.csv.InvalidRow) -> str:
            ragged.append(row.number - 1)
            return "skip"

        texts = self._parse(block.keep(plain), skip) if len(lines) else {}
        whole = np.delete(lines, ragged) if ragged else lines
        rows = self.wanted.rows(texts, pa.array(whole), 1, None)
        if not ragged:
            return rows
        broken = self.wanted.rows({}, pa.array(lines[ragged]), 1, "unparsable_row")
        return pa.concat_tables([rows, broken]).sort_by("line")

    def _parse(self, data: bytes, skip) -> dict[str, pa.Array]:
        """The wanted columns of lines that are whole records; `skip` hears of those with a wrong number of fields."""
        numbers = [str(n) for n in range(len(self.columns))]
        used = sorted({str(place) for place in self.places.values()}) or numbers[:1]
        mark = b"\xef\xbb\xbf"  # Arrow drops one at the start: here it belongs to a field
        parsed = pyarrow.csv.read_csv(
            pa.BufferReader(mark + data if data.startswith(mark) else data),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=len(data) + 8, column_names=numbers),
            pyarrow.csv.ParseOptions(
                delimiter=self.dialect.delimiter, quote_char=self.dialect.quote, invalid_row_handler=skip
            ),
            pyarrow.csv.ConvertOptions(
                check_utf8=False,
                include_columns=used,
                column_types=dict.fromkeys(used, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            ),
        )
        return {name: parsed[str(place)] for name, place in self.places.items()}

    def _odd(self, block: Block, odd: list[Record]) -> pa.Table:
        texts = {
            name: pa.array([r.fields[place].decode() or None if r.fields else None for r in odd], pa.string())
            for name, place in self.places.items()
        }
        line = pa.array([record.line + block.first_line for record in odd], pa.int64())
        counts = pa.array([record.count_lines for record in odd], pa.int32())
        return self.wanted.rows(texts, line, counts, pa.array([record.problem for record in odd], pa.string()))


class _Json:
    """Reads blocks of JSON lines with DuckDB's JSON functions."""

    def __init__(self, wanted: Wanted, max_row: int):
        self.wanted, self.max_row = wanted, max_row
        self.database = duckdb.connect(config={"threads": 1})
        keys = ", ".join(_quoted("/" + s.replace("~", "~0").replace("/", "~1")) for s in wanted.sources.values())
        # JSON that is valid and begins with a brace is an object.
        self.query = f"""
            with checked as (
                select line, json_valid(line) and starts_with(ltrim(line, ' \t\n\r'), '{{') as is_object from lines
            )
            select
                is_object,
                is_object and regexp_matches(line, {_quoted(LONG_NUMBER)}) as has_long_number,
                case when is_object then json_extract_string(line, [{keys}]) end as texts
            from checked
        """

    def __call__(self, block: Block) -> tuple[pa.Table, int]:
        wrong = problems(block, self.max_row)
        is_blank = blank(block)
        plain = ~np.logical_or.reduce([is_blank, *wrong.values()])
        numbers = np.arange(block.first_line, block.first_line + len(block))
        rows = [self._plain(block, plain, numbers[plain])]
        told = is_blank.copy()
        for problem, lines in wrong.items():
            if (lines & ~told).any():
                rows.append(self.wanted.rows({}, pa.array(numbers[lines & ~told]), 1, problem))
            told |= lines
        return pa.concat_tables(rows).sort_by("line") if len(rows) > 1 else rows[0], int(is_blank.sum())

    def _plain(self, block: Block, plain: np.ndarray, numbers: np.ndarray) -> pa.Table:
        offsets = np.append(block.starts, len(block.data)).astype(np.int32)
        every = pa.StringArray.from_buffers(len(block), pa.py_buffer(offsets), pa.py_buffer(block.data))
        lines = pa.table({"line": every if plain.all() else every.filter(pa.array(plain))})
        self.database.register("lines", lines)
        found = self.database.execute(self.query).to_arrow_table()
        texts = {name: pc.list_element(found["texts"], n) for n, name in enumerate(self.wanted.sources)}
        texts = _with_long_numbers(texts, lines["line"], found["has_long_number"], self.wanted.sources)
        problem = pc.if_else(found["is_object"], pa.scalar(None, pa.string()), "unparsable_row")
        if b"\\u0000" in block.data:
            has_nul = _any(pc.match_substring(column, "\0") for column in texts.values())
            problem = pc.if_else(has_nul, "nul_byte", problem)
            texts = {name: pc.if_else(has_nul, pa.scalar(None, pa.string()), c) for name, c in texts.items()}
        return self.wanted.rows(texts, pa.array(numbers), 1, problem)


def _with_long_numbers(
    texts: dict[str, pa.ChunkedArray], lines: pa.ChunkedArray, is_long: pa.ChunkedArray, sources: Mapping[str, str]
) -> dict[str, pa.Array | pa.ChunkedArray]:
    """Numbers of some lines digit for digit."""
    if not pc.any(is_long).as_py():
        return texts
    objects = [
        json.loads(line, parse_int=_Number, parse_float=_Number, object_pairs_hook=_first_of_each)
        for line in lines.filter(is_long).to_pylist()
    ]
    exact, mask = {}, is_long.combine_chunks()
    for name, column in texts.items():
        told = column.filter(is_long).to_pylist()
        given = (row.get(sources[name]) for row in objects)
        numbers = [str(value) if isinstance(value, _Number) else t for value, t in zip(given, told, strict=True)]
        exact[name] = pc.replace_with_mask(column.combine_chunks(), mask, pa.array(numbers, pa.string()))
    return exact


class _Number(str):
    """A JSON number as it was written."""


def _first_of_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Of equal keys the first, as DuckDB does."""
    return dict(reversed(pairs))


def _land_parquet(file: RawFile, path: Path, wanted: Wanted, limits: Clean, target: Path) -> Landed:
    """Lead Spark to the shop's own file if it can read it, else write it anew; every page is read once either way."""
    with parquet(path, file.dialect, limits.max_file_mb, target.parent) as opened:
        if not _is_native(opened, wanted):
            return _write(_parquet_tables(opened, wanted), wanted, target)
        count_rows, has_all_ids = opened.metadata.num_rows, _has_all_ids(opened, wanted)
        has_replays = wanted.sources["replays"] in opened.schema_arrow.names
    target.unlink(missing_ok=True)
    if file.dialect.compression:
        with target.open("wb") as unpacked_file:
            unpacked_file.writelines(unpacked(path, file.dialect.compression, limits.max_file_mb))
    else:
        target.symlink_to(path.resolve())
    return Landed(target, count_rows, count_rows, has_all_ids, has_replays, is_native=True)


def _has_all_ids(file: pq.ParquetFile, wanted: Wanted) -> bool:
    source = wanted.sources.get("event_id")
    if source not in file.schema_arrow.names:
        return False
    return not any(batch.column(0).null_count for batch in file.iter_batches(columns=[source], use_threads=False))


def _is_native(file: pq.ParquetFile, wanted: Wanted) -> bool:
    """Whether Spark may read the file: plain types, names that stay apart without case, text that is clean, and users
    that go by their ids."""
    if wanted.users.key and "user_id" in wanted.sources:
        return False
    names = file.schema_arrow.names
    needed = [name for name in names if name in wanted.sources.values()]
    kinds = [_plain(file.schema_arrow.field(n).type) for n, name in enumerate(names) if name in needed]
    if len({name.lower() for name in names}) < len(names) or not all(any(fits(k) for fits in NATIVE) for k in kinds):
        return False
    batches = file.iter_batches(columns=needed, use_threads=False)
    return all(not any(_faults(column)) and _is_trimmed(column) for batch in batches for column in batch)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _parquet_tables(file: pq.ParquetFile, wanted: Wanted) -> Iterator[tuple[pa.Table, int]]:
    names, line = file.schema_arrow.names, 1
    needed = [name for name in dict.fromkeys(names) if name in wanted.sources.values()]
    for batch in file.iter_batches(columns=needed, batch_size=BATCH_ROWS, use_threads=False):
        columns = {name: batch.column(batch.schema.names.index(name)) for name in needed}
        yield _parquet_rows(columns, len(batch), line, wanted), 0
        line += len(batch)


def _parquet_rows(columns: Mapping[str, pa.Array], count: int, line: int, wanted: Wanted) -> pa.Table:
    binary = {name: _text(columns[source]) for name, source in wanted.sources.items() if source in columns}
    problems: list[str | None] = [None] * count
    for column in binary.values():
        for row, problem in _faults(column):
            problems[row] = problem
    problem = pa.array(problems, pa.string())
    nothing = pa.scalar(None, pa.binary())
    texts = {
        name: pc.if_else(pc.is_null(problem), column, nothing).cast(pa.string()) for name, column in binary.items()
    }
    return wanted.rows(texts, pa.array(np.arange(line, line + count)), 1, problem)


def _faults(column: pa.Array) -> Iterator[tuple[int, str]]:
    """(row, problem) of texts that are none."""
    kind = _plain(column.type)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind)):
        return
    told = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    data = told if pa.types.is_binary(kind) else told.cast(pa.large_binary())
    has_nul = pc.fill_null(pc.match_substring(data, b"\0"), False).to_numpy(zero_copy_only=False)
    yield from ((row, "nul_byte") for row in np.flatnonzero(has_nul).tolist())
    try:
        data.cast(pa.large_string() if pa.types.is_large_binary(data.type) else pa.string())
    except pa.ArrowInvalid:
        values = enumerate(data.to_pylist())
        yield from ((row, "invalid_encoding") for row, value in values if value is not None and not is_utf8(value))


def _is_trimmed(column: pa.Array) -> bool:
    """No text has space around it, or is empty."""
    told = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    if not (pa.types.is_string(told.type) or pa.types.is_large_string(told.type)):
        return True
    lengths = pc.binary_length(pc.utf8_trim(told, SPACES))
    has_empty = pc.any(pc.equal(lengths, 0)).as_py()
    return not has_empty and pc.sum(lengths) == pc.sum(pc.binary_length(told))


def _trimmed(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    trimmed = pc.utf8_trim(column, SPACES)
    return pc.if_else(pc.equal(trimmed, ""), pa.scalar(None, pa.string()), trimmed)


def _text(column: pa.Array) -> pa.Array:
    """A typed column as the text that a shop would have written, in bytes; times are ISO 8601, a float that is whole
    has no point, nested values are JSON."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_nested(kind):
        values = (None if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in column.to_pylist())
        column = pa.array(values, pa.string())
    elif pa.types.is_timestamp(kind):
        micros = column.cast(pa.timestamp("us", kind.tz and "UTC"), safe=False).cast(pa.string())
        column = pc.replace_substring(micros, " ", "T", max_replacements=1)
    elif pa.types.is_floating(kind):
        double = column.cast(pa.float64())
        is_whole = pc.and_(pc.equal(double, pc.floor(double)), pc.less(pc.abs(double), 2.0**63))
        whole = pc.if_else(is_whole, double, None).cast(pa.int64(), safe=False)
        column = pc.coalesce(whole.cast(pa.string()), column.cast(pa.string()))
    elif not pa.types.is_binary(kind) and not pa.types.is_fixed_size_binary(kind):
        column = column.cast(pa.string())
    return column.cast(pa.binary())


def _column(value: object, kind: pa.DataType, count: int) -> pa.Array:
    """A column of `count` values from one for each row, one for all, or none."""
    if value is None:
        return pa.nulls(count, kind)
    return (
        value.cast(kind) if isinstance(value, pa.Array | pa.ChunkedArray) else pa.repeat(pa.scalar(value, kind), count)
    )


def _any(masks: Iterable[pa.ChunkedArray]) -> pa.ChunkedArray:
    return reduce(pc.or_, (pc.fill_null(mask, False) for mask in masks))


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
