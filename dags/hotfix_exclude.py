"""### Exclude an item now

Takes a recalled item out of every list of the current release, within minutes: the lists are built once more without
it and refilled, queries are answered without it, the gates judge, and readers see the new release. *Trigger* takes
`item` and `why`. The rule is kept in `rules/hotfix.csv`, so that every night to come obeys it.

In a home with markets the item leaves all that have it, one after another, and the rule is kept in `rules/` of the
home, which all obey. Where `market` names one, it alone loses the item and has the rule.

#### When a task fails

- **find_markets** — No market has such an item, or none has a release; the message has the nearest. Nothing was
  changed. It succeeds once the rule is kept; a market that **exclude** fails in does not keep the others.
- **exclude** — There is no such item, the run behind the current release is gone, or the gates did not let the release
  out; the message says which. Readers keep the release they have, with the item; the rule stays. Correct what it names
  and trigger again, or go back with the DAG `rollback_recommendations` to a release that never had the item.
"""

import datetime as dt

from airflow.sdk import Asset, Param, dag, task
from by_hand import ALL_OR_ONE, MARKETS, WHY, no_retry_of_errors_with_a_cure, owner, params, who

from pipelines import markets

RELEASE = Asset("nightshelf_release")


@task
def find_markets() -> list[str]:
    from pipelines import hotfix

    told = params()
    with no_retry_of_errors_with_a_cure():
        if told["market"]:
            return [told["market"]]
        return hotfix.everywhere(markets.root(), told["item"], told["why"], who())


@task(outlets=[RELEASE], max_active_tis_per_dagrun=1)
def exclude(market: str | None = None) -> str:
    from pipelines import hotfix

    told = params()
    with no_retry_of_errors_with_a_cure():
        home, now = markets.home(markets.root(), market), dt.datetime.now(dt.UTC)
        return hotfix.exclude(home, told["item"], told["why"], who(), owner(), now).run_id


@dag(
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightshelf"],
    params=ALL_OR_ONE
    | {
        "item": Param(type="string", minLength=1, maxLength=500, description="The item, as the tables have it."),
        "why": WHY,
    },
)
def hotfix_exclude():
    if MARKETS:
        exclude.expand(market=find_markets())
    else:
        exclude()


hotfix_exclude()
