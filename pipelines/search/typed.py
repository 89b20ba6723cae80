"""Typed: what people searched for and how it is read, with the words that the shop knows."""

import datetime as dt
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from models.synonyms import Proposal, mine
from models.understanding import Lexicon, Understood, both_ways, understand
from models.vocabulary import Vocabulary
from models.words import tokens
from pipelines.marts import Marts
from pipelines.run import Run
from pipelines.settings import Search

SYNONYMS = ["term", "other_term", "score", "likeness", "count_items", "count_visits", "count_answered", "example_query",
            "other_example_query", "status"]  # fmt: skip


@dataclass(frozen=True)
class Typed:
    """The log as it was known at the end of a day: `searches` by query, the lexicon, `read` (each query as it is read,
    but for its synonyms), and the `synonyms` themselves."""

    marts: Marts
    until: dt.date
    searches: pd.DataFrame
    lexicon: Lexicon
    read: dict[str, Understood]
    synonyms: pd.DataFrame

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.searches["query"])

    @cached_property
    def clicks(self) -> sparse.csr_matrix:
        """(Q, I) in the order of `searches`."""
        return self.marts.query_clicks(self.vocabulary, self.until)


def learn(run: Run, marts: Marts, until: dt.date) -> Typed:
    """Read the log up to a day: the most searched queries, the shop's words, and the synonyms in use."""
    most = marts.searches(until).sort_values(["count_searches", "query"], ascending=[False, True])
    searches = most.head(run.settings.search.max_queries).sort_values("query", ignore_index=True)
    items = {name: _texts(marts.catalogue[name]) for name in ("title", "description", "brand", "category")}
    counts = dict(zip(searches["query"], searches["count_searches"].tolist(), strict=True))
    lexicon = Lexicon.learn(items, counts, language=run.settings.search.language)
    read = {query: understand(query, lexicon) for query in searches["query"]}
    typed = Typed(marts, until, searches, lexicon, read, pd.DataFrame(columns=SYNONYMS))
    synonyms = judged(_mined(typed), run.settings.search)
    used = ["accepted", "proposed"] if run.settings.search.use_proposed_synonyms else ["accepted"]
    pairs = synonyms.loc[synonyms["status"].isin(used), ["term", "other_term"]].itertuples(index=False, name=None)
    return replace(
        typed, synonyms=synonyms, lexicon=replace(lexicon, synonyms=both_ways(pairs, run.settings.search.language))
    )


def answered(run: Run, marts: Marts) -> Vocabulary:
    """The queries that a night answers: the most searched ones, and those that the shop asks for."""
    return Vocabulary([*marts.queries()["query"], *run.settings.search.queries])


def judged(proposals: list[Proposal], settings: Search) -> pd.DataFrame:
    """Proposals with the shop's verdicts; what the shop accepts or denies stands there without evidence too."""
    rows = {
        (one.term, one.other): [one.term, one.other, one.score, one.likeness, one.count_items, one.count_visits,
                                one.count_answered, one.query, one.other_query, "proposed"]
        for one in proposals
    }  # fmt: skip
    for pair, verdict in sorted(settings.synonyms.items()):
        term, other = sorted(" ".join(tokens(term, settings.language)) for term in pair.split(" = ", 1))
        rows[term, other] = [
            *rows.get((term, other), [term, other, None, None, 0, 0, 0, None, None, None])[:-1],
            verdict,
        ]
    return pd.DataFrame(list(rows.values()), columns=SYNONYMS)


def queries(typed: Typed, count_results: pd.Series, head_share: float) -> pd.DataFrame:
    """Rows of queries: how often, whether it is of the head, how it is read, where it leads to."""
    told = typed.searches.copy()
    told["traffic_share"] = told["count_searches"] / max(told["count_searches"].sum(), 1)
    told["is_head"] = is_head(told["count_searches"].to_numpy(), head_share)
    told["count_results"] = told["query"].map(count_results).fillna(0).astype("int64")
    read = [typed.read[query] for query in told["query"]]
    told["meant"] = [one.meant for one in read]
    told["price_low_cents"] = pd.array([next((f.low for f in one.filters), None) for one in read], dtype="Int64")
    told["price_high_cents"] = pd.array([next((f.high for f in one.filters), None) for one in read], dtype="Int64")
    told["brand"] = [_wish(one, "brand") for one in read]
    told["category"], told["category_share"] = _main_category(typed)
    return told


def is_head(counts: np.ndarray, share: float) -> np.ndarray:
    """(Q,) the most searched queries that together have at least `share` of all searches."""
    order = np.lexsort((np.arange(len(counts)), -counts))
    before = np.cumsum(counts[order]) - counts[order]
    head = np.zeros(len(counts), dtype=bool)
    head[order] = before < share * counts.sum()
    return head


def _mined(typed: Typed) -> list[Proposal]:
    """Synonyms among the queries as they were meant: a slip is no synonym."""
    meant = [typed.read[query].meant for query in typed.searches["query"]]
    names = Vocabulary(sorted(set(meant)))
    sums = sparse.csr_matrix(
        (np.ones(len(meant)), (names.positions(pd.Series(meant, dtype=object)), np.arange(len(meant)))),
        shape=(len(names), len(meant)),
    )
    followed: dict[tuple[str, str], tuple[int, int]] = {}
    for (query, after), (visits, answered) in typed.marts.reformulations(typed.until).items():
        if query in typed.read and after in typed.read:
            pair = typed.read[query].meant, typed.read[after].meant
            before = followed.get(pair, (0, 0))
            followed[pair] = before[0] + visits, before[1] + answered
    return mine(list(names.ids), (sums @ typed.clicks).tocsr(), followed, typed.lexicon.language)


def _main_category(typed: Typed) -> tuple[list[str | None], list[float | None]]:
    """The category that most of each query's clicks went to, and its share of them."""
    codes, names = pd.factorize(typed.marts.catalogue["category"], sort=True)
    known = np.flatnonzero(codes >= 0)
    of_category = sparse.csr_matrix(
        (np.ones(len(known)), (known, codes[known])), shape=(len(codes), max(len(names), 1))
    )
    weights = (typed.clicks.maximum(0) @ of_category).tocsr()
    best, most = np.asarray(weights.argmax(axis=1)).ravel(), weights.max(axis=1).toarray().ravel()
    total = np.asarray(weights.sum(axis=1)).ravel()
    shares = [float(m / t) if m > 0 else None for m, t in zip(most, total, strict=True)]
    return [str(names[int(n)]) if share else None for n, share in zip(best, shares, strict=True)], shares


def _wish(read: Understood, field: str) -> str | None:
    """The surest wish for the field, if it is surer than not."""
    told = [(boost.weight, boost.value) for boost in read.boosts if boost.field == field and boost.weight > 0.5]
    return max(told)[1] if told else None


def _texts(column: pd.Series) -> list[str | None]:
    return [text if isinstance(text, str) else None for text in column]
