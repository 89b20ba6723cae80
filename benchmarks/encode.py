"""All texts of a catalogue into vectors, from strings on: as a night does it, beside what one would write first.

    python benchmarks/encode.py                                                # 20,000 generated items
    python benchmarks/encode.py --icecat DIRECTORY --online-retail FILE --rounds 5

after `.venv/bin/pip install -r benchmarks/requirements.txt`. Contenders take turns on one thread, a first round that
does not count warms them up, and figures are medians of the seconds of a processor. The encoder is as it is before it
learns, and so is the BERT of equal width, layers and heads that sentence-transformers reads with. The last row is a
night whose encoder is kept (`profile.keep_days`): one item in a hundred has another title.
"""

import argparse
import datetime as dt
import os
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.table import Table
from search import a_catalogue, cpu_seconds
from search_rivals import bert

from models.encoder import BATCH, Remembered, TextEncoder, as_tensors, remember
from models.item_text import TextTokenizer, Tokens, item_contents
from models.profile import ProfileConfig

Texts = dict[str, list[str | None]]
Read = Callable[[], np.ndarray | None]
FIELDS = ("title", "category", "brand", "description")  # of every catalogue: those it has
NIGHTSHELF, PADDED, LATER = "Nightshelf", "padded, float32", "Nightshelf, 1 % changed"
CHANGED = 100  # one item in so many has another title
SAMPLED, FIRST = 500, 10  # items of which the first neighbours are compared


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--items", type=int, default=20_000, help="of the generated catalogue")
    ask.add_argument("--icecat", type=Path, metavar="DIRECTORY")
    ask.add_argument("--online-retail", type=Path, metavar="FILE")
    ask.add_argument("--rounds", type=int, default=3)
    told = ask.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    for name, texts in catalogues(told):
        Console(width=140).print(compared(name, Catalogue(texts), told.rounds))


def catalogues(told: argparse.Namespace) -> Iterator[tuple[str, Texts]]:
    goods = a_catalogue(told.items)
    yield "generated", {name: list(goods[name]) for name in FIELDS}
    with tempfile.TemporaryDirectory() as folder:
        if told.icecat:
            from pipelines.icecat import import_icecat

            import_icecat(told.icecat, Path(folder) / "icecat", dt.date(2026, 3, 1))
            yield "Icecat", laid_out(Path(folder) / "icecat")
        if told.online_retail:
            from pipelines.online_retail import import_online_retail

            import_online_retail(told.online_retail, Path(folder) / "online_retail")
            yield "Online Retail", laid_out(Path(folder) / "online_retail")


def laid_out(home: Path) -> Texts:
    """Texts of all items that were ever delivered, as they were delivered last."""
    files = f"read_parquet('{home}/raw/items/*/*.parquet', union_by_name = true, filename = true)"
    goods = duckdb.sql(f"from {files} qualify row_number() over (partition by item_id order by filename desc) = 1").df()
    return {name: [text if isinstance(text, str) else None for text in goods[name]] for name in FIELDS if name in goods}


class Catalogue:
    """Texts of N items, with a tokenizer of their words and an untrained encoder of the usual size."""

    def __init__(self, texts: Texts):
        self.texts = texts
        self.tokenizer = TextTokenizer.train(text for column in texts.values() for text in column if text)
        torch.manual_seed(17)
        self.encoder = ProfileConfig(self.tokenizer.vocabulary_size).build().eval()

    def __len__(self) -> int:
        return len(self.texts["title"])

    def tokens_of(self, rows: np.ndarray) -> Tokens:
        some = {name: [column[row] for row in rows] for name, column in self.texts.items()}
        return self.tokenizer.encode_items(some, self.encoder.config.max_tokens)

    def all_tokens(self) -> Tokens:
        return self.tokens_of(np.arange(len(self)))

    def remembered(self, earlier: Remembered | None = None) -> Remembered:
        return remember(self.encoder, item_contents(self.texts), self.tokens_of, earlier)

    def before(self) -> Remembered:
        """What the night before remembers: one item in a hundred had another title."""
        other = deepcopy(self)
        other.texts["title"] = [
            f"{title} of yesterday" if row % CHANGED == 0 else title for row, title in enumerate(self.texts["title"])
        ]
        return other.remembered()

    def strings(self) -> list[str]:
        return [" ".join(filter(None, row)) for row in zip(*self.texts.values(), strict=True)]

    def described(self) -> str:
        distinct, length = len(np.unique(item_contents(self.texts))), self.all_tokens().lengths.mean()
        return f"{len(self):,} items, {distinct:,} distinct texts, {length:.0f} tokens on average"


def contenders(shop: Catalogue) -> dict[str, Read]:
    """The last two give no vectors to compare: they cut texts into tokens only, or have other weights."""
    with tempfile.TemporaryDirectory() as folder:
        rival = bert(Path(folder), pd.Series(shop.texts["title"]).dropna())
    before = shop.before()

    def tokens_alone() -> None:
        shop.all_tokens()

    def by_rival() -> None:
        rival.encode(shop.strings(), batch_size=BATCH, show_progress_bar=False)

    return {
        NIGHTSHELF: lambda: shop.remembered().vectors,
        LATER: lambda: shop.remembered(before).vectors,
        PADDED: lambda: padded(shop.encoder, shop.all_tokens()),
        "by length, float32": partial(by_length, shop, shop.encoder),
        "by length, bfloat16": partial(by_length, shop, deepcopy(shop.encoder).bfloat16()),
        "sentence-transformers": by_rival,
        "into tokens, no more": tokens_alone,
    }


def padded(encoder: TextEncoder, tokens: Tokens) -> np.ndarray:
    """Every text in turn, as long as the longest may be."""
    return np.concatenate(
        [
            vectors_of(encoder, Tokens(tokens.ids[start : start + BATCH], tokens.fields[start : start + BATCH]))
            for start in range(0, len(tokens), BATCH)
        ]
    )


def by_length(shop: Catalogue, encoder: TextEncoder) -> np.ndarray:
    """Every text, beside those of like length."""
    tokens = shop.all_tokens()
    order = np.argsort(tokens.lengths, kind="stable")
    read = [vectors_of(encoder, tokens.take(order[start : start + BATCH])) for start in range(0, len(order), BATCH)]
    return np.concatenate(read)[np.argsort(order)]


@torch.inference_mode()
def vectors_of(encoder: TextEncoder, tokens: Tokens) -> np.ndarray:
    return encoder(*as_tensors(tokens, encoder)).float().numpy()


def compared(name: str, shop: Catalogue, rounds: int) -> Table:
    rivals = contenders(shop)
    found = {rival: read() for rival, read in rivals.items()}
    true = padded(shop.encoder, shop.all_tokens())
    spent: dict[str, list[float]] = {rival: [] for rival in rivals}
    for _ in range(rounds):
        for rival, read in rivals.items():
            spent[rival].append(cpu_seconds(read))
    seconds = {rival: float(np.median(one)) for rival, one in spent.items()}
    columns = ("", "CPU s", "texts/s", f"{PADDED} = 1", f"{NIGHTSHELF} = 1", "largest difference", "first ten alike")
    table = Table(*columns, title=f"{name}: {shop.described()}")
    for rival, one in seconds.items():
        ratios = (f"{one / seconds[base]:.3f}" for base in (PADDED, NIGHTSHELF))
        table.add_row(rival, f"{one:.3f}", f"{len(shop) / one:,.0f}", *ratios, *likeness(found[rival], true))
    return table


def likeness(found: np.ndarray | None, true: np.ndarray) -> tuple[str, str]:
    """The largest difference of a number, and the share of the first ten neighbours that are the same."""
    if found is None:
        return "", ""
    mine, theirs = neighbours(found), neighbours(true)
    alike = np.mean([len(np.intersect1d(*pair)) / FIRST for pair in zip(mine, theirs, strict=True)])
    return f"{np.abs(found - true).max():.1e}", f"{alike:.4f}"


def neighbours(vectors: np.ndarray) -> np.ndarray:
    """(SAMPLED, FIRST) the nearest items; of equal ones the first."""
    sample = vectors[np.linspace(0, len(vectors) - 1, SAMPLED, dtype=int)]
    return np.argsort(-(sample @ vectors.T), axis=1, kind="stable")[:, :FIRST]


if __name__ == "__main__":
    main()
