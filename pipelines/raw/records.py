"""Lines and CSV records of a text stream, found a block at a time; and the original text of single records."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from pipelines.raw.files import Dialect, RawFile, expected_whole
from pipelines.raw.stream import text
from pipelines.settings import Clean

Mask = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]
LF, CR, NUL, SPACE, TAB = b"\n\r\0 \t"
PROBLEMS = ("oversized_row", "nul_byte", "invalid_encoding", "unparsable_row")  # the first that holds is named


@dataclass
class Block:
    """Whole lines, each with its break. A reader that needs more lines to go on takes less than all of `data`; what
    it leaves comes again at the start of the next block."""

    data: bytes
    newline: int
    first_line: int
    is_last: bool = False
    left_out: Mapping[int, int] = field(default_factory=dict)  # line → bytes that were not kept of it
    taken: int = -1

    @cached_property
    def view(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def ends(self) -> Positions:
        """Where the break of each line stands."""
        return np.flatnonzero(self.view == self.newline)

    @cached_property
    def starts(self) -> Positions:
        return np.concatenate([[0], self.ends[:-1] + 1])[: len(self.ends)]

    def __len__(self) -> int:
        return len(self.ends)

    def line(self, i: int, last: int | None = None) -> bytes:
        """The lines `i` to `last` without the break that ends them."""
        content = self.data[self.starts[i] : self.ends[i if last is None else last]]
        return content.removesuffix(b"\r") if self.newline == LF else content

    def lines_of(self, positions: Positions) -> Mask:
        """The lines in which the positions lie."""
        mask = np.zeros(len(self), bool)
        mask[np.searchsorted(self.ends, positions)] = True
        return mask

    def keep(self, lines: Mask) -> bytes:
        """The data of some lines, in long runs."""
        if lines.all():
            return self.data
        edges = np.flatnonzero(np.diff(np.concatenate([[False], lines, [False]])))
        firsts, lasts = self.starts[edges[::2]].tolist(), (self.ends[edges[1::2] - 1] + 1).tolist()
        return b"".join(self.data[first:last] for first, last in zip(firsts, lasts, strict=True))


@dataclass(frozen=True)
class Record:
    """A record that needed a closer look; `line` counts from 0 in its block."""

    line: int
    count_lines: int
    fields: list[bytes] | None
    problem: str | None


def blocks(chunks: Iterable[bytes], newline: str, max_row: int) -> Iterator[Block]:
    """Whole lines of a stream; of a line longer than a chunk and `max_row` bytes, the first `max_row` + 1 are kept."""
    ending, line = newline.encode(), 1
    carried, tail, left_out = b"", b"", 0
    for chunk in chain(chunks, [None]):
        is_last = chunk is None
        data = (ending if tail else b"") if chunk is None else chunk
        end = data.rfind(ending) + 1
        if not end and not is_last:
            tail += data
            left_out += max(len(tail) - max_row - 1, 0)
            tail = tail[: max_row + 1]
            continue
        if left_out:
            first = data.find(ending)
            data, end, left_out = data[first:], end - first, left_out + first
        cut = {line + carried.count(ending): left_out} if left_out else {}
        block = Block(carried + tail + data[:end], ending[0], line, is_last, cut)
        tail, left_out = data[end:], 0
        if block.data:
            yield block
        taken = len(block.data) if block.taken < 0 else block.taken
        line, carried = line + block.data.count(ending, 0, taken), block.data[taken:]


def problems(block: Block, max_row: int) -> dict[str, Mask]:
    """Lines that are no text of the file's encoding, or too long, by problem."""
    found = {"oversized_row": block.ends - block.starts > max_row}
    if NUL in block.data:
        found["nul_byte"] = block.lines_of(np.flatnonzero(block.view == NUL))
    if not block.data.isascii() and not is_utf8(block.data):
        foreign = np.flatnonzero(np.logical_or.reduceat(block.view >= 128, block.starts))
        broken = [i for i in foreign.tolist() if not is_utf8(block.line(i))]
        found["invalid_encoding"] = np.isin(np.arange(len(block)), broken)
    return found


def blank(block: Block, delimiter: str = "") -> Mask:
    """Lines of nothing but spaces and tabs; a tab that separates fields is no space."""
    spaces = b" \t\r".replace(delimiter.encode() or b"\n", b"")
    first = block.view[block.starts]
    mask = first == block.newline
    for i in np.flatnonzero((first == SPACE) | (first == TAB) | (first == CR)).tolist():
        mask[i] = not block.line(i).strip(spaces)
    return mask


class Syntax:
    """CSV by RFC 4180, where a quote inside an unquoted field is a character like others."""

    def __init__(self, delimiter: str, quote: str):
        d, q = re.escape(delimiter.encode()), re.escape(quote.encode())
        self.delimiter, self.quote = ord(delimiter), ord(quote)
        inside = rb"[^%s]*+(?:%s%s[^%s]*+)*+" % (q, q, q, q)
        one = rb"(?:%s%s%s|(?!%s)[^%s]*+)" % (q, inside, q, q, d)
        opening = rb"(?:%s%s)*+%s%s" % (one, d, q, inside)
        self._whole = re.compile(rb"%s(?:%s%s)*+" % (one, d, one))
        self._opening = re.compile(opening)
        self._inside = re.compile(inside)
        self._reopening = re.compile(rb"%s%s%s%s" % (inside, q, d, opening))
        self._field = re.compile(rb"(?:%s(%s)%s|([^%s]*+))(%s|\Z)" % (q, inside, q, d, d))

    def fields(self, record: bytes) -> list[bytes] | None:
        """The fields of a whole record, None when its quotes do not close."""
        if not self._whole.fullmatch(record):
            return None
        quote, fields, position, delimiter = bytes([self.quote]), [], 0, b"more"
        while delimiter:
            match = self._field.match(record, position)
            assert match is not None  # the whole record matched
            quoted, plain, delimiter = match.groups()
            fields.append(plain if quoted is None else quoted.replace(quote * 2, quote))
            position = match.end()
        return fields

    def opens(self, line: bytes) -> bool:
        """Whether a record that begins with this line goes on in the next."""
        return self._opening.fullmatch(line) is not None

    def stays_open(self, line: bytes) -> bool:
        """Whether a record that came to this line inside quotes leaves it inside quotes."""
        return (self._inside.fullmatch(line) or self._reopening.fullmatch(line)) is not None


@cache
def syntax_of(dialect: Dialect) -> Syntax:
    return Syntax(dialect.delimiter, dialect.quote)


def split(block: Block, dialect: Dialect, width: int | None, max_row: int) -> tuple[Mask, list[Record]]:
    """Which lines are records as they stand, and the records that needed a closer look, each read on its own.

    `width` is the number of fields of a record, None for any. A record that the end of the block may cut is left.
    """
    wrong = problems(block, max_row)
    is_blank = blank(block, dialect.delimiter)
    odd = ~is_blank & np.logical_or.reduce([_unclean(block, syntax_of(dialect)), _stray_breaks(block), *wrong.values()])
    plain = ~odd & ~is_blank
    records: list[Record] = []
    free = 0  # the first line that no record has yet
    for i in np.flatnonzero(odd).tolist():
        if i < free:
            continue
        record = _record(block, i, dialect, width, max_row, wrong)
        if record is None:
            block.taken = int(block.starts[i])
            plain[i:] = False
            break
        records.append(record)
        free = i + record.count_lines
        plain[i:free] = False
    return plain, records


def first_record(block: Block, dialect: Dialect) -> tuple[list[str], int]:
    """The fields of the first line that is not blank, as they are used for names, and how many lines there are to
    its end, blank ones included."""
    lines = np.flatnonzero(~blank(block, dialect.delimiter))
    if not lines.size:
        return [], 0
    i = int(lines[0])
    syntax = syntax_of(dialect)
    last = _closing(block, i, syntax, len(block.data))
    fields = None if last is None else syntax.fields(block.line(i, last))
    if last is None or fields is None:  # quotes that do not close: the names as they stand
        last, fields = i, block.line(i).split(dialect.delimiter.encode())
    return [name.decode("utf-8", "replace").strip() for name in fields], last + 1


def first_fields(block: Block, dialect: Dialect, width: int) -> Iterator[list[str]]:
    """The rows at the start of a CSV file, below the header."""
    plain, odd = split(block, dialect, width, len(block.data))
    below = first_record(block, dialect)[1] if dialect.has_header else 0
    found: dict[int, list[bytes] | None] = dict.fromkeys(np.flatnonzero(plain).tolist())
    found |= {r.line: r.fields for r in odd}
    for i in sorted(i for i in found if i >= below):
        fields = found[i] or syntax_of(dialect).fields(block.line(i))
        if fields is not None and len(fields) == width:
            yield [value.decode("utf-8", "replace") for value in fields]


def first_objects(block: Block, count: int) -> list[dict[str, object]]:
    """JSON objects of the first lines that are such."""
    values = (_value(block.line(i)) for i in range(len(block)))
    return list(islice((value for value in values if isinstance(value, dict)), count))


def originals(file: RawFile, home: Path, wanted: Mapping[int, int], limits: Clean) -> dict[int, str]:
    """The text of records as it stands in the file, by first line; `wanted` gives how many lines each has.

    Bytes that are no text are written `\\x..`; of a record that is too long, the beginning. A Parquet row is JSON.
    """
    path = home / file.path
    with expected_whole(path, file.table, file.day):
        if file.format == "parquet":
            return _parquet_rows(path, sorted(wanted))
        chunks = text(path, file.dialect, limits.max_file_mb, errors="backslashreplace")
        return _texts(blocks(chunks, file.dialect.newline, limits.max_row_kb << 10), wanted, limits.max_row_kb << 10)


def _texts(found: Iterator[Block], wanted: Mapping[int, int], max_row: int) -> dict[int, str]:
    firsts = np.array(sorted(wanted), np.int64)
    ends = firsts + np.array([wanted[first] for first in firsts.tolist()], np.int64)
    parts, lengths = dict.fromkeys(firsts.tolist(), b""), dict.fromkeys(firsts.tolist(), 0)
    for block in found:
        begin, end = block.first_line, block.first_line + block.data.count(block.newline)
        for n in range(np.searchsorted(ends, begin, "right"), np.searchsorted(firsts, end)):
            first, lines = int(firsts[n]), range(max(int(firsts[n]), begin), min(int(ends[n]), end))
            part = block.line(lines.start - begin, lines.stop - 1 - begin)
            part += bytes([block.newline]) * bool(lines.stop < ends[n])
            parts[first] += part[: max_row + 1]
            lengths[first] += len(part) + sum(block.left_out.get(line, 0) for line in lines)
    return {first: _shown(part, lengths[first], max_row) for first, part in parts.items()}


def _shown(part: bytes, length: int, max_row: int) -> str:
    told = part[:max_row].decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    return f"{told}… ({length} bytes)" if length > max_row else told


def _parquet_rows(path: Path, rows: list[int]) -> dict[int, str]:
    texts: dict[int, str] = {}
    begin = 1
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            inside = [row for row in rows if begin <= row < end]
            if inside:
                taken = file.read_row_group(group, use_threads=False).take([row - begin for row in inside])
                values = (json.dumps(value, ensure_ascii=False, default=str) for value in taken.to_pylist())
                texts |= zip(inside, values, strict=True)
            begin = end
    return texts


def _record(
    block: Block, i: int, dialect: Dialect, width: int | None, max_row: int, wrong: Mapping[str, Mask]
) -> Record | None:
    """The record that begins with line `i`: that line, or several when together they are one record of the right
    width; None when only the next block can tell."""
    syntax = syntax_of(dialect)
    too_long = wrong["oversized_row"]
    last = i if too_long[i] else _closing(block, i, syntax, max_row)
    if last is None and not block.is_last and block.ends[-1] - block.starts[i] <= max_row:
        return None
    for end in dict.fromkeys([i if last is None else last, i]):
        problem = next((name for name in PROBLEMS if name in wrong and wrong[name][i : end + 1].any()), None)
        fields = None if problem == "oversized_row" else syntax.fields(block.line(i, end))
        if fields is not None and width in (None, len(fields)):
            return Record(i, end - i + 1, None if problem else fields, problem)
    return Record(i, 1, None, problem or "unparsable_row")


def _closing(block: Block, i: int, syntax: Syntax, max_row: int) -> int | None:
    """The line on which the record that begins with line `i` leaves its last quotes, None when there is none near."""
    if not syntax.opens(block.line(i)):
        return i
    quote = bytes([syntax.quote])
    limit = int(block.starts[i]) + max_row
    position = int(block.ends[i])
    while (position := block.data.find(quote, position + 1, limit)) >= 0:
        j = int(np.searchsorted(block.ends, position))
        position = int(block.ends[j])
        if position > limit:
            return None
        if not syntax.stays_open(block.line(j)):
            return j
    return None


def _unclean(block: Block, syntax: Syntax) -> Mask:
    """Lines whose quotes are not all where the quotes of whole fields stand.

    Opening and closing quotes alternate: one opens after a delimiter, at the start, or right after the one that
    closed; one closes before a delimiter, at the end, or right before the one that opens again.
    """
    quotes = np.flatnonzero(block.view == syntax.quote)
    counts = np.diff(np.searchsorted(quotes, block.ends), prepend=0)
    mask = counts % 2 == 1
    if not quotes.size:
        return mask
    line = np.repeat(np.arange(len(block)), counts)
    is_closing = (np.arange(len(quotes)) - (np.cumsum(counts) - counts)[line]) % 2 == 1
    beside = np.where(is_closing, block.view[quotes + 1], block.view[quotes - 1])  # [-1] is the break of the last line
    fits = (beside == syntax.delimiter) | (beside == block.newline) | (beside == syntax.quote)
    mask[line[~(fits | (is_closing & (beside == CR)))]] = True
    return mask


def _stray_breaks(block: Block) -> Mask:
    """Lines with a `\\r` or `\\n` that does not end them."""
    if block.newline == CR:
        strays = np.flatnonzero(block.view == LF)
    elif block.data.count(b"\r") == block.data.count(b"\r\n"):
        return np.zeros(len(block), bool)
    else:
        found = np.flatnonzero(block.view == CR)
        strays = found[block.view[found + 1] != LF]
    return block.lines_of(strays)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _value(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
