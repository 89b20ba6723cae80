"""Understanding: all that a query says, read with what the shop's catalogue and log know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from models import heads
from models.spelling import Correction, Speller, word_counts
from models.wishes import LONGEST_PHRASE, Boost, Filter, Phrases, boosts, phrases, price
from models.words import normalise, spelled, tokens


@dataclass(frozen=True)
class Synonym:
    """Tokens of the query, and those that mean the same."""

    words: tuple[str, ...]
    other: tuple[str, ...]


@dataclass(frozen=True)
class Understood:
    """A query as it is read.

    Attributes:
        query: normalised; equal for queries that mean the same.
        meant: without slips and without the price; what is searched for.
        tokens: of `meant`, in order; empty when the query has no letter and no digit.
        head: the token that says what thing is wanted, where one does.
    """

    query: str
    meant: str
    tokens: tuple[str, ...]
    head: str | None
    corrections: tuple[Correction, ...]
    synonyms: tuple[Synonym, ...]
    filters: tuple[Filter, ...]
    boosts: tuple[Boost, ...]


@dataclass(frozen=True)
class Lexicon:
    """What the shop knows of words."""

    speller: Speller
    phrases: Phrases
    synonyms: Mapping[tuple[str, ...], Sequence[tuple[str, ...]]]
    language: str

    @classmethod
    def learn(
        cls,
        items: Mapping[str, Sequence[str | None]],
        queries: Mapping[str, int],
        synonyms: Iterable[tuple[str, str]] = (),
        language: str = "english",
    ) -> Lexicon:
        """From the columns `title`, `description`, `brand` and `category` of the items, how often each query was
        searched, and pairs of terms that mean the same."""
        rows = zip(*(items[name] for name in ("title", "brand", "category", "description")), strict=True)
        texts = (" ".join(filter(None, row)) for row in rows)
        searched: dict[str, int] = {}
        for query, count in queries.items():
            searched[normalise(query)] = searched.get(normalise(query), 0) + count
        named = phrases([title or "" for title in items["title"]], items["brand"], items["category"], language)
        return cls(
            Speller(word_counts(map(spelled, texts)), searched, language),
            named,
            both_ways(synonyms, language),
            language,
        )


def understand(query: str, lexicon: Lexicon) -> Understood:
    """Read a query: price first, as its numbers are no words; then slips, tokens, wishes and synonyms."""
    normal = normalise(query)
    named, filters = price(normal)
    meant, corrections = lexicon.speller.correct(named)
    found, head = tokens(meant, lexicon.language), heads.wanted(meant, lexicon.language)
    return Understood(
        query=normal,
        meant=meant,
        tokens=tuple(found),
        head=head if head in found else None,
        corrections=tuple(corrections),
        synonyms=tuple(_synonyms(found, lexicon)),
        filters=tuple(filters),
        boosts=tuple(boosts(found, lexicon.phrases)),
    )


def both_ways(pairs: Iterable[tuple[str, str]], language: str) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """Per term, as tokens, those that mean the same."""
    known: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for one, other in pairs:
        a, b = tuple(tokens(one, language)), tuple(tokens(other, language))
        if a and b and a != b:
            known.setdefault(a, []).append(b)
            known.setdefault(b, []).append(a)
    return {words: sorted(set(others)) for words, others in sorted(known.items())}


def _synonyms(found: Sequence[str], lexicon: Lexicon) -> Iterable[Synonym]:
    for length in range(LONGEST_PHRASE, 0, -1):
        for start in range(len(found) - length + 1):
            words = tuple(found[start : start + length])
            yield from (Synonym(words, other) for other in lexicon.synonyms.get(words, ()))
