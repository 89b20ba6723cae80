"""Airflow on one machine: scheduler, DAG processor and API server as one family that starts and ends together.

`airflow standalone` leaves its children behind when it is terminated, serves task logs on every network interface, and
goes on when one of its parts has died. This starts the same parts in a session of their own, and on INT, TERM, HUP or
the end of any part takes all of them down, tasks at work included. With `--quiet` each part writes to a log file of its
own under AIRFLOW_HOME, else to the screen.
"""

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import MutableMapping
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[1]
AIRFLOW = str(Path(sys.executable).with_name("airflow"))
PARTS = {
    "scheduler": ["scheduler", "--skip-serve-logs"],  # the API server reads the log files where they lie
    "dag-processor": ["dag-processor"],
    "api-server": ["api-server"],
}
GRACE_SECONDS = 10.0
READY_SECONDS = 180.0
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(quiet: bool = False) -> int:
    for ending in ENDINGS:
        signal.signal(ending, signal.default_int_handler)  # each of them raises KeyboardInterrupt
    complete(os.environ)
    port = os.environ["AIRFLOW__API__PORT"]
    if _is_taken(int(port)):
        print(f"Port {port} is taken. Stop what uses it, or set AIRFLOW__API__PORT.", file=sys.stderr)
        return 1
    _adopt_orphans()
    parts: dict[str, subprocess.Popen[bytes]] = {}
    try:
        subprocess.run([AIRFLOW, "db", "migrate"], check=True, stdout=subprocess.DEVNULL)
        for name, command in PARTS.items():
            parts[name] = _start(name, command, quiet)
        _announce(parts)
        return _watch(parts)
    except KeyboardInterrupt:
        print("Stopping Airflow …", flush=True)
        return 0
    finally:
        for ending in ENDINGS:
            signal.signal(ending, signal.SIG_IGN)
        _end()
        print("Airflow has stopped.", flush=True)


def complete(environment: MutableMapping[str, str]) -> None:
    """Add what is not set: places, what `nightshelf.env` says, and the key with which the parts trust each other."""
    home = environment.setdefault("NIGHTSHELF_HOME", str(PROJECT / "data"))
    environment.setdefault("AIRFLOW_HOME", f"{home}/airflow")
    environment.setdefault("AIRFLOW__CORE__DAGS_FOLDER", str(PROJECT / "dags"))
    for line in (PROJECT / "nightshelf.env").read_text().splitlines():
        if line[:1].isalpha():
            environment.setdefault(*line.split("=", 1))
    environment.setdefault("AIRFLOW__API_AUTH__JWT_SECRET", secrets.token_urlsafe(64))


def _start(name: str, command: list[str], quiet: bool) -> subprocess.Popen[bytes]:
    if not quiet:
        return subprocess.Popen([AIRFLOW, *command], start_new_session=True)
    path = Path(os.environ["AIRFLOW_HOME"], f"{name}.log")
    print(f"Starting Airflow's {name}, which writes to {path}", flush=True)
    with path.open("wb") as log:
        return subprocess.Popen([AIRFLOW, *command], start_new_session=True, stdout=log, stderr=subprocess.STDOUT)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _announce(parts: dict[str, subprocess.Popen[bytes]]) -> None:
    """Say where Airflow is once it answers; say nothing when a part has died, `_watch` does that."""
    url = f"http://127.0.0.1:{os.environ['AIRFLOW__API__PORT']}"
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and all(part.poll() is None for part in parts.values()):
        if _answers(f"{url}/api/v2/monitor/health"):
            passwords = Path(os.environ["AIRFLOW_HOME"]) / "simple_auth_manager_passwords.json.generated"
            print(f"Airflow is ready: {url}  (user admin, password in {passwords}). Ctrl-C stops it.", flush=True)
            return
        time.sleep(1)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _watch(parts: dict[str, subprocess.Popen[bytes]]) -> int:
    while True:
        for name, part in parts.items():
            if (code := part.poll()) is not None:
                print(f"{name} ended by itself (exit code {code}); its log says why.", file=sys.stderr)
                return 1
        time.sleep(0.5)


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that `_end` finds them (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end() -> None:
    """Terminate all descendants, kill those left after GRACE_SECONDS, and wait for them."""
    family = psutil.Process().children(recursive=True)
    for process in family:
        _signal(process, signal.SIGTERM)
    psutil.wait_procs(family, timeout=GRACE_SECONDS)
    left = psutil.Process().children(recursive=True)
    for process in left:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(left, timeout=5)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    sys.exit(main(quiet=sys.argv[1:] == ["--quiet"]))
