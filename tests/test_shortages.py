"""A full disk and a lack of memory end a stage with what to do about them; nothing is left, and the night goes on."""

import errno
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark import SparkContext
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from pipelines import build, clean, publish, retention, settings, shortages, spark, warehouse
from pipelines import run as runs
from pipelines.build import BuildFailed
from pipelines.errors import NoMemory, NoRoom
from pipelines.night import STAGES, perform, reported
from pipelines.open import open_run
from pipelines.run import Run, stage
from tests.conftest import LAST_DAY, linked
from tests.lake import run_of

IS_LONG = bool(os.environ.get("LONG_FAULTS"))
TRIED = [name for name in STAGES if name not in ("clean", "publish")] if IS_LONG else ["admit", "shelve", "validate"]
ROOT = Path(__file__).resolve().parents[1]
NUMBERS = np.random.default_rng(17).random(10_000)
KILLED_JAVA = """
import sys
from pathlib import Path
from pyspark import SparkContext
from pipelines import spark
from tests.lake import run_of

run = run_of(Path(sys.argv[1]))
try:
    with spark.session(run, 1) as session:
        SparkContext._gateway.proc.kill()
        session.range(5).count()
except MemoryError as error:
    print(error)
with spark.session(run, 1) as session:
    print(session.range(5).count())
"""


@contextmanager
def room_for(size: int, process: int = 0) -> Iterator[None]:
    """No file of a process (0: this one, and what it starts) may grow beyond so many bytes."""
    soft, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, (soft, hard))


def copy_with_duckdb(folder: Path) -> None:
    duckdb.sql(f"copy (select random() from range(10000)) to '{folder / 'rows.parquet'}' (format parquet)")


def fill_a_database(folder: Path) -> None:
    with duckdb.connect(str(folder / "rows.duckdb")) as connection:
        connection.execute("create table numbers as select random() from range(10000)")


WRITERS: dict[str, Callable[[Path], object]] = {
    "text": lambda folder: (folder / "rows.txt").write_text("x" * 10_000),
    "json": lambda folder: runs.write_json(folder / "rows.json", NUMBERS.tolist()),
    "numpy": lambda folder: np.save(folder / "rows.npy", NUMBERS),
    "numpy, zipped": lambda folder: np.savez(folder / "rows.npz", rows=NUMBERS),
    "pandas": lambda folder: pd.DataFrame({"rows": NUMBERS}).to_parquet(folder / "rows.parquet"),
    "pyarrow": lambda folder: pq.write_table(pa.table({"rows": NUMBERS}), folder / "rows.parquet"),
    "duckdb": fill_a_database,
    "duckdb, parquet": copy_with_duckdb,
    "safetensors": lambda folder: save_file({"rows": NUMBERS}, folder / "rows.safetensors"),
    "tokenizers": lambda folder: Tokenizer(WordLevel({f"word {n}": n for n in range(1000)}, "word 0")).save(
        str(folder / "rows.json")
    ),
    "copy": lambda folder: shutil.copyfile(__file__, folder / "rows.py"),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_whatever_writes_says_that_there_is_no_room(tmp_path: Path, writer: str):
    """Each library has words of its own for it; the stage names itself, the place and the cure, leaves nothing, and is
    done once there is room."""
    run = run_of(tmp_path)
    run.folder.mkdir(parents=True)

    @stage
    def write(run: Run, folder: Path) -> None:
        WRITERS[writer](folder)

    with room_for(1000), pytest.raises(NoRoom) as told:
        write(run)
    assert str(told.value).startswith(f"{run.run_id} test_shortages: no room to write in {run.folder}")
    assert "Nothing of the stage is kept" in str(told.value)
    assert not list(run.folder.iterdir())
    write(run)
    assert run.has("test_shortages")


@pytest.mark.parametrize(
    ("code", "cure"),
    [(errno.ENOSPC, "`retention.runs`"), (errno.EDQUOT, "quota is used up: raise it"), (errno.EFBIG, "`ulimit -f`")],
)
def test_each_limit_has_its_cure(tmp_path: Path, code: int, cure: str):
    """A full disk, a quota and a limit on files are different things to a person; the free space is told for all."""
    with pytest.raises(NoRoom) as told, shortages.named(tmp_path, "2026-03-01.nightly", "clean"):
        raise OSError(code, os.strerror(code))
    assert cure in str(told.value)
    assert f"in {tmp_path / 'lake'} (" in str(told.value)
    assert "MiB are free" in str(told.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 8.00 GiB for an array with shape (1073741824,)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"),
        RuntimeError("std::bad_alloc"),
        duckdb.OutOfMemoryException("Out of Memory Error: failed to allocate data of size 16.0 MiB"),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ],
)
def test_a_lack_of_memory_names_the_settings_that_lower_it(tmp_path: Path, error: Exception):
    """Whoever of the libraries says it, and in whatever words."""
    with pytest.raises(NoMemory) as told, shortages.named(tmp_path, "2026-03-01.nightly", "fuse"):
        raise error
    assert "Lower fuse.memory_mb or fuse.learn_users or fuse.negatives or fuse.candidates" in str(told.value)


def test_a_full_heap_of_java_wants_a_larger_one(tmp_path: Path):
    """It is not the machine that is too small; of Java's whole story the line is told that says so."""
    with pytest.raises(NoMemory) as told, shortages.named(tmp_path, "2026-03-01.nightly", "clean"):
        raise spark.SparkFailed("An error occurred\nCaused by: java.lang.OutOfMemoryError: Java heap space\nat x.y")
    assert "no memory left (Caused by: java.lang.OutOfMemoryError: Java heap space)" in str(told.value)
    assert "Raise clean.memory_mb, and" in str(told.value)


def test_a_verb_without_room_says_so_in_one_message(tmp_path: Path):
    """What a person does beside the stages of a night ends without a traceback, and says that it can be done again."""
    verb = [sys.executable, "-m", "pipelines", "generate", "--users", "100", "--items", "80", "--days", "20"]
    environment = {**os.environ, "NIGHTSHELF_HOME": str(tmp_path)}
    with room_for(1000):
        told = subprocess.run(verb, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert told.returncode == 1
    assert f"NoRoom: nightshelf generate: no room to write in {tmp_path} " in told.stderr
    assert "`ulimit -f`" in told.stderr
    assert told.stderr.endswith("Then do the same again.\n")
    assert "Traceback" not in told.stderr
    assert not list(tmp_path.glob("raw/*/dt=*/*"))
    subprocess.run(verb, check=True, capture_output=True, env=environment, cwd=ROOT)


def test_every_setting_to_lower_is_one_and_the_runbook_names_it():
    """For who finds a process ended without a word."""
    rows = (ROOT / "docs" / "runbook.md").read_text().partition("### No room, no memory")[2].splitlines()
    for name, lower in shortages.LOWER.items():
        assert name in STAGES
        assert set(lower) <= set(settings.names())
        (row,) = [row for row in rows if row.startswith(f"| `{name}` | `")]
        assert all(f"`{one}`" in row for one in lower)


@pytest.mark.parametrize("error", [ValueError("half way"), OSError(errno.EACCES, "Permission denied"), KeyError("i1")])
def test_other_errors_stay_as_they_are(tmp_path: Path, error: Exception):
    """A stage that is wrong is not taken for a machine that is too small."""
    with pytest.raises(type(error)) as told, shortages.named(tmp_path, "2026-03-01.nightly", "fuse"):
        raise error
    assert told.value is error


def test_a_run_that_cannot_be_opened_for_want_of_room_leaves_no_trace(shop: Path):
    """Neither a half-written file nor a lease that keeps the next attempt out."""
    with room_for(0), pytest.raises(NoRoom, match=rf"2026-03-01\.nightly open: no room to write in {shop} "):
        open_run(owner="airflow:one", day=LAST_DAY, home=shop)
    with room_for(0), pytest.raises(OSError, match="File too large"):
        runs.take_lease(shop, "2026-03-01.nightly", "airflow:one", run_of(shop).opened_at)
    assert [path for path in shop.rglob("*") if path.is_file() and "raw" not in path.parts] == []
    assert open_run(owner="airflow:two", day=LAST_DAY, home=shop).folder.exists()


def test_a_run_that_fails_while_it_is_opened_is_held_by_nobody(shop: Path, monkeypatch: pytest.MonkeyPatch):
    """Room may end after the lease was taken: whoever opens it next need not wait until it has run out."""

    def find_no_room(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(retention, "clear_runs", find_no_room)
    with pytest.raises(NoRoom):
        open_run(owner="airflow:one", day=LAST_DAY, home=shop)
    assert not list((shop / "runs").iterdir())


def test_a_report_without_room_does_not_hide_what_failed_before(shop: Path):
    """The first error is the one to act on."""
    run = open_run(owner="airflow:one", day=LAST_DAY, home=shop)
    with room_for(100), pytest.raises(NoMemory, match="build: too large"), reported(run.run_id, shop):
        raise NoMemory("build: too large")
    assert not run.has("report")


@pytest.mark.parametrize(
    ("code", "said", "raised"),
    [
        (1, "Runtime Error in model items\n  IO Error: Could not write file: No space left on device", OSError),
        (-signal.SIGKILL, "", MemoryError),
        (1, "Failure in test not_null: Got 1 result, configured to fail if != 0", BuildFailed),
    ],
)
def test_tables_without_room_are_not_taken_for_broken_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str, raised: type
):
    """What ends dbt may be the machine, not the rows."""
    end = "kill -KILL $$" if code == -signal.SIGKILL else f"exit {code}"
    monkeypatch.setattr(build, "_with_us", lambda: ["sh", "-c", f"printf %s {shlex.quote(said)}; {end}"])
    with pytest.raises(raised):
        build.dbt(run_of(tmp_path), tmp_path, tmp_path / "marts.duckdb", "build")


def test_marts_are_whole_in_their_one_file(tmp_path: Path):
    """Where there was no room for that when dbt ended, the rows lie in a log beside it: nothing would tell."""
    marts = tmp_path / "marts.duckdb"
    with duckdb.connect(str(marts)) as connection:
        connection.execute("pragma disable_checkpoint_on_shutdown")
        connection.execute("create table numbers as select random() from range(10000)")
    with room_for(1000), pytest.raises(duckdb.Error, match="File too large"):
        build._settle(marts)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["marts.duckdb", "marts.duckdb.wal"]
    build._settle(marts)
    assert [path.name for path in tmp_path.iterdir()] == ["marts.duckdb"]


@pytest.mark.slow
def test_a_release_that_finds_no_room_is_not_shown(night: Run, tmp_path: Path):
    """Nor is it kept; with room it is."""
    run = Run.load(night.run_id, linked(night.home, tmp_path / "home"))
    shutil.rmtree(run.home / "warehouse")
    shutil.rmtree(run.folder / "publish")
    with room_for(1000), pytest.raises(NoRoom, match=f"publish: no room to write in {run.home / 'warehouse'}"):
        publish.run(run)
    assert warehouse.current(run.home) is None
    publish.run(run)
    assert warehouse.current(run.home) == warehouse.current(night.home)


@pytest.mark.slow
def test_cleaning_without_room_for_spark_goes_on_once_there_is(shop: Path):
    """Its Java process meets the limit; the lake keeps nothing of what it wrote."""
    run = open_run(owner="airflow:one", day=LAST_DAY, home=shop)
    with spark.session(run, 1) as session:
        session.range(5).repartition(2).write.parquet(str(shop / "earlier"))  # Java unpacks libraries once
        java = SparkContext._gateway.proc.pid
        with room_for(100, java), pytest.raises(NoRoom, match=f"clean: no room to write in {run.lake}"):
            clean.run(run)
    assert {path.name for path in run.lake.iterdir()} == {"inventory.json"}
    clean.run(run)
    assert run.has("clean")


@pytest.mark.slow
def test_a_java_process_that_is_killed_is_told_and_the_next_one_works(tmp_path: Path):
    """The system ends the largest process first when memory is short."""
    told = subprocess.run([sys.executable, "-c", KILLED_JAVA, str(tmp_path)], capture_output=True, text=True)
    assert told.stdout == "Spark's Java process ended amid its work, with exit code -9\n5\n", told.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", TRIED)
def test_a_night_that_finds_no_room_goes_on_once_there_is(night: Run, tmp_path: Path, name: str):
    """In whatever stage, at whatever file: readers keep what they had, and the stage ends as if nothing had been."""
    run = Run.load(night.run_id, linked(night.home, tmp_path / "home"))
    before = {path.name for path in run.folder.iterdir()}
    largest = max(path.stat().st_size for path in (run.folder / name).rglob("*") if path.is_file())
    shutil.rmtree(run.folder / name)
    with room_for(largest // 2), pytest.raises(NoRoom, match=f"{name}: no room to write in {run.folder / name} "):
        perform(name, run.run_id, run.home)
    assert {path.name for path in run.folder.iterdir()} == before - {name}
    assert warehouse.current(run.home) == warehouse.current(night.home)
    perform(name, run.run_id, run.home)
    assert {path.name for path in run.folder.iterdir()} == before
