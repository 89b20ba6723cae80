"""Great Expectations, asked about frames: suites in, one record per expectation out, and none left out."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from pipelines.errors import NightshelfError

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when Great Expectations is imported
LEVELS = {"critical": "stop", "warning": "warn"}  # Great Expectations' words for how much a failure matters


class SuiteIncomplete(NightshelfError):
    """Not every declared expectation was executed, so that nothing is known about the tables."""


def held(suites: Mapping[str, list[Any]], frames: Mapping[str, pd.DataFrame]) -> Iterator[dict[str, Any]]:
    """The frame of each name held against the suite of that name."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("run")
    for name, declared in suites.items():
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=declared))
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe(name)
        definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        yield from _records(name, declared, definition.run(batch_parameters={"dataframe": frames[name]}).results)


def check(
    table: str, name: str, is_ok: bool, observed: str, expected: str, level: str = "stop", override: str | None = None
) -> dict[str, Any]:
    """A row of `quality_checks`."""
    told = {"table_name": table, "check_name": name, "level": level, "is_ok": is_ok}
    return {**told, "observed": observed, "expected": expected, "override": override}


def stopping(checks: pd.DataFrame) -> pd.DataFrame:
    """The failed checks that stop the night: those of level `stop` that nobody has overridden."""
    return checks[~checks["is_ok"] & (checks["level"] == "stop") & checks["override"].isna()]


def asking(checks: pd.DataFrame) -> pd.DataFrame:
    """The failed checks that a person may let pass: those of level `ask`."""
    return checks[~checks["is_ok"] & (checks["level"] == "ask")]


def lines(failed: pd.DataFrame) -> str:
    """Failed checks for a person to read, one a line."""
    told = (f"  {c.table_name}.{c.check_name}: {c.observed}, expected {c.expected}" for c in failed.itertuples())
    return "\n".join(told)


def _records(table: str, declared: list[Any], results: Iterable[Any]) -> list[dict[str, Any]]:
    """One record per expectation; what was declared and what was executed must be the same."""
    records = [_record(table, result) for result in results]
    names = sorted(_name(e.expectation_type, getattr(e, "column", None)) for e in declared)
    executed = sorted(record["check_name"] for record in records)
    if names != executed:
        raise SuiteIncomplete(f"{table}: declared and executed checks differ: {sorted(set(names) ^ set(executed))}.")
    return records


def _record(table: str, result: Any) -> dict[str, Any]:
    config, seen = result.expectation_config, dict(result.result)
    if raised := list(_raised(result.exception_info or {})):
        observed = f"raised {'; '.join(raised)}"
    elif "observed_value" in seen:
        observed = str(seen["observed_value"])
    else:
        observed = f"{seen.get('unexpected_count')} of {seen.get('element_count')} rows break it"
        if seen.get("partial_unexpected_list"):
            observed += f", for example {seen['partial_unexpected_list'][:3]}"
    name = _name(config.type, config.kwargs.get("column"))
    return check(table, name, bool(result.success), observed[:500], _expected(config.kwargs), LEVELS[config.severity])


def _raised(told: Mapping[str, Any]) -> Iterator[str]:
    """What an expectation raised, by itself or, as Great Expectations tells by their names, in its metrics."""
    for one in (told, *(value for value in told.values() if isinstance(value, Mapping))):
        if one.get("raised_exception"):
            yield str(one.get("exception_message"))


def _name(type_: str, column: str | None) -> str:
    return f"{type_}({column or ''})"


def _expected(kwargs: dict[str, Any]) -> str:
    told = {k: v for k, v in kwargs.items() if k not in ("batch_id", "column") and v is not None}
    return ", ".join(f"{k} {v}" for k, v in told.items()) or "holds for every row"
