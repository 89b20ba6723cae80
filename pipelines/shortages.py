"""What a machine runs out of: the many errors by which room and memory end, told as what they are, with the cure."""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import NightshelfError, NoMemory, NoRoom

ROOM = {
    errno.ENOSPC: "Free some there: `retention.runs`, `retention.backfills` and `retention.releases` say how much of "
    "the past is kept",
    errno.EDQUOT: "The user's quota is used up: raise it, or free some of what the user has",
    errno.EFBIG: "No file may grow larger than this process is allowed (`ulimit -f`), or the file system: raise that",
}
SAID = {os.strerror(code): code for code in ROOM}  # libraries that are not written in Python quote the system
CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # NumPy's own words; it keeps no reason
HEAP = "java.lang.OutOfMemoryError"  # Java keeps within what it was given
MEMORY = (
    HEAP,
    "std::bad_alloc",
    "Python worker exited unexpectedly",  # of Spark: the system ended it
    "Out of Memory Error",  # of DuckDB
    "Cannot allocate memory",
    "can't allocate memory",
    "CUDA out of memory",
)
LONGEST = 400  # characters of such a line that are told
WRITES = {"open": "", "clean": "lake", "publish": "warehouse"}  # what writes elsewhere than in its folder of the run
LOWER = {  # what a stage's memory follows
    "clean": ("clean.memory_mb",),
    "admit": ("admit.history_days",),
    "build": ("machine.database_mb", "machine.threads", "shelve.pair_days"),
    "train_als": ("als.factors",),
    "train_neighbours": ("neighbours.largest_dense", "neighbours.kept"),
    "train_profile": ("profile.history_length", "profile.sequence_size"),
    "fuse": ("fuse.memory_mb", "fuse.learn_users", "fuse.negatives", "fuse.candidates"),
    "shelve": ("profile.history_length", "fuse.depth", "shelve.length"),
    "search": ("search.max_queries", "search.results"),
    "validate": ("machine.database_mb", "search.max_queries"),
}


@contextmanager
def named(home: Path, run_id: str, stage: str) -> Iterator[None]:
    """Raise what ends a stage for want of room as NoRoom, of memory as NoMemory; anything else as it is."""
    who, place = f"{run_id} {stage}", home / WRITES.get(stage, f"runs/{run_id}/{stage}")
    kept = "Nothing of the stage is kept, readers have what they had."
    again = "Then start the same again: it goes on with this stage."
    with _as_what_they_are(_Told(who, home, place, LOWER.get(stage, ("machine.threads",)), kept, again)):
        yield


@contextmanager
def of_verb(verb: str, home: Path) -> Iterator[None]:
    """The same for what a person does beside the stages of a night; each such verb can be done again."""
    told = _Told(verb, home, home, ("machine.threads",), "Readers have what they had.", "Then do the same again.")
    with _as_what_they_are(told):
        yield


@dataclass(frozen=True)
class _Told:
    """What a message says besides the cause: who wrote where, what memory follows, and what holds now."""

    who: str
    home: Path
    place: Path
    lower: tuple[str, ...]
    kept: str
    again: str


@contextmanager
def _as_what_they_are(told: _Told) -> Iterator[None]:
    try:
        yield
    except NightshelfError:
        raise
    except Exception as error:
        cause = spoken_of(error)
        if isinstance(cause, OSError):
            raise _no_room(cause, told) from error
        if cause:
            raise _no_memory(cause, told) from error
        raise


def spoken_of(error: Exception | str) -> OSError | MemoryError | None:
    """The system's error that another program's, or its text, speaks of; None where it is about something else."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in ROOM):
        return error
    for line in map(_shortened, str(error).splitlines()):
        for words, code in SAID.items():
            if words in line:
                return OSError(code, line.removeprefix(f"[Errno {code}] "))
        if CUT_SHORT.search(line):
            return OSError(errno.ENOSPC, line)
        if any(words in line for words in MEMORY):
            return MemoryError(line)
    return None


def _shortened(line: str) -> str:
    """Java tells much in one line."""
    return line.strip()[:LONGEST]


def _no_room(cause: OSError, told: _Told) -> NoRoom:
    disk = next(place for place in (told.home, *told.home.parents) if place.exists())
    free = shutil.disk_usage(disk).free >> 20
    return NoRoom(
        f"{told.who}: no room to write in {told.place} ({cause}); {free:,} MiB are free on that disk. {told.kept} "
        f"{ROOM[cause.errno or errno.ENOSPC]}. {told.again}"
    )


def _no_memory(cause: MemoryError, told: _Told) -> NoMemory:
    lower = f"Lower {' or '.join(told.lower)}, or give the machine more"
    cure = "Raise clean.memory_mb" if HEAP in str(cause) else lower
    return NoMemory(f"{told.who}: no memory left ({cause}). {told.kept} {cure}, and start the same again.")
