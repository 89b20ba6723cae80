"""The night: its stages in order, and how one is performed."""

import datetime as dt
import importlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.errors import NightshelfError
from pipelines.open import open_run
from pipelines.run import Override, Run, release_lease

STAGES = ("clean", "admit", "build", "train_als", "train_neighbours", "train_profile", "fuse", "shelve", "search",
          "validate", "publish", "report")  # fmt: skip
LOG = logging.getLogger("nightshelf")


def perform(stage: str, run_id: str, home: Path | None = None) -> None:
    """Perform one stage of an opened run."""
    if stage not in STAGES:
        raise NightshelfError(f"No stage {stage!r}. The night has: {', '.join(STAGES)}.")
    LOG.info("%s %s …", run_id, stage)
    importlib.import_module(f"pipelines.{stage}").run(Run.load(run_id, home))


@contextmanager
def reported(run_id: str, home: Path) -> Iterator[None]:
    """Write the report at the end, whatever happens; what fails before it is raised, though the report fail too."""
    try:
        yield
    except BaseException:
        try:
            perform("report", run_id, home)
        except NightshelfError as error:
            LOG.error("%s", error)
        raise
    perform("report", run_id, home)


def run(
    *,
    day: dt.date | None,
    label: str = "nightly",
    overrides: Mapping[str, Any] | None = None,
    publish: bool = True,
    home: Path | None = None,
    admit_anyway: Override | None = None,
    start_anyway: Override | None = None,
    models_of: str | None = None,
) -> Run:
    """One whole night in this process, trained or, with `models_of`, by the models of another run.

    The report is written whatever happens; the first error is raised after it.
    """
    owner = f"cli:{os.uname().nodename}:{os.getpid()}"
    fired_at = dt.datetime.now(dt.UTC)
    opened = open_run(
        owner=owner,
        day=day,
        label=label,
        overrides=overrides,
        fired_at=fired_at,
        home=home,
        admit_anyway=admit_anyway,
        start_anyway=start_anyway,
        models_of=models_of,
    )
    try:
        with reported(opened.run_id, opened.home):
            for stage in STAGES[:-1]:
                if publish or stage != "publish":
                    perform(stage, opened.run_id, opened.home)
    finally:
        release_lease(opened.home, opened.run_id, owner)
    return opened
