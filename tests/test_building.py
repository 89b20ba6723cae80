"""Shelves built on Spark's executors are those that one process builds, whatever becomes of an executor."""

import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.growing import Growing
from pipelines.run import Run, write_json
from pipelines.shelve import blocks
from pipelines.shelve.building import TABLES, Builder
from pipelines.shelve.effects import Tally
from tests.test_scoring import executors, on_a_cluster

USERS = 2  # of a row group of candidates, so that a small shop has enough parts for an executor to die amid them
BUILT = """
import sys
from pathlib import Path
from pipelines.run import Run
from pipelines.shelve.building import Builder

print(Builder.load(Run.load(sys.argv[2], Path(sys.argv[1]))).write(Path(sys.argv[3])).rows)
"""


def in_small_groups(night: Run, run: Run) -> None:
    """The night's candidates as those of the run, with few users in a row group."""
    candidates = pq.read_table(night.of("fuse", "candidates.parquet"))
    (run.folder / "fuse").mkdir()
    users = sorted(set(candidates["user"].to_pylist()))
    owners = candidates["user"].to_numpy()
    with pq.ParquetWriter(run.folder / "fuse" / "candidates.parquet", candidates.schema) as writer:
        for start in range(0, len(users), USERS):
            first, last = users[start], users[min(start + USERS, len(users)) - 1]
            writer.write_table(candidates.filter((owners >= first) & (owners <= last)))
    write_json(run.folder / "fuse" / "stage.json", {"stage": "fuse", "fingerprint": run.fingerprint})


@pytest.mark.slow
def test_two_executors_one_killed_build_what_one_process_builds(night: Run, tmp_path: Path):
    """Every table is the same file byte for byte, what rules did adds up, and nothing else is left in the folder."""
    run = on_a_cluster(night, tmp_path / "home")
    in_small_groups(night, run)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    builder, told, count = Builder.load(run), Tally(), blocks.count(run.of("fuse", "candidates.parquet"))
    with Growing(here) as tables:
        for number in range(count):
            builder.part(number, tables, told)
    command = [sys.executable, "-c", BUILT, run.home, run.run_id, there]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
    while len(begun := list(there.glob("parts/*"))) < 2 or len(found := executors(process)) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    found[0].kill()
    assert len(begun) < count
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert said.splitlines()[-1] == str(told.rows)
    for name in TABLES:
        assert (there / f"{name}.parquet").read_bytes() == (here / f"{name}.parquet").read_bytes(), name
    assert sorted(path.name for path in there.iterdir()) == sorted(f"{name}.parquet" for name in TABLES)
