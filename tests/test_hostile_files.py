"""Each broken or odd file gives exactly its rows and problems, or is refused by name; none stops the others."""

import datetime as dt
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines import contracts, raw
from pipelines.clean import books, landing
from pipelines.clean.lake import Partition
from pipelines.errors import BadInput, BadSetting
from pipelines.raw import RawFile, stream
from pipelines.settings import Settings, load
from tests.hostile import CASES, Case, Row

DAY = dt.date(2026, 3, 1)
SMALL = 64  # bytes of a chunk when records shall lie over the ends of blocks


def landed(home: Path, case: Case) -> list[tuple[RawFile, landing.Landed]]:
    case.write(home)
    settings = load(home, case.settings, {})
    files = raw.inventory(home, DAY, ["users"], settings)
    return [(file, land(home, file, settings, number)) for number, file in enumerate(files)]


def land(home: Path, file: RawFile, settings: Settings, number: int) -> landing.Landed:
    table, target = contracts.raw_tables()["users"], home / "lake" / f"{number}.parquet"
    return landing.land(file, home, table, settings.columns.users, settings.clean, target, number)


def rows(path: Path) -> dict[int, Row | str]:
    told = pq.read_table(path).to_pylist()
    assert [row["line"] for row in told] == sorted(row["line"] for row in told)
    broken = [row for row in told if row["problem"]]
    assert not any(row["user_id"] or row["country"] for row in broken)
    return {row["line"]: row["problem"] or (row["user_id"], row["country"]) for row in told}


@pytest.mark.parametrize("case", [case for case in CASES if not case.refused], ids=lambda case: case.name)
def test_a_file_gives_its_rows(tmp_path: Path, case: Case):
    """Each row or problem stands at its line, and every line is accounted for."""
    for file, done in landed(tmp_path, case):
        assert (done.is_native, done.count_lines) == (case.is_native, file.count_lines)
        assert done.count_rows == len(case.rows)
        if not done.is_native:
            assert rows(done.path) == case.rows
        elif case.rows:
            assert pq.read_table(done.path, columns=["user_id"]).num_rows == len(case.rows)
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if not c.refused and isinstance(c.data, bytes) and len(c.data) < 30_000 and not c.is_native],
    ids=lambda case: case.name,
)
def test_the_same_in_small_blocks(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch):
    """Records that begin in one block and end in another are read as if there were no blocks."""
    monkeypatch.setattr(landing, "text", partial(stream.text, size=SMALL))
    for _, done in landed(tmp_path, case):
        assert rows(done.path) == case.rows


@pytest.mark.parametrize("case", [case for case in CASES if case.refused], ids=lambda case: case.name)
def test_a_file_is_refused(tmp_path: Path, case: Case):
    """The message says what and where on one line; nothing half-written stays."""
    with pytest.raises((BadInput, BadSetting)) as told:
        landed(tmp_path, case)
    assert case.refused in str(told.value)
    assert str(told.value).isprintable()
    assert not list((tmp_path / "lake").glob("*.parquet*"))


def test_there_are_many_and_each_has_a_name():
    """The corpus may grow; it never shrinks below what was promised."""
    assert len({case.name for case in CASES}) == len(CASES) >= 60


def test_a_message_quotes_a_row_on_one_line():
    """What a file says acts on no terminal and floods no log when a night is refused for it."""
    pending = [Partition("users", DAY, "key", (), {}, Path("lake"))]
    record = {"rule": "unparsable_row", "count_rows": 1, "example": "\x1b[2J\u202e\n" + "x" * 9000}
    with pytest.raises(BadInput, match=r"for example \\x1b\[2J\\u202e\\nxxx") as told:
        books.refuse_flood(pending, [record], 0.5)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 1000
