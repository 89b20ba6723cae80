"""Open: decide the day once, look at the input, and write down all that decides the night."""

import datetime as dt
import json
import logging
import zoneinfo
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines import (
    check,
    device,
    offsite,
    plan,
    proved,
    pseudonyms,
    retention,
    rules,
    run,
    settings,
    shortages,
    warehouse,
)
from pipelines.audit import asked
from pipelines.errors import BadSetting, RunBusy
from pipelines.run import Override, Run

LOG = logging.getLogger("nightshelf")


def open_run(
    *,
    owner: str,
    day: dt.date | None = None,
    label: str = "nightly",
    overrides: Mapping[str, Any] | None = None,
    fired_at: dt.datetime | None = None,
    home: Path | None = None,
    admit_anyway: Override | None = None,
    start_anyway: Override | None = None,
    models_of: str | None = None,
) -> Run:
    """Open the run `<day>.<label>`, or the same one again; without `day`, the day before `fired_at` in the shop's zone.
    `admit_anyway` lets this run alone go on past a stop of the input gate, `start_anyway` start where there seems to be
    no room for it. With `models_of`, a run, nothing is trained, and the catalogue is the one that has arrived by
    `fired_at`.

    Raises BadSetting, BadInput, BadRules, NoDataForDay, NoWarehouse, NoStore, RunBusy, NoRoom or
    NightTooLarge, and then leaves no trace.
    """
    root = home or run.home()
    resolved = settings.load(root, overrides)
    day = day or day_before(fired_at, resolved.shop.timezone)
    now = dt.datetime.now(dt.UTC)  # the one look at the clock: every later stage reads `opened_at`
    stock_until = _local_day(fired_at or now, resolved.shop.timezone) if models_of else None
    with shortages.named(root, f"{day}.{label}", "open"):
        told = described(root, resolved, day, label, now, stock_until, models_of)
        opened = _as_before(replace(told, admit_anyway=admit_anyway, start_anyway=start_anyway))
        warehouse.of(root, resolved).ready()
        offsite.ready(root, resolved)
        if run.is_worked_on(root, run.FORGETTING, now):
            raise RunBusy("Users are being forgotten: a run would bring them back. Wait until that is done.")
        run.take_lease(root, opened.run_id, owner, now)
        try:
            retention.clear_runs(root, resolved, now, needed=(opened.models_of, opened.proof_of))
            if not models_of:
                plan.refuse(opened)
            opened.folder.mkdir(parents=True, exist_ok=True)
            opened.save()
        except BaseException:
            run.release_lease(root, opened.run_id, owner)
            raise
    if decided := proved.told(opened):
        LOG.info(decided)
    return opened


def described(
    home: Path,
    told: settings.Settings,
    day: dt.date,
    label: str,
    now: dt.datetime,
    stock_until: dt.date | None = None,
    models_of: str | None = None,
) -> Run:
    """The run as it would be opened now, under the rules of the day on which people see it; raises BadInput, BadRules,
    NoDataForDay, or BadSetting for what is wrong in `audit.csv` or a device that is not here, where it could not."""
    told = pseudonyms.settled(device.settled(told))
    files = check.inputs(home, told, day, stock_until)
    asked.read(home, told.shelves)  # lists do not depend on it, but a mistake shall not wait for them
    seen_on = max(day + dt.timedelta(days=1), stock_until or day)
    seen = Run(
        home=home,
        run_id=f"{day}.{label}",
        day=day,
        label=label,
        opened_at=now,
        settings=told,
        inputs={file.path: file.sha256 for file in files},
        code_version=run.code_version(),
        packages=run.package_versions(),
        rules=rules.in_force(home, seen_on, told.shelves),
        models_of=models_of,
        follows=_follows(home, told, day, label),
        asked=asked.digest(home),
    )
    return proved.settled(seen)


def _follows(home: Path, told: settings.Settings, day: dt.date, label: str) -> str | None:
    """The release of an earlier day that readers had last when the run was first opened, where shelves shall differ
    from it; what is published since, the run's own release among it, changes nothing."""
    if not told.shelve.freshness:
        return None
    record = home / "runs" / f"{day}.{label}" / "run.json"
    before = json.loads(record.read_text()).get("follows") if record.exists() else None
    return before or warehouse.seen_before(home, told, day)


def day_before(moment: dt.datetime | None, timezone: str) -> dt.date:
    if moment is None:
        raise BadSetting("No day given, and no moment to count back from. Say --day YYYY-MM-DD.")
    return _local_day(moment, timezone) - dt.timedelta(days=1)


def _local_day(moment: dt.datetime, timezone: str) -> dt.date:
    return moment.astimezone(zoneinfo.ZoneInfo(timezone)).date()


def _as_before(opened: Run) -> Run:
    """The same run as it was opened first, while nothing differs that decides rows: a finished night opened again stays
    finished. What it was given leave for then counts still."""
    record = opened.folder / "run.json"
    # other code may have known other settings, so that its record cannot be loaded
    if not record.exists() or json.loads(record.read_text())["code_version"] != opened.code_version:
        return opened
    before = Run.load(opened.run_id, opened.home)
    if before.fingerprint != opened.fingerprint:
        return opened
    return replace(
        before,
        settings=opened.settings,
        admit_anyway=before.admit_anyway or opened.admit_anyway,
        start_anyway=before.start_anyway or opened.start_anyway,
    )
