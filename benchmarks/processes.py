"""Training the encoder by one process and by several: what it costs, and whether they take the same steps.

    python benchmarks/processes.py --items 20000 --steps 100 --processes 1 2

A generated catalogue; pairs of items and clicks are at random, which costs what true ones cost. Each training has a
process of its own, which shares `--threads` among those that it starts. Seconds and the most memory that all of them
held at once include starting Python and PyTorch; the last column is the largest difference of a step's loss from that
of the first row.
"""

import argparse
import datetime as dt
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from cleaning import cost_of
from rich.console import Console
from rich.table import Table

from pipelines.settings import Settings

USUAL = Settings().profile
PAIRS = 200_000


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--items", type=int, default=20_000)
    ask.add_argument("--steps", type=int, default=100)
    ask.add_argument("--batch-size", type=int, default=USUAL.batch_size)
    ask.add_argument("--hidden-size", type=int, default=USUAL.hidden_size)
    ask.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    ask.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    ask.add_argument("--one", type=Path, metavar="FILE", help="train once and write the losses; for this script itself")
    told = ask.parse_args()
    if told.one:
        told.one.write_text(json.dumps(losses(told)))
        return
    with tempfile.TemporaryDirectory() as folder:
        Console(width=110).print(compared(told, Path(folder) / "losses.json"))


def compared(told: argparse.Namespace, found: Path) -> Table:
    size = f"{told.items:,} items, {told.steps} steps of {told.batch_size} pairs, width {told.hidden_size}"
    table = Table(
        "processes", "wall s", "CPU s", "peak GiB", "largest difference", title=f"{size}, {told.threads} threads"
    )
    first = None
    for count in told.processes:
        cost = cost_of([sys.executable, __file__, *sys.argv[1:], "--processes", count, "--one", found])
        curve = np.array(json.loads(found.read_text()))
        first = curve if first is None else first
        figures = (f"{value:.1f}" for value in (cost.wall_seconds, cost.cpu_seconds, cost.peak_gib))
        table.add_row(str(count), *figures, f"{np.abs(curve - first).max():.1e}")
    return table


def losses(told: argparse.Namespace) -> list[float]:
    """Of each step of one training."""
    from models.item_text import TextTokenizer
    from models.profile import ProfileConfig
    from models.profile_training import train_encoder
    from pipelines.generate import catalogue, make_shop

    dice, shop = np.random.default_rng(17), make_shop(told.items, dt.date(2026, 1, 1), 30, seed=17)
    goods = catalogue.texts(shop.catalogue, np.arange(told.items), 0)
    texts = {name: list(goods[name]) for name in ("title", "category", "brand", "description")}
    tokenizer = TextTokenizer.train(goods["title"])
    queries = tokenizer.encode_queries(list(goods["title"].str.split().str[-3:].str.join(" ").unique()))
    shape = ProfileConfig(tokenizer.vocabulary_size, hidden_size=told.hidden_size)
    pairs = dice.integers(told.items, size=(PAIRS, 2))
    clicks = np.column_stack([dice.integers(len(queries), size=PAIRS), dice.integers(told.items, size=PAIRS)])
    _, training = train_encoder(
        tokenizer.encode_items(texts),
        queries,
        pairs,
        clicks,
        np.bincount(pairs[:, 1], minlength=told.items),
        shape,
        steps=told.steps,
        batch_size=told.batch_size,
        patience=told.steps,
        seed=17,
        threads=told.threads,
        processes=told.processes[0],
    )
    return training.losses


if __name__ == "__main__":
    main()
