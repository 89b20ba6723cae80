"""Publish: bring in the release that the gate let through, move the one pointer that readers follow, clear old ones."""

from pathlib import Path

from pipelines import retention, warehouse
from pipelines.run import Run, stage, write_json


@stage
def run(run: Run, folder: Path) -> None:
    record = warehouse.publish(run, warehouse.judged(run))
    cleared = retention.clear_releases(run.home, run.settings)
    write_json(folder / "release.json", record | {"cleared": cleared})
