"""What `nightshelf plan` prints: each stage's estimate beside what the last night took, and whether there is room."""

from rich.console import Console
from rich.table import Table

from pipelines import plan, proved
from pipelines.plan import Estimate, room, shown
from pipelines.plan import size as sizes
from pipelines.plan.needs import MARGIN, MIB
from pipelines.plan.size import Night
from pipelines.run import Run


def tell(console: Console, run: Run) -> None:
    """Print the plan of a run that is not opened; raises NightTooLarge where it would be refused."""
    last = sizes.last_night(run.home)
    told = plan.foretell(run, last)
    console.print(table(run, told, last))
    console.print(f"Told by {_sources(told, last)}.", highlight=False)
    if decided := proved.told(run):
        console.print(f"{decided}.", highlight=False)
    free = ", ".join(f"{shown(one.free_bytes)} free under {one.folders[0]}" for one in room.disks({run.home: 0.0}))
    console.print(f"This machine has {shown(room.memory_bytes())} of memory, and {free}.", highlight=False)
    plan.refuse(run)


def table(run: Run, told: list[Estimate], last: Night | None) -> Table:
    """One row per stage, then the night: seconds and disk add up, of memory the largest counts."""
    found = Table("stage", title=run.run_id)
    for then in ("", f" on {last.run.day}") if last else ("",):
        for name in ("seconds", "memory", "disk"):
            found.add_column(f"{name}{then}", justify="right")
    for one in told:
        found.add_row(one.stage, *_cells(one.wall_seconds, one.memory_bytes, one.disk_bytes), *_then(one.stage, last))
    found.add_section()
    most = max(one.memory_bytes for one in told)
    night = [_cells(sum(one.wall_seconds for one in told), most, sum(one.disk_bytes for one in told))]
    if last:
        seconds, peaks = ([took[name] for took in last.took.values()] for name in ("wall_seconds", "peak_memory_mb"))
        night.append(_cells(sum(seconds), max(peaks) * MIB, sum(last.disk_bytes.values())))
    found.add_row("the night", *(cell for cells in night for cell in cells))
    return found


def _sources(told: list[Estimate], last: Night | None) -> str:
    """Who says what the estimates say."""
    unknown = [one.stage for one in told if not one.is_known]
    by_table = f"what was measured on other shops, {MARGIN:g} times"
    if last is None:
        return by_table
    return last.run.run_id + (f"; {', '.join(unknown)} by {by_table}" if unknown else "")


def _then(stage: str, last: Night | None) -> tuple[str, ...]:
    if last is None or stage not in last.took:
        return ()
    took = last.took[stage]
    return _cells(took["wall_seconds"], took["peak_memory_mb"] * MIB, last.disk_bytes[stage])


def _cells(seconds: float, memory_bytes: float, disk_bytes: float) -> tuple[str, str, str]:
    return f"{seconds:,.0f}", shown(memory_bytes), shown(disk_bytes)
