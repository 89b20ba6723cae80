"""What words and meaning make of the Icecat queries, by the share of the meaning, in a run of that catalogue.

    python benchmarks/icecat_shares.py DIR HOME 2026-01-31.nightly    # after `nightshelf import icecat` and that night

DIR and figures are those of `benchmarks/icecat.py`, for sums of stretched scores, of the logarithms of ranks and of
reciprocal ranks. Choosing a share by them is fitting it to the queries that judge. `all candidates` is the recall of
all that words and meaning propose, more than a hundred: what no order of them can pass.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
from icecat import graded, judged
from rich.console import Console
from rich.table import Table

from models import metrics
from pipelines.run import Run
from pipelines.search import kept
from pipelines.search.answers import SOURCES, Engine, Slate
from pipelines.search.rankings import MEANING, first

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
FIGURES = {"NDCG@10": 0, "condensed": 1, "recall@100": 3}  # places in what `judged` says
OURS = "logarithms of ranks"
SEED = 17


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("directory", type=Path)
    ask.add_argument("home", type=Path)
    ask.add_argument("run")
    given = ask.parse_args()
    grades, run = graded(given.directory / "judgements_dev.csv"), Run.load(given.run, given.home.resolve())
    with duckdb.connect() as release:
        release.from_parquet(str(run.of("search") / "search_parts.parquet")).create("search_parts")
        engine, *_ = kept.load(release)
    slate = engine.answers(list(grades))
    words = measured(engine, slate, mixed(slate.found.scaled, 0.0), grades)
    table = Table("sum of", "share of the meaning", *FIGURES, "gain in condensed over words")
    told = slate.found
    for name, sources in {"scores": told.scaled, OURS: told.log_ranks, "reciprocals": told.reciprocal_ranks}.items():
        for share in SHARES:
            figures = measured(engine, slate, mixed(sources, share), grades)
            means = [f"{figures[:, place].mean():.3f}" for place in FIGURES.values()]
            gain = "{:+.3f} ({:+.3f} to {:+.3f})".format(*metrics.bootstrap_interval((figures - words)[:, 1], SEED))
            is_ours = (name, share) == (OURS, MEANING)
            table.add_row(name, f"{share:.1f}{' (as it is)' * is_ours}", *means, gain)
    Console(width=120).print(table)
    print(f"all candidates: {reachable(engine, slate, grades):.3f} recall")


def mixed(sources: np.ndarray, share: float) -> np.ndarray:
    """(R,) of what the sources say (R, S), each from 0 to 1, with this share of the meaning."""
    lexical, semantic = (sources[:, SOURCES.index(name)] for name in ("lexical", "semantic"))
    return (1 - share) * lexical + share * semantic


def measured(engine: Engine, slate: Slate, score: np.ndarray, grades: Mapping[str, Mapping[str, float]]) -> np.ndarray:
    """(Q, 4) the figures of each query's first answers."""
    best = slate.found.best(first(score, slate.exact), engine.count)
    ids = engine.items.ids
    return np.array([judged(list(ids[row[row >= 0]]), one) for row, one in zip(best, grades.values(), strict=True)])


def reachable(engine: Engine, slate: Slate, grades: Mapping[str, Mapping[str, float]]) -> float:
    """Mean recall, of a hundred at most, of all candidates."""
    parts = np.split(engine.items.ids[slate.found.items], slate.found.offsets[1:-1])
    wanted = [{item for item, grade in one.items() if grade > 0} for one in grades.values()]
    pairs = zip(parts, wanted, strict=True)
    return float(np.mean([min(len(want.intersection(part)), 100) / min(len(want), 100) for part, want in pairs]))


if __name__ == "__main__":
    main()
