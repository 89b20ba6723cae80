"""The room that this machine has for a night: memory, and disk where the night writes."""

import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
LIMITS = ("memory.max", "memory.limit_in_bytes")  # of version 2 and 1; the first may say `max`


@dataclass(frozen=True)
class Disk:
    """One file system, the folders of the night that lie on it, and bytes free there."""

    folders: tuple[Path, ...]
    wanted_bytes: float
    free_bytes: int


def memory_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """What the machine has, or the least that a control group around this process allows."""
    total = next(line for line in (proc / "meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    return min(int(total.split()[1]) * 1024, *_allowed(proc, cgroups))


def disks(wanted: Mapping[Path, float]) -> list[Disk]:
    """The file systems on which folders lie that will hold so many bytes more; the folders need not be there yet."""
    together: dict[int, list[Path]] = defaultdict(list)
    for folder in wanted:
        together[_existing(folder).stat().st_dev].append(folder)
    return [
        Disk(tuple(folders), sum(wanted[one] for one in folders), shutil.disk_usage(_existing(folders[0])).free)
        for folders in together.values()
    ]


def scratch(home: Path) -> Path:
    """Where Spark spills: its own variable goes before the home, as Spark has it."""
    return Path(os.environ.get("SPARK_LOCAL_DIRS", str(home / "spark")).split(",")[0])


def _allowed(proc: Path, cgroups: Path) -> list[int]:
    """Limits of this process's control group and of those around it; none where there is no such thing."""
    found = []
    told = proc / "self" / "cgroup"
    for line in told.read_text().splitlines() if told.exists() else []:
        _, controllers, place = line.split(":", 2)
        if controllers in ("", "memory"):
            root = cgroups / controllers
            own = root / place.lstrip("/")
            around = [folder for folder in (own, *own.parents) if folder.is_relative_to(root)]
            found += [int(text) for folder in around for text in _limits(folder) if text.isdigit()]
    return found or [2**63]


def _limits(folder: Path) -> list[str]:
    return [(folder / name).read_text().strip() for name in LIMITS if (folder / name).exists()]


def _existing(folder: Path) -> Path:
    return next(one for one in (folder, *folder.parents) if one.exists())
