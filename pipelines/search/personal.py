"""Personal: the answers of a query in the order of one user, as far as that helped users on later days."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from models import candidates
from models.candidates import Candidates
from models.vocabulary import Vocabulary
from pipelines.marts import Marts
from pipelines.run import Run, write_json
from pipelines.search.answers import Slate
from pipelines.search.arranging import Arranging
from pipelines.search.leanings import PARTS, Leanings, Past
from pipelines.search.rankings import Ranking, first

PAIRS_PER_BLOCK = 1024
CARRIED = ["lexical_score", "semantic_score", "behaviour_score", "popularity_score", "reason"]  # from search_results
TYPES = {name: pa.string() for name in ("user_id", "query", "item_id", "reason", "rule_id", "run_id")}
TYPES |= {name: pa.int64() for name in ("rank", "search_rank")}
COLUMNS = ["user_id", "query", "rank", "item_id", "score", "personal_score", "search_rank", *CARRIED, "rule_id",
           "run_id"]  # fmt: skip
SCHEMA = pa.schema([(name, TYPES.get(name, pa.float64())) for name in COLUMNS])


@dataclass(frozen=True)
class Answers:
    """Results of Q `queries` one after the other: `offsets` (Q + 1,), and of each row (R,) the item, the rank from 1,
    and whether the query says its number."""

    queries: Sequence[str] | np.ndarray
    offsets: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    exact: np.ndarray

    @classmethod
    def ranked(cls, slate: Slate, ranking: Ranking, count: int) -> "Answers":
        """The first `count` of each query, as a ranking puts them."""
        ranks = slate.found.ranks(ranking.score(slate))
        kept = ranks <= count
        counts = np.bincount(slate.found.rows[kept], minlength=len(slate.queries))
        offsets = candidates.starts(counts)
        return cls(slate.queries, offsets, slate.found.items[kept], ranks[kept], slate.exact[kept])

    @classmethod
    def published(cls, found: pd.DataFrame, queries: Vocabulary, items: Vocabulary) -> "Answers":
        """Rows of search_results, which stand in the order of `queries`."""
        counts = np.bincount(queries.positions(found["query"]), minlength=len(queries))
        exact = (found["reason"] == "exact").to_numpy()
        places = items.positions(found["item_id"])
        return cls(queries.ids, candidates.starts(counts), places, found["rank"].to_numpy(), exact)

    def rows(self, queries: np.ndarray) -> np.ndarray:
        """The rows of each of these queries (P,), one query after the other."""
        begin, counts = self.offsets[queries], np.diff(self.offsets)[queries]
        return np.arange(counts.sum()) + np.repeat(begin - candidates.starts(counts)[:-1], counts)


@dataclass(frozen=True)
class Asked:
    """P pairs of a user and a query that the user typed, by their positions."""

    users: np.ndarray
    queries: np.ndarray

    def only(self, part: slice | np.ndarray) -> "Asked":
        return Asked(self.users[part], self.queries[part])


def scores(parts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(R,) from (R, 1 + PARTS)."""
    return parts[:, 0] + parts[:, 1:] @ weights


@dataclass(frozen=True)
class Personal:
    """What re-ranks answers for a user: what is known of the items, and the weights of PARTS."""

    leanings: Leanings
    weights: np.ndarray

    def save(self, folder: Path) -> None:
        self.leanings.save(folder / "leanings.npz")
        write_json(folder / "personal.json", dict(zip(PARTS, self.weights.tolist(), strict=True)))

    @classmethod
    def load(cls, folder: Path) -> "Personal":
        weights = json.loads((folder / "personal.json").read_text())
        return cls(Leanings.load(folder / "leanings.npz"), np.array([weights[part] for part in PARTS]))


def write(
    run: Run,
    marts: Marts,
    found: pd.DataFrame,
    queries: Vocabulary,
    personal: Personal,
    held: Arranging,
    path: Path,
) -> None:
    """Write user_search_results; `found` are the rows of search_results, in the order of `queries`, `held` the rules
    that hold in users' own orders."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for listed in orders(run, marts, found, queries, latest(run, marts, queries), personal, held):
            writer.write_table(pa.Table.from_pandas(listed[COLUMNS], SCHEMA, preserve_index=False))


def orders(
    run: Run,
    marts: Marts,
    found: pd.DataFrame,
    queries: Vocabulary,
    asked: Asked,
    personal: Personal,
    held: Arranging,
) -> Iterator[pd.DataFrame]:
    """Rows of user_search_results for pairs, block by block."""
    answers, past = Answers.published(found, queries, marts.items), Past.of(marts, "final")
    for start in range(0, len(asked.users), PAIRS_PER_BLOCK):
        block = asked.only(slice(start, start + PAIRS_PER_BLOCK))
        listed = rows(found, answers, block, personal, held, past, run.settings.search.user_results)
        yield listed.assign(user_id=marts.users.ids[listed["user"]])


def known(answers: Answers, asked: Asked, leanings: Leanings, past: Past) -> tuple[Candidates, np.ndarray]:
    """The answers of pairs, with minus the logarithm of the rank and PARTS as scores, which count as far as the query
    means what is of the answer's kind; and their rows in `answers`."""
    rows = answers.rows(asked.queries)
    counts = np.diff(answers.offsets)[asked.queries]
    users, place = np.unique(asked.users, return_inverse=True)
    parts = leanings.parts(past.only(users), np.repeat(place, counts), answers.items[rows])
    meant = kind_shares(answers, leanings.kinds)[rows]
    told = np.column_stack([-np.log(answers.ranks[rows]), parts * meant[:, None]])
    return Candidates(asked.users, candidates.starts(counts), answers.items[rows], told), rows


def kind_shares(answers: Answers, kinds: np.ndarray) -> np.ndarray:
    """(R,) share of each answer's kind, by `kinds` (I,), in its query's answers, each of which counts 1 / rank."""
    query = np.repeat(np.arange(len(answers.queries)), np.diff(answers.offsets))
    weight, pairs = 1.0 / answers.ranks, query * (int(kinds.max(initial=0)) + 1) + kinds[answers.items]
    place = np.unique(pairs, return_inverse=True)[1]
    return np.bincount(place, weight)[place] / np.bincount(query, weight)[query]


def latest(run: Run, marts: Marts, queries: Vocabulary) -> Asked:
    """What users typed in the last `search.user_query_days` and is among `queries`, `search.max_user_queries` pairs at
    most, by user and query."""
    names, typed = marts.typed(run.day, run.settings.search.user_query_days)
    pairs = typed.tocoo()
    asked = Asked(pairs.row.astype(np.int64), queries.positions(names.ids)[pairs.col])
    order = np.lexsort((asked.queries, asked.users, -pairs.data))
    order = order[asked.queries[order] >= 0][: run.settings.search.max_user_queries]
    kept = asked.only(order)
    return kept.only(np.lexsort((kept.queries, kept.users)))


def rows(
    found: pd.DataFrame,
    answers: Answers,
    asked: Asked,
    personal: Personal,
    held: Arranging,
    past: Past,
    count: int,
) -> pd.DataFrame:
    """The first `count` answers of pairs as `user`, and the columns of user_search_results but for the ids; `found` are
    the rows of search_results from which the answers were made."""
    told, places = known(answers, asked, personal.leanings, past)
    score = first(scores(told.scores, personal.weights), answers.exact[places])
    names = np.array(answers.queries, dtype=object)[asked.queries]
    listing = held.listed(names, told, score, count, np.full(len(personal.leanings.brands), -np.inf))
    kept = listing.rows
    listed = found.iloc[places[kept]].reset_index(drop=True).rename(columns={"rank": "search_rank"})
    own = told.scores[kept, 1:] @ personal.weights
    by_rule = held.names(listing.rules)
    return listed.assign(
        user=told.row_owners[kept], rank=listing.ranks, score=score[kept], personal_score=own, rule_id=by_rule
    )
