"""Forget: take users out of everything that is kept, and keep them out of what is delivered later."""

import datetime as dt
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines import forgotten, markets, offsite, pseudonyms, run, settings, warehouse
from pipelines.audit import asked
from pipelines.errors import BadSetting, RunBusy
from pipelines.forget import delivered, lake, runs
from pipelines.forget.delivered import mentions
from pipelines.run import FORGETTING, release_lease, take_lease
from pipelines.settings import Settings


def forget(users: Sequence[str], why: str, who: str, home: Path | None = None) -> dict[str, Any] | None:
    """Take users out of raw files, lake, runs, releases and logs, in this order; returns the proof, which names nobody,
    or None where there was nothing left of them.

    May be done again after whatever it died of. Raises BadSetting or RunBusy before anything is changed.
    """
    root, now = home or run.home(), dt.datetime.now(dt.UTC)
    told = settings.load(root)
    names = pseudonyms.require(root, told.clean)
    wanted = {names.of(user) for user in users}
    said = wanted | {user.strip() for user in users}  # the shop's ids, where the tables have pseudonyms
    _refuse(root, told, said, why, now)
    owner = f"cli:{os.uname().nodename}:{os.getpid()}"
    take_lease(root, FORGETTING, owner, now)
    try:
        before = forgotten.begun(root, wanted)
        counts = before or Counter()
        for found in _erased(root, told, wanted, said):
            counts.update(found)
            if counts.total():
                forgotten.begin(root, wanted, counts)
        offsite.follow(root, told)
    finally:
        release_lease(root, FORGETTING, owner)
    if not counts.total() and before is None:
        return None
    proof = {"at": now, "who": who, "why": why, "count_users": len(wanted), "counts": dict(counts)}
    forgotten.record(root, proof)
    return proof


def _erased(root: Path, told: Settings, wanted: Collection[str], said: Collection[str]) -> Iterator[dict[str, int]]:
    """Take the users out, place by place; what was found in each."""
    yield {"users": forgotten.add(root, wanted)}
    raw_rows, since = delivered.erase(root, told, wanted, said)
    yield {"raw_rows": raw_rows}
    yield {"lake_partitions": lake.erase(root, wanted, since)}
    yield {"run_rows": runs.erase(root, wanted)}
    yield {"release_rows": _erase_releases(root, told, wanted)}
    yield {"log_lines": runs.erase_logs(markets.house(root), said)}


def _refuse(home: Path, told: Settings, users: Collection[str], why: str, now: dt.datetime) -> None:
    if not users or "" in users or not why.strip():
        raise BadSetting("Forgetting wants users, and a reason, which is kept with the proof.")
    if any(user in why for user in users):
        raise BadSetting("The reason names a user, and is kept. Say it without.")
    if count := len({pseudonyms.of(told.clean, visitor) for visitor in told.bots.allow}.intersection(users)):
        raise BadSetting(f"bots.allow names {count} of these users. Take them out of {settings.file(home)} first.")
    if count := len(
        {pseudonyms.of(told.clean, one.user_id) for one in asked.read(home, told.shelves)}.intersection(users)
    ):
        raise BadSetting(f"{asked.FILE} names {count} of these users. Take them out of {home / asked.FILE} first.")
    busy = [path.stem for path in (home / "runs").glob("*.lease") if run.is_worked_on(home, path.stem, now)]
    if busy:
        raise RunBusy(f"{', '.join(sorted(busy))} is being worked on, and would bring the users back. Wait for it.")


def _erase_releases(home: Path, told: Settings, users: Collection[str]) -> int:
    house = warehouse.of(home, told)
    with house.locked():
        return sum(house.erase(name, users, mentions(users).pattern) for name in house.kept())
