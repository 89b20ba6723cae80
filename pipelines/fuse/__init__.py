"""Fuse: every source proposes items, one scale makes them comparable, and weights learnt on held-out days rank them."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from models import cold, fusion, metrics, retrieval
from models.als import ALSModel
from models.errors import NothingToLearn
from models.fusion import LinearBlend
from pipelines.marts import Marts, values_at
from pipelines.run import Run, stage, write_json

SOURCES = ("als", "profile", "habit", "popularity")
PLACEMENTS = ("for_you", "discover", "buy_again")
LEARNED = ("for_you", "discover")  # buy_again is for_you without the rest
USERS_PER_BLOCK = 2048
MEASURED_AT = (10, 20)
LOG = logging.getLogger("nightshelf")


@dataclass(frozen=True)
class Sources:
    """What each source knew at the end of a day; U users, I items."""

    als_users: np.ndarray  # (U, F)
    als_items: np.ndarray  # (I, F)
    profile_users: np.ndarray  # (U, E)
    profile_items: np.ndarray  # (I, E)
    habit: sparse.csr_matrix  # (U, I)
    bought: sparse.csr_matrix  # (U, I)
    popularity: np.ndarray  # (I,)
    known: np.ndarray  # (I,) bool, in the catalogue by then


@dataclass(frozen=True)
class Candidates:
    """Flat rows by user: `offsets` (B + 1,) delimit the users of a block, `items` (R,) ascend within a user."""

    users: np.ndarray  # (B,) positions
    offsets: np.ndarray
    items: np.ndarray
    scores: np.ndarray  # (R, S) as the sources gave them
    is_bought: np.ndarray  # (R,) bool

    @property
    def row_users(self) -> np.ndarray:
        """(R,) index into `users`."""
        return np.repeat(np.arange(len(self.users)), np.diff(self.offsets))

    def only(self, rows: np.ndarray) -> "Candidates":
        """The same users with fewer rows, (R,) bool."""
        counts = np.bincount(self.row_users[rows], minlength=len(self.users))
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return Candidates(self.users, offsets, self.items[rows], self.scores[rows], self.is_bought[rows])

    @property
    def features(self) -> np.ndarray:
        """(R, S) on one scale: 0 is a source's worst candidate of the user, 1 its best."""
        return fusion.scale_by_user(self.scores, self.offsets)

    @property
    def reciprocal_ranks(self) -> np.ndarray:
        """(R, S) parts of reciprocal-rank fusion."""
        ranks = [fusion.ranks_by_user(self.scores[:, s], self.offsets, self.items) for s in range(len(SOURCES))]
        return np.stack([fusion.reciprocal_rank_fusion(rank[:, None]) for rank in ranks], axis=1)


@stage
def run(run: Run, folder: Path) -> None:
    """Write candidates.parquet (placement, user, item, score, one part per source), the weights, and the figures."""
    marts = Marts(run)
    blends, chosen, records = learn(run, marts)
    for placement, blend in blends.items():
        blend.save(folder / f"{placement}.json")
    write_json(folder / "fusion.json", chosen)
    write_json(folder / "metrics.json", records)
    sources = load_sources(run, marts, "final")
    schema = pa.schema(
        [("placement", pa.string()), ("user", pa.int32()), ("item", pa.int32()), ("score", pa.float64())]
        + [(f"{source}_score", pa.float64()) for source in SOURCES]
    )
    with pq.ParquetWriter(folder / "candidates.parquet", schema, compression="zstd") as writer:
        for candidates in blocks(run, sources, np.flatnonzero(np.diff(sources.bought.indptr) + _norms(sources))):
            for placement in PLACEMENTS:
                learned = placement if placement in LEARNED else "for_you"
                rows = eligible(candidates, placement)
                parts = contributions(rows, blends[learned], chosen[learned])
                writer.write_table(rank(rows, parts, placement, run.settings.fuse.depth, schema))


def load_sources(run: Run, marts: Marts, part: str) -> Sources:
    """The sources as trained on `part` (`holdout` or `final`)."""
    until = run.cuts[part]
    als = ALSModel.load(run.of("train_als", part))
    profile = run.of("train_profile", part)
    profile_items = np.load(profile / "item_vectors.npy")
    window = run.settings.fuse.popularity_days
    return Sources(
        als_users=als.user_factors,
        als_items=cold.impute_factors(als.item_factors, profile_items),
        profile_users=np.load(profile / "user_vectors.npy"),
        profile_items=profile_items,
        habit=marts.habit(until),
        bought=marts.bought(until),
        popularity=cold.expected_buyers(marts.popularity(until, window), marts.ages_days(until), window),
        known=marts.known_items(until),
    )


def blocks(run: Run, sources: Sources, users: np.ndarray) -> Iterator[Candidates]:
    """Candidates of the users (positions, ascending), block by block: memory depends on the block, not on the shop."""
    for start in range(0, len(users), USERS_PER_BLOCK):
        yield candidates_of(run, sources, users[start : start + USERS_PER_BLOCK])


def candidates_of(run: Run, sources: Sources, users: np.ndarray) -> Candidates:
    """The union of each source's best items that the user has not bought, and everything that the user has."""
    bought = sources.bought[users]
    n, memory = run.settings.fuse.candidates, run.settings.fuse.memory_mb << 20
    found = [
        retrieval.top_items(vectors[users], items, n, exclude=bought, allowed=sources.known, memory_bytes=memory)[0]
        for vectors, items in ((sources.als_users, sources.als_items), (sources.profile_users, sources.profile_items))
    ]
    one = np.ones((len(users), 1), dtype=np.float32)
    popular = sources.popularity.astype(np.float32)[:, None]
    found.append(retrieval.top_items(one, popular, n, exclude=bought, allowed=sources.known, memory_bytes=memory)[0])
    rows, items = _union(found, bought, sources.known)
    offsets = np.searchsorted(rows, np.arange(len(users) + 1))
    return Candidates(users, offsets, items, _score(sources, users[rows], items), values_at(bought, rows, items) > 0)


def _union(found: list[np.ndarray], bought: sparse.csr_matrix, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct (row, item) pairs, by row and item."""
    proposed = np.concatenate(found, axis=1)  # (B, sum of N), -1 where a source had no more
    rows, columns = np.nonzero(proposed >= 0)
    owned = bought.tocoo()
    count_items = bought.shape[1]
    keys = np.concatenate(
        [rows * count_items + proposed[rows, columns], owned.row.astype(np.int64) * count_items + owned.col]
    )
    keys = np.unique(keys)
    keys = keys[known[keys % count_items]]
    return keys // count_items, keys % count_items


def _score(sources: Sources, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(R, S) what every source says of every candidate, whoever proposed it."""
    return np.stack(
        [
            _dot(sources.als_users, users, sources.als_items, items),
            _dot(sources.profile_users, users, sources.profile_items, items),
            values_at(sources.habit, users, items),
            np.log1p(sources.popularity[items]),
        ],
        axis=1,
    )


def _dot(
    lefts: np.ndarray, users: np.ndarray, rights: np.ndarray, items: np.ndarray, rows: int = 1 << 18
) -> np.ndarray:
    """Row by row products, gathered in slices so that memory stays bounded."""
    slices = [slice(start, start + rows) for start in range(0, len(users), rows)]
    parts = [np.einsum("rf,rf->r", lefts[users[part]], rights[items[part]]) for part in slices]
    return np.concatenate(parts) if parts else np.empty(0)


def _norms(sources: Sources) -> np.ndarray:
    """(U,) positive for users of whom some model knows something."""
    return np.abs(sources.als_users).sum(axis=1) + np.abs(sources.profile_users).sum(axis=1)


def eligible(candidates: Candidates, placement: str) -> Candidates:
    """What may stand on a placement: anything, what was never bought, or what was."""
    if placement == "for_you":
        return candidates
    return candidates.only(candidates.is_bought if placement == "buy_again" else ~candidates.is_bought)


def contributions(candidates: Candidates, blend: LinearBlend, chosen: str) -> np.ndarray:
    """(R, S) parts whose sum ranks the candidates."""
    return blend.contributions(candidates.features) if chosen == "blend" else candidates.reciprocal_ranks


def rank(candidates: Candidates, parts: np.ndarray, placement: str, depth: int, schema: pa.Schema) -> pa.Table:
    """The best `depth` rows per user, best first, ties by item."""
    score = parts.sum(axis=1)
    ranks = fusion.ranks_by_user(score, candidates.offsets, candidates.items)
    kept = np.flatnonzero(ranks <= depth)
    kept = kept[np.lexsort((ranks[kept], candidates.row_users[kept]))]
    columns = [
        np.full(len(kept), placement),
        candidates.users[candidates.row_users[kept]].astype(np.int32),
        candidates.items[kept].astype(np.int32),
        score[kept],
        *parts[kept].T,
    ]
    return pa.table(
        [pa.array(column, type_) for column, type_ in zip(columns, schema.types, strict=True)], schema=schema
    )


def learn(run: Run, marts: Marts) -> tuple[dict[str, LinearBlend], dict[str, str], list[dict]]:
    """Weights per placement from the held-out days, whether the blend or RRF ranks, and the night's figures."""
    sources = load_sources(run, marts, "holdout")
    truth = marts.bought(run.day, after=run.holdout_cut).multiply(marts.people(run.day)[:, None]).tocsr()
    blends, chosen, records = {}, {}, []
    for placement in LEARNED:
        wanted = truth if placement == "for_you" else truth - truth.multiply(sources.bought)
        wanted.eliminate_zeros()
        users = np.flatnonzero(np.diff(wanted.indptr))
        held_out = eligible(_joined(list(blocks(run, sources, users))), placement)
        blends[placement], chosen[placement], measured = learn_blend(held_out, wanted[users], run.settings.seed)
        records += [
            {"metric": f"{placement}/{name}/{measure}", **figure}
            for name, figures in measured.items()
            for measure, figure in figures.items()
            if figure["value"] is not None
        ]
    return blends, chosen, records


def learn_blend(held_out: Candidates, wanted: sparse.csr_matrix, seed: int) -> tuple[LinearBlend, str, dict[str, dict]]:
    """The blend of all held-out users, `blend` or `rrf`, whichever ranks better, and the figures of each source.

    The blend's figures are cross-fitted over two halves of the users: nobody is measured with weights that have seen
    their own purchases. Where nobody bought anything there is nothing to learn, and RRF ranks.
    """
    labels = values_at(wanted, held_out.row_users, held_out.items) > 0
    scores = {name: held_out.scores[:, s] for s, name in enumerate(SOURCES)}
    scores["rrf"] = held_out.reciprocal_ranks.sum(axis=1)
    blend, features = LinearBlend(SOURCES), held_out.features
    try:
        blend.fit(features, held_out.offsets, labels)
        scores["blend"] = fusion.cross_fitted_scores(SOURCES, features, held_out.offsets, labels, held_out.users % 2)
    except NothingToLearn as error:
        LOG.warning("reciprocal-rank fusion ranks tonight: %s", error)
    figures = {name: measure(held_out, score, wanted, seed) for name, score in scores.items()}
    chosen = "blend" if "blend" in figures and _ndcg(figures["blend"]) >= _ndcg(figures["rrf"]) else "rrf"
    return blend, chosen, {**figures, "fused": figures[chosen]}


def measure(candidates: Candidates, score: np.ndarray, wanted: sparse.csr_matrix, seed: int) -> dict[str, dict]:
    """Recall and NDCG with bootstrap intervals, and coverage, of the candidates ranked by a score."""
    k = max(MEASURED_AT)
    ranks = fusion.ranks_by_user(score, candidates.offsets, candidates.items)
    ranked = np.full((len(candidates.users), k), -1)
    top = ranks <= k
    ranked[candidates.row_users[top], ranks[top] - 1] = candidates.items[top]
    figures = {}
    for at in MEASURED_AT:
        for name, function in (("recall", metrics.recall_at), ("ndcg", metrics.ndcg_at)):
            mean, low, high = metrics.bootstrap_interval(function(ranked, wanted, at), seed)
            known = not np.isnan(mean)
            figures[f"{name}_at_{at}"] = {"value": mean if known else None, "low": low, "high": high}
    figures["coverage_at_10"] = {"value": metrics.coverage(ranked[:, :10], wanted.shape[1]), "low": None, "high": None}
    return figures


def _joined(parts: list[Candidates]) -> Candidates:
    if not parts:
        empty = np.empty(0, dtype=np.int64)
        return Candidates(
            empty, np.zeros(1, dtype=np.int64), empty, np.empty((0, len(SOURCES))), np.empty(0, dtype=bool)
        )
    ends = np.cumsum([0, *(part.offsets[-1] for part in parts)])
    return Candidates(
        users=np.concatenate([part.users for part in parts]),
        offsets=np.concatenate([[0], *(part.offsets[1:] + end for part, end in zip(parts, ends, strict=False))]),
        items=np.concatenate([part.items for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        is_bought=np.concatenate([part.is_bought for part in parts]),
    )


def _ndcg(figures: dict[str, dict]) -> float:
    return figures["ndcg_at_10"]["value"] or 0.0
