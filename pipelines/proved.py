"""Proved: whose proof a night carries over instead of proving its rankings anew, decided once, as it opens.

docs/decisions/0038-carried-proof.md tells what is carried and what is not.
"""

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines import warehouse
from pipelines.run import Run
from pipelines.settings import Settings

TAKEN_FROM = ("fuse", "shelve", "search")  # stages of a proof that the same stages of a night read
WHOLE = ("train_als", "train_profile", *TAKEN_FROM, "validate")
HARMLESS: dict[str, Any] = dict.fromkeys(
    ("machine", "admit", "audit", "audiences", "gates", "warehouse", "store", "retention"), True
) | {
    "clean": {"max_rejected_share", "memory_mb", "spark_master"},
    "holdout": {"keep_days"},
    "als": {"serve_days"},
    "profile": {"keep_days", "processes", "launcher"},
    "fuse": {"engine", "memory_mb"},
    "shelve": {"engine"},
    "search": {"synonyms", "queries"},  # lists that people write every day
}  # settings that no ranking and no figure on held-out days hangs on, but for rounding


def settled(run: Run) -> Run:
    """The run with the proof that it carries, or why it proves anew; as it was decided when it was opened first, while
    nothing else differs. A rescore has the proof of the run whose models serve."""
    if run.models_of:
        return replace(run, proof_of=of(run.home, run.models_of))
    if not run.settings.holdout.keep_days:
        return run
    return _as_before(run) or _decided(run)


def told(run: Run) -> str | None:
    """What was decided, for a person; None where there was nothing to decide."""
    if run.proof_of and not run.models_of:
        return f"{run.run_id} carries the proof of {run.proof_of}: it trains what is published alone"
    return run.proves_because and f"{run.run_id} proves its rankings anew: {run.proves_because}"


def of(home: Path, run_id: str) -> str | None:
    """The run whose proof another one carries; None where it proved for itself, or is not there."""
    return (_record(home, run_id) or {}).get("proof_of")


def _as_before(run: Run) -> Run | None:
    """As it was opened first; None where something else differs now, or the proof is gone that it still has to read."""
    record = _record(run.home, run.run_id)
    if record is None or record["code_version"] != run.code_version:
        return None
    before = Run.load(run.run_id, run.home)
    found = replace(run, proof_of=before.proof_of, proves_because=before.proves_because)
    if found.fingerprint != before.fingerprint:
        return None
    is_needed = found.proof_of is not None and not all(map(found.has, TAKEN_FROM))
    return None if is_needed and _hindrance(found, str(found.proof_of)) else found


def _decided(run: Run) -> Run:
    """By the newest proof that may serve; where none may, the newest of all says why."""
    because = f"no {run.label} run of the {run.settings.holdout.keep_days} days before has a proof"
    for place, name in enumerate(_proofs(run)):
        hindrance = _hindrance(run, name)
        if hindrance is None:
            return replace(run, proof_of=name, proves_because=None)
        because = hindrance if place == 0 else because
    return replace(run, proof_of=None, proves_because=because)


def _proofs(run: Run) -> Iterator[str]:
    """Earlier runs of the label that were opened to prove for themselves, newest first."""
    for age in range(1, run.settings.holdout.keep_days + 1):
        name = f"{run.day - dt.timedelta(days=age)}.{run.label}"
        record = _record(run.home, name)
        if record and not record.get("models_of") and not record.get("proof_of"):
            yield name


def _hindrance(run: Run, name: str) -> str | None:
    """Why the proof of another run may not serve; None where it may."""
    record = _record(run.home, name)
    if record is None:
        return f"{name} is gone"
    if record["code_version"] != run.code_version:
        return f"{name} is of other code, {record['code_version']}"
    proof = Run.load(name, run.home)
    if changed := _differing(proof.settings, run.settings):
        return f"{name} has other settings: {', '.join(changed)}"
    if missing := [stage for stage in WHOLE if not proof.has(stage)]:
        return f"{name} did not finish {missing[0]}"
    verdict = json.loads(proof.of("validate", "verdict.json").read_text())
    if verdict["failed"] or (verdict["asked"] and not proof.publish_anyway):
        return f"{name} did not pass the gate"
    return _taken_back(run, name)


def _taken_back(run: Run, name: str) -> str | None:
    """Whether readers were taken back from what was ranked by that proof: they had a reason."""
    for release in warehouse.barred(warehouse.of(run.home, run.settings).history()):
        made_by = release.rpartition(".")[0]
        if name in (made_by, of(run.home, made_by)):
            return f"readers were taken back from {release}, which is ranked by {name}"
    return None


def _differing(before: Settings, now: Settings) -> list[str]:
    """Names of the settings that differ, of those that something hangs on."""
    then, told = (_flat(one.model_dump(mode="json", exclude=HARMLESS)) for one in (before, now))
    return sorted(name for name in then.keys() | told.keys() if then.get(name) != told.get(name))


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {f"{above}{name}": value}
    return found


def _record(home: Path, run_id: str) -> dict[str, Any] | None:
    path = home / "runs" / run_id / "run.json"
    return json.loads(path.read_text()) if path.exists() else None
