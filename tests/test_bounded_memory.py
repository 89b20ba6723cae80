"""A raw file is read with memory that does not grow with it, however well it is packed and however long its lines."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

UNPACKED = 256 << 20
GROWTH_MB = 160  # what reading may add to a process: some blocks of 8 MiB and what they become
READ = """
import datetime as dt, json, resource, sys
from pathlib import Path
from pipelines import contracts, raw
from pipelines.clean import landing
from pipelines.settings import Settings

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10

home, before = Path(sys.argv[1]), peak_mb()
(file,) = raw.inventory(home, dt.date(2026, 3, 1), ["users"])
table, target = contracts.raw_tables()["users"], home / "landed.parquet"
landed = landing.land(file, home, table, {}, Settings().clean, target, 0)
print(json.dumps([landed.count_rows, peak_mb() - before]))
"""


def packed_rows() -> Iterator[bytes]:
    block = (b"anna" * 63 + b",DE\n") * (1 << 12)
    yield b"user_id,country\n"
    yield from (block for _ in range(UNPACKED // len(block)))


def packed_line() -> Iterator[bytes]:
    block = b"x" * (1 << 20)
    yield b"user_id,country\nanna,DE\n"
    yield from (block for _ in range(UNPACKED // len(block)))
    yield b"\nben,FR\n"


@pytest.mark.slow
@pytest.mark.parametrize(("content", "count_rows"), [(packed_rows, UNPACKED // 256), (packed_line, 3)])
def test_a_packed_file_is_read_in_bounded_memory(
    tmp_path: Path, content: Callable[[], Iterator[bytes]], count_rows: int
):
    """A quarter of a GiB, packed to a hundredth, as a million rows or as one line: all rows, few MiB."""
    path = tmp_path / "raw" / "users" / "dt=2026-03-01" / "part.csv.gz"
    path.parent.mkdir(parents=True)
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.writelines(content())
    assert path.stat().st_size * 50 < UNPACKED
    told = subprocess.run([sys.executable, "-c", READ, tmp_path], capture_output=True, text=True, check=True)
    rows, growth_mb = json.loads(told.stdout)
    assert rows == count_rows
    assert growth_mb < GROWTH_MB
