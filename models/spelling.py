"""Spelling: what was probably meant where a query has a word that neither the catalogue nor the log knows."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from symspellpy import SymSpell, Verbosity

from models.words import parts, singular, without_accents, words

LONGEST_DISTANCE = 2  # letters that are wrong at most; two letters changed over are one
SHORTEST_WORD = 4  # letters of a word that is corrected by itself
SHORTEST_QUERY = 6  # letters of a query that is corrected as a whole
SLIP = 0.05  # times that a word is typed wrong in one certain way, per time that it is meant
REPEATED = 0.2  # what one search for an unknown word says for it, against one for a known word
CERTAINTY = 0.7  # least confidence that changes a query
COUNT_QUERIES = 20_000  # most frequent known queries that a query is held against as a whole


@dataclass(frozen=True)
class Correction:
    """What was typed, what was probably meant, and how sure that is, from 0 to 1."""

    typed: str
    meant: str
    confidence: float


class Speller:
    """Words of the catalogue and the log by count, searched by symmetric deletes (Garbe, 2012; `symspellpy`).

    A noisy channel (Kernighan, Church and Gale, 1990): how often a word is meant, times how easily it is typed as what
    stands there, against the word's own right to be. Words of the catalogue are never touched.
    """

    def __init__(self, catalogue: Mapping[str, int], queries: Mapping[str, int], language: str = "english"):
        """`catalogue`: words as written and in how many items they stand; `queries`: normalised, and how often."""
        self.language = language
        self.typed = _word_counts(queries)
        self.counts: Counter[str] = Counter()
        self.written: dict[str, str] = {}
        for word, count in sorted(catalogue.items(), key=lambda pair: (-pair[1], pair[0])):
            plain = without_accents(word)
            self.written.setdefault(plain, word)
            self.counts[plain] += count
        self.counts.update({word: self.typed[word] for word in self.counts})
        self.singulars = {singular(word, language) for word in self.counts}
        self.words = _index({word: count for word, count in self.counts.items() if _is_spelt(word)})
        known = {query: count for query, count in queries.items() if len(query) >= SHORTEST_QUERY and self.knows(query)}
        first = sorted(known, key=lambda query: (-known[query], query))[:COUNT_QUERIES]
        self.queries = _index({query: known[query] for query in first})
        self.asked = queries

    def knows(self, query: str) -> bool:
        """Whether each word of it stands in the catalogue, in singular or plural, with or without accents."""
        return all(self._is_known(without_accents(word)) for word in words(query))

    def correct(self, query: str) -> tuple[str, list[Correction]]:
        """A normalised query as it was probably meant, and what was changed; what is known or numbered stays."""
        if self.knows(query):
            return query, []
        if whole := self._whole(query):
            return whole.meant, [whole]
        changes = [change for word in dict.fromkeys(words(query)) if (change := self._word(word))]
        if not changes:
            changes = self._joined(words(query))
        meant = query
        for change in changes:
            meant = meant.replace(change.typed, change.meant, 1)
        return meant, changes

    def _is_known(self, plain: str) -> bool:
        if not _is_spelt(plain) or plain in self.counts or singular(plain, self.language) in self.singulars:
            return True
        return "-" in plain and all(self._is_known(part) for part in plain.split("-"))

    def _whole(self, query: str) -> Correction | None:
        """The known query next to it, which has the context that a short word lacks."""
        if len(query) < SHORTEST_QUERY:
            return None
        return self._best(query, self.queries, REPEATED * self.asked.get(query, 0))

    def _word(self, word: str) -> Correction | None:
        plain = without_accents(word)
        if len(plain) < SHORTEST_WORD or self._is_known(plain):
            return None
        if found := self._best(plain, self.words, REPEATED * self.typed[plain]):
            return Correction(word, self.written[found.meant], found.confidence)
        return self._apart(word, plain)

    def _apart(self, word: str, plain: str) -> Correction | None:
        """Two known words that ran together."""
        apart = parts(plain, self.counts)
        often = math.prod(self.counts[part] for part in apart) ** (1 / len(apart))
        confidence = _confidence(SLIP * often, SLIP * often, REPEATED * self.typed[plain], plain)
        if len(apart) < 2 or confidence < CERTAINTY:
            return None
        return Correction(word, " ".join(self.written[part] for part in apart), confidence)

    def _joined(self, typed: list[str]) -> list[Correction]:
        """Two words that are one in the catalogue, of which one means nothing there."""
        pairs = itertools.pairwise(typed)
        return [
            Correction(f"{a} {b}", a + b, 1.0) for a, b in pairs if a + b in self.counts and not self.knows(f"{a} {b}")
        ]

    def _best(self, typed: str, index: SymSpell, own: float) -> Correction | None:
        """The likeliest of the near ones; `own` speaks for what was typed, and so does its being short."""
        distance = 1 if len(typed) < 2 * SHORTEST_WORD else LONGEST_DISTANCE
        near = [one for one in index.lookup(typed, Verbosity.ALL, distance) if one.term != typed]
        weights = {one.term: one.count * SLIP**one.distance * _likeness(typed, one.term) for one in near}
        if not weights:
            return None
        meant = min(weights, key=lambda term: (-weights[term], term))
        confidence = _confidence(weights[meant], sum(weights.values()), own, typed)
        return Correction(typed, meant, confidence) if confidence >= CERTAINTY else None


def _confidence(best: float, near: float, own: float, typed: str) -> float:
    """Share of the best in all explanations; a short word has neighbours by chance."""
    return round(best / (near + own + (SHORTEST_WORD / len(typed)) ** 2), 4)


def _is_spelt(word: str) -> bool:
    """Whether it has a spelling: numbers and names of models have none that could be wrong."""
    return word.replace("-", "").isalpha()


def _likeness(typed: str, meant: str) -> float:
    """How much likelier than usual such a slip is: letters change places often, the first one is rarely wrong, and a
    number is what it is."""
    if [c for c in typed if c.isdigit()] != [c for c in meant if c.isdigit()]:
        return 0.0
    return (4.0 if sorted(typed) == sorted(meant) else 1.0) * (1.0 if typed[:1] == meant[:1] else 0.2)


def _word_counts(queries: Mapping[str, int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for query, count in queries.items():
        for word in words(query):
            counts[without_accents(word)] += count
    return counts


def _index(counts: Mapping[str, int]) -> SymSpell:
    index = SymSpell(LONGEST_DISTANCE, prefix_length=7)
    for word in sorted(counts):
        index.create_dictionary_entry(word, counts[word])
    return index


def word_counts(texts: Iterable[str]) -> Counter[str]:
    """In how many of the (normalised) texts each word stands."""
    return Counter(word for text in texts for word in set(words(text)))
