"""Synonyms: terms that people exchange for each other and that lead them to the same items, with the evidence."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from models.words import tokens

LONGEST_TERM = 2  # tokens of a term
LARGEST_CONTEXT = 200  # queries that differ in one place only; more of them say nothing about two
SMOOTHING = 5.0  # items and visits at which half of the likeness is believed
LEAST_SCORE = 0.3  # below, nobody should have to judge it

Term = tuple[str, ...]


@dataclass(frozen=True)
class Proposal:
    """Two terms that may mean the same, `term` before `other` in the alphabet.

    Attributes:
        score: likeness, believed the more, the more evidence there is.
        likeness: cosine of what the two lead to, over that of other terms in the same place; mean over query pairs.
        count_items: items that both lead to, summed over query pairs.
        count_visits: visits in which one followed the other; `count_answered` of them led to an item only then.
        query, other_query: the pair of queries that speaks most for it.
    """

    term: str
    other: str
    score: float
    likeness: float
    count_items: int
    count_visits: int
    count_answered: int
    query: str
    other_query: str


@dataclass(frozen=True)
class _Seen:
    pair: tuple[int, int]
    likeness: float
    count_items: int


def mine(
    queries: Sequence[str],
    clicks: sparse.csr_matrix,
    followed: Mapping[tuple[str, str], tuple[int, int]],
    language: str = "english",
) -> list[Proposal]:
    """Pairs of terms, best first.

    Args:
        queries: Q distinct ones, rightly spelt.
        clicks: (Q, I) event weights that followed from each.
        followed: visits in which the second query of a pair followed the first; those in which only it was answered.
    """
    vectors = directions(clicks)
    rows = [tuple(tokens(query, language)) for query in queries]
    seen: dict[tuple[Term, Term], list[_Seen]] = defaultdict(list)
    for a, b, one, other, likeness, count_items in _alike(rows, vectors, _replaced(queries, rows, followed)):
        if not (set(one) <= set(other) or set(one) >= set(other) or _has_digit(one + other)):
            key, pair = ((one, other), (a, b)) if one < other else ((other, one), (b, a))
            seen[key].append(_Seen(pair, likeness, count_items))
    proposals = [_proposal(terms, found, queries, followed) for terms, found in sorted(seen.items())]
    return sorted((p for p in proposals if p.score >= LEAST_SCORE), key=lambda p: (-p.score, p.term, p.other))


def _alike(
    rows: Sequence[Term], vectors: sparse.csr_matrix, replaced: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int, Term, Term, float, int]]:
    """Queries that differ in one place, or that were typed for each other: positions, terms, likeness, shared items."""
    met = (vectors > 0).astype(float)
    for (before, after), members in _contexts(rows).items():
        cosines = (vectors[members] @ vectors[members].T).toarray()
        shared = (met[members] @ met[members].T).toarray()
        usual = (cosines.sum() - np.trace(cosines)) / (len(members) * (len(members) - 1)) if len(members) > 2 else 0.0
        for x, y in zip(*np.nonzero(np.triu(cosines > usual, k=1)), strict=True):
            a, b = members[x], members[y]
            ends = slice(len(before), len(rows[a]) - len(after)), slice(len(before), len(rows[b]) - len(after))
            likeness = float((cosines[x, y] - usual) / (1 - usual + 1e-12))
            yield a, b, rows[a][ends[0]], rows[b][ends[1]], likeness, int(shared[x, y])
    for a, b in replaced:
        likeness, count_items = float((vectors[a] @ vectors[b].T).sum()), int((met[a] @ met[b].T).sum())
        yield a, b, rows[a], rows[b], likeness, count_items


def _contexts(rows: Sequence[Term]) -> dict[tuple[Term, Term], list[int]]:
    """Queries by what stands before and after one term of theirs; something must stand there."""
    found: dict[tuple[Term, Term], list[int]] = defaultdict(list)
    for position, row in enumerate(rows):
        for length in range(1, min(LONGEST_TERM, len(row) - 1) + 1):
            for start in range(len(row) - length + 1):
                found[row[:start], row[start + length :]].append(position)
    return {context: members for context, members in found.items() if 1 < len(members) <= LARGEST_CONTEXT}


def _replaced(
    queries: Sequence[str], rows: Sequence[Term], followed: Iterable[tuple[str, str]]
) -> Iterator[tuple[int, int]]:
    """Queries without a common word of which one followed the other."""
    position = {query: n for n, query in enumerate(queries)}
    pairs = {tuple(sorted((position[a], position[b]))) for a, b in followed if a in position and b in position}
    for a, b in sorted(pairs):
        if not set(rows[a]) & set(rows[b]) and 0 < len(rows[a]) <= LONGEST_TERM and 0 < len(rows[b]) <= LONGEST_TERM:
            yield a, b


def _proposal(
    terms: tuple[Term, Term],
    seen: Sequence[_Seen],
    queries: Sequence[str],
    followed: Mapping[tuple[str, str], tuple[int, int]],
) -> Proposal:
    pairs = {(queries[one.pair[0]], queries[one.pair[1]]) for one in seen}
    visits = [followed.get(pair, (0, 0)) for a, b in pairs for pair in ((a, b), (b, a))]
    best = max(seen, key=lambda one: (one.likeness * one.count_items, one.pair))
    likeness = sum(one.likeness for one in seen) / len(seen)
    items, answered = sum(one.count_items for one in seen), sum(count for _, count in visits)
    evidence = items + answered
    return Proposal(
        term=" ".join(terms[0]),
        other=" ".join(terms[1]),
        score=round(likeness * evidence / (evidence + SMOOTHING), 4),
        likeness=round(likeness, 4),
        count_items=items,
        count_visits=sum(count for count, _ in visits),
        count_answered=answered,
        query=queries[best.pair[0]],
        other_query=queries[best.pair[1]],
    )


def directions(clicks: sparse.csr_matrix) -> sparse.csr_matrix:
    """(Q, I) square roots of the weights, each row of length 1; repeats say less."""
    roots = clicks.maximum(0).sqrt()
    lengths = np.sqrt(np.asarray(roots.multiply(roots).sum(axis=1)).ravel())
    return (sparse.diags(1.0 / np.maximum(lengths, 1e-12)) @ roots).tocsr()


def _has_digit(term: Term) -> bool:
    """What has a number is a model or a size, and no other one means the same."""
    return any(character.isdigit() for word in term for character in word)
