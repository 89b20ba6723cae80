"""### Forget a user

Takes users out of everything that is kept (raw files, lake, runs, releases, logs), and keeps them out of what is
delivered later. *Trigger* takes `users`, ids as the tables have them, and `why`, which is kept and names nobody. The
proof stands in `forgotten/proofs.json`: when, by whom, why, how many rows lay where.

In a home with markets a task for each forgets them there, one market after another, unless `market` names one. In a
market it happens wholly or, where it is refused, not at all; the others do not wait for that.

Airflow itself keeps what a DAG was triggered with. Where that may not be, use `nightshelf forget`, or remove the DAG
run afterwards (`airflow db clean`, or *Delete* in the list of runs).

#### When a task fails

- **forget** — A run is being worked on, or the reason or a setting names the user: nothing was changed, do what the
  message says. Anything else: clear the task. It goes on where it stopped, and finds nothing to do where it is done.
"""

import datetime as dt

from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowSkipException
from by_hand import ALL_OR_ONE, MARKETS, WHY, no_retry_of_errors_with_a_cure, params, who

from pipelines import markets


@task(max_active_tis_per_dagrun=1)
def forget(market: str | None = None) -> None:
    from pipelines.forget import forget as erase

    told = params()
    if market and told["market"] not in (None, market):
        raise AirflowSkipException(f"Only in {told['market']}.")
    with no_retry_of_errors_with_a_cure():
        erase(told["users"], told["why"], who(), markets.home(markets.root(), market))


@dag(
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightshelf"],
    default_args={"retries": 2, "retry_delay": dt.timedelta(minutes=1)},
    params=ALL_OR_ONE
    | {
        "users": Param(
            type="array",
            items={"type": "string", "minLength": 1, "maxLength": 500},
            minItems=1,
            description="Users, as the tables have them.",
        ),
        "why": WHY,
    },
)
def forget_user():
    if MARKETS:
        forget.expand(market=MARKETS)
    else:
        forget()


forget_user()
