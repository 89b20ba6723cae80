"""Publish: write tonight's tables as one release file and move the one link that readers follow."""

from pathlib import Path

import pandas as pd

from pipelines import warehouse
from pipelines.errors import GateFailed
from pipelines.expectations import stopping
from pipelines.run import Run, stage, write_json


@stage
def run(run: Run, folder: Path) -> None:
    checks = pd.read_parquet(run.of("validate", "quality_checks.parquet"))
    if len(stopping(checks)):
        raise GateFailed(
            f"{run.run_id}: validation failed, so nothing is published. `nightshelf validate {run.run_id}` says why."
        )
    made = folder / "release.duckdb"
    tables = warehouse.write(run, made)
    write_json(folder / "release.json", warehouse.publish(run, made, tables))
