"""Publish: bring in the release that the gate let through, and move the one pointer that readers follow."""

from pathlib import Path

from pipelines import warehouse
from pipelines.run import Run, stage, write_json


@stage
def run(run: Run, folder: Path) -> None:
    write_json(folder / "release.json", warehouse.publish(run, warehouse.judged(run)))
