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

from airflow.sdk import Asset, Param, dag, task
from by_hand import MARKET, WHY, home, no_retry_of_errors_with_a_cure, owner, params, who

RELEASE = Asset("nightshelf_release")


@task(outlets=[RELEASE])
def exclude() -> str:
    from pipelines import hotfix

    told = params()
    with no_retry_of_errors_with_a_cure():
        now = dt.datetime.now(dt.UTC)
        return hotfix.exclude(home(), told["item"], told["why"], who(), owner(), now).run_id


@dag(
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightshelf"],
    params=MARKET
    | {
        "item": Param(type="string", minLength=1, maxLength=500, description="The item, as the tables have it."),
        "why": WHY,
    },
)
def hotfix_exclude():
    exclude()


hotfix_exclude()
