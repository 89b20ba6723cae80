"""How good search is on a generated shop, where it is known what each query means and which items nobody has met.

    python benchmarks/search_quality.py HOME RUN    # a home made by `nightshelf generate`, and its night

Over queries of the last held-out days, by what people did after them: each ranking, and what the learned fusion gains
over it, paired by query. By what was planted: misspelt queries beside the same rightly spelt, and queries for items
without a single event. Over users and their own later queries: each user's own order beside that of all.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import sparse

from models import metrics
from models.vocabulary import Vocabulary
from pipelines.marts import Marts
from pipelines.run import Run
from pipelines.search import kept, proof
from pipelines.search.answered import results
from pipelines.search.lexical import Lexical

DETAILS = {"style": "style_word", "brand": "brand", "variant": "variant"}  # by form of the query; else any of the kind
FUSED = "lambdarank"


def held_out(run: Run) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By ranking: NDCG@10 of the queries, and what the learned fusion gains over it."""
    marts = Marts(run)
    queries = Vocabulary([*marts.queries()["query"], *run.settings.search.queries])
    lexical = Lexical.of(marts.catalogue, run.settings.search.language)
    judged = proof.judge(run, proof.lessons(run, marts, lexical, queries))
    return {name: (values, judged[FUSED] - values) for name, values in judged.items()}


def planted(run: Run) -> dict[str, tuple[int, float]]:
    """By kind of query: how many there are, and their mean NDCG@10 on what they mean."""
    goods, asked = (pd.read_parquet(run.home / "truth" / f"{name}.parquet") for name in ("items", "queries"))
    with duckdb.connect() as release:
        release.from_parquet(str(run.of("search") / "search_parts.parquet")).create("search_parts")
        engine, ranking, _ = kept.load(release)
    marts = Marts(run)
    goods = goods.set_index("item_id").reindex(engine.items.ids).reset_index()
    slips = asked[asked["is_misspelled"]].drop_duplicates("query")
    wanted = np.stack([_meant(query, goods) for query in slips.itertuples()])
    places = np.flatnonzero((marts.interactions(run.day).getnnz(axis=0) == 0) & engine.shop.allowed)
    titles = marts.catalogue["title"].str.lower().to_numpy()
    named = titles[places][:, None] == titles  # twins have one title

    def judged(queries: Sequence[str], wanted: np.ndarray) -> tuple[int, float]:
        found = results(engine, ranking, list(dict.fromkeys(queries)), "")
        ranked = _first(found, queries, engine.items)
        return len(queries), float(np.nanmean(metrics.ndcg_at(ranked, sparse.csr_matrix(wanted.astype(float)), 10)))

    return {
        "misspelt": judged(list(slips["query"]), wanted),
        "the same rightly spelt": judged(list(slips["meant"]), wanted),
        "the title of an item without events": judged(list(titles[places]), named),
    }


def _meant(query: object, goods: pd.DataFrame) -> np.ndarray:
    """(I,) bool: the items that whoever types the query wants."""
    detail = DETAILS.get(query.form)  # type: ignore[attr-defined]
    of_kind = goods["kind"] == query.kind  # type: ignore[attr-defined]
    return (of_kind & (goods[detail] == query.detail if detail else True)).to_numpy()  # type: ignore[attr-defined]


def _first(found: pd.DataFrame, queries: Sequence[str], items: Vocabulary) -> np.ndarray:
    """(Q, 10) the first items of each query, padded with -1."""
    lists = dict(list(found[found["rank"] <= 10].groupby("query")["item_id"]))
    ranked = np.full((len(queries), 10), -1, dtype=np.int64)
    for number, query in enumerate(queries):
        places = items.positions(lists.get(query, []))
        ranked[number, : len(places)] = places
    return ranked


def personal(run: Run) -> dict[str, str]:
    """What the night measured of users' own orders."""
    told = {one["metric"]: one for one in json.loads((run.of("search") / "metrics.json").read_text())}
    names = {"the order of all": "impersonal", "each user's own": "personal", "gain": "personal_gain"}
    rows = {title: f"search/{name}/ndcg_at_10" for title, name in names.items()}
    return {title: _told(told[row]) for title, row in rows.items() if row in told}


def _told(row: dict[str, float]) -> str:
    return f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"


def _interval(values: np.ndarray, seed: int) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*metrics.bootstrap_interval(values, seed))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("home", type=Path)
    ask.add_argument("run")
    told = ask.parse_args()
    run = Run.load(told.run, told.home.resolve())
    ranked = Table("ranked by", "NDCG@10", "gain of the learned fusion", title="What people did on held-out days")
    for name, (values, gain) in held_out(run).items():
        ranked.add_row(name, _interval(values, run.settings.seed), _interval(gain, run.settings.seed))
    meaning = Table("queries", "count", "NDCG@10", title="What was planted")
    for name, (count, value) in planted(run).items():
        meaning.add_row(name, str(count), f"{value:.3f}")
    own = Table("answers in", "NDCG@10", title="What users did after their own queries")
    for name, text in personal(run).items():
        own.add_row(name, text)
    for table in (ranked, meaning, own):
        Console().print(table)


if __name__ == "__main__":
    main()
