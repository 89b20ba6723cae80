"""What the DAGs have in common: who asked, parameters, the market, and errors with a cure."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow.sdk import Param, get_current_context
from airflow.sdk.exceptions import AirflowFailException

from pipelines import markets
from pipelines.errors import NightshelfError

MARKETS = markets.names(markets.root())
MARKET = {"market": Param(type="string", enum=MARKETS, description="Market that is meant.")} if MARKETS else {}
ALL_OR_ONE = (
    {"market": Param(None, enum=[None, *MARKETS], description="Market that is meant; empty: all.")} if MARKETS else {}
)
WHY = Param(type="string", minLength=3, maxLength=500, description="Reason, kept with what is done.")
SETTINGS = Param(
    {},
    type="object",
    propertyNames={"pattern": r"^[a-z_]+(\.[^.]+)*$"},
    additionalProperties={"type": ["string", "number", "boolean"]},
    description='Settings for this run alone, by dotted name: {"als.factors": 32}.',
)
LEAVES = {
    "admit_anyway": "Why this run may go on past a stop of `admit`; kept with the night.",
    "start_anyway": "Why this run may start where there seems to be no room; kept with the night.",
}


@contextmanager
def no_retry_of_errors_with_a_cure() -> Iterator[None]:
    """An error that tells a person what to do will not go away by itself: fail now, not after two more tries."""
    try:
        yield
    except NightshelfError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error


def params() -> dict:
    """What the DAG was triggered with; a parameter that it does not have fails the task before anything is done."""
    context = get_current_context()
    known = context["dag"].params
    if unknown := sorted(set(context["dag_run"].conf or {}) - set(known)):
        raise AirflowFailException(f"No such parameter: {', '.join(unknown)}. There are {', '.join(known)}.")
    return dict(context["params"])


def home() -> Path:
    """The home of the DAG run's market; raises BadSetting where there is none of that name any more."""
    return markets.home(markets.root(), get_current_context()["params"].get("market"))


def leave_params() -> dict[str, Param]:
    """A parameter for each of LEAVES, of each DAG's own: one keeps the value of a run in this process."""
    text = {"type": ["null", "string"], "minLength": 3, "maxLength": 500}
    return {name: Param(None, **text, description=description) for name, description in LEAVES.items()}


def leaves() -> dict:
    """The reasons of LEAVES that were given, with who gave them."""
    from pipelines.run import Override

    told = params()
    return {name: told[name] and Override(told[name], who()) for name in LEAVES}


def owner() -> str:
    """Who holds the run's lease: this DAG run, through all retries and clearings."""
    dag_run = get_current_context()["dag_run"]
    return f"airflow:{dag_run.dag_id}:{dag_run.run_id}"


def who() -> str:
    """The person who triggered the DAG, else the DAG run."""
    return get_current_context()["dag_run"].triggering_user_name or owner()
