"""The ways in which a night ends early, each named for the situation and carrying its cure."""


class NightshelfError(Exception):
    """Base of all errors that a person can act on; the text says what, where and how to cure it."""


class BadSetting(NightshelfError):
    """A setting that does not exist, or a value out of its bounds."""


class BadRules(NightshelfError):
    """Rule files with rows that say nothing, or contradict themselves."""


class BadInput(NightshelfError):
    """Raw files that are missing, cut off, or not what the contract says."""


class NoDataForDay(BadInput):
    """The run's day has no raw folder, or nothing in it."""


class InputRefused(NightshelfError):
    """What arrived differs so much from the days before that no night is built on it."""


class DaysFailed(NightshelfError):
    """Of several days some could not be built."""


class MarketsFailed(NightshelfError):
    """Of several markets some failed."""


class NightTooLarge(NightshelfError):
    """A night wants more memory or disk than the machine has."""


class RunBusy(NightshelfError):
    """Another run of the same day and label is going."""


class StageNotReady(NightshelfError):
    """A stage was asked for before the one that it reads, or what that left is not as it was."""


class GateFailed(NightshelfError):
    """Tonight's tables may not replace last night's."""


class NotAsJudged(NightshelfError):
    """What lies in the run is not what the gate judged."""


class HeldBack(NightshelfError):
    """A night would bring back what readers were taken back from."""


class NoWarehouse(NightshelfError):
    """The database server or the metastore cannot be reached, refuses something, or a role lacks its rights."""


class NoStore(NightshelfError):
    """An object store cannot be reached, refuses something, or follows another home."""


class ReadersInTheWay(NightshelfError):
    """Transactions of readers hold the views for so long that they cannot be moved."""


class NothingPublished(NightshelfError):
    """No release to read or to go back to."""


class NoJava(NightshelfError):
    """Spark finds no Java runtime that works."""


class NotTrained(NightshelfError):
    """A model found nothing to learn from, or diverged."""


class NoRoom(NightshelfError):
    """The disk, a quota, or the largest size that a file may have is reached."""


class NoMemory(NightshelfError):
    """The machine has less memory than something wants, or has ended a process for it."""
