"""What the image and the services promise, read from Dockerfile and compose.yaml: tests have no engine."""

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OWN = {name: service for name, service in SERVICES.items() if "build" in service}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continuation lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def last(name: str) -> str:
    return [value for instruction, value in instructions() if instruction == name][-1]


def copied_from_context() -> list[str]:
    copies = [value.split() for name, value in instructions() if name == "COPY" and "--from=" not in value]
    return [source for *sources, _ in copies for source in sources]


def test_image_does_not_run_as_root():
    """The last USER is a number other than 0, so that an orchestrator can check it."""
    assert int(last("USER")) > 0


def test_image_is_built_in_two_stages_of_one_pinned_base():
    """Compilers and caches stay in the builder; both stages name Python and the Debian release."""
    bases = [value.split()[0] for name, value in instructions() if name == "FROM"]
    assert bases == ["python:3.11-slim-bookworm"] * 2


def test_image_checks_its_own_health():
    """The health check asks the address that the image exposes, in code that compiles."""
    command = json.loads(last("HEALTHCHECK").partition("CMD ")[2])
    compile(command[2], "healthcheck", "exec")
    assert f":{last('EXPOSE')}/api/v2/monitor/health" in command[2]


def test_image_starts_a_file_that_it_has():
    """The default command is a script of this project."""
    python, script = json.loads(last("CMD"))
    assert python == "python"
    assert (ROOT / script).is_file()


def test_image_contains_java_for_spark():
    """No wheel with a Java runtime is needed inside the image."""
    assert any("openjdk-17-jre-headless" in value for name, value in instructions() if name == "RUN")


@pytest.mark.parametrize("source", copied_from_context())
def test_every_copied_path_exists_and_is_let_in(source):
    """A COPY finds its source in the repository, and .dockerignore lets it through."""
    let_in = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert (ROOT / source).exists()
    assert any(fnmatch(source, pattern) for pattern in let_in)


def test_ports_are_bound_to_loopback():
    """Nothing is reachable from outside the host, and the metadata database not even from the host."""
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports == {"api-server": ["127.0.0.1:8080:8080"]}


def test_secrets_come_from_the_environment():
    """Whatever is named like a secret is asked for, with a message when it is missing; no value stands in the file."""
    secret = re.compile(r"PASSWORD|SECRET|KEY|SQL_ALCHEMY_CONN")
    values = {
        f"{service}.{name}": value
        for service, definition in SERVICES.items()
        for name, value in definition.get("environment", {}).items()
        if secret.search(name)
    }
    assert len(values) > 10
    assert [name for name, value in values.items() if not re.search(r"\$\{\w+:\?[^}]+\}", value)] == []


def test_shared_environment_holds_no_secret():
    """The environment that is under version control names none."""
    assert not re.search(r"PASSWORD|SECRET|FERNET|_KEY|TOKEN=", (ROOT / "nightshelf.env").read_text())


def test_services_wait_for_what_they_need():
    """First the database, then its tables, then Airflow."""
    assert SERVICES["init"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    others = {name: service["depends_on"] for name, service in OWN.items() if name != "init"}
    assert set(others) == {"api-server", "scheduler", "dag-processor", "nightshelf"}
    assert all(waits == {"init": {"condition": "service_completed_successfully"}} for waits in others.values())


def test_every_volume_is_declared_and_mounted():
    """No service mounts a volume that nobody declared, and none is declared in vain."""
    mounted = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert mounted == set(COMPOSE["volumes"])


def test_airflow_services_keep_data_where_the_image_keeps_it():
    """The volume of the shop is mounted at the image's NIGHTSHELF_HOME."""
    home = re.search(r"NIGHTSHELF_HOME=(\S+)", last("ENV"))
    assert all(service["volumes"] == [f"shop:{home.group(1)}"] for service in OWN.values())


def test_every_airflow_command_is_one(tmp_path):
    """Airflow's own parser accepts each service's command and health check."""
    told = [service.get("command") for service in OWN.values()]
    told += [service.get("healthcheck", {}).get("test", [])[1:] for service in OWN.values()]
    script = SERVICES["init"]["command"][-1]
    commands = [command[1:] for command in told if command and command[0] == "airflow"]
    commands += [line.split()[1:] for line in script.splitlines() if line.startswith("airflow")]
    assert len(commands) == 6
    code = (
        "import json, sys; from airflow.cli.cli_parser import get_parser;"
        "[get_parser().parse_args(command) for command in json.loads(sys.argv[1])]"
    )
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, json.dumps(commands)], env=environment, check=True)


def test_init_script_is_valid_bash(tmp_path):
    """What init runs parses, once compose has turned `$$` into `$`."""
    subprocess.run(["bash", "-n"], input=SERVICES["init"]["command"][-1].replace("$$", "$"), text=True, check=True)
