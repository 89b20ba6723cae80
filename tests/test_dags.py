"""The DAGs as Airflow sees them: found, light, wired as the night is, strict about parameters, honest about failure."""

import copy
import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psycopg2
import pytest

from pipelines import backfill, compare, forget, hotfix, night, publish, rescore, warehouse
from pipelines import open as opening
from pipelines.errors import BadInput, GateFailed
from pipelines.run import Override, Run
from pipelines.warehouse.postgres import Postgres
from tests.conftest import LAST_DAY, SMALL
from tests.postgres import ROLES

ROOT = Path(__file__).resolve().parents[1]
DAGS = ROOT / "dags"
HEAVY = {"duckdb", "great_expectations", "implicit", "pyspark", "scipy", "torch"}
DAY = dt.date(2026, 3, 1)


def airflow_environment(home: Path) -> dict[str, str]:
    """Airflow in a folder of its own, which sees this project's DAGs and nothing else."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
    }


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Airflow in a home of its own; it reads its environment once, at import."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in airflow_environment(tmp_path_factory.mktemp("airflow")).items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def bag(airflow):
    """All DAGs, freshly read: a run in this process leaves its parameters behind in the DAG object."""
    from airflow.dag_processing.dagbag import BundleDagBag

    return BundleDagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder")


@pytest.fixture(scope="module")
def metadata(airflow):
    """Airflow's own tables, in SQLite."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def nightly(bag):
    return bag.dags["nightly_recommendations"]


@pytest.mark.slow
def test_dags_are_found_by_name_without_import_errors(bag):
    """Airflow finds the night and what people trigger, and can read all files."""
    assert bag.import_errors == {}
    assert set(bag.dags) == {
        "nightly_recommendations",
        "rescore_recommendations",
        "rollback_recommendations",
        "backfill_days",
        "forget_user",
        "hotfix_exclude",
        "search_queries",
        "train_challenger",
    }


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(DAGS.glob("*.py")), ids=lambda file: file.stem)
def test_dag_file_imports_lightly(file, tmp_path):
    """Beyond Airflow itself, reading a DAG file takes under two seconds and loads none of the heavy libraries."""
    code = (
        "import json, runpy, sys, time; from airflow.sdk import Asset, Param, dag, get_current_context, task;"
        "sys.path.insert(0, sys.argv[1].rpartition('/')[0]);"
        "before, started = set(sys.modules), time.monotonic(); runpy.run_path(sys.argv[1]);"
        "print(json.dumps([time.monotonic() - started, sorted(set(sys.modules) - before)]))"
    )
    environment = {**os.environ, **airflow_environment(tmp_path)}
    told = subprocess.check_output([sys.executable, "-c", code, str(file)], env=environment, text=True)
    seconds, modules = json.loads(told.splitlines()[-1])
    assert seconds < 2
    assert HEAVY.isdisjoint(modules)


def test_tasks_are_the_stages_of_the_night(nightly):
    """One stage, one task, one name; `open` before them, and a person's word before `publish`."""
    assert set(nightly.task_dict) == {"open", "approve", *night.STAGES}


def test_arrows_are_as_declared(nightly):
    """The graph of the night: what each task waits for."""
    assert {task.task_id: set(task.upstream_task_ids) for task in nightly.tasks} == {
        "open": set(),
        "clean": {"open"},
        "admit": {"clean"},
        "build": {"admit"},
        "train_als": {"build"},
        "train_neighbours": {"build"},
        "train_profile": {"build"},
        "fuse": {"train_als", "train_neighbours", "train_profile"},
        "shelve": {"fuse"},
        "search": {"build", "train_profile"},
        "validate": {"shelve", "search"},
        "approve": {"validate"},
        "publish": {"approve"},
        "report": {"open", "train_als", "train_neighbours", "train_profile", "search", "publish"},
    }


def test_one_night_at_a_time_and_no_catching_up(nightly):
    """Nights do not overlap, and a paused month does not come back as thirty nights."""
    assert (nightly.max_active_runs, nightly.catchup, nightly.timetable.expression) == (1, False, "0 3 * * *")


def test_runbook_has_an_entry_for_every_task(bag):
    """Whoever is on call finds each task in the DAG's own documentation."""
    for dag in bag.dags.values():
        assert [name for name in dag.task_dict if f"- **{name}** — " not in dag.doc_md] == []


def test_publishing_is_announced_as_an_asset(nightly):
    """Other DAGs can be scheduled on a new release."""
    assert [asset.name for asset in nightly.get_task("publish").outlets] == ["nightshelf_release"]


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("nightly_recommendations", {"day": "yesterday"}),
        ("nightly_recommendations", {"day": "2026-02-30"}),
        ("nightly_recommendations", {"day": 20260301}),
        ("nightly_recommendations", {"label": "Two Words"}),
        ("nightly_recommendations", {"label": ""}),
        ("nightly_recommendations", {"label": "x" * 33}),
        ("nightly_recommendations", {"publish": "perhaps"}),
        ("nightly_recommendations", {"settings": ["als.factors"]}),
        ("nightly_recommendations", {"settings": {"als.factors": [32]}}),
        ("nightly_recommendations", {"settings": {"Not A Name": 1}}),
        ("nightly_recommendations", {"admit_anyway": ""}),
        ("nightly_recommendations", {"start_anyway": ""}),
        ("hotfix_exclude", {"item": "i1"}),
        ("hotfix_exclude", {"item": "", "why": "recalled"}),
        ("search_queries", {}),
        ("search_queries", {"queries": []}),
        ("search_queries", {"queries": "red shoes"}),
        ("search_queries", {"queries": ["red shoes", ""]}),
        ("search_queries", {"queries": ["x" * 257]}),
        ("backfill_days", {}),
        ("backfill_days", {"days": "yesterday"}),
        ("backfill_days", {"days": "2026-03-01...2026-03-02"}),
        ("backfill_days", {"days": "2026-03-01", "promote": "perhaps"}),
        ("backfill_days", {"days": "2026-03-01", "settings": {"als.factors": [32]}}),
        ("rescore_recommendations", {"run": "the last one"}),
        ("rescore_recommendations", {"publish": "perhaps"}),
        ("train_challenger", {"day": "yesterday"}),
        ("train_challenger", {"settings": {"als.factors": [32]}}),
        ("forget_user", {"users": ["u1"]}),
        ("forget_user", {"users": [], "why": "asked for it"}),
        ("forget_user", {"users": "u1", "why": "asked for it"}),
        ("rollback_recommendations", {}),
        ("rollback_recommendations", {"why": "x"}),
        ("rollback_recommendations", {"why": "bad prices", "to": ""}),
        ("rollback_recommendations", {"why": "bad prices", "to": "../../secrets"}),
    ],
)
def test_wrong_parameters_are_refused(bag, dag_id, conf):
    """A hand trigger with a value out of bounds is turned away before anything runs."""
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        resolve(bag.dags[dag_id], conf)


@pytest.mark.parametrize(
    ("dag_id", "conf"),
    [
        ("nightly_recommendations", {}),
        ("nightly_recommendations", {"day": "2026-02-28", "label": "try-2", "publish": False}),
        ("nightly_recommendations", {"settings": {"als.factors": 32, "shop.timezone": "Europe/London"}}),
        ("search_queries", {"queries": ["red shoes", "blue mug"]}),
        ("backfill_days", {"days": "2026-02-27 2026-03-01..2026-03-02", "promote": True}),
        ("rescore_recommendations", {"run": "2026-03-01.nightly", "settings": {"shelve.length": 5}}),
        ("train_challenger", {"day": "2026-03-01", "settings": {"als.factors": 128}}),
        ("forget_user", {"users": ["u1", "u2"], "why": "asked for it"}),
        ("rollback_recommendations", {"why": "bad prices", "to": "2026-02-28.nightly.6cab07bb"}),
    ],
)
def test_right_parameters_are_taken_as_given(bag, dag_id, conf):
    """What was triggered with is what the tasks read."""
    assert conf.items() <= resolve(bag.dags[dag_id], conf).items()


def resolve(dag, conf) -> dict:
    params = copy.deepcopy(dag.params)
    params.update(conf)
    return params.validate()


class Stages:
    """Stands in for the stages: remembers which were performed, and fails where it is told to."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch, root: Path | None = None) -> None:
        self.home, self.performed, self.failures, self.doubts, self.words = home, [], {}, [], []
        patch.setenv("NIGHTSHELF_HOME", str(root or home))
        patch.setattr(opening, "open_run", self.open_run)
        patch.setattr(night, "perform", self.perform)
        patch.setattr(Run, "load", lambda run_id, home: run_id)
        patch.setattr(warehouse, "doubts", lambda run_id: self.doubts)
        patch.setattr(publish, "let_out", lambda *told: self.words.append(told))

    @property
    def lease(self) -> Path:
        return self.home / "runs" / f"{DAY}.nightly.lease"

    def open_run(self, *, owner, day, label, overrides, fired_at, home, admit_anyway, start_anyway):
        assert home == self.home
        self._perform("open")
        self.lease.parent.mkdir(parents=True, exist_ok=True)
        self.lease.write_text(json.dumps({"owner": owner}))
        self.opened = {"day": day, "label": label, "overrides": overrides, "fired_at": fired_at}
        self.leaves = admit_anyway, start_anyway
        return type("Opened", (), {"run_id": f"{DAY}.nightly"})

    def perform(self, stage: str, run_id: str, home: Path) -> None:
        assert (run_id, home) == (f"{DAY}.nightly", self.home)
        self._perform(stage)

    def _perform(self, stage: str) -> None:
        self.performed.append(stage)
        if stage in self.failures:
            raise self.failures[stage]


@pytest.fixture
def stages(metadata, tmp_path, monkeypatch):
    return Stages(tmp_path, monkeypatch)


def run_dag(dag, conf=None) -> tuple[str, dict[str, str]]:
    """The DAG run's state and each task's, after a run in this process."""
    dag_run = dag.test(run_conf=conf or {})
    return str(dag_run.state), {ti.task_id: str(ti.state) for ti in dag_run.get_task_instances()}


@pytest.mark.slow
def test_a_good_night_performs_every_stage_once_and_hands_the_run_back(nightly, stages):
    """All stages run in order, the trigger's values reach `open`, and the lease is gone afterwards."""
    leaves = {"admit_anyway": "stock taking", "start_anyway": "it swaps"}
    state, tasks = run_dag(nightly, {"day": str(DAY), "settings": {"als.factors": 8}, **leaves})
    assert (state, set(tasks.values())) == ("success", {"success"})
    assert sorted(stages.performed) == sorted(["open", *night.STAGES])
    assert (stages.opened["day"], stages.opened["label"]) == (DAY, "nightly")
    assert stages.opened["overrides"] == {"als.factors": 8}
    assert stages.leaves == (Override("stock taking", "dag_test"), Override("it swaps", "dag_test"))
    assert not stages.lease.exists()


@pytest.mark.slow
def test_without_a_day_the_moment_of_firing_decides(nightly, stages):
    """A scheduled run leaves the day open and passes on when it fired."""
    run_dag(nightly)
    assert (stages.opened["day"], stages.leaves) == (None, (None, None))
    assert abs(stages.opened["fired_at"] - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)


@pytest.mark.slow
def test_a_failed_gate_fails_the_night_and_is_reported(nightly, stages):
    """When `validate` fails nothing is published, the report runs all the same, and the DAG run is not green."""
    stages.failures["validate"] = GateFailed("users served: 0.41, at least 0.95 asked for")
    state, tasks = run_dag(nightly)
    assert state == "failed"
    assert (tasks["validate"], tasks["publish"], tasks["report"]) == ("failed", "upstream_failed", "success")
    assert stages.performed[-1] == "report"
    assert not stages.lease.exists()


@pytest.mark.slow
def test_an_error_with_a_cure_is_not_retried_and_is_told_in_one_block(nightly, stages, caplog):
    """Bad input fails at the first try; the log says what failed, of which day, why, and what to do next."""
    stages.failures["open"] = BadInput("No raw folder raw/events.")
    state, tasks = run_dag(nightly, {"day": str(DAY)})
    assert (state, tasks["open"], tasks["clean"]) == ("failed", "failed", "upstream_failed")
    assert stages.performed == ["open"]
    (block,) = [record.getMessage() for record in caplog.records if record.name == "nightshelf"]
    for fact in ("open failed", f"day      {DAY}", "BadInput: No raw folder raw/events.", "next     ", "untouched"):
        assert fact in block


def test_a_process_that_died_without_a_word_is_told_of_too(nightly, caplog):
    """Airflow hands on no exception then; the block says what that means."""
    (told,) = nightly.get_task("fuse").on_failure_callback
    dead = SimpleNamespace(task_id="fuse", dag_id="d", run_id="r", try_number=3, xcom_pull=lambda **_: f"{DAY}.nightly")
    told({"ti": dead, "params": {"day": None}})
    (block,) = [record.getMessage() for record in caplog.records if record.name == "nightshelf"]
    for fact in ("fuse failed", f"run      {DAY}.nightly", "error    its process died", "Lower `fuse.memory_mb`"):
        assert fact in block


@pytest.mark.slow
def test_a_misspelt_parameter_is_refused(nightly, stages):
    """Airflow lets unknown parameters pass; the night does not run under a label that nobody asked for."""
    state, _ = run_dag(nightly, {"lable": "second"})
    assert (state, stages.performed) == ("failed", [])


@pytest.mark.slow
def test_publish_false_does_everything_but_publish(nightly, stages):
    """A trial night is validated and reported, and readers notice nothing."""
    state, tasks = run_dag(nightly, {"publish": False})
    assert (state, tasks["publish"], tasks["report"]) == ("success", "skipped", "success")
    assert sorted(stages.performed) == sorted({"open", *night.STAGES} - {"publish"})


@pytest.fixture
def answer(metadata):
    """Answers as the Required Actions page does, through Airflow's own API, once a task waits for a person."""
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
        client = TestClient(create_app())
        client.headers["Authorization"] = "Bearer " + client.get("/auth/token").json()["access_token"]

        def wait_and_answer(option: str, why: str) -> dict:
            place, until = "/api/v2/dags/nightly_recommendations/dagRuns/~", time.monotonic() + 60
            while not (found := client.get(f"{place}/hitlDetails", params={"response_received": False}).json())[
                "total_entries"
            ]:
                assert time.monotonic() < until
                time.sleep(0.2)
            (asked,) = found["hitl_details"]
            dag_run = asked["task_instance"]["dag_run_id"]
            place = place.replace("~", dag_run) + "/taskInstances/approve/-1/hitlDetails"
            told = client.patch(place, json={"chosen_options": [option], "params_input": {"why": why}})
            assert told.status_code == 200, told.text
            return asked

        yield lambda option, why: pool.submit(wait_and_answer, option, why)


@pytest.mark.slow
def test_a_night_that_wants_a_word_waits_and_goes_on_with_it(nightly, stages, answer):
    """What the gate saw is shown; who approved and why go with the run, which is then published."""
    stages.doubts = ["night.coverage: 0.01, expected at least 0.02"]
    asked = answer("Approve", "a new season")
    state, tasks = run_dag(nightly)
    assert asked.result()["body"] == "- night.coverage: 0.01, expected at least 0.02"
    assert (state, tasks["approve"], tasks["publish"]) == ("success", "success", "success")
    ((run, leave),) = stages.words
    assert (run, leave.reason, bool(leave.who)) == (f"{DAY}.nightly", "a new season", True)


@pytest.mark.slow
@pytest.mark.parametrize("word", [("Reject", "half the catalogue is gone"), ("Approve", " ")])
def test_a_night_that_is_rejected_or_approved_without_a_reason_is_not_published(nightly, stages, answer, word):
    """It is not green, and it is reported."""
    stages.doubts = ["night.coverage: 0.01, expected at least 0.02"]
    answer(*word)
    state, tasks = run_dag(nightly)
    assert (state, tasks["approve"], tasks["publish"]) == ("failed", "failed", "upstream_failed")
    assert (tasks["report"], stages.words) == ("success", [])


@pytest.mark.slow
def test_rollback_moves_the_pointer_and_says_why(bag, metadata, tmp_path, monkeypatch):
    """The way back hands release, reason and name on, and is refused at the first try when there is none."""
    asked = []
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    monkeypatch.setattr(warehouse, "rollback", lambda *told: asked.append(told) or told[1])
    rollback = bag.dags["rollback_recommendations"]
    release = "2026-02-28.nightly.6cab07bb"
    assert run_dag(rollback, {"to": release, "why": "bad prices"}) == ("success", {"rollback": "success"})
    assert asked == [(tmp_path, release, "bad prices", "dag_test")]
    monkeypatch.undo()
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    assert run_dag(rollback, {"why": "bad prices"}) == ("failed", {"rollback": "failed"})


@pytest.mark.slow
def test_a_backfill_builds_each_day_that_is_not_done(bag, metadata, tmp_path, monkeypatch):
    """One mapped task a day, in whatever order; what was planned, the settings and the reasons to go on past a stop
    reach it, done days do not."""
    planned = [backfill.Planned(dt.date(2026, 3, day), day == 3, is_done=day == 2) for day in (1, 2, 3)]
    asked, built = [], []
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    monkeypatch.setattr(backfill, "plan", lambda *told: asked.append(told) or planned)
    monkeypatch.setattr(backfill, "perform", lambda *told, **leaves: built.append((*told, leaves)))
    conf = {"days": "2026-03-01..2026-03-03", "promote": True, "settings": {"als.factors": 8}, "admit_anyway": "moved"}
    assert run_dag(bag.dags["backfill_days"], conf) == ("success", {"plan": "success", "build_day": "success"})
    assert asked == [([one.day for one in planned], {"als.factors": 8}, True, tmp_path)]
    first, last = sorted(built, key=lambda told: told[0].day)
    assert [told[:3] for told in (first, last)] == [(planned[n], {"als.factors": 8}, tmp_path) for n in (0, 2)]
    assert [leaves["admit_anyway"].reason for *_, leaves in built] == ["moved", "moved"]
    assert [leaves["start_anyway"] for *_, leaves in built] == [None, None]


@pytest.mark.slow
def test_what_people_trigger_reaches_the_verbs(bag, metadata, tmp_path, monkeypatch):
    """A rescore, a challenger that is not published and is compared, a user to forget and an item to take out, with who
    asked."""
    made, asked = type("Made", (), {"run_id": f"{DAY}.made", "proved_on": DAY}), []
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    monkeypatch.setattr(rescore, "perform", lambda **told: asked.append(told) or made)
    monkeypatch.setattr(night, "run", lambda **told: asked.append(told) or made)
    monkeypatch.setattr(Run, "load", lambda run_id, home: run_id)
    monkeypatch.setattr(compare, "current", lambda home: made)
    monkeypatch.setattr(compare, "compare", lambda *told: asked.append(told) or [])
    monkeypatch.setattr(forget, "forget", lambda *told: asked.append(told))
    monkeypatch.setattr(hotfix, "exclude", lambda *told: asked.append(told[:4]) or made)
    rules, changes = {"shelve.length": 5}, {"als.factors": 8, "holdout.keep_days": 0}
    assert run_dag(bag.dags["rescore_recommendations"], {"settings": rules})[0] == "success"
    assert run_dag(bag.dags["train_challenger"], {"settings": {"als.factors": 8}})[0] == "success"
    assert run_dag(bag.dags["forget_user"], {"users": ["u1"], "why": "asked for it"})[0] == "success"
    assert run_dag(bag.dags["hotfix_exclude"], {"item": "i1", "why": "recalled"})[0] == "success"
    assert asked == [
        {"run_id": None, "label": "rescore", "overrides": rules, "publish": True, "home": tmp_path},
        {"day": DAY, "label": "challenger", "overrides": changes, "publish": False, "home": tmp_path},
        (f"{DAY}.made", made),
        (["u1"], "asked for it", "dag_test", tmp_path),
        (tmp_path, "i1", "recalled", "dag_test"),
    ]


@pytest.fixture
def markets_bag(airflow, tmp_path, monkeypatch):
    """All DAGs as a home with the markets `at` and `ch` has them."""
    from airflow.dag_processing.dagbag import BundleDagBag

    for market in ("at", "ch"):
        (tmp_path / "markets" / market).mkdir(parents=True)
    monkeypatch.setenv("NIGHTSHELF_HOME", str(tmp_path))
    monkeypatch.delitem(sys.modules, "by_hand", raising=False)
    yield BundleDagBag(DAGS, bundle_path=DAGS, bundle_name="dags-folder")
    sys.modules.pop("by_hand", None)


def test_each_market_has_nights_of_its_own(markets_bag):
    """A DAG for each, which is of that market alone; what people trigger names one that there is."""
    from airflow.sdk.exceptions import ParamValidationError

    assert markets_bag.import_errors == {}
    nights = {name for name in markets_bag.dags if name.startswith("nightly")}
    assert nights == {"nightly_recommendations_at", "nightly_recommendations_ch"}
    assert resolve(markets_bag.dags["nightly_recommendations_ch"], {})["market"] == "ch"
    asked = {"rollback_recommendations": {"why": "bad prices"}, "hotfix_exclude": {"item": "i1", "why": "recalled"}}
    for name, told in asked.items():
        assert resolve(markets_bag.dags[name], told | {"market": "at"})["market"] == "at"
        with pytest.raises(ParamValidationError):
            resolve(markets_bag.dags[name], told | {"market": "de"})
    with pytest.raises(ParamValidationError):
        resolve(markets_bag.dags["rollback_recommendations"], asked["rollback_recommendations"])
    assert resolve(markets_bag.dags["hotfix_exclude"], asked["hotfix_exclude"])["market"] is None


@pytest.mark.slow
def test_a_market_that_fails_fails_alone(markets_bag, metadata, tmp_path, monkeypatch):
    """The night of one stops at its gate, that of the other goes on in its own home."""
    done = {}
    for market, failures in {"at": {"validate": GateFailed("users served: 0.41")}, "ch": {}}.items():
        stages = Stages(tmp_path / "markets" / market, monkeypatch, tmp_path)
        stages.failures = failures
        done[market], _ = run_dag(markets_bag.dags[f"nightly_recommendations_{market}"])
        assert ("publish" in stages.performed, stages.lease.exists()) == (market == "ch", False)
    assert done == {"at": "failed", "ch": "success"}


@pytest.mark.slow
def test_users_are_forgotten_in_every_market_where_they_may_be(markets_bag, metadata, tmp_path, monkeypatch):
    """One that refuses keeps no other; one that is named is the only one."""
    asked = []
    monkeypatch.setattr(forget, "forget", lambda *told: asked.append(told[-1].name) or _busy(told[-1]))
    told = {"users": ["u1"], "why": "asked for it"}
    assert run_dag(markets_bag.dags["forget_user"], told)[0] == "failed"
    assert sorted(asked) == ["at", "ch"]
    assert run_dag(markets_bag.dags["forget_user"], told | {"market": "ch"})[0] == "success"
    assert sorted(asked) == ["at", "ch", "ch"]


@pytest.mark.slow
def test_a_recall_goes_to_every_market_that_has_the_item(markets_bag, metadata, tmp_path, monkeypatch):
    """One at a time, under one rule of the home; where a market is named, to that one alone."""
    made, kept, done = type("Made", (), {"run_id": f"{DAY}.made"}), [], []
    monkeypatch.setattr(hotfix, "everywhere", lambda *told: kept.append(told) or ["ch"])
    monkeypatch.setattr(hotfix, "exclude", lambda home, *told: done.append((home, *told[:3])) or made)
    told = {"item": "i1", "why": "recalled"}
    assert run_dag(markets_bag.dags["hotfix_exclude"], told)[0] == "success"
    assert kept == [(tmp_path, "i1", "recalled", "dag_test")]
    assert done == [(tmp_path / "markets" / "ch", "i1", "recalled", "dag_test")]
    assert run_dag(markets_bag.dags["hotfix_exclude"], told | {"market": "at"})[0] == "success"
    assert (len(kept), done[-1][0].name) == (1, "at")


def _busy(home: Path) -> None:
    if home.name == "at":
        raise BadInput("A run is being worked on.")


@pytest.mark.slow
def test_a_backfill_with_a_misspelt_parameter_builds_nothing(bag, metadata, monkeypatch):
    """Airflow lets unknown parameters pass; nothing is planned under settings that nobody asked for."""
    monkeypatch.setattr(backfill, "plan", lambda *told: pytest.fail("planned"))
    state, tasks = run_dag(bag.dags["backfill_days"], {"days": "2026-03-01", "promot": True})
    assert (state, tasks["plan"]) == ("failed", "failed")


@pytest.mark.slow
def test_a_whole_night_through_airflow_on_postgres_gives_the_same_tables(
    night: Run, house: Postgres, generated: Callable[[], Path]
):
    """By the command that `make demo` runs, in another home, another warehouse and another time zone of the machine:
    counts and hashes of every table are those of a night that was started by hand, and nothing that it leaves holds a
    password."""
    home = generated()
    environment = {**os.environ, **airflow_environment(home / "airflow"), "NIGHTSHELF_HOME": str(home)}
    environment["TZ"] = "Asia/Kolkata"
    airflow = str(Path(sys.executable).with_name("airflow"))
    subprocess.run([airflow, "db", "migrate"], env=environment, check=True, capture_output=True)
    conf = json.dumps({"day": str(LAST_DAY), "settings": SMALL})
    told = subprocess.run(
        [sys.executable, "bin/dag_night.py", conf], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout[-4000:] + told.stderr[-4000:]
    assert house.manifest(house.current())["tables"] == warehouse.judged(night).manifest["tables"]
    assert house.history()[-1]["who"].startswith("airflow:nightly_recommendations:")
    assert leaks(home, house.environment) == []
    with psycopg2.connect(house.environment["WAREHOUSE_READER"]) as connection, connection.cursor() as cursor:
        cursor.execute("select runs::text from nightshelf.runs")
        assert "secret-" not in str(cursor.fetchall())


def leaks(home: Path, environment: Mapping[str, str]) -> list[Path]:
    """Files, Airflow's own among them, that hold the password of a role, or its whole address."""
    secrets = [b"secret-" + role.encode() for role in ROLES]
    assert all(any(secret.decode() in value for value in environment.values()) for secret in secrets)
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in files)
    return [path for path in files if any(secret in path.read_bytes() for secret in secrets)]
