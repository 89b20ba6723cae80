"""Plan: foretell what a night takes of time, memory and disk, and refuse one that this machine has no room for.

A stage is foretold by what it took on the newest night that was whole, grown as its work grows; without such a night by
the table in `needs`. See docs/decisions/0026-plan.md.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

from pipelines.errors import NightTooLarge
from pipelines.plan import needs, room
from pipelines.plan import size as sizes
from pipelines.plan.needs import MARGIN, NEEDS
from pipelines.plan.size import Night, Size
from pipelines.run import Run
from pipelines.settings import Settings
from pipelines.shortages import LOWER

LOG = logging.getLogger("nightshelf")
OUTSIDE = ("clean", "publish")  # what they leave lies in the lake and in the warehouse
# Stages whose largest part Spark can do elsewhere.
ENGINES = {"train_als": "als.engine", "fuse": "fuse.engine", "shelve": "shelve.engine"}
FAR = 5.0  # a night of less than a fifth of the work says little about one


@dataclass(frozen=True)
class Estimate:
    """What one stage will take: wall seconds, resident bytes at its peak, bytes that it adds to the home and that Spark
    spills meanwhile; and whether an earlier night tells it, or the table."""

    stage: str
    wall_seconds: float
    memory_bytes: float
    disk_bytes: float
    scratch_bytes: float
    is_known: bool


def foretell(run: Run, last: Night | None) -> list[Estimate]:
    """By stage, what the run will take."""
    size, told = sizes.of(run, last), needs.trained(run.settings, bool(run.proof_of))
    return [estimate(stage, size, told, last) for stage in NEEDS]


def estimate(stage: str, size: Size, told: Settings, last: Night | None) -> Estimate:
    """By the last night where it did at least a fifth of the stage's work, else by the table."""
    work = NEEDS[stage].work
    if last and stage in last.took and work(size, told) <= FAR * work(last.size, last.run.settings):
        return _by_night(stage, size, told, last)
    return _by_table(stage, size, told)


def _by_table(stage: str, size: Size, told: Settings) -> Estimate:
    need = NEEDS[stage]
    seconds = need.fixed_seconds + need.seconds * need.work(size, told)
    memory = needs.resident(stage, told) + MARGIN * need.arrays(size, told)
    return Estimate(stage, MARGIN * seconds, memory, MARGIN * need.disk(size, told), _spilled(stage, size, told), False)


def _by_night(stage: str, size: Size, told: Settings, last: Night) -> Estimate:
    """What a stage leaves outside its run lies beside what earlier nights left there, so that the table tells it."""
    need, then, took = NEEDS[stage], (last.size, last.run.settings), last.took[stage]
    seconds = grown(took["wall_seconds"], need.fixed_seconds, _ratio(need.work(size, told), need.work(*then)))
    was = took["peak_memory_mb"] * needs.MIB - needs.resident(stage, last.run.settings)
    memory = needs.resident(stage, told) + held(was, need.arrays(*then), need.arrays(size, told))
    left = last.disk_bytes[stage] * _ratio(need.disk(size, told), need.disk(*then))
    if stage in OUTSIDE:
        left = MARGIN * need.disk(size, told)
    return Estimate(stage, seconds, memory, left, _spilled(stage, size, told), True)


def grown(seconds: float, fixed: float, ratio: float) -> float:
    """Seconds of a stage whose work is `ratio` times what it was; starting it takes as long as ever."""
    start = min(seconds, fixed)
    return start + (seconds - start) * ratio


def held(was: float, then: float, now: float) -> float:
    """Bytes that a stage holds by its rows: `was` when the arrays that are counted came to `then`. They grow
    by what is more of them, with the margin, and shrink in proportion."""
    return was + MARGIN * (now - then) if now >= then else was * now / then


def shortages(run: Run, told: Sequence[Estimate]) -> list[str]:
    """What the stages that are still to be done want and this machine does not have, each with what lowers it."""
    left = [one for one in told if not run.has(one.stage)]
    return [*_of_memory(run, left), *_of_disk(run, left)]


def refuse(run: Run) -> None:
    """Raise NightTooLarge where the run has no room on this machine and no leave to start all the same."""
    short = shortages(run, foretell(run, sizes.last_night(run.home)))
    if short and run.start_anyway:
        LOG.warning("%s starts by leave: %s\n%s", run.run_id, run.start_anyway, "\n".join(short))
    elif short:
        raise NightTooLarge(
            f"{run.run_id} has no room on this machine; it was not opened, the current release stays.\n"
            + "\n".join(short)
            + '\n`nightshelf plan` tells it by stage. If you know better, run the night with --start-anyway "<reason>" '
            "(in Airflow: the parameter start_anyway)."
        )


def _of_memory(run: Run, left: Sequence[Estimate]) -> list[str]:
    """Each stage that wants more than all there is, although it may have it alone."""
    has = room.memory_bytes()
    return [
        f"Memory: {one.stage} wants {shown(one.memory_bytes)}, and this machine has {shown(has)}. "
        f"{_lower(one.stage, run.settings)}."
        for one in left
        if one.memory_bytes > has
    ]


def _lower(stage: str, told: Settings) -> str:
    """The settings that make a stage smaller, as they are."""
    lower = LOWER.get(stage, ())
    if needs.uses_spark(stage, told):
        lower = tuple(dict.fromkeys([*lower, "clean.memory_mb"]))  # of Java, which stands beside all that is counted
    named = [f"{name} ({attrgetter(name)(told)})" for name in lower]
    cure = f"Lower {' or '.join(named)}" if named else "Take a larger machine"
    if stage in ENGINES and not needs.uses_spark(stage, told):
        cure += f', or have a cluster do it: {ENGINES[stage]} = "spark" with clean.spark_master'
    return cure


def _of_disk(run: Run, left: Sequence[Estimate]) -> list[str]:
    kept = run.settings.retention
    wanted = {
        run.home: sum(one.disk_bytes for one in left),
        room.scratch(run.home): sum(one.scratch_bytes for one in left),
    }
    return [
        f"Disk: {shown(disk.wanted_bytes)} are wanted under {' and '.join(map(str, disk.folders))}, and "
        f"{shown(disk.free_bytes)} are free. Make room, lower retention.runs ({kept.runs}) or retention.releases "
        f"({kept.releases}), or move it: NIGHTSHELF_HOME for all, SPARK_LOCAL_DIRS for what Spark spills."
        for disk in room.disks(wanted)
        if disk.wanted_bytes > disk.free_bytes
    ]


def shown(count_bytes: float) -> str:
    return f"{count_bytes / 2**30:.1f} GiB" if count_bytes >= 2**30 else f"{count_bytes / 2**20:.0f} MiB"


def _spilled(stage: str, size: Size, told: Settings) -> float:
    return MARGIN * needs.scratch(size, told) if stage == "clean" else 0.0


def _ratio(now: float, then: float) -> float:
    return now / then if then else 1.0
