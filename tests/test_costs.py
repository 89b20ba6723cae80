"""Each stage of one process is told what it took itself."""

import subprocess
import sys

import numpy as np

from pipelines.costs import Meter

LARGE_MB = 256


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
    subprocess.run([sys.executable, "-c", f"bytearray({1 << 31})[::4096] = bytes({(1 << 31) >> 12})"], check=True)
    took, second = first.read(), Meter()
    assert took["peak_memory_mb"] > 2000 > second.read()["peak_memory_mb"]
    assert took["cpu_seconds"] > 0 < took["wall_seconds"]
