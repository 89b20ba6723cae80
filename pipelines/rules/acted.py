"""Acted: what each rule did on the shelves and in the answers of a night, which two stages build side by side."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.run import Run

PARTS = (("shelve", "rule_effects.parquet"), ("search", "search_effects.parquet"))


def write(run: Run, folder: Path) -> None:
    """Write rule_effects of both, and the rules with whether they acted in either."""
    parts = [pd.read_parquet(run.of(*part)) for part in PARTS]
    told = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    told.to_parquet(folder / "rule_effects.parquet", index=False)
    acted = set(told.loc[(told["count_rows"] > 0) | (told["count_moved"] > 0), "rule"])
    rules = pq.read_table(run.of("shelve", "rules.parquet"))
    has_acted = pa.array([rule in acted for rule in rules["rule_id"].to_pylist()], pa.bool_())
    at = rules.schema.get_field_index("has_acted")
    pq.write_table(rules.set_column(at, "has_acted", has_acted), folder / "rules.parquet")
