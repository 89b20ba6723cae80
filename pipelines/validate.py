"""Validate: decide whether tonight may replace last night, by every table's contract and by gates about the night."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines import admit, contracts, gates, warehouse
from pipelines.contracts import Column, Table
from pipelines.errors import GateFailed
from pipelines.expectations import asking, check, held, lines, stopping
from pipelines.marts import Marts
from pipelines.rules import acted
from pipelines.run import Run, stage

LOG = logging.getLogger("nightshelf")
AUDITED = ("similar_items", "items", "item_history", "popular_items",
           "bought_together", "trending_items", "bot_flags", "rejected_rows", "rules", "rule_effects", "metrics",
           "runs", "arrivals", "queries", "query_synonyms", "query_facets", "zero_result_queries")  # fmt: skip

PARTED = ("user_recommendations", "search_results")  # audited too, each part of their rows by itself
LARGE = (
    "user_candidates",
    "candidate_audit",
    "short_shelves",
    "user_history",
    "held_out_lists",
    "search_parts",
    "user_preferences",
    "query_suggestions",
    "user_search_results",
    "replenishments",
    "user_rhythms",
)  # counted in SQL: as frames they would cost more than all the others


def run(run: Run) -> None:
    """Judge the night; raise GateFailed, which stops the publication, when a check does not hold that must."""
    admit.refuse(run)
    judge(run)
    checks = pd.read_parquet(run.of("validate", "quality_checks.parquet"))
    failed = stopping(checks)
    if len(failed):
        raise GateFailed(
            f"{run.run_id} may not be published, the current release stays. "
            f"{len(failed)} of {len(checks)} checks failed:\n"
            f"{lines(failed)}\nLook at {run.folder / 'report'}. "
            "If the night is right and the gate is not, change the [gates] setting."
        )
    if len(doubts := asking(checks)):
        LOG.warning("%s waits for a person's word:\n%s", run.run_id, lines(doubts))


@stage
def judge(run: Run, folder: Path) -> None:
    """Write runs, arrivals, metrics and quality_checks; then the release, its manifest, and the verdict on it."""
    warehouse.write_runs(run, folder)
    warehouse.write_arrivals(run, folder)
    warehouse.write_metrics(run, folder)
    acted.write(run, folder)
    marts = Marts(run)
    frames = {name: warehouse.frame(run, name, folder) for name in AUDITED}
    parted = [record for name in PARTED for record in _parted(run, marts, name, folder)]
    counted = [record for name in LARGE for record in _counted(run, name, folder)]
    answered = marts.frame(f"select distinct query from {warehouse.relation(run, 'search_results', folder)}")
    held_against = [*_contract_checks(marts, frames, {"search_results": answered}), *parted, *counted]
    checks = [*admit.checks(run), *held_against, *gates.checks(run, marts, frames)]
    pd.DataFrame(checks).assign(run_id=run.run_id).to_parquet(folder / "quality_checks.parquet", index=False)
    warehouse.seal(run, folder, warehouse.write(run, folder / "release.duckdb", folder))


def _contract_checks(
    marts: Marts, frames: dict[str, pd.DataFrame], named: Mapping[str, pd.DataFrame] | None = None
) -> Iterable[dict[str, Any]]:
    """`named` are columns of further tables that the frames refer to."""
    tables, known = contracts.tables("serving"), frames | dict(named or {})
    suites = {name: expectations(tables[name], is_empty=_is_empty(marts, tables[name])) for name in frames}
    parts = {name: [frame] for name, frame in frames.items()}
    return [*held(suites, parts), *(record for name in frames for record in references(tables[name], known))]


def _parted(run: Run, marts: Marts, name: str, folder: Path) -> Iterable[dict[str, Any]]:
    """The same of a table that is larger than memory: what its columns refer to is asked in SQL."""
    table = contracts.tables("serving")[name]
    suite = expectations(table, is_empty=_is_empty(marts, table))
    yield from held({name: suite}, {name: warehouse.parts(run, name, folder)})
    pointing = dict(pair for column in table.columns for pair in _pointing(run, column, folder))
    yield from _broken(run, table, pointing, folder)


def references(table: Table, frames: dict[str, pd.DataFrame]) -> Iterable[dict[str, Any]]:
    """Whether what the table's columns refer to is there; Great Expectations would copy all ids for each such check,
    thousands of times, and most of its time would go there."""
    for column in table.columns:
        if column.references:
            known, key = column.references
            named = frames[table.name][column.name].dropna()
            unknown = named[~named.isin(frames[known][key])]
            told = f"{len(unknown)} of {len(frames[table.name])} rows break it"
            told += f", for example {unknown.unique()[:3].tolist()}" if len(unknown) else ""
            yield check(table.name, f"known({column.name})", unknown.empty, told, "holds for every row")


def expectations(table: Table, is_empty: bool = False) -> list[Any]:
    """The suite of a table, derived from its contract; see `references` for what points to other tables."""
    from great_expectations import expectations as gxe

    suite: list[Any] = [gxe.ExpectTableColumnsToMatchOrderedList(column_list=table.names)]
    if not table.may_be_empty and not is_empty:
        suite.append(gxe.ExpectTableRowCountToBeBetween(min_value=1))
    if len(table.key) > 1:
        suite.append(gxe.ExpectCompoundColumnsToBeUnique(column_list=list(table.key)))
    for column in table.columns:
        suite += _column_expectations(column)
    return suite


def _column_expectations(column: Column) -> list[Any]:
    from great_expectations import expectations as gxe

    suite: list[Any] = []
    if column.is_required:
        suite.append(gxe.ExpectColumnValuesToNotBeNull(column=column.name))
    if column.is_unique:
        suite.append(gxe.ExpectColumnValuesToBeUnique(column=column.name))
    if column.accepted_values:
        suite.append(gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=list(column.accepted_values)))
    if column.minimum is not None or column.maximum is not None:
        low, high = column.minimum, column.maximum
        suite.append(gxe.ExpectColumnValuesToBeBetween(column=column.name, min_value=low, max_value=high))
    return suite


def _counted(run: Run, name: str, folder: Path) -> Iterable[dict[str, Any]]:
    """What `expectations` asks of a frame, asked of a table where it lies."""
    table = contracts.tables("serving")[name]
    conditions = dict(pair for column in table.columns for pair in _broken_when(run, column, folder))
    yield from _broken(run, table, {f"unique({', '.join(table.key)})": None, **conditions}, folder)


def _broken(run: Run, table: Table, conditions: Mapping[str, str | None], folder: Path) -> Iterable[dict[str, Any]]:
    """A record per label of what breaks a rule: rows for which a condition in SQL holds; without one, those whose key
    stands twice."""
    asked = [condition for condition in conditions.values() if condition]
    count_rows, doubles, *counts = warehouse.broken(run, table.name, asked, folder)
    for label, condition in conditions.items():
        count = counts.pop(0) if condition else doubles
        yield check(table.name, label, count == 0, f"{count} of {count_rows} rows break it", "holds for every row")


def _broken_when(run: Run, column: Column, folder: Path) -> Iterable[tuple[str, str]]:
    """Per rule of a column, when a row breaks it."""
    name = f'"{column.name}"'
    if column.is_required:
        yield f"not_null({column.name})", f"{name} is null"
    if column.accepted_values:
        yield f"accepted_values({column.name})", f"{name} not in {column.accepted_values}"
    if column.minimum is not None:
        yield f"at_least({column.name})", f"{name} < {column.minimum}"
    if column.maximum is not None:
        yield f"at_most({column.name})", f"{name} > {column.maximum}"
    yield from _pointing(run, column, folder)


def _pointing(run: Run, column: Column, folder: Path) -> Iterable[tuple[str, str]]:
    """When a row of a column points to nothing."""
    if column.references:
        table, key = column.references
        known = warehouse.relation(run, table, folder)
        yield f"known({column.name})", f'"{column.name}" not in (select {key} from {known})'


def _is_empty(marts: Marts, table: Table) -> bool:
    return table.empty_with is not None and not len(marts.frame(f"select 1 from {table.empty_with} limit 1"))
