"""What a stage takes: wall and CPU seconds, and the memory that was resident at its peak."""

import contextlib
import json
import os
import re
import resource
import subprocess
import time
from pathlib import Path

CHILDREN_MB: list[float] = []  # peaks of those that this process has waited for by `waited`
PROCESS = Path("/proc/self")
RESET_PEAK = "5"  # what Linux takes for it in `clear_refs`
NAMES = ("wall_seconds", "cpu_seconds", "peak_memory_mb")


def costs(folder: Path) -> dict[str, dict[str, float]]:
    """What each finished stage of the run in a folder took: wall and CPU seconds, peak resident memory in MiB."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*/stage.json"))]
    return {record["stage"]: {name: record[name] for name in NAMES} for record in records}


class Meter:
    """Begun with a stage. One process may perform many, and each has a peak of its own."""

    def __init__(self) -> None:
        with contextlib.suppress(PermissionError):  # where it is forbidden, the peak is that of all stages so far
            (PROCESS / "clear_refs").write_text(RESET_PEAK)
        self.started, self.cpu, self.children_mb = time.monotonic(), _cpu_seconds(), _peak_of_children_mb()
        self.count_waited = len(CHILDREN_MB)

    def read(self) -> dict[str, float]:
        """`wall_seconds`, `cpu_seconds` and `peak_memory_mb` since then, of children that have ended, too. Of those not
        waited for by `waited` the system keeps the largest alone: it counts if none before was as large."""
        children_mb = _peak_of_children_mb()
        others = [children_mb] if children_mb > self.children_mb else []
        return {
            "wall_seconds": time.monotonic() - self.started,
            "cpu_seconds": _cpu_seconds() - self.cpu,
            "peak_memory_mb": max([_peak_mb(), *CHILDREN_MB[self.count_waited :], *others]),
        }


def waited(process: subprocess.Popen) -> int:
    """The exit status of a child once it has ended, whose peak then counts for the stage that started it; what
    interrupts the waiting ends the child, too."""
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    CHILDREN_MB.append(usage.ru_maxrss / 1024)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode


def _cpu_seconds() -> float:
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def _peak_mb() -> float:
    """Of this process, in MiB."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", (PROCESS / "status").read_text(), re.MULTILINE)
    return (int(found[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def _peak_of_children_mb() -> float:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
