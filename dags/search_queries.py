"""### Search queries

Publishes answers to `queries` that nobody may have typed yet: a release like the current one with further rows of
`search_results`, from what that release keeps for answering. Nothing is trained. The queries are kept in `queries.csv`
in the home, so that every night answers them too; taking one out there ends that.

#### When a task fails

- **answer** — A query of the list is wrong, all are answered already, nothing is published yet, or the answers do not
  hold against their contract; the message says which. Readers keep the release they have, and nothing is kept of the
  list.
"""

from airflow.sdk import Asset, Param, dag, task
from by_hand import MARKET, home, no_retry_of_errors_with_a_cure, owner, params

RELEASE = Asset("nightshelf_release")


@task(outlets=[RELEASE])
def answer() -> list[str]:
    from pipelines import asked

    queries = params()["queries"]
    with no_retry_of_errors_with_a_cure():
        return asked.answer(home(), queries, owner())[1]


@dag(
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightshelf"],
    params=MARKET
    | {
        "queries": Param(
            type="array",
            items={"type": "string", "minLength": 1, "maxLength": 256},
            minItems=1,
            maxItems=1000,
            uniqueItems=True,
            description="Queries as somebody would type them, one a line.",
        ),
    },
)
def search_queries():
    answer()


search_queries()
