"""The features: what is known of a user, an item and the two together at the end of a day, per candidate."""

import numpy as np

from models.candidates import Candidates
from pipelines.fuse.sources import SOURCES, Factors, Sources
from pipelines.marts import Marts
from pipelines.run import Run

NAMES = tuple(f"{source}_{form}" for form in ("raw", "scaled", "rank") for source in SOURCES)
GROUPS = tuple(name.rpartition("_")[0] for name in NAMES)  # the part of the score that a feature belongs to
RISING = tuple(f"{source}_{form}" for form in ("raw", "scaled") for source in SOURCES)


class Moment:
    """All that the features read, as it was known at the end of one of the run's cuts."""

    def __init__(self, run: Run, marts: Marts, part: str):
        self.sources = Sources.load(run, marts, part)

    @property
    def known_users(self) -> np.ndarray:
        """Positions of the users of whom something is known: they bought, or some model has a vector for them."""
        told = np.diff(self.sources.bought.indptr) > 0
        for source in self.sources.by_name.values():
            if isinstance(source, Factors):
                told |= source.users.any(axis=1)
        return np.flatnonzero(told)

    def features(self, found: Candidates) -> np.ndarray:
        """(R, K) float32 in the order of NAMES; NaN is unknown."""
        ranks = np.where(found.source_ranks > 0, found.source_ranks, np.nan)
        return np.concatenate([found.scores, found.scaled, ranks], axis=1).astype(np.float32)
