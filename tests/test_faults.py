"""A publication dies wherever it likes, readers poll all the while, and nobody sees anything but one whole release.

`LONG_FAULTS=1 pytest tests/test_faults.py -s` does it as often as docs/reliability.md says, and prints what was seen.
"""

import contextlib
import errno
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
import psycopg2
import pytest

from pipelines import retention, settings, warehouse
from pipelines.errors import NoWarehouse
from pipelines.run import Run, stage
from pipelines.warehouse import files
from pipelines.warehouse.manifest import Judged
from pipelines.warehouse.postgres import Postgres
from tests.lake import run_of
from tests.postgres import Server
from tests.test_postgres import publish as publish_to_postgres
from tests.test_warehouse import count, put

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
IS_LONG = bool(os.environ.get("LONG_FAULTS"))
KILLS = 50 if IS_LONG else 4
READERS, PUBLICATIONS = (8, 200) if IS_LONG else (3, 25)
IDLE = 20 if IS_LONG else 5  # seconds of polls without a publication
READER = """
import json, sys, time
from pathlib import Path

kind, place, stop = sys.argv[1:]
seen, seconds = [], []
if kind == "duckdb":
    import duckdb
    def look():
        with duckdb.connect(place, read_only=True) as release:
            return release.execute("select (select max(n) from one), (select max(n) from two)").fetchone()
else:
    import psycopg2
    connection = psycopg2.connect(place)
    def look():
        with connection, connection.cursor() as cursor:
            cursor.execute("select run_id from nightshelf.items where item_id = 'i1'")
            ((one,),) = cursor.fetchall()
            cursor.execute("select i.run_id, r.run_id from nightshelf.items as i"
                           " cross join nightshelf.user_recommendations as r where i.item_id = 'i1'")
            ((two, three),) = cursor.fetchall()
        assert two == three, (two, three)
        return int(one.split()[1]), int(two.split()[1])
while not Path(stop).exists():
    started = time.perf_counter()
    one, two = look()
    seconds.append(time.perf_counter() - started)
    assert one == two, (one, two)
    seen.append(one)
assert seen == sorted(seen)
print(json.dumps({"polls": len(seen), "p99_ms": 1000 * sorted(seconds)[len(seen) * 99 // 100]}))
"""
SLEEPER = """
import sys
from pathlib import Path
from pipelines.errors import RunBusy
from tests.lake import run_of
from tests.test_faults import publishing

def wait():
    print("begun", flush=True)
    sys.stdin.readline()

try:
    publishing(1, wait)(run_of(Path(sys.argv[1])))
except RunBusy:
    print("RunBusy")
"""


def publishing(rows: int, wait: Callable[[], object]) -> Callable[[Run], None]:
    """A stage that waits and then publishes a release of so many rows."""

    @stage
    def publish(run: Run, folder: Path) -> None:
        wait()
        put(run, "2026-03-01", rows, attempt=folder)

    return publish


def find_no_room() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


ENDS: dict[str, Callable[[], object]] = {"killed": lambda: os._exit(9), "no room": find_no_room}


class Failing:
    """The module `os`, which fails at the n-th call of one of its functions, and from then on."""

    def __init__(self, calls: int, fail: Callable[[], object]) -> None:
        self.left, self.fail = calls, fail

    def __getattr__(self, name: str) -> object:
        found = getattr(os, name)

        def call(*arguments: object, **named: object) -> object:
            if not self.left:
                self.fail()
            self.left -= 1
            return found(*arguments, **named)

        return call if callable(found) else found


def dies(calls: int, end: str, act: Callable[[], object]) -> bool:
    """Whether `act` ended at its n-th file operation, in a process of its own."""
    if not (child := os.fork()):
        files.os = Failing(calls, ENDS[end])
        with contextlib.suppress(BaseException):
            act()
            os._exit(0)
        os._exit(1)
    return os.waitpid(child, 0)[1] != 0


def two_tables(home: Path, number: int) -> Path:
    path = home / f"made-{number}.duckdb"
    with duckdb.connect(str(path)) as release:
        for name in ("one", "two"):
            release.execute(f"create table {name} as select {number} as n")
    return path


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", ["publish", "rollback"])
def test_files_that_fail_at_any_operation_leave_one_whole_release(tmp_path: Path, way: str, end: str):
    """Killed or without room, at each of them readers see the release before or the new one; done again, the move is
    whole, and nothing is left."""
    laid = tmp_path / "laid"
    first = put(run_of(laid), "2026-03-01", 1)
    before, after = first, "2026-03-02.nightly.00000002"
    if way == "rollback":
        before, after = put(run_of(laid), "2026-03-02", 2), first
    put(run_of(tmp_path / "made"), "2026-03-02", 2)
    for calls in itertools.count():
        home = tmp_path / str(calls)
        shutil.copytree(laid, home, symlinks=True)
        shutil.copy(tmp_path / "made" / "made-2026-03-02-2.duckdb", home)
        act = partial(put, run_of(home), "2026-03-02", 2)
        if way == "rollback":
            act = partial(warehouse.rollback, home, after, "bad prices", "anna")
        died = dies(calls, end, act)
        assert warehouse.current(home) in ((before, after) if died else (after,))
        assert count(home) == int(warehouse.current(home)[-1])
        act()
        assert warehouse.current(home) == after
        retention.clear_releases(home, settings.Settings())
        assert warehouse.of(home).kept() == sorted([before, after])
        assert not list((home / "warehouse").rglob("*.partial"))
        if not died:
            break
    assert calls > 10
    print(f"{way}: {end} at each of {calls} file operations")


def watched(kind: str, place: str, stop: Path, act: Callable[[int], object]) -> list[dict]:
    """What readers in processes of their own saw while `act` was done for each number."""
    command = [sys.executable, "-c", READER, kind, place, str(stop)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    readers = [subprocess.Popen(command, **pipes) for _ in range(READERS)]
    for number in range(2, 2 + PUBLICATIONS):
        act(number)
    stop.touch()
    told = [reader.communicate(timeout=120) for reader in readers]
    stop.unlink()
    assert [error for _, error in told if error] == []
    return [json.loads(out) for out, _ in told]


def check(kind: str, place: str, stop: Path, act: Callable[[int], object]) -> None:
    """Publications, and what a look-up takes beside them and without."""
    told, idle = (watched(kind, place, stop, one) for one in (act, lambda number: time.sleep(IDLE / PUBLICATIONS)))
    assert all(one["polls"] > 1 for one in told)
    print(f"{kind}: {READERS} readers, {PUBLICATIONS} publications, {sum(one['polls'] for one in told)} polls")
    print(f"{kind}: p99 {slowest(told):.1f} ms, {slowest(idle):.1f} idle")


def slowest(told: list[dict]) -> float:
    """Of the readers' 99th percentiles the largest, in milliseconds."""
    return max(one["p99_ms"] for one in told)


def test_readers_of_files_see_whole_releases_in_order(tmp_path: Path):
    """No poll fails, none mixes two releases, and none goes back."""
    house = files.Files(tmp_path)

    def publish(number: int) -> None:
        name = f"2026-03-01.nightly.{number:08x}"
        with house.locked():
            house.place(Judged(two_tables(tmp_path, number), {"release": name}))
            house.record({"release": name}, show=True)

    publish(1)
    check("duckdb", house.where, tmp_path / "stop", publish)


def test_a_publication_that_was_thought_dead_does_not_publish(tmp_path: Path):
    """Stopped before it moves the pointer, while another attempt at the same run publishes: woken up it ends, and what
    readers see stays."""
    run = run_of(tmp_path / "home")
    run.folder.mkdir(parents=True)
    command = [sys.executable, "-c", SLEEPER, str(run.home)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    with subprocess.Popen(command, **pipes) as child:
        assert child.stdout.readline() == "begun\n"
        child.send_signal(signal.SIGSTOP)
        publishing(2, lambda: None)(run)
        child.send_signal(signal.SIGCONT)
        told, _ = child.communicate("go on\n", timeout=60)
    assert told == "RunBusy\n"
    assert warehouse.history(run.home)[-1]["release"] == warehouse.current(run.home) == "2026-03-01.nightly.00000002"


@pytest.fixture
def run(tmp_path: Path, house: Postgres) -> Run:
    return run_of(tmp_path, **{"warehouse.engine": "postgres"})


def test_readers_of_postgres_see_whole_releases_in_order(tmp_path: Path, run: Run, house: Postgres):
    """Nor does a transaction of two statements; publications find their moment between readers."""
    publish_to_postgres(run, "2026-03-01", 1)
    place, stop = house.environment["WAREHOUSE_READER"], tmp_path / "stop"
    check("postgres", place, stop, lambda n: publish_to_postgres(run, "2026-03-01", n))
    if IS_LONG:  # as much work for the machine, and nothing of it in the readers' way
        other = run_of(tmp_path / "markets" / "other", **{"warehouse.engine": "postgres"})
        other.home.mkdir(parents=True)
        warehouse.of(other.home, other.settings).init()
        told = watched("postgres", place, stop, lambda n: publish_to_postgres(other, "2026-03-01", n))
        print(f"postgres: p99 {slowest(told):.1f} ms beside publications of another market")


def test_a_server_that_is_killed_while_publishing_keeps_one_whole_release(server: Server, run: Run, house: Postgres):
    """Started again, it shows the release before or the new one, keeps no half of one, and takes the next."""
    dice, started = random.Random(17), time.perf_counter()
    publish_to_postgres(run, "2026-03-01", 1)
    seconds, shown = time.perf_counter() - started, 1
    for number in range(2, 2 + KILLS):
        attempt = threading.Thread(target=_attempt, args=(run, number))
        attempt.start()
        time.sleep(dice.uniform(0, 1.2 * seconds))
        server.kill()
        attempt.join()
        server.start()
        current = warehouse.current(run.home)
        assert current in (f"2026-03-01.nightly.{n:08x}" for n in (shown, number))
        assert warehouse.history(run.home)[-1]["release"] == current
        with warehouse.connect(run.home) as release:
            query = "select distinct i.run_id, r.run_id, count(*) over () from items as i, user_recommendations as r"
            ((one, two, rows),) = release.execute(query).fetchall()
            assert (one, two, rows) == (f"run {int(current[-8:], 16)}", one, 2)
        for name in house.kept():
            assert house.manifest(name) is not None
        publish_to_postgres(run, "2026-03-01", number)
        shown = number
    print(f"postgres: killed {KILLS} times while publishing")


def _attempt(run: Run, number: int) -> None:
    with contextlib.suppress(psycopg2.Error, NoWarehouse, SystemError):  # the driver's own when a COPY breaks off
        publish_to_postgres(run, "2026-03-01", number)
