"""Publish: bring in the release that the gate let through, move the one pointer that readers follow, clear old ones."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

from pipelines import retention, warehouse
from pipelines.run import Override, Run, stage, write_json


def let_out(run: Run, leave: Override) -> None:
    """Keep a person's word with the run, so that `publish` goes on past what only a person may let out."""
    replace(run, publish_anyway=leave).save()


@stage
def run(run: Run, folder: Path) -> None:
    record = warehouse.publish(run, warehouse.judged(run), attempt=folder)
    cleared = retention.clear_releases(run.home, run.settings)
    days = retention.clear_raw(run, dt.datetime.now(dt.UTC))
    write_json(folder / "release.json", record | {"cleared": cleared, "removed_days": days})
