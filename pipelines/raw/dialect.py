"""How a raw file is written: told by the settings, else seen in its first bytes."""

import codecs
from collections.abc import Collection, Mapping
from pathlib import Path

from pipelines.errors import BadInput, BadSetting
from pipelines.raw.files import Dialect, shown
from pipelines.raw.records import Block, first_record
from pipelines.raw.stream import unpacked
from pipelines.settings import FileFormat

SAMPLE = 1 << 20  # bytes that are looked at
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
FOREIGN = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"BZh": "packed with bzip2",
    b"\xfd7zXZ": "packed with xz",
}
FORMATS = {
    "csv": "csv",
    "tsv": "csv",
    "txt": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "parquet": "parquet",
}
PACKED = {".gz", ".gzip", ".zst", ".zstd"}
DELIMITERS = ",;\t|"
ORDER_MARKS = {  # the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def detect(path: Path, told: FileFormat, wanted: Collection[str], max_mb: int) -> tuple[Dialect, tuple[str, ...]]:
    """The dialect of a file and, for CSV, its columns; `wanted` are the column names that the contract looks for.

    Raises BadInput for what is no table of a known format, OSError for what cannot be unpacked.
    """
    with path.open("rb") as file:
        head = file.read(8)
    compression = _by_magic(head, MAGIC)
    sample = next(unpacked(path, compression, max_mb, SAMPLE), b"")
    format_ = _format(path, sample)
    if format_ == "parquet":
        return Dialect("parquet", compression, newline=""), ()
    encoding = codecs.lookup(told.encoding).name if told.encoding else _encoding(sample)
    encoding = {"utf-8-sig": "utf-8"}.get(encoding, encoding)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample).removeprefix("\ufeff")
    if _ending(path) == "json" and text.lstrip().startswith("["):
        raise BadInput(
            f"{shown(path)} is one JSON array. Deliver JSON lines: one object on each line, no commas between."
        )
    if format_ == "jsonl":
        return Dialect("jsonl", compression, encoding, newline=_newline(text)), ()
    return _csv(Dialect("csv", compression, encoding, told.delimiter, told.quote, _newline(text)), text, told, wanted)


def sources(names: Collection[str], mapping: Mapping[str, str]) -> set[str]:
    """The column names that files bring for the contract's."""
    return {*names, *mapping.values()}


def _csv(dialect: Dialect, text: str, told: FileFormat, wanted: Collection[str]) -> tuple[Dialect, tuple[str, ...]]:
    names, delimiter = _header(dialect, text, wanted, told)
    header = [name.strip() for name in told.header]
    has_header = bool(names) and (not header or names == header)
    columns = (header or names) if names else []
    changed = Dialect("csv", dialect.compression, dialect.encoding, delimiter, told.quote, dialect.newline, has_header)
    return changed, tuple(columns)


def _header(dialect: Dialect, text: str, wanted: Collection[str], told: FileFormat) -> tuple[list[str], str]:
    """The first record and its delimiter: the one that finds most of the wanted names, then most fields."""
    newline = dialect.newline
    data = (text + newline * (not text.endswith(newline))).encode("utf-8", "replace")
    found = []
    for delimiter in told.delimiter or DELIMITERS:
        if not (delimiter.isascii() and told.quote.isascii()) or delimiter == told.quote or delimiter in "\r\n":
            raise BadSetting(
                f"files: delimiter {delimiter!r} and quote {told.quote!r} are two different ASCII characters."
            )
        tried = Dialect("csv", delimiter=delimiter, quote=told.quote, newline=newline)
        names, _ = first_record(Block(data, ord(newline), 1), tried)
        hits = len(names) == len(told.header) if told.header else len(set(names) & set(wanted))
        found.append((hits, len(names), names, delimiter))
    _, _, names, delimiter = max(found, key=lambda candidate: candidate[:2])
    return names, delimiter


def _format(path: Path, sample: bytes) -> str:
    if sample.startswith(b"PAR1"):
        return "parquet"
    if what := _by_magic(sample, FOREIGN):
        raise BadInput(f"{shown(path)} is {what}. Deliver .csv, .jsonl or .parquet, plain, .gz or .zst.")
    if what := _by_magic(sample, MAGIC):
        raise BadInput(f"{shown(path)} is packed twice, inside with {what}. Pack it once.")
    if _ending(path) not in FORMATS:
        raise BadInput(
            f"{shown(path)}: no known format. Deliver .csv, .jsonl or .parquet, plain, .gz or .zst, or remove the file."
        )
    return FORMATS[_ending(path)]


def _ending(path: Path) -> str:
    """The last ending of the name that says what it is, not how it is packed."""
    endings = [ending for ending in path.suffixes if ending.lower() not in PACKED]
    return endings[-1][1:].lower() if endings else ""


def _by_magic(head: bytes, kinds: Mapping[bytes, str]) -> str:
    return next((kind for magic, kind in kinds.items() if head.startswith(magic)), "")


def _encoding(sample: bytes) -> str:
    """By its byte-order mark; else UTF-8, unless most lines that are not plain ASCII are no UTF-8."""
    if marked := _by_magic(sample, ORDER_MARKS):
        return marked
    whole = sample[: sample.rfind(b"\n") + 1] if len(sample) >= SAMPLE else sample
    lines = [line for line in whole.splitlines() if not line.isascii()]
    broken = sum(1 for line in lines if "\ufffd" in line.decode("utf-8", "replace"))
    return "cp1252" if broken * 2 > len(lines) else "utf-8"


def _newline(text: str) -> str:
    """A lone `\\r` ends the lines of files that hold more of them than of `\\n`."""
    return "\r" if text.count("\r") - text.count("\r\n") > text.count("\n") else "\n"
