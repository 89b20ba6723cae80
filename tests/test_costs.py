"""Each stage of one process is told what it took itself."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from pipelines.costs import Meter, waited

LARGE_MB = 256


def holding(size: int) -> list[str]:
    """A command that holds so many bytes, and ends."""
    return [sys.executable, "-c", f"bytearray({size})[::4096] = bytes({size >> 12})"]


def test_a_peak_is_that_of_its_stage():
    """What one stage held and gave back is not counted for the next."""
    first = Meter()
    held = np.ones(LARGE_MB << 17)
    del held
    large, second = first.read()["peak_memory_mb"], Meter()
    assert large - second.read()["peak_memory_mb"] > LARGE_MB / 2


def test_a_child_counts_where_it_ended():
    """A child larger than any before makes the peak of the stage that waited for it, and not of the next."""
    first = Meter()
    subprocess.run(holding(1 << 31), check=True)
    took, second = first.read(), Meter()
    assert took["peak_memory_mb"] > 2000 > second.read()["peak_memory_mb"]
    assert took["cpu_seconds"] > 0 < took["wall_seconds"]


def test_a_child_counts_after_a_larger_one_where_it_was_waited_for():
    """The system remembers the largest child alone: the peak of a smaller one is what `waited` read of it."""
    subprocess.run(holding(5 << 29), check=True)
    meter = Meter()
    assert waited(subprocess.Popen(holding(1 << 31))) == 0
    assert 2000 < meter.read()["peak_memory_mb"] < 2500
    assert Meter().read()["peak_memory_mb"] < 2000
    assert waited(subprocess.Popen(["sh", "-c", "exit 3"])) == 3


def test_a_child_ends_with_who_waits_for_it():
    """Who is interrupted while waiting, as a task is that Airflow takes back, leaves nothing running."""

    def interrupt(*_: object) -> None:
        raise InterruptedError("taken back")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    child = subprocess.Popen(["sleep", "60"])
    try:
        with pytest.raises(InterruptedError, match="taken back"):
            waited(child)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert child.returncode == -signal.SIGKILL
