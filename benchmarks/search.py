"""Answering many distinct queries: all parts of search, beside words alone, meaning alone, and the bare matrix product.

`python benchmarks/search.py --items 20000 --queries 1000 2000 4000`, after
`.venv/bin/pip install -r benchmarks/requirements.txt`. A generated catalogue; each query is two or three words of a
title and a number. The encoder is as it is before it learns, clicks are at random, and so is what the trees learnt,
which cost what learnt ones cost. Times are seconds of one processor, so that others on the machine do not count.
"""

import argparse
import datetime as dt
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from scipy import sparse
from search_rivals import RIVALS, TEXTS

from models.encoder import encode
from models.item_text import TextTokenizer
from models.profile import ProfileConfig
from models.ranker import LambdaRank
from models.reading import OwnEncoder
from models.understanding import Lexicon
from models.vocabulary import Vocabulary
from pipelines.generate import catalogue, make_shop
from pipelines.search.answered import results
from pipelines.search.answers import FEATURES, Engine, Shop, blocks
from pipelines.search.lexical import Lexical
from pipelines.search.rankings import LEAST_ROWS, Ranking
from pipelines.search.reader import Reader

OURS, TREES = "Nightshelf, all parts", "Nightshelf, all parts, ranked by trees"
TAUGHT = 256  # queries that teach the trees
COUNT = 100  # results per query
CLICKS = 5  # per query whose clicks are known, of every second query


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--queries", type=int, nargs="+", default=[1000, 2000, 4000])
    parser.add_argument("--alone", type=int, nargs="*", default=[], help="numbers of queries without the others")
    told = parser.parse_args()
    dice = np.random.default_rng(17)
    goods = a_catalogue(told.items)
    asked = some_queries(dice, goods["title"], max(told.queries + told.alone))
    engine = an_engine(dice, goods, asked)
    contenders = {
        OURS: partial(by_nightshelf, engine, Ranking()),
        TREES: partial(by_nightshelf, engine, some_trees(dice, engine, asked[:TAUGHT])),
        **{name: partial(rival(goods).answer, count=COUNT) for name, rival in RIVALS.items()},
    }
    table = Table(
        "queries", "", "CPU s", "queries/s", "matrix product = 1", title=f"{told.items:,} items, first {COUNT}"
    )
    for count in told.queries + told.alone:
        queries, taking_part = asked[:count], contenders if count in told.queries else {OURS: contenders[OURS]}
        bound = cpu_seconds(partial(product, engine, queries))
        seconds = {name: cpu_seconds(partial(answer, queries)) for name, answer in taking_part.items()}
        for name, spent in (seconds | {"matrix product": bound}).items():
            table.add_row(f"{count:,}", name, f"{spent:.2f}", f"{count / spent:,.0f}", f"{spent / bound:.1f}")
    Console().print(table)


def a_catalogue(count: int) -> pd.DataFrame:
    shop = make_shop(count, dt.date(2026, 1, 1), 30, seed=17)
    return catalogue.texts(shop.catalogue, np.arange(count), 0)


def some_queries(dice: np.random.Generator, titles: pd.Series, count: int) -> list[str]:
    """Distinct ones, as many as there are up to `count`."""
    found: dict[str, None] = {}
    while len(found) < count:
        words = titles.iloc[dice.integers(len(titles))].lower().replace(",", "").split()
        chosen = np.sort(dice.choice(len(words), min(len(words), int(dice.integers(2, 4))), replace=False))
        found[f"{' '.join(words[place] for place in chosen)} {dice.integers(10, 99)}"] = None
    return list(found)


def an_engine(dice: np.random.Generator, goods: pd.DataFrame, queries: Sequence[str]) -> Engine:
    texts = {name: list(goods[name]) for name in TEXTS}
    tokenizer = TextTokenizer.train(goods["title"], 8000)
    network = ProfileConfig(tokenizer.vocabulary_size).build().eval()
    vectors = encode(network, tokenizer.encode_items(texts, network.config.max_tokens))
    reader = OwnEncoder({name: told.numpy() for name, told in network.state_dict().items()}, asdict(network.config))
    count, known = len(goods), Vocabulary(queries[::2])
    rows = np.repeat(np.arange(len(known)), CLICKS)
    places = dice.integers(count, size=len(rows))
    clicks = sparse.csr_matrix((np.ones(len(rows)), (rows, places)), shape=(len(known), count))
    shop = Shop(
        dice.random(count, dtype=np.float32),
        np.zeros(count, dtype=np.float32),
        pd.factorize(goods["category"])[0],
        goods["price_cents"].to_numpy(dtype=float),
        np.ones(count, dtype=bool),
    )
    lexicon, lexical = Lexicon.learn(texts, dict.fromkeys(queries, 1)), Lexical.of(goods, "english")
    items = Vocabulary(goods["item_id"])
    return Engine(items, lexicon, lexical, Reader(tokenizer, reader), vectors, known, clicks, shop, COUNT, 512 << 20)


def some_trees(dice: np.random.Generator, engine: Engine, queries: Sequence[str]) -> Ranking:
    """Trees that had to learn grades at random: there are as many as there can be."""
    slate = engine.answers(queries)
    grades = dice.integers(2, size=len(slate.features)).astype(float)
    ranker = LambdaRank(FEATURES, least_rows=LEAST_ROWS, seed=17, threads=1)
    return Ranking("lambdarank", ranker.fit(slate.features, slate.found.offsets, grades))


def by_nightshelf(engine: Engine, ranking: Ranking, queries: Sequence[str]) -> None:
    for block in blocks(queries):
        results(engine, ranking, block, "run")


def product(engine: Engine, queries: Sequence[str]) -> None:
    """Only the inner products of queries and items, block by block."""
    vectors = np.resize(engine.item_vectors, (len(queries), engine.item_vectors.shape[1]))
    for start in range(0, len(vectors), 1024):
        vectors[start : start + 1024] @ engine.item_vectors.T


def cpu_seconds(act: Callable[[], Any]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


if __name__ == "__main__":
    main()
