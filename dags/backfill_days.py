"""### Backfill days

Builds days again, one after the other, each in a run of its own (`2026-02-27.backfill`) that sees nothing of what came
after its day. *Trigger* takes `days` (such as `2026-02-27 2026-03-01` or `2026-02-01..2026-02-07`), `promote` (publish
days that are not older than what readers have; without it readers notice nothing), `settings` for these runs alone,
`admit_anyway` (the reason to go on past a stop of `admit`, on each of the days), and `start_anyway` (the reason to
start where there seems to be no room).

A day that was built before, with nothing changed since, is passed over; one that stopped half-way goes on there. So
*Clear* the failed task, or *Trigger* the same days again: nothing is done twice.

#### When a task fails

- **plan** — A day was not delivered, a setting does not exist, there are more days than `retention.backfills` keeps, or
  `promote` names only days older than what readers have. No run was opened. Correct what the message names.
- **build_day** — One of the days (the task's map index) stopped; the others go on. The message has stage, cause and
  cure, as `nightly_recommendations` explains them. Then clear this task.
"""

import datetime as dt

from airflow.sdk import Asset, Param, dag, task
from by_hand import MARKET, SETTINGS, home, leave_params, leaves, no_retry_of_errors_with_a_cure, params

RELEASE = Asset("nightshelf_release")
DAY = r"\d{4}-\d{2}-\d{2}(\.\.\d{4}-\d{2}-\d{2})?"


@task
def plan() -> list[dict]:
    """The days that are still to be built, oldest first."""
    from pipelines import backfill

    told = params()
    with no_retry_of_errors_with_a_cure():
        planned = backfill.plan(backfill.days(told["days"].split()), told["settings"], told["promote"], home())
    return [{"day": str(one.day), "publishes": one.publishes} for one in planned if not one.is_done]


@task(outlets=[RELEASE], max_active_tis_per_dagrun=1)
def build_day(planned: dict) -> None:
    from pipelines import backfill

    one = backfill.Planned(dt.date.fromisoformat(planned["day"]), planned["publishes"], is_done=False)
    with no_retry_of_errors_with_a_cure():
        backfill.perform(one, params()["settings"], home(), **leaves())


@dag(
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightshelf"],
    default_args={"retries": 2, "retry_delay": dt.timedelta(minutes=1), "execution_timeout": dt.timedelta(hours=4)},
    params=MARKET
    | {
        "days": Param(
            type="string",
            pattern=rf"^{DAY}( +{DAY})*$",
            maxLength=2000,
            description="Days and spans: 2026-02-27 2026-03-01..2026-03-07.",
        ),
        "promote": Param(False, type="boolean", description="Publish days that may replace the current release."),
        "settings": SETTINGS,
        **leave_params(),
    },
)
def backfill_days():
    build_day.expand(planned=plan())


backfill_days()
