"""Putting every source of scores on one scale, and ranking by all of them together.

Candidates are flat rows sorted by user; user u owns the rows from offsets[u] to offsets[u + 1].
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from scipy.optimize import minimize

from models.errors import NothingToLearn
from models.retrieval import descending

USERS_AT_ONCE = 128  # whose candidates are laid side by side to be sorted


class Ranker(Protocol):
    """The seat of whatever turns the features of candidates into one score."""

    def fit(self, features: np.ndarray, offsets: np.ndarray, labels: np.ndarray) -> Self:
        """Learn from features (R, S) which candidates were bought, labels (R,) bool; returns itself."""
        ...

    def score(self, features: np.ndarray) -> np.ndarray:
        """One score per candidate, (R,); larger is better within a user."""
        ...

    def contributions(self, features: np.ndarray) -> np.ndarray:
        """What each source adds to the score, (R, S)."""
        ...


def scale_by_user(scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Each source of each user from 0 (its worst candidate) to 1 (its best), (R, S) float64.

    A score that is not finite means that the source does not know the item: 0. So does a source that says the same
    of all candidates.
    """
    counts = _counts(offsets, len(scores))
    known = np.where(np.isfinite(scores), scores, np.nan).astype(np.float64)
    starts = offsets[:-1][counts > 0]  # reduceat misreads empty users; without them the rows still tile
    low, high = (
        np.repeat(reduce.reduceat(known, starts, axis=0), counts[counts > 0], axis=0) if len(starts) else known
        for reduce in (np.fmin, np.fmax)
    )
    spread = high - low
    return np.divide(known - low, spread, out=np.zeros_like(known), where=(spread > 0) & ~np.isnan(known))


def ranks_by_user(scores: np.ndarray, offsets: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """Rank of each candidate among its user's, (R,) int64 from 1, largest score first.

    Equal scores go to the smaller value of `ties` (R,), the item positions; NaN scores come last.
    """
    counts = _counts(offsets, len(scores))
    users = np.repeat(np.arange(len(counts)), counts)
    in_order = (ties[1:] > ties[:-1]) | (users[1:] != users[:-1])
    if in_order.all() and np.isfinite(scores).all():
        parts = [offsets[start : start + USERS_AT_ONCE + 1] for start in range(0, len(counts), USERS_AT_ONCE)]
        order = np.concatenate([np.empty(0, dtype=np.int64), *(_best_first(scores, part) for part in parts)])
    else:
        order = np.lexsort((ties, -scores, users))
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[order] = np.arange(len(scores)) - np.repeat(offsets[:-1], counts) + 1
    return ranks


def _best_first(scores: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Rows of some users, user by user, the largest score first; of equal ones the first."""
    counts = np.diff(offsets)
    inside = np.arange(counts.max()) < counts[:, None]  # (B, W), as wide as the longest
    wide = np.full(inside.shape, -np.inf, dtype=np.result_type(scores, np.float32))
    wide[inside] = scores[offsets[0] : offsets[-1]]
    return (offsets[:-1, None] + descending(wide))[inside]


def reciprocal_ranks(ranks: np.ndarray, k: int = 60) -> np.ndarray:
    """1 / (k + rank), whose sum over the sources is reciprocal-rank fusion (Cormack, Clarke and Büttcher, 2009).

    A rank of 0 or NaN means that the source does not list the item; it adds nothing.
    """
    return np.divide(1.0, k + ranks, out=np.zeros(ranks.shape), where=ranks >= 1)


def log_ranks(ranks: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Ranks (R, S) by their logarithms: 1 for a source's first, 0 behind all that are ranked, of which there are
    `counts` (R,).

    Sums of them are products of ranks, a logarithmic pool (Genest and Zidek, 1986, *Combining Probability
    Distributions*) of sources that are right in proportion to 1 / rank; how far a source's scores lie apart is nothing
    to them. A rank of 0 means that the source does not list the item: 0.
    """
    behind = np.log1p(counts)[:, None]
    return np.where(ranks > 0, 1.0 - np.log(np.maximum(ranks, 1)) / behind, 0.0)


@dataclass
class LinearBlend:
    """A weighted sum of scaled sources, its weights learnt as a conditional logit (McFadden, 1974).

    Attributes:
        sources: names of the S columns of `features`.
        weights: (S,) non-negative, in units of log-odds; equal until `fit`.
        regularization: L2 on the weights, so that a source which separates perfectly stays finite.
    """

    sources: Sequence[str]
    weights: np.ndarray = field(default_factory=lambda: np.empty(0))
    regularization: float = 1e-4

    def __post_init__(self) -> None:
        self.sources = tuple(self.sources)
        if not len(self.weights):
            self.weights = np.full(len(self.sources), 1.0 / max(len(self.sources), 1))

    def fit(self, features: np.ndarray, offsets: np.ndarray, labels: np.ndarray) -> Self:
        """Find the weights under which the bought candidates were the likeliest choice of their users.

        Each bought candidate is one choice among all of its user's. Sets `weights` and returns itself.

        Args:
            features: (R, S) scaled scores, finite; see `scale_by_user`.
            offsets: (U + 1,) int64.
            labels: (R,) bool, bought.
        Raises:
            NothingToLearn: no user bought one candidate and left another.
        """
        features = self._checked(features)
        counts = _counts(offsets, len(features))
        users = np.repeat(np.arange(len(counts)), counts)
        bought = np.bincount(users, weights=labels, minlength=len(counts))
        chooses = (bought > 0) & (bought < counts)
        if not chooses.any():
            raise NothingToLearn(
                f"no user bought one of {len(features)} candidates and left another: widen the training window, "
                "or rank by reciprocal_ranks"
            )
        rows = chooses[users]
        features, labels = (features, labels) if chooses.all() else (features[rows], labels[rows])  # no needless copy
        self.weights = _likeliest_weights(features, counts[chooses], labels, self.regularization)
        return self

    def score(self, features: np.ndarray) -> np.ndarray:
        """One score per candidate, (R,)."""
        return self.contributions(features).sum(axis=1)

    def contributions(self, features: np.ndarray) -> np.ndarray:
        """Weight × feature, (R, S); rows sum to the score."""
        return self._checked(features) * self.weights

    def _checked(self, features: np.ndarray) -> np.ndarray:
        if features.ndim != 2 or features.shape[1] != len(self.sources):
            raise ValueError(f"features have shape {features.shape}, the sources are {self.sources}")
        if not np.isfinite(features).all():
            raise ValueError("features hold NaN or infinity: pass them through scale_by_user first")
        return np.asarray(features, dtype=np.float64)

    def save(self, path: Path | str) -> None:
        """Write names and weights as JSON."""
        content = {**vars(self), "weights": self.weights.tolist()}
        Path(path).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> LinearBlend:
        """Read what `save` wrote."""
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return cls(**{**content, "weights": np.array(content["weights"], dtype=np.float64)})


def cross_fitted_scores(
    make: Callable[[], Ranker], features: np.ndarray, offsets: np.ndarray, labels: np.ndarray, halves: np.ndarray
) -> np.ndarray:
    """Scores (R,) of rankers that have not seen the user: each half is scored by one that learnt on the other.

    Args:
        make: gives a new ranker.
        halves: (U,) 0 or 1, the half of each user.
    Raises:
        NothingToLearn: one of the halves has no choice to learn from.
    """
    counts = _counts(offsets, len(labels))
    row_halves = np.repeat(halves, counts)
    score = np.zeros(len(labels))
    for half in (0, 1):
        other = row_halves != half
        other_offsets = np.concatenate([[0], np.cumsum(counts[halves != half])])
        ranker = make().fit(features[other], other_offsets, labels[other])
        score[~other] = ranker.score(features[~other])
    return score


def _likeliest_weights(x: np.ndarray, counts: np.ndarray, labels: np.ndarray, regularization: float) -> np.ndarray:
    """Maximise Σ log p(bought) / n - λ|w|² over w ≥ 0, with p the softmax over each user's rows; no user is empty."""
    starts = np.cumsum(counts) - counts
    chosen = x[labels].sum(axis=0)
    choices = np.add.reduceat(labels.astype(np.float64), starts)  # (U,) per user
    total = choices.sum()

    def loss_and_gradient(w: np.ndarray) -> tuple[float, np.ndarray]:
        s = x @ w
        top = np.maximum.reduceat(s, starts)
        e = np.exp(s - np.repeat(top, counts))
        sums = np.add.reduceat(e, starts)
        loss = choices @ (np.log(sums) + top) - chosen @ w
        gradient = (e * np.repeat(choices / sums, counts)) @ x - chosen
        return loss / total + regularization * (w @ w), gradient / total + 2 * regularization * w

    sides = [(0.0, None)] * x.shape[1]
    return minimize(loss_and_gradient, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", bounds=sides).x


def _counts(offsets: np.ndarray, rows: int) -> np.ndarray:
    """Candidates of each user, (U,), once the offsets are known to tile the rows."""
    counts = np.diff(offsets)
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != rows or (counts < 0).any():
        raise ValueError(f"offsets must rise from 0 to the {rows} rows, one more of them than users")
    return counts
