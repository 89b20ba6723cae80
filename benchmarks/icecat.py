"""Answers to the queries of the Icecat catalogue, held against people's grades, by nights of one home.

    python benchmarks/icecat.py DIR                                        # with the default settings
    python benchmarks/icecat.py DIR --also profile.encoder=FOLDER          # and again, with an encoder that is there
    python benchmarks/icecat.py DIR --also profile.encoder=FOLDER search.ranker=rrf --also search.ranker=rrf

DIR has the parts of the catalogue, `queries.txt` and `judgements_dev.csv` (query, item_id, grade from 0 to 3). Figures
are means over the queries that have an item graded above 0: NDCG@10 with linear gain, where what nobody graded counts
as 0; condensed, the same with ungraded items struck out first, for grades were pooled from engines that read words;
the share of the first ten that is graded; and recall@100 of what is graded above 0.
"""

import argparse
import datetime as dt
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import growth
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from pipelines import warehouse
from pipelines.icecat import import_icecat

DAY = dt.date(2026, 1, 31)
FIGURES = ("NDCG@10", "condensed", "graded of the first 10", "recall@100")
BEST = 3.0  # the highest grade


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("directory", type=Path)
    ask.add_argument("--also", nargs="+", action="append", default=[], metavar="NAME=VALUE", help="settings of a night")
    told = ask.parse_args()
    grades = graded(told.directory / "judgements_dev.csv")
    table = Table("settings", *FIGURES, "CPU s of the night", title=f"{len(grades)} queries")
    for number, changes in enumerate([[], *told.also]):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / str(number)
            import_icecat(told.directory, home, DAY)
            night = growth.performed(home, DAY, changes)
            with warehouse.connect(home) as release:
                rows = release.execute("select query, item_id from search_results order by query, rank").df()
        found = {query: list(items) for query, items in rows.groupby("query")["item_id"]}
        names = [" ".join(one.split("/")[-1] if "/" in one else one for one in changes) or "defaults"]
        figures = np.mean([judged(found.get(query, []), one) for query, one in grades.items()], axis=0)
        seconds = sum(one["cpu_seconds"] for one in night.took.values())
        table.add_row(*names, *(f"{value:.4f}" for value in figures), f"{seconds:.0f}")
    Console(width=growth.WIDE).print(table)


def graded(path: Path) -> dict[str, dict[str, float]]:
    """Grades by item of each query that has one above 0; queries as the tables have them."""
    rows = pd.read_csv(path, dtype={"item_id": str}, keep_default_na=False)
    queries = rows.groupby(rows["query"].str.casefold().str.strip())
    told = {str(query): dict(zip(one["item_id"], one["grade"].astype(float), strict=True)) for query, one in queries}
    return {query: grades for query, grades in told.items() if max(grades.values()) > 0}


def judged(found: Sequence[str], grades: Mapping[str, float]) -> list[float]:
    """FIGURES of one answer, best first."""
    ideal = gained(sorted(grades.values(), reverse=True))
    known, relevant = [item for item in found if item in grades], {item for item, grade in grades.items() if grade > 0}
    return [
        gained([grades.get(item, 0.0) for item in found]) / ideal,
        gained([grades[item] for item in known]) / ideal,
        float(np.mean([item in grades for item in found[:10]])) if found else 0.0,
        len(relevant.intersection(found[:100])) / min(100, len(relevant)),
    ]


def gained(grades: Sequence[float]) -> float:
    """DCG@10 with linear gain."""
    return sum(grade / BEST / np.log2(place + 2) for place, grade in enumerate(grades[:10]))


if __name__ == "__main__":
    main()
