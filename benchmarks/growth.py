"""How a night grows with the shop: nights of several sizes side by side, each stage's growth, and one day more."""

import datetime as dt
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from pipelines.night import STAGES
from pipelines.plan import size
from pipelines.plan.size import Night
from pipelines.run import Run

ROOT = Path(__file__).resolve().parents[1]
NAMED, WIDE, HIGH = 130, 420, 12  # pixels of the plot: a stage's name, the longest bar, one bar


def performed(home: Path, day: dt.date, told: Sequence[str], label: str = "nightly") -> Night:
    """A night in a process of its own, so that none stands on what an earlier one left in memory."""
    changes = [part for one in told for part in ("--set", one)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NIGHTSHELF_HOME": str(home)}
    asked = [sys.executable, "-m", "pipelines", "night", "--day", str(day), "--label", label, *changes]
    subprocess.run(asked, env=environment, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return size.was(Run.load(f"{day}.{label}", home))


def spent(night: Night, name: str) -> list[float]:
    """One of the costs of each stage, then of the night: seconds add up, of memory the largest counts."""
    stages = [night.took[stage][name] for stage in STAGES]
    return [*stages, max(stages) if name == "peak_memory_mb" else sum(stages)]


def table(found: Sequence[Night], more: Night) -> Table:
    """A row per stage, then the night; `more` is the night of one day more on the largest shop."""
    shown = Table("stage", title=", ".join(f"{users(one)}: {one.size.count_events:,} events" for one in found))
    for one in found:
        for name in ("wall s", "CPU s", "peak MiB"):
            shown.add_column(f"{users(one)}: {name}", justify="right")
    for name in ("CPU, users doubled", "peak, users doubled", "one more day: CPU s", "of the whole"):
        shown.add_column(name, justify="right")
    growth = [doubled(found[0], found[-1], name) for name in ("cpu_seconds", "peak_memory_mb")]
    again, whole = (spent(one, "cpu_seconds") for one in (more, found[-1]))
    for row, stage in enumerate((*STAGES, "the night")):
        cells = [cell for one in found for cell in _cells(one, row)]
        ratios = [f"{ratio[row]:.2f}" for ratio in growth]
        shown.add_row(stage, *cells, *ratios, f"{again[row]:.1f}", f"{again[row] / whole[row]:.2f}")
    return shown


def beside(night: Night, more: Night) -> Table:
    """A row per stage, then the night, and the same of the day after with its share."""
    shown = Table("stage", title=f"{users(night)}, {night.size.count_events:,} events; then {more.run.day}")
    for name in ("CPU s", "wall s", "one more day: CPU s", "wall s", "CPU s, of the night"):
        shown.add_column(name, justify="right")
    (cpu, wall), (more_cpu, more_wall) = (
        [spent(one, name) for name in ("cpu_seconds", "wall_seconds")] for one in (night, more)
    )
    for row, stage in enumerate((*STAGES, "the night")):
        cells = [f"{one[row]:.1f}" for one in (cpu, wall, more_cpu, more_wall)]
        shown.add_row(stage, *cells, f"{more_cpu[row] / cpu[row]:.2f}")
    return shown


def users(night: Night) -> str:
    return f"{night.size.count_users:,} users"


def doubled(small: Night, large: Night, name: str) -> list[float]:
    """By how much a cost of each stage, and of the night, grew for each doubling of users."""
    doublings = math.log2(large.size.count_users / small.size.count_users)
    costs = zip(spent(small, name), spent(large, name), strict=True)
    return [(after / before) ** (1 / doublings) for before, after in costs]


def _cells(night: Night, row: int) -> tuple[str, str, str]:
    wall, cpu, peak = (spent(night, name)[row] for name in ("wall_seconds", "cpu_seconds", "peak_memory_mb"))
    return f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.0f}"


def plot(found: Sequence[Night]) -> str:
    """An SVG of the CPU seconds: for each stage a bar per shop, the largest shop's the darkest."""
    longest = max(seconds for one in found for seconds in spent(one, "cpu_seconds")[:-1])
    drawn, top = [], HIGH
    for row, stage in enumerate(STAGES):
        drawn.append(f'<text x="{NAMED - 8}" y="{top + HIGH - 3}" text-anchor="end">{stage}</text>')
        for number, one in enumerate(found, start=1):
            seconds = spent(one, "cpu_seconds")[row]
            drawn += _bar(top, WIDE * seconds / longest, number / len(found), f"{seconds:.1f} s, {users(one)}")
            top += HIGH
        top += HIGH // 2
    size_told = f'width="{NAMED + WIDE + 180}" height="{top + HIGH}" font-family="sans-serif" font-size="10"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size_told}>', *drawn, "</svg>\n"])


def _bar(top: int, width: float, shade: float, label: str) -> tuple[str, str]:
    colour = f'fill="#1f4e79" fill-opacity="{shade:.2f}"'
    return (
        f'<rect x="{NAMED}" y="{top}" width="{width:.1f}" height="{HIGH - 2}" {colour}/>',
        f'<text x="{NAMED + width + 6:.1f}" y="{top + HIGH - 3}">{label}</text>',
    )
