"""Wishes: what a query says of the item besides its name: price, brand, category, colour and size."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models.words import UNITS, tokens

AMOUNT = r"(?:[$€£]\s*)?(\d{1,7}(?:[.,]\d{1,2})?)"
CURRENCY = r"(?:\s*(?:[$€£]|(?:eur|euros?|usd|dollars?|gbp|pounds?|chf|francs?|franken)(?!\w)))"
END = r"(?![\w.,/])"
MAYBE = rf"{CURRENCY}?{END}"
MONEY = rf"(?:(?=[$€£]){AMOUNT}{CURRENCY}?|{AMOUNT}{CURRENCY}){END}"  # an amount that cannot be anything else
AT_MOST = (
    re.compile(
        r"(?:(?<!\w)(?:under|below|less than|cheaper than|unter|weniger als|moins de|menos de)\s+|<=?\s*)"
        rf"{AMOUNT}{MAYBE}"
    ),
    re.compile(rf"(?<!\w)(?:up to|at most|max(?:imum|imal)?|bis|höchstens)\s+{MONEY}"),
)
AT_LEAST = (
    re.compile(rf"(?:(?<!\w)(?:more than|mehr als)\s+|>=?\s*){AMOUNT}{MAYBE}"),
    re.compile(rf"(?<!\w)(?:over|above|from|at least|min(?:imum)?|ab|über|mindestens)\s+{MONEY}"),
)
BETWEEN = (
    re.compile(rf"(?<!\w)(?:between|zwischen)\s+{AMOUNT}{CURRENCY}?\s+(?:and|und)\s+{AMOUNT}{MAYBE}"),
    re.compile(rf"(?<![\w.,]){AMOUNT}{CURRENCY}?\s*(?:-|to|bis)\s*{MONEY}"),
)
CENTS = 100
LONGEST_PHRASE = 4  # tokens of a brand's or category's name that are looked for
PATH = re.compile(r"\s*[>|»]\s*|\s+/\s+")  # between the steps of a category
COLOURS = {
    "beige", "black", "blue", "bronze", "brown", "burgundy", "charcoal", "copper", "coral", "cream", "cyan", "gold",
    "golden", "graphite", "gray", "green", "grey", "indigo", "ivory", "khaki", "lavender", "lilac", "lime",
    "magenta", "maroon", "mint", "multicolour", "navy", "olive", "orange", "peach", "pink", "purple", "red", "rose",
    "sage", "sand", "silver", "tan", "taupe", "teal", "terracotta", "transparent", "turquoise", "violet", "white",
    "yellow", "schwarz", "weiss", "blau", "rot", "grun", "gelb", "grau", "braun", "rosa", "lila", "silber",
    "turkis", "noir", "blanc", "bleu", "rouge", "vert", "jaune", "gris", "marron",
}  # fmt: skip
SIZE = re.compile(rf"\d+(?:[.x]\d+)*(?:/\d+)?(?:{'|'.join(UNITS)})|x{{1,4}}[sl]|[2-6]xl")


@dataclass(frozen=True)
class Filter:
    """A bound that was said: cents, both ends included; None where there is none."""

    field: str
    low: int | None
    high: int | None
    words: str


@dataclass(frozen=True)
class Boost:
    """What is probably wanted: `value` of `field` (brand, category, colour, size), `weight` from 0 to 1."""

    field: str
    value: str
    weight: float
    words: str


Phrases = Mapping[tuple[str, ...], Sequence[tuple[str, str, float]]]  # tokens: field, value, weight


def price(query: str) -> tuple[str, list[Filter]]:
    """A normalised query without the price that it names, and that price.

    `under 20`, `< 20 €` and `between 20 and 50` are prices; `over 50` and `max 256` only with a currency. Any currency
    counts as the shop's.
    """
    for patterns, is_low, is_high in ((BETWEEN, True, True), (AT_MOST, False, True), (AT_LEAST, True, False)):
        for pattern in patterns:
            if found := pattern.search(query):
                amounts = [_cents(amount) for amount in found.groups() if amount]
                low, high = min(amounts) if is_low else None, max(amounts) if is_high else None
                rest = " ".join((query[: found.start()] + " " + query[found.end() :]).split())
                return rest, [Filter("price_cents", low, high, found[0].strip())]
    return query, []


def phrases(
    titles: Sequence[str], brands: Sequence[str | None], categories: Sequence[str | None], language: str = "english"
) -> Phrases:
    """The names of brands and categories as tokens, each with what it means and how surely.

    The weight is the share of items of that brand, or category, among those whose title, brand or category has the
    words: a brand that is called like a thing is a weak wish.
    """
    names: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
    for field, values in (("brand", brands), ("category", categories)):
        for value in sorted(set(filter(None, values))):
            steps = [value] if field == "brand" else PATH.split(value)[-1:]
            names[tuple(tokens(steps[0], language))[:LONGEST_PHRASE]].add((field, value))
    names.pop((), None)
    said, meant = Counter[tuple[str, ...]](), Counter[tuple[tuple[str, ...], str, str]]()
    for title, brand, category in zip(titles, brands, categories, strict=True):
        for words in _named([title or "", brand or "", category or ""], names, language):
            said[words] += 1
            meant.update((words, field, value) for field, value in (("brand", brand), ("category", category)) if value)
    return {
        words: tuple(
            (field, value, round(meant[words, field, value] / said[words], 4)) for field, value in sorted(means)
        )
        for words, means in names.items()
        if said[words]
    }


def boosts(found: Sequence[str], known: Phrases) -> list[Boost]:
    """What the tokens of a query say of brand, category, colour and size; a name within a longer one does not count."""
    wishes: list[Boost] = []
    taken: set[int] = set()
    for length in range(LONGEST_PHRASE, 0, -1):
        for start in range(len(found) - length + 1):
            words, places = tuple(found[start : start + length]), set(range(start, start + length))
            if words in known and not taken & places:
                wishes += [Boost(*means, " ".join(words)) for means in known[words]]
                taken |= places
    wishes += [Boost("colour", word, 1.0, word) for word in found if word in COLOURS]
    return wishes + [Boost("size", word, 1.0, word) for word in found if SIZE.fullmatch(word)]


def _named(texts: Iterable[str], names: Mapping[tuple[str, ...], object], language: str) -> set[tuple[str, ...]]:
    """Names that stand in any of the texts."""
    rows = [tokens(text, language) for text in texts]
    return {
        words
        for row in rows
        for start in range(len(row))
        for length in range(1, LONGEST_PHRASE + 1)
        if (words := tuple(row[start : start + length])) in names and start + length <= len(row)
    }


def _cents(amount: str) -> int:
    return round(float(amount.replace(",", ".")) * CENTS)
