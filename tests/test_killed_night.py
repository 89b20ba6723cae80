"""A night that is killed, in each of its stages, goes on when it is started again and ends with the same tables.

`LONG_FAULTS=1 pytest tests/test_killed_night.py -s` does it 200 times, at random moments, in half an hour.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pipelines import warehouse
from pipelines.costs import costs
from pipelines.night import STAGES
from pipelines.run import Run
from tests.conftest import LAST_DAY, SMALL

pytestmark = pytest.mark.slow
IS_LONG = bool(os.environ.get("LONG_FAULTS"))
KILLS, TIMES = (200, 6) if IS_LONG else (10, 1)  # in all, and one after the other in each stage
SOON = 0.5  # seconds after a stage has begun, unless half of it is over before
COMMAND = [sys.executable, "-m", "pipelines", "night", "--day", str(LAST_DAY)]
COMMAND += [part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Path], subprocess.Popen]]:
    """Starts nights of a home; what they leave behind when they are killed ends with the test."""
    nights: list[subprocess.Popen] = []

    def start(home: Path) -> subprocess.Popen:
        environment = {**os.environ, "NIGHTSHELF_HOME": str(home)}
        with (tmp_path / "log").open("a") as log:
            nights.append(subprocess.Popen(COMMAND, env=environment, stdout=log, stderr=log, start_new_session=True))
        return nights[-1]

    yield start
    for night in nights:
        try:
            os.killpg(night.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # all of it has ended


def is_killed(night: subprocess.Popen, moment: Callable[[], bool], later: float = 0.0) -> bool:
    """Whether the night was killed, so many seconds after the moment came, before it ended."""
    while not moment() and night.poll() is None:
        time.sleep(0.005)
    time.sleep(later)
    if night.poll() is not None:
        return False
    night.kill()  # the process alone: Java may live on for a while
    night.wait()
    return True


def attempts(folder: Path, stage: str) -> set[Path]:
    """The folders of a stage that is not over: that of a killed attempt stays until the next one begins."""
    return set(folder.glob(f"{stage}.*.partial"))


def has_begun(folder: Path, stage: str, earlier: set[Path]) -> bool:
    return bool(attempts(folder, stage) - earlier)


def tables(run: Run) -> dict[str, dict]:
    """Counts and hashes of a run's release."""
    return warehouse.judged(run).manifest["tables"]


def test_a_night_that_is_killed_in_every_stage_ends_with_the_same_tables(
    night: Run, generated: Callable[[], Path], start: Callable
):
    """Killed in each stage and started again each time: readers see nothing before the end, no half-written folder
    stays, and counts and hashes of every table are those of a night that nobody disturbed."""
    dice, seconds, killed = random.Random(17), costs(night.folder), Counter()
    before_publish = STAGES[: STAGES.index("publish")]
    while killed.total() < KILLS or not killed.keys() >= set(before_publish):
        home = generated()
        folder = home / "runs" / night.run_id
        for stage in (stage for stage in before_publish for _ in range(TIMES)):
            if (folder / stage).exists():
                continue  # it was faster than the hand that should have killed it
            whole = seconds[stage]["wall_seconds"]
            later = dice.uniform(0, whole if IS_LONG else min(SOON, whole / 2))
            killed[stage] += is_killed(start(home), partial(has_begun, folder, stage, attempts(folder, stage)), later)
            assert warehouse.current(home) is None or (folder / "publish").exists()
        killed = +killed  # without the stages that were over in less time than they were given
        assert start(home).wait() == 0
        assert not list(folder.glob("*.partial"))
        assert tables(Run.load(night.run_id, home)) == tables(night)
        print(f"killed {killed.total()} times, in each of {len(killed)} stages")
