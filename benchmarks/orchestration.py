"""What a night takes beside its work: Airflow's scheduler and a process for each task, and the starts of Spark, dbt and
Great Expectations, on a shop so small that rows cost next to nothing.

    python benchmarks/orchestration.py            # some minutes

It starts a real Airflow on a fresh home in a temporary folder, triggers the nightly DAG as a person would, and ends it
again. All that cleaning, building and the gate take of so small a shop is counted as their start: a little too much.
"""

import argparse
import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipelines.costs import costs
from pipelines.generate import generate

AIRFLOW = Path(__file__).resolve().parents[1] / "bin" / "airflow_local.py"
DAG = "nightly_recommendations"
DAY = dt.date(2026, 3, 1)
QUICK = {"profile.steps": 40, "profile.sequence_epochs": 3, "fuse.trees": 50, "holdout.windows": 1}  # work, made short
STARTS = {"clean": "Spark starts, and cleans", "build": "dbt starts, and builds", "validate": "Great Expectations"}
LOOK_SECONDS = 0.5


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, default=200)
    ask.add_argument("--items", type=int, default=80)
    ask.add_argument("--days", type=int, default=45)
    told = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        print(generate(home, users=told.users, items=told.items, days=told.days, last_day=DAY, seed=17))
        with airflow(home) as url:
            dag_run = performed(url)
        Console(width=100).print(compared(dag_run, costs(home / "runs" / f"{DAY}.nightly")))


def compared(dag_run: Mapping[str, Any], spent: Mapping[str, Mapping[str, float]]) -> Table:
    """Seconds of the DAG run, from being asked for to its end, by what they went to."""
    asked_at, ended_at = (dt.datetime.fromisoformat(dag_run[moment]) for moment in ("queued_at", "end_date"))
    whole = (ended_at - asked_at).total_seconds()
    wall = {stage: cost["wall_seconds"] for stage, cost in spent.items()}
    between = whole - sum(wall.values())
    starts = between + sum(wall[stage] for stage in STARTS)
    table = Table("what", "wall s", title=f"A night of {whole:.0f} s through Airflow")
    table.add_row("Airflow: between the tasks, and a process for each", f"{between:.1f}")
    for stage, what in STARTS.items():
        table.add_row(what, f"{wall[stage]:.1f}")
    table.add_row("orchestration", f"{starts:.1f}", style="bold")
    table.add_row("the other stages", f"{whole - starts:.1f}")
    return table


@contextmanager
def airflow(home: Path) -> Iterator[str]:
    """The address of an Airflow of its own, which ends with the block; raises SystemExit where it does not start."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "NIGHTSHELF_HOME": str(home),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__API__PORT": port,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    }
    (home / "airflow").mkdir()
    process = subprocess.Popen([sys.executable, AIRFLOW, "--quiet"], env=environment, text=True, stdout=subprocess.PIPE)
    try:
        assert process.stdout  # of a pipe
        if not any("Airflow is ready" in line for line in process.stdout):
            raise SystemExit(f"Airflow did not start; its logs are in {home / 'airflow'}.")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()


def performed(url: str) -> Mapping[str, Any]:
    """A DAG run that has ended, as Airflow tells of it; raises SystemExit when it is no success."""
    token = asked(f"{url}/auth/token")["access_token"]
    while DAG not in {dag["dag_id"] for dag in asked(f"{url}/api/v2/dags", token)["dags"]}:
        time.sleep(LOOK_SECONDS)
    runs = f"{url}/api/v2/dags/{DAG}/dagRuns"
    begun = asked(runs, token, {"logical_date": None, "conf": {"day": str(DAY), "settings": QUICK}})
    while (told := asked(f"{runs}/{begun['dag_run_id']}", token))["state"] in ("queued", "running"):
        time.sleep(LOOK_SECONDS)
    if told["state"] != "success":
        raise SystemExit(f"The DAG run ended as {told['state']}.")
    return told


def asked(url: str, token: str = "", told: object = None) -> Mapping[str, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    content = None if told is None else json.dumps(told).encode()
    with urllib.request.urlopen(urllib.request.Request(url, content, headers)) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
