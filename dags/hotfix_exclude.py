"""### Exclude an item now

Takes a recalled item out of every list of the current release, within minutes: the lists are built once more without
it and refilled, queries are answered without it, the gates judge, and readers see the new release. *Trigger* takes
`item` and `why`. The rule is kept in `rules/hotfix.csv`, so that every night to come obeys it.

#### When a task fails

- **exclude** — There is no such item, the run behind the current release is gone, or the gates did not let the release
  out; the message says which. Readers keep the release they have, with the item; the rule stays. Correct what it names
  and trigger again, or go back with the DAG `rollback_recommendations` to a release that never had the item.
"""

import datetime as dt

from airflow.sdk import Asset, Param, dag, get_current_context, task
from airflow.sdk.exceptions import AirflowFailException

from pipelines.errors import NightshelfError

RELEASE = Asset("nightshelf_release")


@task(outlets=[RELEASE])
def exclude() -> str:
    from pipelines import hotfix, run

    context = get_current_context()
    params, dag_run = context["params"], context["dag_run"]
    owner = f"airflow:{dag_run.dag_id}:{dag_run.run_id}"
    who = dag_run.triggering_user_name or owner
    now = dt.datetime.now(dt.UTC)
    try:
        return hotfix.exclude(run.home(), params["item"], params["why"], who, owner, now).run_id
    except NightshelfError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


@dag(
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightshelf"],
    params={
        "item": Param(type="string", minLength=1, maxLength=500, description="The item, as the tables have it."),
        "why": Param(type="string", minLength=3, maxLength=500, description="Reason, kept with the rule."),
    },
)
def hotfix_exclude():
    exclude()


hotfix_exclude()
