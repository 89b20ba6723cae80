"""Ask: answer any query from the current release alone, also for one user, and say why each item was found."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.understanding import Understood, understand
from pipelines import warehouse
from pipelines.errors import NightshelfError
from pipelines.raw.files import shown
from pipelines.search import kept
from pipelines.search.answered import results
from pipelines.search.answers import Engine
from pipelines.search.own import Own

NEAREST = "select distinct query from search_results order by levenshtein(query, ?), query limit 3"
EXPLAINED = 3  # results whose finding is told
SAID = "select item_id, title, brand, price_cents / 100 as price from items where list_contains(?, item_id)"


def ask(
    console: Console, home: Path, text: str, rows: int = 20, explain: bool = False, user: str | None = None
) -> None:
    """Print the results of a query, in a user's own order if one is named.

    Raises NightshelfError for a query that finds nothing, with the nearest that do, and for a user whom the release
    does not know, with the nearest ids.
    """
    with warehouse.connect(home) as release:
        engine, ranking, personal = kept.load(release)
        own = Own.of(release, engine, personal, user) if user else None
        read = understand(text, engine.lexicon)
        found = results(engine, ranking, [read.query], "")
        if not len(found):
            raise NightshelfError(
                f"Nothing is found for {read.query!r}. The nearest queries with results: {_near(release, read)}."
            )
        guess = _guess(release, read, found)
        moved = own.told(found) if own else {}
        found = (own.ordered(found) if own else found).head(rows)
        said = release.execute(SAID, [found["item_id"].tolist()]).df().set_index("item_id")
    console.print(_table(found, said, f"Results of “{shown(read.meant)}”" + (f" for {shown(user)}" if user else "")))
    items = found["item_id"].head(EXPLAINED if explain else 0)
    for line in [*guess, *_reading(read), *_telling(engine, moved, read, items)]:
        console.print(Text(shown(line)), soft_wrap=True)


def _near(release: duckdb.DuckDBPyConnection, read: Understood) -> str:
    return ", ".join(query for (query,) in release.execute(NEAREST, [read.query]).fetchall()) or "none"


def _guess(release: duckdb.DuckDBPyConnection, read: Understood, found: pd.DataFrame) -> list[str]:
    """That no answer has a word of the query, nor anybody's click, with the nearest queries; nothing, where one has."""
    is_guess = (found["reason"] == "meaning") & (found["lexical_score"] == 0)
    told = f"no item has a word of this, and these are near by meaning; the nearest queries: {_near(release, read)}"
    return [told] if is_guess.all() else []


def _table(found: pd.DataFrame, said: pd.DataFrame, title: str) -> Table:
    """Results with what readers see of the items; of a user's own, with the rank that everybody gets."""
    is_own = "search_rank" in found
    columns = ["rank", *["for all"] * is_own, "item", "title", "brand", "price", "score", "reason"]
    table = Table(*columns, title=Text(title))
    for row in found.itertuples(index=False):
        item = said.loc[str(row.item_id)]
        price = "" if np.isnan(item["price"]) else f"{item['price']:.2f}"
        ranks = [row.rank, *[row.search_rank for _ in range(is_own)]]
        cells = [*ranks, row.item_id, item["title"], item["brand"] or "", price, f"{row.score:.3f}", row.reason]
        table.add_row(*(Text(shown(str(one))) for one in cells))
    return table


def _reading(read: Understood) -> Iterator[str]:
    """How the query was read, where that is not as it was typed."""
    for change in read.corrections:
        yield f"read as: {change.meant} for {change.typed}, {change.confidence:.0%} sure"
    for synonym in read.synonyms:
        yield f"searched too: {' '.join(synonym.other)} for {' '.join(synonym.words)}"
    for wish in read.filters:
        bounds = (("from", wish.low), ("up to", wish.high))
        told = " ".join(f"{word} {cents / 100:.2f}" for word, cents in bounds if cents is not None)
        yield f"price: {told}, as “{wish.words}” says"


def _telling(
    engine: Engine, moved: Mapping[str, Mapping[str, float]], read: Understood, items: pd.Series
) -> Iterator[str]:
    """Per item: what each word and field adds, what the meaning owes to each word, what people did, and what the user's
    past says, which is in `moved`."""
    clicks = engine.clicked([read])
    for item, place in zip(items, engine.items.positions(items), strict=True):
        yield f"{item}:"
        words = engine.lexical.told(read, place)
        yield "  words: " + (", ".join(f"{word} in {field} {score:+.2f}" for word, field, score in words) or "none")
        lost = ", ".join(f"{word} {value:+.3f}" for word, value in owed(engine, read, place))
        yield f"  meaning: {lost or 'no word'}"
        yield f"  people: {clicks[0, place]:.1f} of {clicks.sum():.1f} weighted acts after this query"
        if moved:
            yield "  this user: " + ", ".join(f"{part} {value:+.2f}" for part, value in moved[item].items())


def owed(engine: Engine, read: Understood, place: int) -> list[tuple[str, float]]:
    """What the cosine of query and item loses without each word of the query, largest first.

    Taking a word away asks the encoder itself, whichever it is, and holds also where its gradient is flat.
    """
    words = read.meant.split()
    less = [" ".join(words[:n] + words[n + 1 :]) for n in range(len(words))]
    cosines = engine.reader.read([read.meant, *less]) @ engine.item_vectors[place]
    return sorted(zip(words, (cosines[0] - cosines[1:]).tolist(), strict=True), key=lambda pair: -abs(pair[1]))
