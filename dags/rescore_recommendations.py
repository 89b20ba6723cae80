"""### Rescore

Makes the lists anew from the stock and the rules of now, by the models behind the current release: nothing is trained,
so that it takes a fraction of a night. *Trigger* takes `run` (whose models serve; empty: those of the current release),
`label`, `publish`, and `settings` of rules for this run alone, such as `{"shelve.length": 10}`; those that models are
made by are refused. What was bought since the night is not seen, and items that came since wait for the next night.

#### When a task fails

- **rescore** — A setting that needs training, models that are gone or of other code, stock that is off contract, or a
  gate that did not let the lists through. The current release stays. The message has stage, cause and cure, as
  `nightly_recommendations` explains them. Clear the task to go on where it stopped; or leave it to the next night.
"""

import datetime as dt

from airflow.sdk import Asset, Param, dag, task
from by_hand import MARKET, SETTINGS, home, no_retry_of_errors_with_a_cure, params

RELEASE = Asset("nightshelf_release")


@task(outlets=[RELEASE])
def rescore() -> str:
    from pipelines import rescore as scoring

    told = params()
    with no_retry_of_errors_with_a_cure():
        done = scoring.perform(
            run_id=told["run"], label=told["label"], overrides=told["settings"], publish=told["publish"], home=home()
        )
    return done.run_id


@dag(
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightshelf"],
    default_args={"retries": 2, "retry_delay": dt.timedelta(minutes=1), "execution_timeout": dt.timedelta(hours=4)},
    params=MARKET
    | {
        "run": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d{2}-\d{2}\.[a-z0-9-]{1,32}$",
            description="Run whose models serve; empty: the one behind the current release.",
        ),
        "label": Param("rescore", type="string", pattern="^[a-z0-9-]{1,32}$", description="The run's name."),
        "publish": Param(True, type="boolean", description="Let readers see the release if it passes the gates."),
        "settings": SETTINGS,
    },
)
def rescore_recommendations():
    rescore()


rescore_recommendations()
