"""Validate what was asked: the current release with further answers, and the gate's verdict on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from pipelines import contracts, warehouse
from pipelines import validate as nightly
from pipelines.expectations import check, held
from pipelines.run import Run, stage
from pipelines.search import kept
from pipelines.search.answered import COLUMNS, results
from pipelines.search.answers import blocks

TABLE = "search_results"
ASKED = "asked/"  # before the names of checks on such answers; those on the answers of the night stay beside them


@stage
def run(run: Run, folder: Path) -> None:
    """Write the answers, the release that holds them too, its manifest, and the verdict on it."""
    with warehouse.connect(run.home, run.settings) as release:
        found = answers(run, release)
        found.to_parquet(folder / f"{TABLE}.parquet", index=False)
        items = release.execute("select item_id, is_available from items").df()
        checks = pd.DataFrame([*_by_contract(found, items), *_gates(run, found, items)])
        before = release.execute("select * from quality_checks where not starts_with(check_name, ?)", [ASKED]).df()
        whole = pd.concat([before, checks.assign(run_id=run.run_id)], ignore_index=True)
        written = warehouse.derive(release, folder / "release.duckdb", {TABLE: found}, {"quality_checks": whole})
    warehouse.seal(run, folder, written)


def answers(run: Run, release: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Rows of search_results for the queries of the run, from what the release keeps for answering."""
    engine, ranking, _ = kept.load(release)
    found = [results(engine, ranking, block, run.run_id) for block in blocks(run.settings.search.queries)]
    return pd.concat(found, ignore_index=True)[COLUMNS]


def answered(run: Run) -> list[str]:
    """The queries to which a finished run gave answers."""
    return sorted(pd.read_parquet(run.of("validate", f"{TABLE}.parquet"))["query"].unique())


def _by_contract(found: pd.DataFrame, items: pd.DataFrame) -> Iterator[dict[str, Any]]:
    table, frames = contracts.tables("serving")[TABLE], {TABLE: found, "items": items}
    for record in (*held({TABLE: nightly.expectations(table)}, {TABLE: [found]}), *nightly.references(table, frames)):
        yield record | {"check_name": ASKED + record["check_name"]}


def _gates(run: Run, found: pd.DataFrame, items: pd.DataFrame) -> Iterator[dict[str, Any]]:
    count, least = len(run.settings.search.queries), run.settings.gates.min_queries_answered
    share = found["query"].nunique() / count
    yield check("night", f"{ASKED}queries_answered", share >= least, f"{share:g} of {count}", f"at least {least:g}")
    gone = int(found["item_id"].isin(set(items.loc[~items["is_available"], "item_id"])).sum())
    yield check(
        "night", f"{ASKED}only_available_items", gone == 0, f"{gone} rows show an item that cannot be bought", "none"
    )
