"""Markets: shops that share a home and nothing else, each a home of its own under `markets/`, run one after another."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.errors import BadSetting, MarketsFailed

FOLDER = "markets"
NAME = re.compile(r"(?!(.*-)?audit$)[a-z][a-z0-9-]{0,31}")  # in PostgreSQL `…_audit` is a schema of another purpose


def root(environment: Mapping[str, str] = os.environ) -> Path:
    """Where all lies: `NIGHTSHELF_HOME`, else `data/` in the project."""
    told = environment.get("NIGHTSHELF_HOME")
    return Path(told).resolve() if told else Path(__file__).resolve().parents[1] / "data"


def names(root: Path) -> list[str]:
    """The markets of a home: the folders under `markets/` whose names are right."""
    return sorted(path.name for path in (root / FOLDER).glob("*/") if NAME.fullmatch(path.name))


def home(root: Path, market: str | None, is_new: bool = False) -> Path:
    """The home of a market of `root`; where there are no markets, `root` itself.

    Raises BadSetting where there are markets and none is named, for one that there is not (unless `is_new`), and where
    `root` holds a shop of its own beside them.
    """
    known = names(root)
    if not (market or known):
        return root
    told = f"{root} has the markets {', '.join(known)}" if known else f"{root} has no markets"
    if (root / "raw").exists():
        raise BadSetting(
            f"{root / 'raw'} lies beside markets, and a home has either. Move raw, lake, runs, warehouse, forgotten, "
            f"and what else is of that shop, into {root / FOLDER}/<market>."
        )
    if not market:
        raise BadSetting(f"{told}. Say which: --market, before the verb, or NIGHTSHELF_MARKET.")
    if not NAME.fullmatch(market):
        raise BadSetting(
            f"{market!r} is no name for a market: take up to 32 of a-z, 0-9 and -, a letter first, and no -audit last."
        )
    if market not in known and not is_new:
        raise BadSetting(f"{told}, and none called {market}. Make {root / FOLDER / market}, or name another.")
    return root / FOLDER / market


def house(home: Path) -> Path:
    """The home that a market's lies in; a home that is no market's is its own."""
    return home.parents[1] if name(home) else home


def name(home: Path) -> str:
    """The market whose home it is; empty for one that is no market's."""
    return home.name if home.parent.name == FOLDER and NAME.fullmatch(home.name) else ""


def each(root: Path, words: Sequence[str], among: Sequence[str] | None = None) -> None:
    """Perform `nightshelf <words>` in every market, or in those `among` them, each in a process of its own: what one
    takes of memory, or dies of, is no other's.

    Raises MarketsFailed when all have had their turn, naming those in which it failed.
    """
    known, failed = names(root) if among is None else among, []
    for market in known:
        print(f"── {market}", flush=True)
        done = subprocess.run([sys.executable, "-m", "pipelines", "--market", market, *words])
        if done.returncode:
            failed.append(f"{market} (exit code {done.returncode})")
    if failed:
        raise MarketsFailed(
            f"In {len(failed)} of {len(known)} markets `{words[0]}` failed: {', '.join(failed)}. What is wrong there "
            "stands above; the others are done. Correct it, then repeat with --market."
        )
