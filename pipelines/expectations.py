"""Great Expectations, asked about frames: suites in, one record per expectation out, and none left out."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import pandas as pd

from pipelines.errors import NightshelfError

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when Great Expectations is imported
COUNTED = re.compile(r"(\d+) of (\d+) rows break it")
LEVELS = {"critical": "stop", "warning": "warn"}  # Great Expectations' words for how much a failure matters


class SuiteIncomplete(NightshelfError):
    """Not every declared expectation was executed, so that nothing is known about the tables."""


def held(suites: Mapping[str, list[Any]], parts: Mapping[str, Iterable[pd.DataFrame]]) -> Iterator[dict[str, Any]]:
    """The rows of each name, in parts of which there is at least one, held against the suite of that name.

    A part holds all rows of a key, so that what is unique in each is unique in all.
    """
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
        results = (definition.run(batch_parameters={"dataframe": part}).results for part in parts[name])
        yield from _joined([_records(name, declared, one) for one in results])


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


def _joined(parts: Sequence[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The records of all parts, which stand in one order, as one of each check: it holds if it does in every part."""
    yield from map(_shown, zip(*parts, strict=True))


def _shown(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record, of the first part that breaks it if any; rows are counted over all parts."""
    first = min(records, key=itemgetter("is_ok"))
    counts = [COUNTED.match(record["observed"]) for record in records]
    if len(records) == 1 or not all(counts):
        return first
    broken, rows = (sum(int(found[place]) for found in counts if found) for place in (1, 2))
    return first | {"observed": COUNTED.sub(f"{broken} of {rows} rows break it", first["observed"])}


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
