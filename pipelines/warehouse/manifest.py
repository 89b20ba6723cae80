"""The manifest of a run's release, written last, and the gate's verdict on exactly that."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from pipelines import contracts
from pipelines import run as runs
from pipelines.errors import GateFailed, NotAsJudged
from pipelines.expectations import asking, lines, stopping
from pipelines.run import Run, write_json

RELEASE, MANIFEST, VERDICT = "release.duckdb", "manifest.json", "verdict.json"


@dataclass(frozen=True)
class Judged:
    """A release that the gate let through: its one file, and what the manifest tells of it."""

    path: Path
    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        return self.manifest["release"]


def seal(run: Run, folder: Path, tables: dict[str, dict[str, object]]) -> None:
    """Write the manifest of the release file in `folder`, then the verdict of the checks that the file holds."""
    record = {
        "release": f"{run.run_id}.{runs.digest(tables)[:8]}",
        "run_id": run.run_id,
        "day": run.day,
        "contract": contracts.VERSION,
        "fingerprint": run.fingerprint,
        "code_version": run.code_version,
        "seed": run.settings.seed,
        "settings": run.settings.model_dump(mode="json"),
        "inputs": dict(run.inputs),
        "rules": run.told_rules,
        "tables": tables,
        "sha256": sha256(folder / RELEASE),
    }
    write_json(folder / MANIFEST, record)
    write_json(folder / VERDICT, {"manifest": sha256(folder / MANIFEST), **_verdict(folder / RELEASE)})


def judged(run: Run) -> Judged:
    """The release that the gate of this run let through; raises GateFailed when it did not, or wants a person's word
    that is missing, and NotAsJudged when what lies there is not what it saw."""
    verdict = _bound(run)
    if verdict["failed"]:
        told = "\n".join(verdict["failed"])
        raise GateFailed(f"{run.run_id}: validation failed, so nothing is published:\n{told}")
    if verdict["asked"] and run.publish_anyway is None:
        told = "\n".join(verdict["asked"])
        cure = f'look at the report, then `nightshelf publish {run.run_id} --why "…"`, or leave it'
        raise GateFailed(f"{run.run_id} waits for a person's word: {cure}. The current release stays.\n{told}")
    folder = run.of("validate")
    return Judged(folder / RELEASE, json.loads((folder / MANIFEST).read_text()))


def doubts(run: Run) -> list[str]:
    """What the gate of this run leaves to a person, a line each, if nothing stops it; raises NotAsJudged, too."""
    verdict = _bound(run)
    return [] if verdict["failed"] else [line.strip() for line in verdict["asked"]]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bound(run: Run) -> dict[str, list[str]]:
    """The verdict on what lies in the run; raises NotAsJudged when what lies there is not what the gate saw."""
    folder = run.of("validate")
    try:
        manifest, verdict = (json.loads((folder / name).read_text()) for name in (MANIFEST, VERDICT))
        bound = {MANIFEST: verdict["manifest"], RELEASE: manifest["sha256"]}
        changed = [name for name, told in bound.items() if sha256(folder / name) != told]
    except (OSError, ValueError) as error:
        raise NotAsJudged(_told(run, f"{folder} is not whole ({error})")) from None
    if changed:
        raise NotAsJudged(_told(run, f"{folder / changed[0]} was changed after the verdict"))
    if manifest["fingerprint"] != run.fingerprint:
        raise NotAsJudged(_told(run, f"{folder} holds what another run made"))
    found = _verdict(folder / RELEASE)
    if any(verdict.get(name) != told for name, told in found.items()):
        raise NotAsJudged(_told(run, f"{folder / VERDICT} does not say what the checks in the release say"))
    return found


def _verdict(release: Path) -> dict[str, list[str]]:
    """The checks in the release that failed: those that stop it, and those that a person may let pass."""
    with duckdb.connect(str(release), read_only=True) as connection:
        checks = connection.execute("select * from quality_checks").df()
    return {"failed": lines(stopping(checks)).splitlines(), "asked": lines(asking(checks)).splitlines()}


def _told(run: Run, what: str) -> str:
    return (
        f"{run.run_id}: {what}, so nothing is published. Delete {run.folder / 'validate'} and run "
        f"`nightshelf validate {run.run_id}`: the gate judges anew."
    )
