"""Answers: the candidates of a query, from each source, with all that is known of each before they are ranked."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from models import retrieval, stamp
from models.candidates import Candidates
from models.understanding import Lexicon, Understood, understand
from models.vocabulary import Vocabulary
from models.words import normalise
from pipelines.marts import SMOOTHING, Marts, smoothed, values_at
from pipelines.run import Run
from pipelines.search import lexicons
from pipelines.search.arranging import Arranging
from pipelines.search.lexical import Lexical, best
from pipelines.search.reader import Reader

SOURCES = ("lexical", "semantic", "behaviour")
FEATURES = ("lexical", "lexical_scaled", "title", "covered", "semantic", "semantic_scaled", "behaviour",
            "behaviour_scaled", "kind", "popularity", "age", "count_words", "count_acts")  # fmt: skip
QUERIES_PER_BLOCK = 1024
LEAST_COSINE = 0.3  # of query and item; below, neither has to do with the other


@dataclass(frozen=True)
class Slate:
    """Candidates of some queries with FEATURES (R, K); `exact` (R,) bool: the query names the item by its number."""

    queries: Sequence[str]
    found: Candidates
    features: np.ndarray
    exact: np.ndarray


@dataclass(frozen=True)
class Shop:
    """What is known of the items at the end of a day, each (I,)."""

    popularity: np.ndarray  # log(1 + buyers) of the last weeks
    ages_days: np.ndarray
    kinds: np.ndarray  # number of the category, -1 without one
    prices: np.ndarray  # cents, NaN where unknown
    allowed: np.ndarray  # bool: may be shown

    @classmethod
    def of(cls, run: Run, marts: Marts, part: str) -> "Shop":
        cut = run.cuts[part]
        return cls(
            np.log1p(marts.popularity(cut, run.settings.fuse.popularity_days)).astype(np.float32),
            marts.ages_days(cut).astype(np.float32),
            pd.factorize(marts.catalogue["category"])[0],
            marts.catalogue["price_cents"].to_numpy(dtype=float),
            marts.known_items(cut) & marts.catalogue["is_available"].to_numpy(dtype=bool),
        )


@dataclass(frozen=True)
class Engine:
    """Everything that answers queries, as it stood at the end of a day.

    Attributes:
        item_vectors: (I, E) float32, of the reader.
        lexicon: how queries are read.
        clicks: (Q, I) decayed weights of what people did after each of `queries`, which are normalised.
        count: candidates that each source proposes.
        arranging: what rules ask of the order of the answers.
        narrowed: by query, (I,) bool: what may be shown for it, instead of what `shop` lets be shown for all others.
    """

    items: Vocabulary
    lexicon: Lexicon
    lexical: Lexical
    reader: Reader
    item_vectors: np.ndarray
    queries: Vocabulary
    clicks: sparse.csr_matrix
    shop: Shop
    count: int
    memory_bytes: int
    narrowed: Mapping[str, np.ndarray] = field(default_factory=dict)
    arranging: Arranging = field(default_factory=lambda: Arranging.none(0))

    @classmethod
    def of(cls, run: Run, marts: Marts, part: str, lexicon: Lexicon, lexical: Lexical, queries: Vocabulary) -> "Engine":
        """The engine of one of the night's trainings."""
        folder = run.of("train_profile", part)
        stamp.check(folder, items=marts.items)
        spelled, clicks = pooled(queries, marts.query_clicks(queries, run.cuts[part]))
        return cls(
            marts.items,
            lexicon,
            lexical,
            Reader.load(run.of("train_profile"), folder),
            np.load(folder / "item_vectors.npy"),
            spelled,
            clicks,
            Shop.of(run, marts, part),
            run.settings.search.results,
            run.settings.fuse.memory_mb << 20,
        )

    def only(self, items: np.ndarray) -> "Engine":
        """The engine that finds none but these items, (I,) bool."""
        return replace(self, shop=replace(self.shop, allowed=self.shop.allowed & items))

    @property
    def sold(self) -> np.ndarray:
        """(I,) popularity of what may be shown, -inf for all else."""
        return np.where(self.shop.allowed, self.shop.popularity, -np.inf)

    def parted(self, queries: Sequence[str]) -> Iterator[tuple["Engine", Sequence[str]]]:
        """The queries by what they may find: each that is narrowed alone, and all others."""
        plain = [query for query in queries if normalise(query) not in self.narrowed]
        if plain:
            yield self, plain
        for query in queries:
            if (items := self.narrowed.get(normalise(query))) is not None:
                yield replace(self, shop=replace(self.shop, allowed=items)), [query]

    def save(self, folder: Path) -> None:
        """Write all of it as files."""
        lexicons.save(self.lexicon, folder / "lexicon.json")
        self.lexical.save(folder)
        self.reader.save(folder)
        self.items.save(folder / "items.json")
        self.queries.save(folder / "queries.json")
        self.arranging.save(folder)
        sparse.save_npz(folder / "clicks.npz", self.clicks)
        names = np.array(list(self.narrowed), dtype=str)
        masks = np.array(list(self.narrowed.values()), dtype=bool).reshape(len(names), len(self.items))
        np.savez_compressed(folder / "narrowed.npz", queries=names, shown=masks)
        sizes = {"count": self.count, "memory_bytes": self.memory_bytes}
        np.savez(folder / "engine.npz", item_vectors=self.item_vectors, **vars(self.shop), **sizes)  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path) -> "Engine":
        """Read what `save` wrote."""
        with np.load(folder / "engine.npz") as arrays:
            shop = Shop(**{one.name: arrays[one.name] for one in fields(Shop)})
            vectors, count, memory = (arrays[name] for name in ("item_vectors", "count", "memory_bytes"))
        with np.load(folder / "narrowed.npz") as arrays:
            is_older = "shown" not in arrays  # than rules of a query that let in what those of all queries do not
            shown = arrays["items"] & shop.allowed if is_older else arrays["shown"]
            narrowed = dict(zip(arrays["queries"].tolist(), shown, strict=True))
        items, queries = (Vocabulary.load(folder / name) for name in ("items.json", "queries.json"))
        lexicon, lexical, reader = (
            lexicons.load(folder / "lexicon.json"),
            Lexical.load(folder),
            Reader.load(folder, folder),
        )
        clicks = sparse.csr_matrix(sparse.load_npz(folder / "clicks.npz"))
        sizes = int(count), int(memory)
        arranging = Arranging.load(folder)
        return cls(items, lexicon, lexical, reader, vectors, queries, clicks, shop, *sizes, narrowed, arranging)

    def answers(self, queries: Sequence[str]) -> Slate:
        """The union of what each source proposes for each query, and what every source says of it."""
        read = [understand(query, self.lexicon) for query in queries]
        words = self.lexical.asked(read)
        vectors = self.reader.read([one.meant if one.tokens else "" for one in read])
        lexical, clicks = self._shown(self.lexical.scores(read)), self.clicked(read)
        behaviour, exact = self._shown(smoothed(clicks)), self._shown(self.lexical.exact(read))
        first = best(lexical, self.count)
        union = self._union(vectors, [first, best(behaviour, self.count), exact])
        union = self._affordable(read, union)
        query, item = np.repeat(np.arange(len(queries)), np.diff(union.indptr)), union.indices.astype(np.int64)
        cosine = np.einsum("re,re->r", vectors[query], self.item_vectors[item])
        scores = [values_at(lexical, query, item), cosine, values_at(behaviour, query, item)]
        found = Candidates(
            np.arange(len(queries)), union.indptr.astype(np.int64), item, np.stack(scores, axis=1).astype(np.float64)
        )
        known = self._features(found, words, clicks, first)
        return Slate(queries, found, known, values_at(exact, query, item) > 0)

    def clicked(self, read: Sequence[Understood]) -> sparse.csr_matrix:
        """(Q, I) what people did after each query as it was typed, and as it was meant."""
        typed, meant = (self.queries.positions(getattr(one, name) for one in read) for name in ("query", "meant"))
        rows = np.arange(len(read))
        asked = sparse.csr_matrix((len(read), len(self.queries)))
        for places, is_other in ((typed, True), (meant, meant != typed)):
            known = (places >= 0) & is_other
            asked = asked + sparse.csr_matrix((np.ones(known.sum()), (rows[known], places[known])), shape=asked.shape)
        return sparse.csr_matrix(asked @ self.clicks)

    def _affordable(self, read: Sequence[Understood], union: sparse.csr_matrix) -> sparse.csr_matrix:
        """(Q, I) without what costs more, or less, than the query says."""
        rows, prices = np.repeat(np.arange(len(read)), np.diff(union.indptr)), self.shop.prices[union.indices]
        low, high = np.array([_price_range(one) for one in read]).reshape(-1, 2).T
        outside = (prices < low[rows]) | (prices > high[rows])
        union.data = np.where(outside, 0.0, union.data)
        union.eliminate_zeros()
        return union

    def _shown(self, scores: sparse.csr_matrix) -> sparse.csr_matrix:
        """(Q, I) without the items that may not be shown."""
        kept = sparse.csr_matrix(scores @ sparse.diags(self.shop.allowed.astype(np.float32)))
        kept.eliminate_zeros()
        return kept

    def _union(self, vectors: np.ndarray, found: Sequence[sparse.csr_matrix]) -> sparse.csr_matrix:
        """(Q, I) stored where any source proposes an item."""
        near, cosines = retrieval.top_items(
            vectors, self.item_vectors, self.count, None, self.shop.allowed, self.memory_bytes
        )
        near = np.where(cosines >= LEAST_COSINE, near, -1)
        union = sparse.csr_matrix(sum((one > 0 for one in found), _indicator(near, (len(vectors), len(self.items)))))
        union.sort_indices()
        return union

    def _features(
        self, found: Candidates, words: sparse.csr_matrix, clicks: sparse.csr_matrix, first: sparse.csr_matrix
    ) -> np.ndarray:
        """(R, K) float32 in the order of FEATURES; `first` (Q, I) are the best by words."""
        query, item, index = found.rows, found.items, self.lexical.index
        weighed = words @ sparse.diags(index.rarity)
        whole = np.maximum(np.asarray(weighed.sum(axis=1)).ravel(), 1e-9)[query]
        covered = [
            values_at(weighed @ index.present(*names), query, item) / whole for names in (("title",), index.fields)
        ]
        kinds = self._kinds(clicks, first)
        lexical_scaled, semantic_scaled, behaviour_scaled = found.scaled.T
        columns = [
            found.scores[:, 0], lexical_scaled, *covered, found.scores[:, 1], semantic_scaled, found.scores[:, 2],
            behaviour_scaled, np.where(self.shop.kinds[item] >= 0, kinds[query, self.shop.kinds[item]], 0.0),
            self.shop.popularity[item], np.log1p(self.shop.ages_days[item]), np.diff(words.indptr)[query],
            np.log1p(np.asarray(clicks.sum(axis=1)).ravel())[query],
        ]  # fmt: skip
        return np.stack(columns, axis=1).astype(np.float32)

    def _kinds(self, clicks: sparse.csr_matrix, first: sparse.csr_matrix) -> np.ndarray:
        """(Q, C) how much of a query means each category: where people went; before they have, where its words are."""
        kinds, places = self.shop.kinds, np.arange(len(self.items))
        known, count = kinds >= 0, int(self.shop.kinds.max(initial=-1)) + 1
        within = sparse.csr_matrix((np.ones(known.sum()), (places[known], kinds[known])), shape=(len(kinds), count + 1))
        went, said = (np.asarray((one @ within).todense()) for one in (clicks, first))
        guess = said / np.maximum(said.sum(axis=1, keepdims=True), 1e-9)
        return (went + SMOOTHING * guess) / (went.sum(axis=1, keepdims=True) + SMOOTHING)


def _price_range(read: Understood) -> tuple[float, float]:
    """Cents that the query allows."""
    lows = [wish.low for wish in read.filters if wish.low is not None]
    highs = [wish.high for wish in read.filters if wish.high is not None]
    return max(lows, default=-np.inf), min(highs, default=np.inf)


def blocks(queries: Sequence[str]) -> Iterator[Sequence[str]]:
    """Queries, so many at a time that what is known of their candidates fits into memory."""
    for start in range(0, len(queries), QUERIES_PER_BLOCK):
        yield queries[start : start + QUERIES_PER_BLOCK]


def pooled(queries: Vocabulary, clicks: sparse.csr_matrix) -> tuple[Vocabulary, sparse.csr_matrix]:
    """Queries that are one when normalised, with the sums of their clicks (Q, I)."""
    names = [normalise(query) for query in queries.ids]
    spelled = Vocabulary(names)
    same = (np.ones(len(names)), (spelled.positions(names), np.arange(len(names))))
    return spelled, sparse.csr_matrix(sparse.csr_matrix(same, shape=(len(spelled), len(names))) @ clicks)


def _indicator(found: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    """1 at the items found (Q, N), which are padded with -1."""
    rows, places = np.nonzero(found >= 0)
    return sparse.csr_matrix((np.ones(len(rows)), (rows, found[rows, places])), shape=shape)
