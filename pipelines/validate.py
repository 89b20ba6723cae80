"""Validate: decide whether tonight may replace last night, by every table's contract and by gates about the night."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from pipelines import admit, contracts, warehouse
from pipelines.contracts import Column, Table
from pipelines.errors import GateFailed
from pipelines.expectations import check, held, lines, stopping
from pipelines.marts import Marts
from pipelines.run import Run, stage

AUDITED = ("user_recommendations", "search_results", "similar_items", "items", "item_history", "popular_items",
           "bought_together", "bot_flags", "rejected_rows", "rule_effects", "metrics", "runs", "arrivals")  # fmt: skip


def run(run: Run) -> None:
    """Judge the night; raise GateFailed, which stops the publication, when a check does not hold."""
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


@stage
def judge(run: Run, folder: Path) -> None:
    """Write runs, arrivals, metrics and quality_checks."""
    warehouse.write_runs(run, folder)
    warehouse.write_arrivals(run, folder)
    warehouse.write_metrics(run, folder)
    marts = Marts(run)
    frames = {name: warehouse.frame(run, name, folder) for name in AUDITED}
    checks = [*admit.checks(run), *_contract_checks(marts, frames), *_gates(run, marts, frames)]
    pd.DataFrame(checks).assign(run_id=run.run_id).to_parquet(folder / "quality_checks.parquet", index=False)


def _contract_checks(marts: Marts, frames: dict[str, pd.DataFrame]) -> Iterable[dict[str, Any]]:
    tables = contracts.tables("serving")
    suites = {name: expectations(tables[name], frames, is_empty=_is_empty(marts, tables[name])) for name in frames}
    return held(suites, frames)


def expectations(table: Table, frames: dict[str, pd.DataFrame], is_empty: bool = False) -> list[Any]:
    """The suite of a table, derived from its contract; `frames` holds the tables that it refers to."""
    from great_expectations import expectations as gxe

    suite: list[Any] = [gxe.ExpectTableColumnsToMatchOrderedList(column_list=table.names)]
    if not table.may_be_empty and not is_empty:
        suite.append(gxe.ExpectTableRowCountToBeBetween(min_value=1))
    if len(table.key) > 1:
        suite.append(gxe.ExpectCompoundColumnsToBeUnique(column_list=list(table.key)))
    for column in table.columns:
        suite += _column_expectations(column, frames)
    return suite


def _column_expectations(column: Column, frames: dict[str, pd.DataFrame]) -> list[Any]:
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
    if column.references:
        table, key = column.references
        suite.append(gxe.ExpectColumnValuesToBeInSet(column=column.name, value_set=frames[table][key].tolist()))
    return suite


def _is_empty(marts: Marts, table: Table) -> bool:
    return table.empty_with is not None and not len(marts.frame(f"select 1 from {table.empty_with} limit 1"))


def _gates(run: Run, marts: Marts, frames: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    gates, shelves = run.settings.gates, frames["user_recommendations"]
    checks = [
        _books_balance(run),
        _gate("users_served", _users_served(run, marts, frames), gates.min_users_served),
        _gate("queries_answered", _queries_answered(marts, frames), gates.min_queries_answered),
        _gate("overlap_with_current", _overlap(run, shelves), gates.min_overlap),
    ]
    unavailable = frames["items"].loc[~frames["items"]["is_available"], "item_id"]
    shown = pd.concat([shelves["item_id"], frames["search_results"]["item_id"], frames["popular_items"]["item_id"]])
    count = int(shown.isin(set(unavailable)).sum())
    checks.append(
        check("night", "only_available_items", count == 0, f"{count} rows show an item that cannot be bought", "none")
    )
    values = frames["metrics"].set_index("metric")["value"]
    for placement in ("for_you", "discover"):
        checks.append(_gate(f"{placement}_against_popularity", _ratio(values, placement), gates.min_against_popularity))
    return checks


def _books_balance(run: Run) -> dict[str, Any]:
    """Cleaning accounts for every row of every file that was delivered, as accepted or by rule."""
    accounted: Counter[str] = Counter()
    for record in json.loads(run.of("clean", "books.json").read_text()):
        accounted[record["file"]] += record["count_rows"]
    delivered = warehouse.delivered_rows(run)
    wrong = [path for path, count in delivered.items() if count is None]
    wrong += [one["file"] for one in warehouse.receipts(run) if accounted[one["file"]] != one["count_rows"]]
    total = sum(filter(None, delivered.values()))
    told = f"{accounted.total()} rows" + (f", not all of {', '.join(sorted(wrong)[:3])}" if wrong else "")
    is_ok = not wrong and accounted.total() == total
    return check("night", "books_balance", is_ok, told, f"{total} rows, file by file")


def _users_served(run: Run, marts: Marts, frames: dict[str, pd.DataFrame]) -> float | None:
    """Share of all known users with a `for_you` shelf of full length."""
    if not len(marts.users):
        return None
    shelves = frames["user_recommendations"]
    length = min(run.settings.shelve.length, int(frames["items"]["is_available"].sum()))
    lengths = shelves[shelves["placement"] == "for_you"].groupby("user_id").size()
    return float((lengths >= length).sum() / len(marts.users))


def _queries_answered(marts: Marts, frames: dict[str, pd.DataFrame]) -> float | None:
    asked = marts.queries()
    return frames["search_results"]["query"].nunique() / len(asked) if len(asked) else None


def _overlap(run: Run, shelves: pd.DataFrame) -> float | None:
    """Mean share of a `for_you` shelf that stood in the current release too, over users in both."""
    current = warehouse.current(run.home)
    if current is None:
        return None
    with duckdb.connect(str(current), read_only=True) as connection:
        query = "select user_id, item_id from user_recommendations where placement = 'for_you'"
        before = connection.execute(query).df()
    now = shelves.loc[shelves["placement"] == "for_you", ["user_id", "item_id"]]
    now = now[now["user_id"].isin(before["user_id"])]
    return len(now.merge(before)) / len(now) if len(now) else None


def _ratio(values: pd.Series, placement: str) -> float | None:
    """Held-out NDCG@10 of tonight's fusion to that of the most popular items."""
    ours, theirs = (values.get(f"{placement}/{source}/ndcg_at_10") for source in ("fused", "popularity"))
    return float(ours / theirs) if ours is not None and theirs else None


def _gate(name: str, observed: float | None, least: float) -> dict[str, Any]:
    """A gate holds when the figure reaches its bound; without anything to measure it says so."""
    if observed is None:
        return check("night", name, True, "nothing to measure", f"at least {least:g}")
    return check("night", name, observed >= least, f"{observed:g}", f"at least {least:g}")
