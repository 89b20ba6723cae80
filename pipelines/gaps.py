"""Gaps: arrival days that should have come and did not, by the weekdays on which the shop used to deliver."""

import datetime as dt
from collections.abc import Collection

WEEKS = 4  # before a day: how far back its weekday is looked at
LEAST = 3  # of those weeks must have brought something on that weekday for the day to be expected
WEEK = dt.timedelta(days=7)
SHOWN_DAYS = 28


def missing(delivered: Collection[dt.date], after: dt.date, until: dt.date) -> list[dt.date]:
    """Days between `after` and `until`, both left out, that were expected and not delivered, oldest first."""
    between = [after + dt.timedelta(days=n) for n in range(1, (until - after).days)]
    return [day for day in between if day not in delivered and _is_expected(day, delivered)]


def before(delivered: Collection[dt.date], day: dt.date) -> list[dt.date]:
    """The missing days between `day` and the delivery before it."""
    earlier = [one for one in delivered if one < day]
    return missing(delivered, max(earlier), day) if earlier else []


def recent(delivered: Collection[dt.date], day: dt.date) -> list[dt.date]:
    """The missing days of the last weeks up to `day`."""
    return missing(delivered, day - dt.timedelta(days=SHOWN_DAYS), day)


def _is_expected(day: dt.date, delivered: Collection[dt.date]) -> bool:
    return sum(day - weeks * WEEK in delivered for weeks in range(1, WEEKS + 1)) >= LEAST
