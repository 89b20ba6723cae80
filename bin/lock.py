"""Print what this environment has installed as a lock file: exact versions, as any index knows them."""

import subprocess
import sys

HEADER = "# Made by `make lock` from requirements.in; change that file, not this one."


def locked(frozen: str) -> list[str]:
    """`pip freeze` lines, sorted, without the project itself, paths, and local versions (`+cpu`) of one index only."""
    pins = [line.strip() for line in frozen.splitlines() if "==" in line and not line.startswith(("-e", "#"))]
    return sorted((pin.partition("+")[0] for pin in pins), key=str.lower)


if __name__ == "__main__":
    frozen = subprocess.check_output([sys.executable, "-m", "pip", "freeze", "--exclude-editable"], text=True)
    print("\n".join([HEADER, *locked(frozen)]))
