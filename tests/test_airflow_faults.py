"""A real Airflow, scheduler and all, whose processes are killed amid a night, which is published all the same, once."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipelines import warehouse
from pipelines.run import Run
from tests.conftest import LAST_DAY, SMALL, linked
from tests.postgres import Server
from tests.test_dags import airflow_environment
from tests.test_killed_night import attempts, tables

pytestmark = pytest.mark.slow
AIRFLOW = str(Path(sys.executable).with_name("airflow"))
PARTS = {
    "api-server": ["api-server"],
    "dag-processor": ["dag-processor"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
}
DAG = "nightly_recommendations"
DONE_AGAIN = ("shelve", "validate", "publish", "report")  # the rest of the night is taken from a finished one
SOON = {  # what takes Airflow minutes takes seconds here
    "SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",  # nobody edits a DAG meanwhile
}
PATIENCE = 400.0  # seconds until the next thing happens
POLICY = """
import datetime

def task_policy(task):
    task.retry_delay = datetime.timedelta(seconds=1)
"""


class Airflow:
    """Scheduler, DAG processor and API server, each of which can be killed and started alone."""

    def __init__(self, home: Path, database: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.folder, self.parts, self.headers = home / "airflow", {}, {"Content-Type": "application/json"}
        (self.folder / "config").mkdir(parents=True)
        (self.folder / "config" / "airflow_local_settings.py").write_text(POLICY)
        told = SOON | {
            "API__PORT": self.url.rpartition(":")[2],
            "API_AUTH__JWT_SECRET": "k" * 64,
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__PARALLELISM": "3",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "DATABASE__SQL_ALCHEMY_CONN": database.replace("postgresql:", "postgresql+psycopg2:"),
        }
        named = {f"AIRFLOW__{name}": value for name, value in told.items()}
        self.environment = {**os.environ, **airflow_environment(self.folder), "NIGHTSHELF_HOME": str(home), **named}

    def start(self, part: str) -> None:
        with (self.folder / f"{part}.log").open("a") as log:
            options = {"env": self.environment, "stdout": log, "stderr": log, "start_new_session": True}
            self.parts[part] = psutil.Popen([AIRFLOW, *PARTS[part]], **options)

    def kill(self, part: str) -> None:
        """The part and all that it has started, at once: what the end of its container does."""
        for process in [self.parts[part], *self.parts[part].children(recursive=True)]:
            process.kill()
        self.parts.pop(part).wait()

    def ask(self, place: str, told: object = None) -> dict:
        """What the API answers, empty while there is no such thing yet."""
        content = None if told is None else json.dumps(told).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + place, content, self.headers)) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
        except urllib.error.URLError:
            assert self.parts["api-server"].poll() is None
        return {}

    def wait(self, moment: Callable[[], object], every: float = 0.25) -> object:
        """What the moment has come with; it is looked for so many seconds apart."""
        until = time.monotonic() + PATIENCE
        while not (come := moment()):
            assert time.monotonic() < until, {part: self.log(part) for part in PARTS}
            time.sleep(every)
        return come

    def log(self, part: str) -> str:
        return (self.folder / f"{part}.log").read_text()[-3000:]


class Night:
    """A DAG run of the nightly DAG, and the processes that work on it."""

    def __init__(self, airflow: Airflow, folder: Path, conf: dict) -> None:
        self.airflow, self.folder, self.lease = airflow, folder, folder.with_name(f"{folder.name}.lease")
        told = {"logical_date": None, "conf": conf}
        dag_run = airflow.wait(lambda: airflow.ask(f"/api/v2/dags/{DAG}/dagRuns", told))["dag_run_id"]
        self.place = f"/api/v2/dags/{DAG}/dagRuns/{dag_run}"

    @property
    def state(self) -> str:
        return self.airflow.ask(self.place)["state"]

    def task(self, stage: str) -> dict:
        return self.airflow.ask(f"{self.place}/taskInstances/{stage}")

    def tries(self) -> dict[str, int]:
        """Of the tasks that took more than one."""
        tasks = self.airflow.ask(f"{self.place}/taskInstances")["task_instances"]
        return {task["task_id"]: task["try_number"] for task in tasks if task["try_number"] > 1}

    def at_work(self, stage: str) -> tuple[psutil.Process, psutil.Process]:
        """Airflow's worker and the task's own process, in the moment in which the run is claimed, or the stage begins
        its work."""
        process = psutil.Process(self.airflow.wait(partial(self._pid, stage)))
        has_begun = self.lease.exists if stage == "open" else partial(attempts, self.folder, stage)
        self.airflow.wait(has_begun, every=0.005)
        return process.parent(), process

    def _pid(self, stage: str) -> int | None:
        assert self.state in ("queued", "running"), self.airflow.log("scheduler")
        task = self.task(stage)
        return task["pid"] if task["state"] == "running" else None


@pytest.fixture
def airflow(server: Server, night: Run, tmp_path: Path) -> Iterator[Airflow]:
    """At work on a home whose night has gone as far as to its models."""
    home = linked(night.home, tmp_path / "home")
    for folder in (home / "warehouse", *(home / "runs" / night.run_id / stage for stage in DONE_AGAIN)):
        shutil.rmtree(folder)
    server.perform("create database airflow")
    airflow = Airflow(home, server.address("admin", database="airflow"))
    subprocess.run([AIRFLOW, "db", "migrate"], env=airflow.environment, check=True, capture_output=True)
    try:
        for part in PARTS:
            airflow.start(part)
        token = airflow.wait(lambda: airflow.ask("/auth/token"))["access_token"]
        airflow.headers["Authorization"] = f"Bearer {token}"
        yield airflow
    finally:
        for part in list(airflow.parts):
            airflow.kill(part)
        server.perform("drop database airflow with (force)")


def test_a_night_whose_workers_and_scheduler_are_killed_is_published_once(airflow: Airflow, night: Run):
    """A task ends by force; a worker dies and its task lives on; both stand still, another try does the work, and they
    come back; the scheduler dies with all that it has started while it publishes, and is started again. Each is tried
    again without a hand, and counts and hashes of all tables are those of a night that nobody disturbed."""
    home = airflow.folder.parent
    folder = home / "runs" / night.run_id
    told = Night(airflow, folder, {"day": str(LAST_DAY), "settings": SMALL})
    _, task = told.at_work("open")
    task.kill()
    worker, orphan = told.at_work("shelve")
    worker.kill()
    worker, sleeper = told.at_work("validate")
    for process in (worker, sleeper):
        process.suspend()
    airflow.wait(lambda: told.task("validate")["state"] == "success")
    for process in (sleeper, worker):
        process.resume()
    told.at_work("publish")
    airflow.kill("scheduler")
    assert warehouse.current(home) is None or (folder / "publish").exists()
    airflow.start("scheduler")
    airflow.wait(lambda: told.state not in ("queued", "running"))
    assert (told.state, told.tries()) == ("success", {"open": 2, "shelve": 2, "validate": 2, "publish": 2})
    assert tables(Run.load(night.run_id, home)) == tables(night)
    assert [record["action"] for record in warehouse.history(home)] == ["publish"]
    airflow.wait(lambda: not (orphan.is_running() or sleeper.is_running()))
    assert not told.lease.exists()
    assert not list(folder.glob("*.partial"))
