"""Asked: publish answers to queries that nobody typed yet, at once, as a release derived from the current one."""

import csv
import datetime as dt
import io
from collections.abc import Sequence
from pathlib import Path

from models.words import LONGEST_QUERY, tokens
from pipelines import pseudonyms, publish, settings, warehouse
from pipelines import run as runs
from pipelines.asked import validate
from pipelines.errors import BadSetting, NightshelfError, NothingPublished
from pipelines.run import Run
from pipelines.settings import QUERIES, Settings

LABEL = "queries"
MOST = 1000  # queries of one list; more are a matter for the night


def answer(home: Path, queries: Sequence[str], owner: str) -> tuple[Run, list[str]]:
    """Publish results of queries and keep them in `queries.csv`, so that each night answers them too. The run, and what
    is new of the queries.

    Raises BadSetting for a list with a wrong query, NothingPublished without a release, NightshelfError when all are
    answered already, GateFailed when a check fails; readers then keep what they have, and nothing is kept.
    """
    told = settings.load(home)
    asked = checked(queries, told)
    current = warehouse.current(home, told)
    if current is None:
        raise NothingPublished("Nothing is published yet that could answer. Run a night: it answers `queries.csv` too.")
    run = _opened(home, told, current, _unanswered(home, told, asked))
    runs.take_lease(home, run.run_id, owner, run.opened_at)
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        run.save()
        validate.run(run)
        if warehouse.current(home, told) != current:
            raise NightshelfError(f"{current} was replaced while the answers were made. Ask again.")
        publish.run(run)
    finally:
        runs.release_lease(home, run.run_id, owner)
    keep(home, asked)
    return run, validate.answered(run)


def checked(queries: Sequence[str], told: Settings) -> list[str]:
    """The queries as the tables have them, each once; raises BadSetting that names each wrong one."""
    asked = settings.folded(queries)
    wrong = [query for query in asked if len(query) > LONGEST_QUERY or not tokens(query, told.search.language)]
    if wrong or not 0 < len(asked) <= MOST:
        named = f" ({', '.join(repr(query[:40]) for query in wrong[:5])})" if wrong else ""
        raise BadSetting(
            f"{len(asked)} queries, {len(wrong)} of them wrong{named}. Give 1 to {MOST}, each with a word and of "
            f"at most {LONGEST_QUERY} characters. Nothing was written."
        )
    return asked


def keep(home: Path, queries: Sequence[str]) -> None:
    """Add to `queries.csv` what it does not have."""
    kept = settings.from_queries(home)
    text = io.StringIO()
    csv.writer(text).writerows([["query"], *([query] for query in dict.fromkeys([*kept, *queries]))])
    runs.write_text(home / QUERIES, text.getvalue())


def _unanswered(home: Path, told: Settings, queries: list[str]) -> list[str]:
    with warehouse.connect(home, told) as release:
        known = {query for (query,) in release.execute("select distinct query from search_results").fetchall()}
    if known.issuperset(queries):
        raise NightshelfError("Every one of these queries is answered in the current release already.")
    return [query for query in queries if query not in known]


def _opened(home: Path, told: Settings, current: str, queries: list[str]) -> Run:
    """A run of the current release's day, which reads nothing but that release."""
    day = dt.date.fromisoformat(current[:10])
    manifest = warehouse.of(home, told).manifest(current) or {}
    wanted = told.search.model_copy(update={"queries": queries})
    return Run(
        home=home,
        run_id=f"{day}.{LABEL}",
        day=day,
        label=LABEL,
        opened_at=dt.datetime.now(dt.UTC),
        settings=pseudonyms.settled(told.model_copy(update={"search": wanted})),
        inputs={f"warehouse/{current}": manifest.get("sha256", "")},
        code_version=runs.code_version(),
        packages=runs.package_versions(),
    )
