"""The manifest of a run's release, written last, and the gate's verdict on exactly that."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from pipelines import run as runs
from pipelines.errors import GateFailed, NotAsJudged
from pipelines.expectations import lines, stopping
from pipelines.run import Run, write_json

RELEASE, MANIFEST, VERDICT = "release.duckdb", "manifest.json", "verdict.json"
CONTRACT = 1


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
        "contract": CONTRACT,
        "fingerprint": run.fingerprint,
        "code_version": run.code_version,
        "seed": run.settings.seed,
        "settings": run.settings.model_dump(mode="json"),
        "inputs": dict(run.inputs),
        "tables": tables,
        "sha256": sha256(folder / RELEASE),
    }
    write_json(folder / MANIFEST, record)
    write_json(folder / VERDICT, {"manifest": sha256(folder / MANIFEST), "failed": _failed(folder / RELEASE)})


def judged(run: Run) -> Judged:
    """The release that the gate of this run let through; raises GateFailed when it did not, and NotAsJudged when what
    lies there is not what it saw."""
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
    failed = _failed(folder / RELEASE)
    if failed != verdict["failed"]:
        raise NotAsJudged(_told(run, f"{folder / VERDICT} does not say what the checks in the release say"))
    if failed:
        told = "\n".join(failed)
        raise GateFailed(f"{run.run_id}: validation failed, so nothing is published:\n{told}")
    return Judged(folder / RELEASE, manifest)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _failed(release: Path) -> list[str]:
    with duckdb.connect(str(release), read_only=True) as connection:
        checks = connection.execute("select * from quality_checks").df()
    return lines(stopping(checks)).splitlines()


def _told(run: Run, what: str) -> str:
    return (
        f"{run.run_id}: {what}, so nothing is published. Delete {run.folder / 'validate'} and run "
        f"`nightshelf validate {run.run_id}`: the gate judges anew."
    )
