"""Admit: decide whether what arrived is like what used to arrive, before a night is built on it."""

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines import contracts, drift, figures, profiles
from pipelines.errors import InputRefused
from pipelines.expectations import LEVELS, check, held, lines, stopping
from pipelines.figures import Figure
from pipelines.run import Run, stage, write_json
from pipelines.settings import Admit

LOG = logging.getLogger("nightshelf")
TABLE = "input"  # table_name of these checks in quality_checks
CURES = {
    "volume": "Part of the day is missing, or it came more than once: compare raw/events with the shop's own count.",
    "filled": "An export no longer fills the column: have the day delivered again.",
    "rejected": "`nightshelf check`, and the rows under lake/<table>/arrival_date=…/…/verdict=rejected, show why.",
    "mix": "Events of one kind are no longer sent, or sent twice: have the day delivered again.",
    "hours_behind": "The export ended early: have the day delivered again once it is over.",
    "catalogue": "The catalogue is cut off: have it delivered again.",
    "missing_days": "Have the days delivered, or say that the shop was closed.",
    "drift": "Nothing to do where the change is meant.",
}


def run(run: Run) -> None:
    """Judge what arrived; raise InputRefused, which stops the night, when a check of level `stop` does not hold."""
    judge(run)
    told = pd.DataFrame(checks(run))
    for failed in told[~told["is_ok"] & (told["level"] == "warn")].itertuples():
        LOG.warning("%s %s: %s, expected %s", run.run_id, failed.check_name, failed.observed, failed.expected)
    refuse(run)
    if run.admit_anyway:
        LOG.warning("%s: admitted by leave: %s", run.run_id, run.admit_anyway)


@stage
def judge(run: Run, folder: Path) -> None:
    """Write the checks of the input."""
    delivered = {table: profiles.of(run, table) for table in contracts.raw_tables()}
    told = figures.of_day(run.day, delivered, run.settings.shop.timezone, run.settings.admit)
    write_json(folder / "checks.json", judged([*told, *_drift(run)], run.settings.admit))


def checks(run: Run) -> list[dict[str, Any]]:
    """The input's rows of `quality_checks`; a failed one that the run has leave to pass says why."""
    told = json.loads(run.of("admit", "checks.json").read_text())
    leave = str(run.admit_anyway) if run.admit_anyway else None
    return [one | {"override": leave} if not one["is_ok"] and one["level"] == "stop" else one for one in told]


def refuse(run: Run) -> None:
    """Raise InputRefused when the input was not admitted."""
    told = pd.DataFrame(checks(run))
    failed = stopping(told)
    if len(failed):
        cures = dict.fromkeys(CURES[name.split("/")[1]] for name in failed["check_name"])
        raise InputRefused(
            f"What arrived for {run.run_id} is not what used to arrive; nothing is built on it, the current release "
            f"stays. {len(failed)} of {len(told)} checks failed:\n{lines(failed)}\n"
            + "\n".join(cures)
            + '\nIf the input is right, run the night again with --admit-anyway "<reason>" (in Airflow: the parameter '
            "admit_anyway), or change the bound under [admit]."
        )


def judged(told: Sequence[Figure], settings: Admit) -> list[dict[str, Any]]:
    """One check per figure and level that has a bound; a figure without a value holds."""
    from great_expectations import expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    severities = {level: FailureSeverity(name) for name, level in LEVELS.items()}
    known = [one for one in told if one.value is not None]
    declared = [
        gxe.ExpectColumnMeanToBeBetween(column=one.name, min_value=low, max_value=high, severity=severities[level])
        for one in known
        for level, low, high in one.bounds(settings)
    ]
    frame = pd.DataFrame({one.name: [float(one.value or 0)] for one in known})
    records = list(held({TABLE: declared}, {TABLE: [frame]}))
    return [_named(record, known, settings) for record in records] + [
        check(TABLE, one.name, True, "nothing to measure", _expected(low, high), level)
        for one in told
        if one.value is None
        for level, low, high in one.bounds(settings)
    ]


def _named(record: dict[str, Any], known: Sequence[Figure], settings: Admit) -> dict[str, Any]:
    """The record of an expectation by the name of its figure, with the counts behind it."""
    one = next(one for one in known if record["check_name"].endswith(f"({one.name})"))
    low, high = next(ends for level, *ends in one.bounds(settings) if level == record["level"])
    observed = f"{one.value:.3g}" + (f" ({one.told})" if one.told else "")
    return record | {"check_name": one.name, "observed": observed, "expected": _expected(low, high)}


def _expected(low: float | None, high: float | None) -> str:
    ends = [f"at least {low:g}" if low is not None else "", f"at most {high:g}" if high is not None else ""]
    return " and ".join(filter(None, ends))


def _drift(run: Run) -> Iterable[Figure]:
    """How many columns of each table changed without stopping the night; those that do stop it stopped `open`."""
    from pipelines.clean import files_of

    changes = drift.found(run.home, run.settings, files_of(run), run.day)
    for table in contracts.raw_tables():
        told = [str(change) for change in changes if change.table == table]
        yield Figure(f"{table}/drift", len(told), "; ".join(told))
