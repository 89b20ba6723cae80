"""The learned ranker: gradient-boosted trees that learn from whole lists which candidates people took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import lightgbm
import numpy as np

from models.errors import NothingToLearn
from models.leaves import Ensemble
from models.shapley import Payouts


class Rows(lightgbm.Sequence):
    """Some rows (N,) of features (R, K), which LightGBM reads batch by batch: they are never copied all at once."""

    batch_size = 1 << 15

    def __init__(self, features: np.ndarray, rows: np.ndarray):
        self.features, self.rows = features, rows

    def __getitem__(self, place: int | slice | list[int]) -> np.ndarray:
        found = self.features[self.rows[place]]
        return found.astype(np.float64) if found.ndim == 1 else found  # LightGBM takes single rows as such

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, kept: np.ndarray) -> Rows:
        """Fewer of them, (N,) bool."""
        return Rows(self.features, self.rows[kept])


@dataclass
class LambdaRank:
    """LambdaMART (Burges, 2010): each tree follows gradients weighted by what a swap of two candidates does to NDCG.

    Attributes:
        features: names of the K columns.
        trees, leaves, learning_rate: size and pace of the ensemble.
        least_rows: candidates that a leaf must hold.
        rising: features that may only raise the score; all else is free.
        base: the ensemble's expected output, taken off so that contributions sum to the score.
    """

    features: Sequence[str]
    trees: int = 200
    leaves: int = 15
    learning_rate: float = 0.05
    least_rows: int = 100
    rising: Sequence[str] = ()
    seed: int = 0
    threads: int = 1
    base: float = 0.0
    _booster: lightgbm.Booster | None = field(default=None, repr=False)
    _ensemble: Ensemble | None = field(default=None, repr=False)  # None where trees are too large for tables

    def fit(self, features: np.ndarray | Sequence[Rows], offsets: np.ndarray, labels: np.ndarray) -> Self:
        """Learn from features (R, K) of candidates, user by user, which were taken: labels (R,) bool or small counts.

        Equal arguments give equal trees, whatever the threads and the parts in which features are given. NaN in a
        feature means unknown, and trees send it where it loses least.

        Raises:
            NothingToLearn: no user took one candidate and left another.
        """
        counts = np.diff(offsets)
        taken = np.add.reduceat(np.append(labels, 0) > 0, offsets[:-1]) * (counts > 0) if len(counts) else counts
        chooses = (taken > 0) & (taken < counts)
        if not chooses.any():
            raise NothingToLearn(
                f"no user took one of {len(labels)} candidates and left another: widen holdout.days, or rank by "
                "reciprocal-rank fusion"
            )
        rows = np.repeat(chooses, counts)
        parts = _chosen(features, rows)
        data = lightgbm.Dataset(
            list[lightgbm.Sequence](parts),
            label=np.asarray(labels[rows], dtype=np.float32),
            group=counts[chooses],
            feature_name=list(self.features),
            params={"verbosity": -1, "max_bin": 255, "num_threads": self.threads},
        )
        self._booster = lightgbm.train(self._parameters(), data, num_boost_round=self.trees)
        self._ensemble = Ensemble.of(self._booster)
        explained = self._booster.predict(parts[0][:1], pred_contrib=True, num_threads=self.threads)
        self.base = float(np.asarray(explained)[0, -1])
        return self

    def score(self, features: np.ndarray) -> np.ndarray:
        """One score per candidate, (R,)."""
        if self._ensemble and features.dtype == np.float32:
            return self._ensemble.scores(features, self.threads) - self.base
        raw = self._trained.predict(features, raw_score=True, num_threads=self.threads)
        return np.asarray(raw, dtype=np.float64) - self.base

    def payouts(self, groups: Sequence[int]) -> Payouts:
        """What the trees pay to groups of features, numbered from 0 (K,), of any candidate; sums to its score."""
        return Payouts.of(self._trained, groups)

    @property
    def _trained(self) -> lightgbm.Booster:
        if self._booster is None:
            raise RuntimeError("this ranker has not learnt yet: call fit, or load one that has")
        return self._booster

    def _parameters(self) -> dict[str, object]:
        return {
            "objective": "lambdarank",
            "lambdarank_truncation_level": 20,  # what happens below a shelf's length is nobody's concern
            "label_gain": [0, 1, 2, 3, 4, 5, 6, 7],  # linear in the label: the tenth piece says no more than the second
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.least_rows,
            "feature_fraction": 0.5,  # many features say nearly the same
            "bagging_fraction": 0.7,
            "bagging_freq": 1,
            "lambda_l2": 10.0,
            "monotone_constraints": [int(name in self.rising) for name in self.features],
            "num_threads": self.threads,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,  # the choice by timing would differ from night to night
            "verbosity": -1,
        }

    def save(self, path: Path | str) -> None:
        """Write the trees as text within JSON."""
        told = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        told |= {"features": list(self.features), "rising": list(self.rising)}
        Path(path).write_text(json.dumps(told | {"model": self._trained.model_to_string()}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> LambdaRank:
        """Read what `save` wrote."""
        told: Mapping[str, object] = json.loads(Path(path).read_text(encoding="utf-8"))
        booster = lightgbm.Booster(model_str=str(told["model"]))
        settings = {key: value for key, value in told.items() if key != "model"}
        return cls(**settings, _booster=booster, _ensemble=Ensemble.of(booster))  # type: ignore[arg-type]


def _chosen(features: np.ndarray | Sequence[Rows], kept: np.ndarray) -> list[Rows]:
    """The rows that are kept, (R,) bool, in the parts in which they were given; parts without any are left out."""
    if isinstance(features, np.ndarray):
        return [Rows(features, np.flatnonzero(kept))]
    shares = np.split(kept, np.cumsum([len(part) for part in features])[:-1])
    return [part.only(share) for part, share in zip(features, shares, strict=True) if share.any()]
