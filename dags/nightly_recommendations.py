"""### Nightly recommendations

Turns the shop's raw events into one release of search and recommendation tables, every night at 03:00 (in the zone of
Airflow's `[core] default_timezone`). The day is the one before the run fires, in the shop's own time zone; *Trigger*
takes another `day`, a `label` (several runs of one day stand side by side), `publish: false` (all but the release),
`settings` for this run alone, such as `{"als.factors": 32}`, `admit_anyway`, the reason to pass a stop of `admit`, and
`start_anyway`, the reason to start where the machine seems to have no room. A home with markets has such a DAG for
each, `nightly_recommendations_<market>`; what fails in one is no other's.

**Whatever fails, readers keep the release they have**: `publish` moves one pointer, as its last act, and only after
`validate` has passed. An error that names its cure is not retried; anything else is retried twice. A finished stage is
not done again, so two moves are always safe: *Clear* the failed task (the same run is opened again and carries on from
there, then reports), or, after a setting was changed, *Trigger* the day anew.

#### When a task fails

- **open** — The day, the settings, the rules or the raw files are not what the night needs, another run has this day,
  or the machine has no room. Nothing was written. Correct what the message names (`nightshelf check` and `nightshelf
  plan` list all of it), then trigger the day anew.
- **clean** — A raw file is cut off or off contract, too many rows were rejected, or Spark lacks Java or memory. Look at
  the reasons in the message; have the file delivered again or raise `clean.max_rejected_share`, then trigger anew.
- **admit** — What arrived is not what used to arrive: too little, too much, columns or kinds of events that ceased. The
  message names figure, bound and cause; have the day delivered again, or trigger it anew with a reason, `admit_anyway`.
- **build** — Rows break the contract; the message names table, column and count. The cause is nearly always in today's
  input: correct it, then trigger the day anew.
- **train_als** — Too few interactions, or no memory. Compare today's row counts with yesterday's; lower `als.factors`,
  then trigger the day anew.
- **train_neighbours** — No memory, or EASE found no inverse. Lower `neighbours.largest_dense` or raise
  `neighbours.regularization`, then trigger the day anew.
- **train_profile** — The catalogue has no text to learn from, or training diverged. See whether titles arrived; lower
  `profile.learning_rate`, then trigger the day anew.
- **fuse** — Mostly memory. Lower `fuse.memory_mb` or `fuse.candidates`, then trigger the day anew.
- **shelve** — Lists could not be filled. See whether today's catalogue marks everything as sold out; correct it, then
  trigger the day anew. Or the release that they shall differ from (`shelve.freshness`) is not kept any more: trigger
  the day under another label.
- **search** — Mostly memory. Lower `search.max_queries`, then trigger the day anew.
- **validate** — Tonight's tables are worse than the gates allow; the gate did its work. Read the run's report, decide,
  and only then change a `gates.*` setting and trigger the day anew.
- **approve** — Where `gates.ask` is set and a gate of taste failed, it waits for a person: *Required Actions* shows
  what the gate saw; approve with a reason, which is kept with the release history, or reject. When it has failed,
  somebody rejected the night or nobody answered for twelve hours; `nightshelf publish RUN --why "…"` lets it out still.
- **publish** — The release could not be written or the pointer not moved: a full disk, or rights on the warehouse
  folder. Clear `publish`. Or the night would bring back what readers were taken back from; the message says what lets
  it out. A release that is live but wrong goes back with the DAG `rollback_recommendations`.
- **report** — Only the report is missing; the night ended as `publish` left it. Clear `report`.
"""

import datetime as dt
import logging
import re

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
from by_hand import MARKETS, SETTINGS, home, leave_params, leaves, no_retry_of_errors_with_a_cure, owner, params

LOG = logging.getLogger("nightshelf")
RELEASE = Asset("nightshelf_release")
RUNBOOK = dict(re.findall(r"^- \*\*(\w+)\*\* — (.+?)(?=\n- |\Z)", __doc__ or "", re.MULTILINE | re.DOTALL))
PARAMS = {
    "day": Param(
        None, type=["null", "string"], format="date", description="Last day the run may see; empty: yesterday."
    ),
    "label": Param("nightly", type="string", pattern="^[a-z0-9-]{1,32}$", description="The run's name within its day."),
    "publish": Param(True, type="boolean", description="Let readers see the release if it passes the gates."),
    "settings": SETTINGS,
    **leave_params(),
}


def log_failure(context) -> None:
    """One block for the person on call: what failed, of which run, why, and what to do next."""
    ti, params, error = context["ti"], context["params"], context.get("exception")
    run_id = ti.xcom_pull(task_ids="open")
    facts = {
        "run": run_id or "not opened",
        "day": run_id.partition(".")[0] if run_id else params["day"] or "the day before the run fired",
        "dag run": f"{ti.dag_id} {ti.run_id}, try {ti.try_number}",
        "error": said(error),
        "next": " ".join(RUNBOOK[ti.task_id].split()),
        "readers": "unaffected: this task moves no pointer, the current release is untouched"
        if ti.task_id not in ("publish", "report")
        else "served by one whole release: `nightshelf status` says which",
    }
    lines = [f"{name:<8} {value}" for name, value in facts.items()]
    LOG.error("\n".join(["", f"═══ Nightshelf: {ti.task_id} failed ═══", *lines, "═" * 40]))


def said(error: BaseException | None) -> str:
    if error is None:
        return "its process died, or its worker gave no sign of life; mostly for want of memory"
    return str(error) if isinstance(error, AirflowFailException) else f"{type(error).__name__}: {error}"


def opened_run() -> str:
    return get_current_context()["ti"].xcom_pull(task_ids="open")


def stage(name: str):
    """The stage `name` of the night, on the run that `open` returned, as a task of that name."""

    @task(task_id=name)
    def perform() -> None:
        from pipelines import night

        with no_retry_of_errors_with_a_cure():
            night.perform(name, opened_run(), home())

    return perform()


@task(task_id="open")
def open_() -> str:
    from pipelines.open import open_run

    told, dag_run = params(), get_current_context()["dag_run"]
    with no_retry_of_errors_with_a_cure():
        return open_run(
            day=dt.date.fromisoformat(told["day"]) if told["day"] else None,
            label=told["label"],
            overrides=told["settings"],
            owner=owner(),
            fired_at=dag_run.logical_date or dag_run.run_after,
            home=home(),
            **leaves(),
        ).run_id


class Approval(ApprovalOperator):
    """Waits for a person's word where the gate leaves the night to one; where it does not, there is nothing to do."""

    def execute(self, context):
        from pipelines import warehouse
        from pipelines.run import Run

        if not context["params"]["publish"]:
            return None
        with no_retry_of_errors_with_a_cure():
            doubts = warehouse.doubts(Run.load(opened_run(), home()))
        if not doubts:
            return None
        self.body = "\n".join(f"- {doubt}" for doubt in doubts)
        return super().execute(context)

    def execute_complete(self, context, event):
        from pipelines.publish import let_out
        from pipelines.run import Override, Run

        answer = super().execute_complete(context, event)
        who = (answer["responded_by_user"] or {}).get("name", "unknown")
        with no_retry_of_errors_with_a_cure():
            let_out(Run.load(opened_run(), home()), Override(answer["params_input"]["why"], who))
        return answer


@task(outlets=[RELEASE])
def publish() -> None:
    from pipelines import night

    if not get_current_context()["params"]["publish"]:
        raise AirflowSkipException("This run was triggered with publish: false; the current release stays.")
    with no_retry_of_errors_with_a_cure():
        night.perform("publish", opened_run(), home())


@task
def report() -> None:
    from pipelines import night
    from pipelines.run import release_lease

    try:
        with no_retry_of_errors_with_a_cure():
            night.perform("report", opened_run(), home())
    finally:
        release_lease(home(), opened_run(), owner())


NIGHTLY = {
    "schedule": "0 3 * * *",
    "catchup": False,
    "max_active_runs": 1,
    "doc_md": __doc__,
    "tags": ["nightshelf"],
    "default_args": {
        "retries": 2,
        "retry_delay": dt.timedelta(minutes=1),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": dt.timedelta(minutes=15),
        "execution_timeout": dt.timedelta(hours=4),  # less than the lease lives without a sign of life
        "on_failure_callback": log_failure,
    },
}


def nightly_recommendations():
    opened, published = open_(), publish()
    approve = Approval(
        task_id="approve",
        subject="May tonight's release replace the current one?",
        params={"why": Param("", type="string", maxLength=500, description="Why it may; kept with the history.")},
        fail_on_reject=True,  # a night that readers do not get is not green
        response_timeout=dt.timedelta(hours=12),
        execution_timeout=None,
        retries=0,
    )
    clean, admit, build = map(stage, ("clean", "admit", "build"))
    train_als, train_neighbours, train_profile = map(stage, ("train_als", "train_neighbours", "train_profile"))
    fuse, shelve, search, validate = map(stage, ("fuse", "shelve", "search", "validate"))

    opened >> clean >> admit >> build >> [train_als, train_neighbours, train_profile] >> fuse >> shelve
    [build, train_profile] >> search
    [shelve, search] >> validate >> approve >> published

    # The report tells how the night ended, also when it ended badly, and hands the run back. As a teardown it has no
    # say in the DAG run's state; it waits for every branch, since one may still be at work when another has failed.
    [train_als, train_neighbours, train_profile, search, published] >> report().as_teardown(setups=opened)


for market in MARKETS:
    own = {"market": Param(market, type="string", enum=[market], description="Market whose nights these are.")}
    dag(f"nightly_recommendations_{market}", params=own | PARAMS, **NIGHTLY)(nightly_recommendations)()
if not MARKETS:
    dag(params=PARAMS, **NIGHTLY)(nightly_recommendations)()
