"""Hotfix: take a recalled item out of every list that readers see, within minutes, and keep it out."""

import csv
import datetime as dt
import difflib
import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

from pipelines import markets, night, rules, warehouse
from pipelines import run as runs
from pipelines.audit import asked
from pipelines.errors import BadSetting, NothingPublished, RunBusy
from pipelines.marts import Marts
from pipelines.rules import Rule
from pipelines.run import Run

FILE = "hotfix.csv"  # of the rules folder
COLUMNS = ("rule_id", "action", "item_id", "priority", "owner", "reason")
TAKEN_OVER = ("clean", "admit", "build", "train_als", "train_neighbours", "train_profile", "fuse")
DONE_AGAIN = ("shelve", "search", "validate", "publish")


def exclude(home: Path, item_id: str, why: str, who: str, owner: str, now: dt.datetime) -> Run:
    """Deny an item from now on, and publish the current release's run once more without it; `owner` holds the lease.

    Nothing is cleaned and nothing is trained; lists are built and queries answered anew, and the gate judges as every
    night. The rule stays also where the gate does not let the release out. Raises BadSetting for
    an item that the catalogue lacks, NothingPublished without a release.
    """
    base = current(home)
    rule = rule_of(base, item_id, why, who)
    keep(home, rule)
    run = derived(base, rule, now)
    if runs.is_worked_on(home, runs.FORGETTING, now):
        raise RunBusy("Users are being forgotten. Wait until that is done, then take the item out.")
    runs.take_lease(home, run.run_id, owner, now)
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        run.save()
        for stage in TAKEN_OVER:
            take_over(base, run, stage)
        with night.reported(run.run_id, home):
            for stage in DONE_AGAIN:
                night.perform(stage, run.run_id, home)
    finally:
        runs.release_lease(home, run.run_id, owner)
    return run


def everywhere(root: Path, item_id: str, why: str, who: str) -> list[str]:
    """Keep the rule for all markets of a home; those whose current release has the item, and must be made again.

    Raises BadSetting where none has it, with the nearest of each.
    """
    told, unknown = {}, []
    for market in markets.names(root):
        try:
            told[market] = rule_of(current(root / markets.FOLDER / market), item_id, why, who)
        except NothingPublished:
            continue  # its first night obeys the rule
        except BadSetting as error:
            unknown.append(f"{market}: {error}")
    if not told:
        raise BadSetting("\n".join(unknown) or "No market has a release that an item could be taken out of.")
    keep(root, next(iter(told.values())))
    return list(told)


def current(home: Path) -> Run:
    """The run behind the release that readers see."""
    house = warehouse.of(home)
    name = house.current()
    manifest = name and house.manifest(name)
    if not manifest:
        raise NothingPublished("Readers see no release that an item could be taken out of. Run a night first.")
    return Run.load(manifest["run_id"], home)


def rule_of(base: Run, item_id: str, why: str, who: str) -> Rule:
    """The rule that denies an item everywhere; its name is that of the item, as far as names of rules go."""
    known = Marts(base).items
    if item_id not in known.ids:
        near = ", ".join(difflib.get_close_matches(item_id, known.ids, n=3)) or "none"
        raise BadSetting(f"The catalogue of {base.run_id} has no item {item_id!r}. The nearest: {near}.")
    if not why.strip():
        raise BadSetting("A hotfix wants a reason, which is kept with the rule. Say why the item must go.")
    name = re.sub(r"[^a-z0-9_-]", "-", item_id.lower())[:40]
    return Rule(
        rule_id=f"hotfix-{name}-{runs.digest(item_id)[:6]}",
        action="deny",
        item_id=item_id,
        priority=1000,
        owner=who,
        reason=why,
    )


def keep(home: Path, rule: Rule) -> None:
    """Write the rule beside the others, once."""
    path = home / "rules" / FILE
    if rule.rule_id in {one.rule_id for one in rules.read(home)}:
        return
    path.parent.mkdir(exist_ok=True)
    text = io.StringIO(path.read_text(encoding="utf-8") if path.exists() else ",".join(COLUMNS) + "\n")
    text.seek(0, io.SEEK_END)
    csv.writer(text, lineterminator="\n").writerow([getattr(rule, name) for name in COLUMNS])
    runs.write_text(path, text.getvalue())


def derived(base: Run, rule: Rule, now: dt.datetime) -> Run:
    """A run of the same day, settings and input under one rule more; a hotfix of a hotfix counts on."""
    label, _, number = base.label.partition("-hotfix")
    label = f"{label[:22]}-hotfix{int(number or 0) + 1}"
    others = [one for one in base.rules if one.rule_id != rule.rule_id]
    return replace(
        base,
        run_id=f"{base.day}.{label}",
        label=label,
        opened_at=now,
        code_version=runs.code_version(),
        models_of=base.models_of or base.run_id,
        asked=asked.digest(base.home),
        rules=tuple(sorted([*others, rule], key=lambda one: one.precedence)),
    )


def take_over(base: Run, run: Run, stage: str) -> None:
    """Let `run` have finished a stage as `base` did; the files are shared, for a finished stage never changes."""
    done = run.folder / stage
    shutil.rmtree(done, ignore_errors=True)
    shutil.copytree(base.of(stage), done, copy_function=os.link)
    record = json.loads((done / "stage.json").read_text())
    runs.write_json(done / "stage.json", record | {"fingerprint": run.fingerprint})
