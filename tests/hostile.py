"""Broken and odd files: each written by a few lines here, with what must come of it."""

import datetime as dt
import gzip
import io
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Row = tuple[str | None, str | None]
HEADER = b"user_id,country\n"


@dataclass(frozen=True)
class Case:
    """One file of the table `users`, and either its rows by first line (a text there is a problem), or what is said
    when it is refused."""

    name: str
    data: bytes | Callable[[Path], None]
    rows: Mapping[int, Row | str] = field(default_factory=dict)
    refused: str = ""
    file: str = "part.csv"
    settings: Mapping[str, object] = field(default_factory=dict)
    is_native: bool = False

    def write(self, home: Path) -> Path:
        path = home / "raw" / "users" / "dt=2026-03-01" / self.file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self.data, bytes):
            path.write_bytes(self.data)
        else:
            self.data(path)
        return path


def parquet(columns: Mapping[str, object], **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), sink, **options)
    return sink.getvalue()


def zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


def broken_page() -> bytes:
    """A Parquet file whose footer is whole and whose pages are not."""
    told = parquet({"user_id": ["anna"] * 9, "country": ["DE"] * 9}, compression="none", write_page_checksum=True)
    return told.replace(b"anna", b"anno", 1)


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def linked_folder(path: Path) -> None:
    (path.parents[3] / "elsewhere").mkdir()
    path.symlink_to(path.parents[3] / "elsewhere")


def listening(path: Path) -> None:
    """A socket; its path may be longer than a socket's address may be."""
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


ANNA: Row = ("anna", "DE")
BEN: Row = ("ben", "FR")
TWO = {2: ANNA, 3: BEN}
PLAIN = HEADER + b"anna,DE\nben,FR\n"
LINES = b'{"user_id": "anna", "country": "DE"}\n{"user_id": "ben", "country": "FR"}\n'
NAMED = {"user_id": ["anna", "ben"], "country": ["DE", "FR"]}
UNPARSABLE = "unparsable_row"
FORMULA = b'=HYPERLINK(""http://x"")'

ENCODINGS = [
    Case("utf-8 with a byte-order mark", b"\xef\xbb\xbf" + PLAIN, TWO),
    Case("utf-16 little endian", PLAIN.decode().encode("utf-16"), TWO),
    Case("utf-16 big endian", b"\xfe\xff" + PLAIN.decode().encode("utf-16-be"), TWO),
    Case("utf-32", PLAIN.decode().encode("utf-32"), TWO),
    Case("utf-16 cut in a character", PLAIN.decode().encode("utf-16")[:-3], {2: ANNA, 3: "invalid_encoding"}),
    Case("utf-16 told without a mark", PLAIN.decode().encode("utf-16-le"), TWO, settings={"files.users.encoding": "utf-16-le"}),
    Case("utf-8", HEADER + "jürgen,DE\n李,CN\n😀,FR\n".encode(), {2: ("jürgen", "DE"), 3: ("李", "CN"), 4: ("😀", "FR")}),
    Case("cp1252 by its letters", HEADER + "jürgen,DE\nzoë,FR\n".encode("cp1252"), {2: ("jürgen", "DE"), 3: ("zoë", "FR")}),
    Case("cp1252 told", HEADER + "jürgen,€\n".encode("cp1252"), {2: ("jürgen", "€")}, settings={"files.users.encoding": "cp1252"}),
    Case("a byte that cp1252 lacks", HEADER + "jürgen,DE\nzoë,FR\n".encode("cp1252") + b"x\x81,DE\n", {2: ("jürgen", "DE"), 3: ("zoë", "FR"), 4: "invalid_encoding"}),
    Case("latin-1 told", HEADER + "zoë,FR\n".encode("latin-1"), {2: ("zoë", "FR")}, settings={"files.users.encoding": "latin-1"}),
    Case("one line that is no utf-8", HEADER + "jürgen,DE\nzoë,FR\n".encode() + b"x\xff,DE\nben,FR\n", {2: ("jürgen", "DE"), 3: ("zoë", "FR"), 4: "invalid_encoding", 5: BEN}),
    Case("half a character at the end", HEADER + "jü,DE\nzoë,FR\nx".encode() + b"\xc3", {2: ("jü", "DE"), 3: ("zoë", "FR"), 4: "invalid_encoding"}),
    Case("a surrogate in utf-8", HEADER + "jü,DE\nzoë,FR\n".encode() + b"\xed\xa0\x80,DE\n", {2: ("jü", "DE"), 3: ("zoë", "FR"), 4: "invalid_encoding"}),
    Case("a mark inside the file", PLAIN + b"\xef\xbb\xbfzoe,DE\n", {**TWO, 4: ("zoe", "DE")}),
    Case("text that is told to be ascii", HEADER + "jü,DE\nben,FR\n".encode(), {2: "invalid_encoding", 3: BEN}, settings={"files.users.encoding": "ascii"}),
]  # fmt: skip
DIALECTS = [
    Case("semicolons", PLAIN.replace(b",", b";"), TWO),
    Case("tabs", PLAIN.replace(b",", b"\t"), TWO, file="part.tsv"),
    Case("bars", PLAIN.replace(b",", b"|"), TWO, file="part.txt"),
    Case("commas in fields of semicolons", b"user_id;country\nanna;DE,AT,CH\n", {2: ("anna", "DE,AT,CH")}),
    Case("a delimiter that is told", PLAIN.replace(b",", b"^"), TWO, settings={"files.users.delimiter": "^"}),
    Case("a delimiter that is not ASCII", PLAIN, refused="two different ASCII characters", settings={"files.users.delimiter": "§"}),
    Case("another quote", HEADER + b"'an,na',DE\n", {2: ("an,na", "DE")}, settings={"files.users.quote": "'"}),
    Case("no header", b"anna,DE\nben,FR\n", {1: ANNA, 2: BEN}, settings={"files.users.header": ["user_id", "country"]}),
    Case("a header that is told too", PLAIN, TWO, settings={"files.users.header": ["user_id", "country"]}),
    Case("a mapped header", b"kunde;land\nanna;DE\n", {2: ANNA}, settings={"columns.users.user_id": "kunde", "columns.users.country": "land"}),
    Case("spaces in the header", b" user_id , country\nanna,DE\n", {2: ANNA}),
    Case("a quoted header", b'"user_id","country"\n"anna","DE"\n', {2: ANNA}),
    Case("a name twice", b"user_id,country,user_id\nanna,DE,other\n", {2: ANNA}),
    Case("a break in a column's name", b'user_id,country,"more\n\nof it"\nanna,DE,1\n', {4: ANNA}),
    Case("a column that nobody needs", b"a,user_id,b,country\n1,anna,2,DE\n", {2: ANNA}),
    Case("a missing column", b"user_id\nanna\n", {2: ("anna", None)}),
    Case("CRLF", PLAIN.replace(b"\n", b"\r\n"), TWO),
    Case("lone CR", PLAIN.replace(b"\n", b"\r"), TWO),
    Case("CRLF and LF mixed", HEADER + b"anna,DE\r\nben,FR\n", TWO),
    Case("a lone CR in a field of LF lines", HEADER + b"an\rna,DE\nben,FR\n", {2: ("an\rna", "DE"), 3: BEN}),
    Case("CR CR LF", HEADER + b"anna,DE\r\r\nben,FR\n", {2: ANNA, 3: BEN}),
    Case("an old Mac's line feed in quotes", b'user_id,country\r"an\nna",DE\rben,FR\r', {2: ("an\nna", "DE"), 3: BEN}),
    Case("no final break", PLAIN[:-1], TWO),
    Case("blank lines", b"\n\n" + HEADER + b"\nanna,DE\n   \n\t\nben,FR\n\n\n", {5: ANNA, 8: BEN}),
    Case("blank CRLF lines", HEADER + b"\r\nanna,DE\r\n\r\nben,FR\r\n", {3: ANNA, 5: BEN}),
    Case("header only", HEADER, {}),
    Case("header without break", HEADER[:-1], {}),
    Case("empty", b"", {}),
    Case("blank lines only", b"\n \n\n", {}),
    Case("empty fields", HEADER + b'anna,\n,\n"",""\n', {2: ("anna", None), 3: (None, None), 4: (None, None)}),
    Case("words that are no nulls", HEADER + b"NULL,NA\nnan,\\N\n", {2: ("NULL", "NA"), 3: ("nan", "\\N")}),
    Case("space around values", HEADER + "  anna\u00a0, D E\t\n \u3000,\t\n".encode(), {2: ("anna", "D E"), 3: (None, None)}),
]  # fmt: skip
QUOTES = [
    Case("a delimiter in quotes", HEADER + b'"an,na",DE\n', {2: ("an,na", "DE")}),
    Case("quotes in quotes", HEADER + b'"an""na","""DE"""\n', {2: ('an"na', '"DE"')}),
    Case("a break in quotes", HEADER + b'"an\nna",DE\nben,FR\n', {2: ("an\nna", "DE"), 4: BEN}),
    Case("CRLF in quotes", HEADER + b'"an\r\nna",DE\r\nben,FR\r\n', {2: ("an\r\nna", "DE"), 4: BEN}),
    Case("blank lines in quotes", HEADER + b'"an\n\n\nna",DE\nben,FR\n', {2: ("an\n\n\nna", "DE"), 6: BEN}),
    Case("breaks in two fields", HEADER + b'"a\nb","c\nd"\nben,FR\n', {2: ("a\nb", "c\nd"), 5: BEN}),
    Case("rows in quotes", HEADER + b'"x\nanna,DE\ny",DE\nben,FR\n', {2: ("x\nanna,DE\ny", "DE"), 5: BEN}),
    Case("doubled quotes beside breaks", HEADER + b'"a""\n""b",DE\nben,FR\n', {2: ('a"\n"b', "DE"), 4: BEN}),
    Case("an inch sign", HEADER + b'5" disk,DE\nben,FR\n', {2: ('5" disk', "DE"), 3: BEN}),
    Case("two inch signs", HEADER + b'5" x 7",D"E\nben,FR\n', {2: ('5" x 7"', 'D"E'), 3: BEN}),
    Case("an unclosed quote at the start", HEADER + b'"anna,DE\nben,FR\nzoe,DE\n', {2: UNPARSABLE, 3: BEN, 4: ("zoe", "DE")}),
    Case("an unclosed quote in the last field", HEADER + b'anna,"DE\nben,FR\n', {2: UNPARSABLE, 3: BEN}),
    Case("an unclosed quote in the last line", HEADER + b'ben,FR\nanna,"DE', {2: BEN, 3: UNPARSABLE}),
    Case("several unclosed quotes", HEADER + b'"anna,DE\nben,FR\n"zoe,DE\nben,FR\n', {2: UNPARSABLE, 3: BEN, 4: UNPARSABLE, 5: BEN}),
    Case("a quote that opens late", HEADER + b'x"y,"z\nben,FR\n', {2: UNPARSABLE, 3: BEN}),
    Case("text after a closing quote", HEADER + b'"an"na,DE\nben,FR\n', {2: UNPARSABLE, 3: BEN}),
    Case("a space before a quote", HEADER + b'anna, "DE"\n', {2: ("anna", '"DE"')}),
    Case("a quote alone", HEADER + b'"\nben,FR\n', {2: UNPARSABLE, 3: BEN}),
    Case("a backslash is a letter", HEADER + b'"an\\",DE\na\\,FR\n', {2: ("an\\", "DE"), 3: ("a\\", "FR")}),
    Case("quotes around all", HEADER + b'"anna","DE"\n"ben","FR"\n', TWO),
    Case("a quote over the end of a block", HEADER + b'anna,DE\n"' + b"x" * 300 + b'\ny",DE\nben,FR\n', {2: ANNA, 3: ("x" * 300 + "\ny", "DE"), 5: BEN}),
    Case("too few fields", HEADER + b"anna\nben,FR\n", {2: UNPARSABLE, 3: BEN}),
    Case("too many fields", HEADER + b"anna,DE,x\nben,FR\n", {2: UNPARSABLE, 3: BEN}),
    Case("ragged rows everywhere", HEADER + b"a\nanna,DE\nb,c,d\nben,FR\n,,\n", {2: UNPARSABLE, 3: ANNA, 4: UNPARSABLE, 5: BEN, 6: UNPARSABLE}),
    Case("only ragged rows", HEADER + b"a\nb\n", {2: UNPARSABLE, 3: UNPARSABLE}),
]  # fmt: skip
BYTES = [
    Case("a NUL", HEADER + b"an\0na,DE\nben,FR\n", {2: "nul_byte", 3: BEN}),
    Case("a NUL in quotes with a break", HEADER + b'"an\n\0na",DE\nben,FR\n', {2: "nul_byte", 4: BEN}),
    Case("a tail of NULs", PLAIN + b"\0" * 500, {**TWO, 4: "nul_byte"}),
    Case("a long row", HEADER + b"x" * 1024 + b",D\nben,FR\n", {2: "oversized_row", 3: BEN}, settings={"clean.max_row_kb": 1}),
    Case("a row as long as allowed", HEADER + b"x" * 1022 + b",D\nben,FR\n", {2: ("x" * 1022, "D"), 3: BEN}, settings={"clean.max_row_kb": 1}),
    Case("a huge line", HEADER + b"x" * (20 << 20) + b"\nben,FR\n", {2: "oversized_row", 3: BEN}),
    Case("a huge line at the end", PLAIN + b"x" * (20 << 20), {**TWO, 4: "oversized_row"}),
    Case("a huge JSON line", b'{"user_id": "' + b"x" * (20 << 20) + b'"}\n' + LINES, {1: "oversized_row", 2: ANNA, 3: BEN}, file="part.jsonl"),
    Case("a quote open for longer than a row", HEADER + b'"' + b"x\n" * 600 + b'",DE\nben,FR\n', {2: UNPARSABLE, **dict.fromkeys(range(3, 602), UNPARSABLE), 602: UNPARSABLE, 603: BEN}, settings={"clean.max_row_kb": 1}),
    Case("an overlong id", HEADER + b"x" * 70_000 + b",DE\n", {2: ("x" * 70_000, "DE")}),
    Case("SQL", HEADER + b"'; drop table users; --,DE\n", {2: ("'; drop table users; --", "DE")}),
    Case("a template", HEADER + b"{{ 7 * 7 }},{% raw %}\n", {2: ("{{ 7 * 7 }}", "{% raw %}")}),
    Case("markup", HEADER + b"<script>alert(1)</script>,&amp;\n", {2: ("<script>alert(1)</script>", "&amp;")}),
    Case("a formula", HEADER + b'"' + FORMULA + b'",+1\n', {2: ('=HYPERLINK("http://x")', "+1")}),
    Case("control characters", HEADER + b"a\x0b\x0c\x1c\x7f\xc2\x85,\xe2\x80\xa8\n", {2: ("a\x0b\x0c\x1c\x7f\x85", "\u2028")}),
    Case("random bytes", bytes(range(128, 256)) * 40, {1: "invalid_encoding"}, settings={"files.users.header": ["user_id", "country"]}),
]  # fmt: skip
PACKED = [
    Case("gzip", gzip.compress(PLAIN), TWO, file="part.csv.gz"),
    Case("gzip of two members", gzip.compress(PLAIN[:20]) + gzip.compress(PLAIN[20:]), TWO, file="part.csv.gz"),
    Case("gzip of nothing", gzip.compress(b""), {}, file="part.csv.gz"),
    Case("gzip under a plain name", gzip.compress(PLAIN), TWO),
    Case("plain under a packed name", PLAIN, TWO, file="part.csv.gz"),
    Case("zstd", zstd(PLAIN), TWO, file="part.csv.zst"),
    Case("zstd under the name of gzip", zstd(PLAIN), TWO, file="part.csv.gz"),
    Case("zstd of two frames", zstd(PLAIN[:20]) + zstd(PLAIN[20:]), TWO, file="part.csv.zst"),
    Case("JSON lines in zstd", zstd(LINES), {1: ANNA, 2: BEN}, file="part.jsonl.zst"),
    Case("gzip that is cut off", gzip.compress(os.urandom(9000))[:5000], refused="is cut off or broken", file="part.csv.gz"),
    Case("gzip without its last bytes", gzip.compress(PLAIN)[:-3], refused="is cut off or broken", file="part.csv.gz"),
    Case("gzip with a wrong sum", gzip.compress(PLAIN)[:-8] + bytes(8), refused="is cut off or broken", file="part.csv.gz"),
    Case("gzip with garbage behind", gzip.compress(PLAIN) + b"garbage", refused="Deliver the file of 2026-03-01 again", file="part.csv.gz"),
    Case("a gzip head alone", b"\x1f\x8b", refused="is cut off or broken", file="part.csv.gz"),
    Case("zstd that is cut off", zstd(os.urandom(9000))[:5000], refused="is cut off or broken", file="part.csv.zst"),
    Case("zstd with garbage behind", zstd(PLAIN) + b"garbage", refused="is cut off or broken", file="part.csv.zst"),
    Case("a bomb", gzip.compress(bytes(50 << 20)), refused="more than 1 MiB once unpacked", settings={"clean.max_file_mb": 1}),
    Case("a bomb of zstd", zstd(bytes(50 << 20)), refused="more than 1 MiB once unpacked", settings={"clean.max_file_mb": 1}),
    Case("a large plain file", HEADER + b"anna,DE\n" * (1 << 18), refused="more than 1 MiB", settings={"clean.max_file_mb": 1}),
    Case("packed twice", gzip.compress(gzip.compress(PLAIN)), refused="is packed twice", file="part.csv.gz"),
    Case("a workbook", b"PK\x03\x04rest", refused="an Excel workbook"),
    Case("bzip2", b"BZh91AY&SY", refused="packed with bzip2"),
    Case("an unknown ending", PLAIN, refused="no known format", file="part.dat"),
    Case("no ending", PLAIN, refused="no known format", file="part"),
]  # fmt: skip
DEEP = b'{"user_id": ' + b'{"a": ' * 5000 + b"1" + b"}" * 5000 + b', "country": "DE"}\n'
JSON = [
    Case("JSON lines", LINES, {1: ANNA, 2: BEN}, file="part.jsonl"),
    Case("JSON lines by another name", LINES, {1: ANNA, 2: BEN}, file="part.json"),
    Case("JSON lines without final break", LINES[:-1], {1: ANNA, 2: BEN}, file="part.ndjson"),
    Case("JSON lines with CRLF, blank lines and a mark", b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n\r\n"), {1: ANNA, 3: BEN}, file="part.jsonl"),
    Case("JSON lines in utf-16", LINES.decode().encode("utf-16"), {1: ANNA, 2: BEN}, file="part.jsonl"),
    Case("one JSON array", b'[\n  {"user_id": "anna"}\n]\n', refused="one JSON array", file="part.json.gz"),
    Case("arrays, scalars and text", b'[1]\n5\n"text"\nnull\nno json\n' + LINES, {**dict.fromkeys(range(1, 6), UNPARSABLE), 6: ANNA, 7: BEN}, file="part.jsonl"),
    Case("cut-off JSON", LINES + b'{"user_id": "zo', {1: ANNA, 2: BEN, 3: UNPARSABLE}, file="part.jsonl"),
    Case("two objects on a line", LINES + LINES.replace(b"\n", b" "), {1: ANNA, 2: BEN, 3: UNPARSABLE}, file="part.jsonl"),
    Case("a key twice", b'{"user_id": "anna", "user_id": "ben", "country": "DE"}\n', {1: ANNA}, file="part.jsonl"),
    Case("a key twice with a long number", b'{"user_id": 1e5, "user_id": 7, "country": "DE"}\n', {1: ("1e5", "DE")}, file="part.jsonl"),
    Case("null and absent", b'{"user_id": null}\n', {1: (None, None)}, file="part.jsonl"),
    Case("an empty text", b'{"user_id": "", "country": ""}\n', {1: (None, None)}, file="part.jsonl"),
    Case("values that are no text", b'{"user_id": 7, "country": true}\n{"user_id": 1.10, "country": [1, {"a": null}]}\n', {1: ("7", "true"), 2: ("1.10", '[1,{"a":null}]')}, file="part.jsonl"),
    Case("NaN", b'{"user_id": NaN, "country": "DE"}\n', {1: ("NaN", "DE")}, file="part.jsonl"),
    Case("huge numbers", b'{"user_id": 123456789012345678901234567890, "country": 1E400}\n', {1: ("123456789012345678901234567890", "1E400")}, file="part.jsonl"),
    Case("long decimals", b'{"user_id": 0.1234567890123456789, "country": 12345678901.123}\n', {1: ("0.1234567890123456789", "12345678901.123")}, file="part.jsonl"),
    Case("escapes", b'{"user_id": "a\\u00e9\\n\\t\\"\\\\\\/", "country": "\\ud83d\\ude00"}\n', {1: ('aé\n\t"\\/', "😀")}, file="part.jsonl"),
    Case("an escaped NUL", b'{"user_id": "a\\u0000", "country": "DE"}\n' + LINES, {1: "nul_byte", 2: ANNA, 3: BEN}, file="part.jsonl"),
    Case("a text about an escape", b'{"user_id": "\\\\u0000", "country": "DE"}\n', {1: ("\\u0000", "DE")}, file="part.jsonl"),
    Case("a lone surrogate", b'{"user_id": "\\ud800", "country": "DE"}\n' + LINES, {1: UNPARSABLE, 2: ANNA, 3: BEN}, file="part.jsonl"),
    Case("JSON that is no utf-8", "{\"user_id\": \"é\"}\n{\"user_id\": \"è\"}\n".encode() + b'{"user_id": "\xff"}\n', {1: ("é", None), 2: ("è", None), 3: "invalid_encoding"}, file="part.jsonl"),
    Case("a NUL between JSON", LINES + b'{"user_id": "a\0"}\n', {1: ANNA, 2: BEN, 3: "nul_byte"}, file="part.jsonl"),
    Case("deep JSON", DEEP + LINES, {1: ("{\"a\":" * 5000 + "1" + "}" * 5000, "DE"), 2: ANNA, 3: BEN}, file="part.jsonl"),
    Case("brackets without end", b"[" * 100_000 + b"\n" + LINES, {1: UNPARSABLE, 2: ANNA, 3: BEN}, file="part.jsonl"),
    Case("odd keys", b'{"a.b": "anna", "it\'s \\"so\\" ~/x": "DE", "a": {"b": "no"}}\n', {1: ANNA}, file="part.jsonl", settings={"columns.users.user_id": "a.b", "columns.users.country": "it's \"so\" ~/x"}),
    Case("a key that is a number", b'{"0": "anna", "$": "DE"}\n', {1: ANNA}, file="part.jsonl", settings={"columns.users.user_id": "0", "columns.users.country": "$"}),
    Case("empty JSON lines", b"", {}, file="part.jsonl"),
]  # fmt: skip
BERLIN = dt.timezone(dt.timedelta(hours=1))
PARQUET = [
    Case("Parquet", parquet(NAMED), {1: ANNA, 2: BEN}, file="part.parquet", is_native=True),
    Case("Parquet under another name", parquet(NAMED), {1: ANNA, 2: BEN}, is_native=True),
    Case("empty Parquet", parquet({name: pa.array([], pa.string()) for name in NAMED}), {}, file="part.parquet", is_native=True),
    Case("Parquet in gzip", gzip.compress(parquet(NAMED)), {1: ANNA, 2: BEN}, file="part.parquet.gz", is_native=True),
    Case("Parquet in zstd, nested", zstd(parquet({"user_id": [["a"], None]})), {1: ('["a"]', None), 2: (None, None)}, file="part.parquet.zst"),
    Case("numbers", parquet({"user_id": [1, 2], "country": [1.5, None]}), {1: ("1", "1.5"), 2: ("2", None)}, file="part.parquet", is_native=True),
    Case("dictionaries", parquet({"user_id": pa.array(["anna", "ben"]).dictionary_encode(), "country": ["DE", "FR"]}), {1: ANNA, 2: BEN}, file="part.parquet", is_native=True),
    Case("large text", parquet({"user_id": pa.array(["anna"], pa.large_string()), "country": ["DE"]}), {1: ANNA}, file="part.parquet", is_native=True),
    Case("nanoseconds", parquet({"user_id": pa.array([1_500], pa.timestamp("ns")), "country": ["DE"]}), {1: ("1970-01-01T00:00:00.000001", "DE")}, file="part.parquet"),
    Case("nanoseconds of a zone", parquet({"user_id": pa.array([0], pa.timestamp("ns", "Europe/Berlin"))}), {1: ("1970-01-01T00:00:00.000000Z", None)}, file="part.parquet"),
    Case("microseconds", parquet({"user_id": [dt.datetime(2026, 3, 1, 10, tzinfo=BERLIN)]}), {1: ("2026-03-01T09:00:00.000000Z", None)}, file="part.parquet", is_native=True),
    Case("legacy times", parquet({"user_id": [dt.datetime(2026, 3, 1)]}, use_deprecated_int96_timestamps=True), {1: ("2026-03-01T00:00:00.000000", None)}, file="part.parquet", is_native=True),
    Case("structs", parquet({"user_id": [{"a": 1, "b": "é"}], "country": ["DE"]}), {1: ('{"a": 1, "b": "é"}', "DE")}, file="part.parquet"),
    Case("decimals", parquet({"user_id": [Decimal("12.50")]}), {1: ("12.50", None)}, file="part.parquet"),
    Case("unsigned 64 bits", parquet({"user_id": pa.array([2**64 - 1], pa.uint64())}), {1: (str(2**64 - 1), None)}, file="part.parquet"),
    Case("half floats", parquet({"user_id": pa.array([2.0, 1.5, None], pa.float16())}), {1: ("2", None), 2: ("1.5", None), 3: (None, None)}, file="part.parquet"),
    Case("bytes", parquet({"user_id": [b"anna", b"\xff", b"a\0"], "country": ["DE"] * 3}), {1: ANNA, 2: "invalid_encoding", 3: "nul_byte"}, file="part.parquet"),
    Case("a NUL in Parquet", parquet({"user_id": ["a\0", "ben"], "country": ["DE", "FR"]}), {1: "nul_byte", 2: BEN}, file="part.parquet"),
    Case("padded text", parquet({"user_id": ["anna  ", "ben"], "country": ["DE", " "]}), {1: ANNA, 2: ("ben", None)}, file="part.parquet"),
    Case("only nulls", parquet({"user_id": pa.nulls(2), "country": ["DE", None]}), {1: (None, "DE"), 2: (None, None)}, file="part.parquet"),
    Case("names that differ by case", parquet({"user_id": ["anna"], "USER_ID": ["no"], "country": ["DE"]}), {1: ANNA}, file="part.parquet"),
    Case("a column too much of any type", parquet({**NAMED, "more": [{"a": [1]}, None]}), {1: ANNA, 2: BEN}, file="part.parquet", is_native=True),
    Case("a cut footer", parquet(NAMED)[:-6], refused="is cut off or broken", file="part.parquet"),
    Case("only the beginning", parquet(NAMED)[:40], refused="is cut off or broken", file="part.parquet"),
    Case("a broken page", broken_page(), refused="is cut off or broken", file="part.parquet"),
    Case("no Parquet", PLAIN, refused="is cut off or broken", file="part.parquet"),
    Case("nothing in Parquet", b"", refused="is cut off or broken", file="part.parquet"),
    Case("Parquet in cut-off gzip", gzip.compress(parquet(NAMED))[:-9], refused="is cut off or broken", file="part.parquet.gz"),
    Case("a bomb of Parquet", parquet({"user_id": ["x" * 4_000_000], "country": ["DE"]}, compression="zstd"), refused="more than 1 MiB", file="part.parquet", settings={"clean.max_file_mb": 1}),
]  # fmt: skip
PLACES = [
    *(Case(f"the name {name!a}", PLAIN, TWO, file=name) for name in (
        "-rf.csv", "a b%20.csv", "';drop table x;--.csv", "a\nb.csv", "größe 😀.csv", 'quote".csv', "{a,b}*?[c].csv",
        "a=b,c.csv", "PART.CSV", "x.2026.csv", "$HOME `ls`.csv", "deep/er/part.csv",
    )),
    *(Case(f"the hidden name {name}", PLAIN, {}, file=name) for name in (
        ".part.csv", "_SUCCESS", "_temporary/0/part.csv", ".ipynb_checkpoints/part.csv",
    )),
    Case("a name that is not UTF-8", PLAIN, refused="Rename the file", file=os.fsdecode(b"gr\xf6\xdfe.csv")),
    Case("a link to a file", link("/etc/hostname"), refused="part.csv is a symbolic link"),
    Case("a link to nothing", link("nowhere"), refused="is a symbolic link"),
    Case("a link upwards", link("../../../.."), refused="is a symbolic link"),
    Case("a link to itself", link("part.csv"), refused="is a symbolic link"),
    Case("a linked folder", linked_folder, refused="folder is a symbolic link", file="folder"),
    Case("a pipe", os.mkfifo, refused="part.csv is a pipe"),
    Case("a socket", listening, refused="part.csv is a pipe, a device or a socket"),
]  # fmt: skip
CASES = [*ENCODINGS, *DIALECTS, *QUOTES, *BYTES, *PACKED, *JSON, *PARQUET, *PLACES]
