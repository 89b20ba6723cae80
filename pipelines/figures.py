"""Figures: what arrived on a day as numbers that say how it differs from the days before; profiles in, numbers out."""

import datetime as dt
import math
import zoneinfo
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from pipelines import contracts, gaps
from pipelines.profiles import Profile
from pipelines.settings import Admit

FILLED_LEAST = 0.01  # share of filled values below which a column's absence is no news
FEW_DELIVERIES = 3  # of catalogue or users, before the newest can be compared with them
EVERY_WEEKDAY = 2  # days of the same weekday without which there is no usual one


@dataclass(frozen=True)
class Figure:
    """One number about what arrived: `value` (None: nothing to compare with) and the counts behind it.

    `name` is `<table>/<measure>` or `<table>/<measure>/<of what>`.
    """

    name: str
    value: float | None
    told: str = ""

    @property
    def measure(self) -> str:
        return self.name.split("/")[1]

    def bounds(self, settings: Admit) -> Iterator[tuple[str, float | None, float | None]]:
        """(level, least, most) of each level that the settings bound: `admit.<measure>_<level>_below`, `…_above`."""
        for level in ("warn", "stop"):
            low, high = (getattr(settings, f"{self.measure}_{level}_{side}", None) for side in ("below", "above"))
            if (low, high) != (None, None):
                yield level, low, high


def of_day(day: dt.date, profiles: Mapping[str, Sequence[Profile]], timezone: str, settings: Admit) -> list[Figure]:
    """All figures about what had arrived by `day`, from the profiles of each table, oldest first; a catalogue may have
    arrived later."""
    told: list[Figure] = []
    for table, delivered in profiles.items():
        upto = [profile for profile in delivered if profile.day <= day or table == "items"]
        if not upto:
            continue
        newest, past = upto[-1], _past(upto, settings)
        told += [*filled(newest, past, settings), *rejected(newest, past, settings)]
        if table == "events":
            told += [volume(newest, past, settings), mix(newest, past, settings), hours_behind(newest, past, timezone)]
            told.append(missing_days({profile.day for profile in upto}, day))
        if table == "items":
            told.append(catalogue(newest, upto[:-1], settings))
    return told


def volume(newest: Profile, past: Sequence[Profile], settings: Admit) -> Figure:
    """Events let in, over the median of the same weekday."""
    alike = [profile.accepted for profile in past if profile.day.weekday() == newest.day.weekday()]
    usual = median(alike) if len(alike) >= EVERY_WEEKDAY else 0
    told = f"{newest.accepted:,} events, usually {usual:,.0f} on a {newest.day:%A}"
    is_known = usual and max(newest.accepted, usual) >= settings.min_rows
    return Figure("events/volume", newest.accepted / usual if is_known else None, told)


def filled(newest: Profile, past: Sequence[Profile], settings: Admit) -> Iterator[Figure]:
    """For each column that may be empty: the share of rows that fill it, over the median of the days before."""
    for column in contracts.raw_tables()[newest.table].columns:
        if column.is_required or column.is_filled or column.name not in newest.nulls:
            continue
        before = [1 - one.nulls[column.name] / one.accepted for one in past if column.name in one.nulls]
        usual, now = median(before) if before else 0.0, 1 - newest.nulls[column.name] / newest.accepted
        is_known = usual >= FILLED_LEAST and newest.accepted >= settings.min_rows
        told = f"{now:.1%} of the rows have one, usually {usual:.1%}"
        yield Figure(f"{newest.table}/filled/{column.name}", now / usual if is_known else None, told)


def rejected(newest: Profile, past: Sequence[Profile], settings: Admit) -> Iterator[Figure]:
    """Share of rejected rows, of all that says something against a delivery and by rule, less the median before."""
    rules = sorted({rule for profile in (*past, newest) for rule in profile.rejected})
    wrong = [rule for rule in rules if rule not in contracts.SAID_AGAIN]
    for name, counted in {"rejected": wrong, **{f"rejected/{rule}": [rule] for rule in rules}}.items():
        usual = median(_share_rejected(one, counted) for one in past) if past else 0.0
        now = _share_rejected(newest, counted)
        told = f"{now:.1%} of the rows, usually {usual:.1%}"
        is_known = past and newest.count_rows >= settings.min_rows
        yield Figure(f"{newest.table}/{name}", now - usual if is_known else None, told)


def mix(newest: Profile, past: Sequence[Profile], settings: Admit) -> Figure:
    """Population stability index of the event types: sum over types of (p - q) ln(p / q), `q` the median of their
    shares before; half a row stands in for none, so that it is finite."""
    if not past or newest.accepted < settings.min_rows:
        return Figure("events/mix", None)
    least = 0.5 / newest.accepted
    shares = {
        name: (newest.event_types.get(name, 0) / newest.accepted, _usual_share(name, past))
        for name in sorted({name for profile in (*past, newest) for name in profile.event_types})
    }
    parts = {name: _index(max(now, least), max(usual, least)) for name, (now, usual) in shares.items()}
    most = max(parts, key=lambda name: parts[name])
    told = f"most changed: {most}, {shares[most][0]:.1%} of the events, usually {shares[most][1]:.1%}"
    return Figure("events/mix", sum(parts.values()), told)


def hours_behind(newest: Profile, past: Sequence[Profile], timezone: str) -> Figure:
    """Hours from the last event to the end of its arrival day in the shop's zone, less the median before."""
    zone = zoneinfo.ZoneInfo(timezone)
    before = [_hours_to_midnight(profile, zone) for profile in past if profile.last_occurred_at]
    told = f"the last event is of {newest.last_occurred_at} UTC"
    if not before or not newest.last_occurred_at:
        return Figure("events/hours_behind", None, told)
    return Figure("events/hours_behind", _hours_to_midnight(newest, zone) - median(before), told)


def missing_days(delivered: Collection[dt.date], day: dt.date) -> Figure:
    """Expected arrival days between `day` and the delivery before it."""
    days = gaps.before(delivered, day)
    return Figure("events/missing_days", len(days), ", ".join(map(str, days)))


def catalogue(newest: Profile, before: Sequence[Profile], settings: Admit) -> Figure:
    """Items of the newest delivery over those of the one before; nothing where catalogues come as changes."""
    sizes = [profile.count_items for profile in before]
    is_whole = len(sizes) >= FEW_DELIVERIES and 2 * min(sizes[-FEW_DELIVERIES:]) >= max(sizes)
    if not is_whole or sizes[-1] < settings.min_rows:
        return Figure("items/catalogue", None)
    told = f"{newest.count_items:,} items on {newest.day}, {sizes[-1]:,} on {before[-1].day}"
    return Figure("items/catalogue", newest.count_items / sizes[-1], told)


def _past(delivered: Sequence[Profile], settings: Admit) -> list[Profile]:
    """What the newest delivery is compared with; nothing while there is too little. Catalogue and users come when
    there is news: as many deliveries of them as days of events."""
    newest, past = delivered[-1], [profile for profile in delivered[:-1] if profile.accepted][-settings.history_days :]
    if newest.table != "events":
        return past if len(past) >= FEW_DELIVERIES else []
    since = newest.day - dt.timedelta(days=settings.history_days)
    past = [profile for profile in past if profile.day >= since]
    return past if len(past) >= settings.min_history_days else []


def _share_rejected(profile: Profile, rules: Iterable[str]) -> float:
    return sum(profile.rejected.get(rule, 0) for rule in rules) / max(profile.count_rows, 1)


def _usual_share(name: str, past: Sequence[Profile]) -> float:
    return median(profile.event_types.get(name, 0) / profile.accepted for profile in past)


def _index(now: float, usual: float) -> float:
    return (now - usual) * math.log(now / usual)


def _hours_to_midnight(profile: Profile, zone: zoneinfo.ZoneInfo) -> float:
    last = dt.datetime.fromisoformat(str(profile.last_occurred_at)).replace(tzinfo=dt.UTC)
    end = dt.datetime.combine(profile.day + dt.timedelta(days=1), dt.time(), zone)
    return (end - last).total_seconds() / 3600
