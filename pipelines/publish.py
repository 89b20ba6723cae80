"""Publish: bring in the release that the gate let through, move the one pointer that readers follow, clear old ones."""

import datetime as dt
from dataclasses import replace
from pathlib import Path

from pipelines import offsite, retention, warehouse
from pipelines.run import Override, Run, stage, write_json


def let_out(run: Run, leave: Override) -> None:
    """Keep a person's word with the run, so that `publish` goes on past what only a person may let out."""
    replace(run, publish_anyway=leave).save()


@stage
def run(run: Run, folder: Path) -> None:
    record = warehouse.publish(run, warehouse.judged(run), attempt=folder)
    cleared = retention.clear_releases(run.home, run.settings)
    copied = offsite.follow(run.home, run.settings)  # before anything goes of which it can be made again
    days = retention.clear_raw(run, dt.datetime.now(dt.UTC))
    copied += offsite.follow(run.home, run.settings) if days else 0
    told = {"cleared": cleared, "removed_days": days, "copied_lake_files": copied}
    write_json(folder / "release.json", record | told)
