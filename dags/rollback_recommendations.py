"""### Roll back recommendations

Makes an earlier release current again: readers see it at once, whole; nothing is computed and nothing is deleted.
*Trigger* takes `to` (a release, such as `2026-11-21.nightly.6cab07bb`; empty: the one that the current replaced) and
`why`, which is kept with the release history. The release that readers leave is barred: a night of the same code and
settings on the same input ends in `publish` with the reason, until one of them has changed.

#### When a task fails

- **rollback** — There is no such release, or none before the current one. Nothing was moved. `nightshelf releases`
  lists what there is.
"""

from airflow.sdk import Asset, Param, dag, task
from by_hand import MARKET, WHY, home, no_retry_of_errors_with_a_cure, params, who

RELEASE = Asset("nightshelf_release")


@task(outlets=[RELEASE])
def rollback() -> str:
    from pipelines import warehouse

    told = params()
    with no_retry_of_errors_with_a_cure():
        return warehouse.rollback(home(), told["to"], told["why"], who())


@dag(
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightshelf"],
    params=MARKET
    | {
        "to": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d{2}-\d{2}\.[a-z0-9.-]+$",
            description="Release to show again; empty: the one that the current replaced.",
        ),
        "why": WHY,
    },
)
def rollback_recommendations():
    rollback()


rollback_recommendations()
