"""### Train a challenger

Trains a whole night under other settings, judges it by the gates, and measures it on the held-out days beside the run
that readers' lists are made of. Nothing is published, whatever comes out. *Trigger* takes `day` (empty: that on which
the current release was proved, so that both can be compared), `label`, and `settings`, such as `{"als.factors": 128}`.
It carries no proof, whatever `holdout.keep_days` says.

Is it better beyond chance, write its settings into `nightshelf.toml`: the next night is made by them. The figures stand
in the log of `compare`; `nightshelf compare RUN` prints them again.

#### When a task fails

- **train** — A stage stopped, or the gates found it wanting; the message has stage, cause and cure, as
  `nightly_recommendations` explains them. Readers notice nothing. Clear the task to go on where it stopped.
- **compare** — The two runs have other held-out days, or the current release's run is gone. Choose its `day`, and
  trigger anew.
"""

import datetime as dt

from airflow.sdk import Param, dag, task
from by_hand import MARKET, SETTINGS, home, no_retry_of_errors_with_a_cure, params


@task
def train() -> str:
    from pipelines import compare as comparing
    from pipelines import night

    told = params()
    with no_retry_of_errors_with_a_cure():
        root = home()
        day = dt.date.fromisoformat(told["day"]) if told["day"] else comparing.current(root).proved_on
        changes = told["settings"] | {"holdout.keep_days": 0}
        return night.run(day=day, label=told["label"], overrides=changes, publish=False, home=root).run_id


@task
def compare(challenger: str) -> list[dict]:
    from pipelines import compare as comparing
    from pipelines.run import Run

    with no_retry_of_errors_with_a_cure():
        found = comparing.compare(Run.load(challenger, home()), comparing.current(home()))
    for line in map(str, found):
        print(line)
    return [vars(one) for one in found]


@dag(
    schedule=None,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["nightshelf"],
    default_args={"retries": 2, "retry_delay": dt.timedelta(minutes=1), "execution_timeout": dt.timedelta(hours=4)},
    params=MARKET
    | {
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            description="Last day it may see; empty: that of its proof.",
        ),
        "label": Param("challenger", type="string", pattern="^[a-z0-9-]{1,32}$", description="The run's name."),
        "settings": SETTINGS,
    },
)
def train_challenger():
    compare(train())


train_challenger()
