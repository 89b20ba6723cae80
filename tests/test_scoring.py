"""Scoring on Spark's executors gives the bytes that one process gives, whatever becomes of an executor."""

import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pyarrow as pa
import pytest

from pipelines import settings, spark
from pipelines.errors import NightshelfError, StageNotReady
from pipelines.fuse import scoring
from pipelines.run import Run, write_json

BLOCK = 8  # users, so that a small shop has enough blocks for an executor to die amid them
TRAINED = ("build", "train_als", "train_neighbours", "train_profile")
ON_A_CLUSTER = {
    "clean": {"spark_master": "local-cluster[2,1,1024]"},
    "fuse": {"engine": "spark"},
    "shelve": {"engine": "spark"},
}
SCORED = """
import sys
from pathlib import Path
from pipelines.fuse import scoring
from pipelines.run import Run

scoring.USERS_PER_BLOCK = int(sys.argv[3])
scoring.write(Run.load(sys.argv[2], Path(sys.argv[1])), Path(sys.argv[4]))
"""


def on_a_cluster(night: Run, home: Path) -> Run:
    """The night as another run, whose settings name two executors of their own processes."""
    told = settings.parse(
        {name: part | ON_A_CLUSTER.get(name, {}) if isinstance(part, dict) else part
         for name, part in night.settings.model_dump(mode="json").items()}
    )  # fmt: skip
    run = replace(night, home=home, run_id="2026-03-01.cluster", label="cluster", settings=told)
    for stage in TRAINED:
        shutil.copytree(night.folder / stage, run.folder / stage, copy_function=shutil.copy)
        write_json(run.folder / stage / "stage.json", {"stage": stage, "fingerprint": run.fingerprint})
    run.save()
    return run


def rankings_of(night: Run, folder: Path) -> Path:
    """A folder with the rankings of a night and nothing else."""
    folder.mkdir()
    for name in ("fusion.json", "for_you.json", "discover.json"):
        shutil.copy(night.of("fuse", name), folder)
    return folder


def kill_an_executor(process: subprocess.Popen, blocks: Path, count: int) -> None:
    """Once the first block is written and both are at work; fails when all blocks were."""
    while process.poll() is None:
        written, found = len(list(blocks.rglob("part-*.parquet"))), executors(process)
        if written and len(found) == 2:
            found[0].kill()
            assert written < count
            return
        time.sleep(0.02)
    pytest.fail("the job ended before an executor was killed")


def executors(process: subprocess.Popen) -> list[psutil.Process]:
    """Those at work; one that ends while it is looked at is none."""
    found = []
    for one in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):
            found += [one] * ("CoarseGrainedExecutorBackend" in " ".join(one.cmdline()))
    return found


@pytest.mark.slow
def test_two_executors_one_killed_score_as_one_process_does(night: Run, tmp_path: Path, monkeypatch):
    """Candidates are the same file byte for byte, and nothing else is left in the folder."""
    monkeypatch.setattr(scoring, "USERS_PER_BLOCK", BLOCK)
    here = rankings_of(night, tmp_path / "here")
    scoring.write(night, here)
    there, run = rankings_of(night, tmp_path / "there"), on_a_cluster(night, tmp_path / "home")
    command = [sys.executable, "-c", SCORED, run.home, run.run_id, BLOCK, there]
    process = subprocess.Popen(list(map(str, command)))
    count = -(-len(scoring.Scorer.load(night, here).users) // BLOCK)
    kill_an_executor(process, there / "blocks", count)
    assert process.wait(timeout=300) == 0
    assert (there / "candidates.parquet").read_bytes() == (here / "candidates.parquet").read_bytes()
    assert sorted(path.name for path in there.iterdir()) == sorted(path.name for path in here.iterdir())


@pytest.mark.slow
def test_tables_come_in_order_and_errors_as_they_were_raised(tmp_path: Path):
    """A number without rows is left out; what an executor says for a person is that error here, with its cure."""
    schema = pa.schema([("name", pa.string()), ("number", pa.int32())])

    def table(number: int) -> pa.Table:
        if number == 9:
            raise StageNotReady("nine has not finished: run it")
        return pa.table([[str(number)] * (number % 3), [number] * (number % 3)], schema)

    run = SimpleNamespace(home=tmp_path, run_id="r", settings=settings.Settings())
    with spark.session(run, 1) as session:
        found = list(spark.tables(session, table, range(2, 8), schema, tmp_path / "good"))
        assert [one["number"].to_pylist() for one in found] == [[2, 2], [4], [5, 5], [7]]
        assert {one.schema for one in found} == {schema}
        with pytest.raises(NightshelfError, match=r"^nine has not finished: run it$") as told:
            list(spark.tables(session, table, range(8, 10), schema, tmp_path / "bad"))
        assert type(told.value) is StageNotReady
