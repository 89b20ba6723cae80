"""Backfill: build days again, each as a run of its own that sees nothing of what came after its day."""

import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import night, run, settings, warehouse
from pipelines.errors import BadInput, BadSetting, DaysFailed, NightshelfError
from pipelines.open import described
from pipelines.run import BACKFILL, Override

LOG = logging.getLogger("nightshelf")


@dataclass(frozen=True)
class Planned:
    """One day of a backfill: whether it is published, and whether all of it has been done before."""

    day: dt.date
    publishes: bool
    is_done: bool


def days(words: Iterable[str]) -> list[dt.date]:
    """The days that words such as `2026-03-01` and `2026-03-03..2026-03-07` name, each once, oldest first.

    Raises BadSetting for a word that names none.
    """
    found = {day for word in words for day in _days_of(word)}
    if not found:
        raise BadSetting("No day is named. Say 2026-03-01, or 2026-03-01..2026-03-07.")
    return sorted(found)


def plan(
    wanted: Iterable[dt.date],
    overrides: Mapping[str, Any] | None = None,
    promote: bool = False,
    home: Path | None = None,
) -> list[Planned]:
    """What is to be done for each day; with `promote`, days that are not before the current release's are published.

    Raises BadSetting or BadInput, with the troubles of all days, before a run is opened.
    """
    root, chosen = home or run.home(), list(wanted)
    told = settings.load(root, overrides)
    if len(chosen) > told.retention.backfills:
        raise BadSetting(
            f"{len(chosen)} days are more than the {told.retention.backfills} that retention.backfills keeps: the "
            "first would be cleared before the last is built. Raise it, or name fewer days."
        )
    current = warehouse.current(root, told) if promote else None
    if current and max(chosen) < warehouse.day_of(current):
        raise BadSetting(
            f"Readers have {current} already, and an older day never replaces a newer one. Leave out --promote, or go "
            "back to a release that is kept: `nightshelf rollback --to`."
        )
    published = [day for day in chosen if promote and (current is None or day >= warehouse.day_of(current))]
    is_done = _done(root, told, chosen, published)
    return [Planned(day, day in published, is_done[day]) for day in chosen]


def perform(
    planned: Planned,
    overrides: Mapping[str, Any] | None = None,
    home: Path | None = None,
    admit_anyway: Override | None = None,
    start_anyway: Override | None = None,
) -> None:
    """Build one day, going on where an earlier attempt stopped; leave is given as to any night."""
    night.run(
        day=planned.day,
        label=BACKFILL,
        overrides=overrides,
        publish=planned.publishes,
        home=home,
        admit_anyway=admit_anyway,
        start_anyway=start_anyway,
    )


def perform_all(
    planned: Iterable[Planned],
    overrides: Mapping[str, Any] | None = None,
    home: Path | None = None,
    admit_anyway: Override | None = None,
    start_anyway: Override | None = None,
) -> None:
    """Build what is not done yet, oldest day first; one that fails does not keep the others. Leave is given to each.

    Raises DaysFailed at the end, with what each of them says.
    """
    failed = {}
    for one in planned:
        if one.is_done:
            LOG.info("%s: already done", one.day)
            continue
        try:
            perform(one, overrides, home, admit_anyway, start_anyway)
        except NightshelfError as error:
            LOG.error("%s: %s", one.day, error)
            failed[one.day] = error
    if failed:
        told = "\n".join(f"{day}: {error}" for day, error in failed.items())
        raise DaysFailed(f"{len(failed)} days are not built. Correct the cause and give the same days again.\n{told}")


def _days_of(word: str) -> list[dt.date]:
    first, dots, last = word.partition("..")
    try:
        begin, end = dt.date.fromisoformat(first), dt.date.fromisoformat(last if dots else first)
    except ValueError:
        raise BadSetting(f"{word!r} names no days. Write 2026-03-01, or 2026-03-01..2026-03-07.") from None
    if end < begin:
        raise BadSetting(f"{word!r} ends before it begins. Write the earlier day first.")
    return [begin + dt.timedelta(days=n) for n in range((end - begin).days + 1)]


def _done(
    home: Path, told: settings.Settings, chosen: Iterable[dt.date], published: Iterable[dt.date]
) -> dict[dt.date, bool]:
    """Whether each day has a run that would not differ if it were built now; raises BadInput for days that cannot."""
    done, wrong, now = {}, [], dt.datetime.now(dt.UTC)
    for day in chosen:
        try:
            one = described(home, told, day, BACKFILL, now)
        except BadInput as error:
            wrong.append(f"{day}: {error}")
            continue
        done[day] = all(map(one.has, ["validate", "report", *["publish"] * (day in published)]))
    if wrong:
        raise BadInput("\n".join(["Nothing was built, for some days cannot be.", *wrong]))
    return done
