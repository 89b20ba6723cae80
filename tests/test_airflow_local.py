"""Airflow on one machine starts and ends as one family: no part outlives the others."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
PLAY = """
import sys
sys.path.insert(0, "bin")
import airflow_local
airflow_local.AIRFLOW = sys.argv[1]
airflow_local.GRACE_SECONDS = 1.0
sys.exit(airflow_local.main())
"""
# Stands in for `airflow`: each part starts a deaf child in a session of its own, as a task at work would.
ACTOR = """#!/bin/bash
[[ $1 == db ]] && exit 0
setsid bash -c 'trap "" TERM; echo $$ >> "$PIDS"; exec sleep 60' &
echo $$ >> "$PIDS"
[[ $1 == "$DIES" ]] && { sleep 1; exit 7; }
wait
"""


@pytest.fixture
def play(tmp_path):
    """Start the family with actors, wait until all of it is there, and return it with all pids."""
    started = []

    def start(dies: str = ""):
        actor, pids = tmp_path / "airflow", tmp_path / "pids"
        actor.write_text(ACTOR)
        actor.chmod(0o755)
        pids.touch()
        environment = {
            **os.environ,
            "PIDS": str(pids),
            "DIES": dies,
            "AIRFLOW__API__PORT": "1",
            "AIRFLOW_HOME": str(tmp_path),
        }
        family = subprocess.Popen([sys.executable, "-c", PLAY, str(actor)], cwd=ROOT, env=environment)
        started.append(family)
        deadline = time.monotonic() + 20
        while len(pids.read_text().split()) < 6 and time.monotonic() < deadline:
            time.sleep(0.05)
        return family, [int(pid) for pid in pids.read_text().split()]

    yield start
    for family in started:
        family.kill()
    for pid in alive([int(pid) for pid in (tmp_path / "pids").read_text().split()]):
        os.kill(pid, signal.SIGKILL)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_leaves_no_process_behind(play, ending):
    """Ctrl-C, a service manager's TERM and a closed terminal end every part and every task at work."""
    family, pids = play()
    assert len(pids) == 6
    family.send_signal(ending)
    assert family.wait(timeout=20) == 0
    assert alive(pids) == []


def test_a_part_that_dies_takes_the_others_along(play):
    """A scheduler without an API server does nothing useful: all stop, and the exit code says so."""
    family, pids = play(dies="api-server")
    assert family.wait(timeout=20) == 1
    assert alive(pids) == []


def test_a_taken_port_is_named_before_anything_starts(tmp_path):
    """Two of them on one port would share one metadata database: the second says so and starts nothing."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        environment = {**os.environ, "AIRFLOW__API__PORT": port, "AIRFLOW_HOME": str(tmp_path)}
        command = [sys.executable, "bin/airflow_local.py"]
        told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert (told.returncode, list(tmp_path.iterdir())) == (1, [])
    assert f"Port {port} is taken" in told.stderr
