"""What a user's own order of the answers could gain in a generated shop, where each user's taste is known.

    python benchmarks/search_taste.py HOME RUN    # a home made by `nightshelf generate`, and its night

People who search there want an item of their own style and price band three times in four, each. On the last window of
held-out days, over users: the order of all, and beside it orders by what the night knows, by the planted taste alone,
and by both, whose weights the windows before it teach; and by what the night would publish.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from models import candidates, metrics
from models.candidates import Candidates
from models.fusion import LinearBlend
from pipelines.generate.behaviour import OWN_SHARE
from pipelines.marts import Marts, values_at
from pipelines.run import Run
from pipelines.search import personal_proof, proof, typed
from pipelines.search.leanings import PARTS, written
from pipelines.search.lexical import Lexical
from pipelines.search.personal_proof import PersonalLesson
from pipelines.search.rankings import Ranking, first

VALUES = 3  # of a style, and of a price band


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("home", type=Path)
    ask.add_argument("run")
    told = ask.parse_args()
    run = Run.load(told.run, told.home.resolve())
    marts, own = Marts(run), lessons(run)
    taste = [leaning(run, marts, one.found) for one in own]
    known = [one.found.scores[:, 1:] for one in own]
    orders = {
        "what the night knows": known,
        "the planted taste": taste,
        "both": [np.hstack(pair) for pair in zip(known, taste, strict=True)],
    }
    alike = by_user(own[-1], own[-1].found.scores[:, 0])
    table = Table("order by", "NDCG@10", "gain over the order of all", "weights", title=f"{len(alike)} users")
    table.add_row("what everybody gets", interval(alike, run), "", "")
    for name, parts in orders.items():
        values, weights = judged(own, parts)
        shown = " ".join(f"{weight:.2f}" for weight in weights)
        table.add_row(name, interval(values, run), interval(values - alike, run), shown)
    Console(width=140).print(table)
    print(f"parts: {', '.join(PARTS)}, taste; published:", json.loads((run.of("search") / "personal.json").read_text()))


def lessons(run: Run) -> list[PersonalLesson]:
    """Those of the night, one per window of held-out days."""
    marts = Marts(run)
    lexical = Lexical.of(marts.catalogue, run.settings.search.language)
    told = proof.lessons(run, marts, lexical, typed.answered(run, marts))
    ranking, styles = Ranking.load(run.of("search")).name, written(marts.catalogue, lexical)
    return personal_proof.lessons(run, marts, told, ranking, styles)


def leaning(run: Run, marts: Marts, found: Candidates) -> np.ndarray:
    """(R, 1) logarithm of how much likelier the user is than people are to want an item of its style and band."""
    people, goods = (pd.read_parquet(run.home / "truth" / f"{name}.parquet") for name in ("users", "items"))
    usual = {name: people[name].value_counts(normalize=True) for name in ("style", "band")}
    people = people.set_index("user_id").reindex(marts.users.ids[found.row_owners])
    goods = goods.set_index("item_id").reindex(marts.items.ids[found.items])
    other = (1 - OWN_SHARE) / VALUES
    lifts = np.zeros(len(found.items))
    for name, shares in usual.items():
        wanted = OWN_SHARE * (people[name].to_numpy() == goods[name].to_numpy()) + other
        lifts += np.log(wanted / (OWN_SHARE * goods[name].map(shares).to_numpy() + other))
    return np.where(people["style"].notna(), lifts, 0.0)[:, None]


def judged(own: Sequence[PersonalLesson], parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(U,) NDCG@10 on the last window under the weights of the answer's own place and of parts (R, K) per window, which
    the windows before it teach; and the weights (K,) in units of the answer's own."""
    found = [
        replace(one.found, scores=np.column_stack([one.found.scores[:, 0], part]))
        for one, part in zip(own, parts, strict=True)
    ]
    width = found[0].scores.shape[1]
    joined = candidates.joined(found[:-1], width)
    pairs = zip(own[:-1], found[:-1], strict=True)
    labels = np.concatenate([values_at(one.wanted, part.rows, part.items) > 0 for one, part in pairs])
    weights = LinearBlend(tuple(map(str, range(width)))).fit(joined.scores, joined.offsets, labels).weights
    return by_user(own[-1], found[-1].scores @ weights), weights[1:] / weights[0]


def by_user(lesson: PersonalLesson, score: np.ndarray) -> np.ndarray:
    """(U,) mean NDCG@10 of each user's queries, by a score (R,) of the answers."""
    values = metrics.ndcg_at(lesson.found.best(first(score, lesson.exact), 10), lesson.wanted, 10)
    return pd.Series(values).groupby(lesson.found.owners).mean().to_numpy()


def interval(values: np.ndarray, run: Run) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*metrics.bootstrap_interval(values, run.settings.seed))


if __name__ == "__main__":
    main()
