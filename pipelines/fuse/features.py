"""The features: what the sources say of a candidate, and what is known of its user, its item, and the two together."""

import numpy as np

from models.candidates import Candidates
from pipelines.fuse.knowledge import ITEM_COLUMNS, PAIR_COLUMNS, USER_COLUMNS, Knowledge
from pipelines.fuse.sources import SOURCES, Sources
from pipelines.marts import Marts
from pipelines.run import Run

FORMS = ("raw", "scaled", "rank")  # of each source's score: as it is, from 0 to 1 within the user, and its place there
FIT = ("price_fit", "age_fit", "popularity_fit", "category_share", "brand_share")
TASTE_OF_ITEMS = ("age", "log_price")  # they say nothing about what sells, but what kind of item it is
GROUP_OF = {
    **{f"{source}_{form}": source for form in FORMS for source in SOURCES},
    **{f"pair_{name}": "habit" for name in PAIR_COLUMNS},
    **{f"user_{name}": "habit" for name in USER_COLUMNS},
    **{f"item_{name}": "taste" if name in TASTE_OF_ITEMS else "popularity" for name in ITEM_COLUMNS},
    **{"pair_share": "habit", "country_share": "popularity", "country_lift": "popularity"},
    **dict.fromkeys(FIT, "taste"),
}
NAMES = tuple(GROUP_OF)
GROUPS = tuple(GROUP_OF.values())  # the part of the score that each feature belongs to
RISING = tuple(f"{source}_{form}" for form in FORMS[:2] for source in SOURCES)


class Moment:
    """All that the features read, as it was known at the end of one of the run's cuts."""

    def __init__(self, run: Run, marts: Marts, part: str):
        self.sources = Sources.load(run, marts, part)
        self.known = Knowledge(marts, run.cuts[part])
        prices, ages = (self._item(name) for name in ("log_price", "age"))
        usual = np.nan_to_num(prices, nan=float(np.nanmean(prices)) if np.isfinite(prices).any() else 0.0)
        looks = np.stack([usual, ages, np.log1p(self._item("buyers_28"))], axis=1)  # (I, 3)
        self.looks, self.liked = looks, self.known.tastes @ looks  # (U, 3) of what the user usually takes

    def _item(self, name: str) -> np.ndarray:
        return self.known.items[:, ITEM_COLUMNS.index(name)]

    def features(self, found: Candidates) -> np.ndarray:
        """(R, K) float32 in the order of NAMES; NaN is unknown."""
        users, items, known = found.row_owners, found.items, self.known
        ranks = found.source_ranks
        ranks = np.where(ranks > 0, ranks, np.nan)
        pairs, of_user = known.pairs.at(users, items), known.users[users]
        days = of_user[:, USER_COLUMNS.index("days_bought")]
        share = pairs[:, PAIR_COLUMNS.index("days_bought")] / np.maximum(days, 1)
        in_country = known.country_share[known.country[users], items]
        lift = in_country / np.maximum(known.country_share.mean(axis=0)[items], 1e-4)
        fits = self.looks[items] - self.liked[users]
        kinds = [known.kind_share(place, users, items) for place in range(len(known.kinds))]
        columns = [found.scores, found.scaled, ranks, pairs, of_user, known.items[items]]
        columns += [np.stack([share, in_country, lift], axis=1), fits, np.stack(kinds, axis=1)]
        return np.concatenate(columns, axis=1, dtype=np.float32, casting="unsafe")
