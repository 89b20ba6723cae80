"""A raw file as a stream of bounded memory: unpacked, and as UTF-8 text."""

import codecs
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from pipelines.errors import BadInput
from pipelines.raw.files import Dialect, shown

CHUNK = 8 << 20  # bytes read at once
MARK = "nightshelf.mark"  # the error handler that leaves bytes that no UTF-8 text holds where a text was not readable
codecs.register_error(MARK, lambda error: ("\udcff", getattr(error, "end")))  # noqa: B009 (mypy knows no `end`)


def unpacked(path: Path, compression: str, max_mb: int, size: int = CHUNK) -> Iterator[bytes]:
    """The file's bytes without its compression; raises BadInput once more than `max_mb` MiB came out.

    What is cut off or corrupt raises OSError.
    """
    left = max_mb << 20
    with pa.input_stream(str(path), compression=compression or None, buffer_size=0) as stream:
        while chunk := stream.read(min(size, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise BadInput(
                    f"{shown(path)} holds more than {max_mb} MiB{' once unpacked' * bool(compression)}. Deliver it in "
                    "several files, or raise clean.max_file_mb."
                )
            yield chunk


def text(path: Path, dialect: Dialect, max_mb: int, errors: str = MARK, size: int = CHUNK) -> Iterator[bytes]:
    """The file as UTF-8 without a byte-order mark; what is not of the file's encoding is not valid UTF-8 here either.

    `errors` is a codec error handler for files of another encoding than UTF-8.
    """
    chunks = unpacked(path, dialect.compression, max_mb, size)
    decoded = chunks if dialect.encoding == "utf-8" else _transcoded(chunks, dialect.encoding, errors)
    first = next(decoded, b"")
    yield first.removeprefix(codecs.BOM_UTF8)
    yield from decoded


def count_lines(chunks: Iterable[bytes], newline: str) -> int:
    """Lines by their breaks alone, the last one with or without: the books of cleaning are held against it."""
    count, last, ending = 0, b"", newline.encode()
    for chunk in chunks:
        count, last = count + chunk.count(ending), chunk[-1:] or last
    return count + (last not in (b"", ending))


def _transcoded(chunks: Iterable[bytes], encoding: str, errors: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    for chunk in chunks:
        yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
    yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")
