"""Own: the order that one user gets, from what the release tells of the user's past."""

from dataclasses import dataclass

import duckdb
import numpy as np
import pandas as pd
from scipy import sparse

from models.vocabulary import Vocabulary
from pipelines.errors import NightshelfError
from pipelines.search.answers import Engine
from pipelines.search.leanings import PARTS, Past
from pipelines.search.personal import Answers, Asked, Personal, known, rows

FIRST = np.zeros(1, dtype=np.int64)  # the one user, and the one query
KNOWN = "select 1 from user_recommendations where user_id = ? limit 1"
NEAREST = "select distinct user_id from user_recommendations order by levenshtein(user_id, ?), user_id limit 3"
PAST = "select item_id, weight, is_bought from user_history where user_id = ? and weight > 0"


@dataclass(frozen=True)
class Own:
    """What re-ranks the answers of `engine` for a user with this past."""

    engine: Engine
    personal: Personal
    past: Past

    @classmethod
    def of(cls, release: duckdb.DuckDBPyConnection, engine: Engine, personal: Personal, user: str) -> "Own":
        """Raises NightshelfError for a user whom the release does not know, with the nearest ids."""
        if not release.execute(KNOWN, [user]).fetchone():
            near = ", ".join(name for (name,) in release.execute(NEAREST, [user]).fetchall())
            raise NightshelfError(f"No user {user!r} in the current release. The nearest: {near or 'none'}.")
        told = release.execute(PAST, [user]).df()
        items = engine.items.positions(told["item_id"])
        shape, rows = (1, len(engine.items)), np.zeros(len(items), dtype=np.int64)
        weights, bought = (told[name].to_numpy(dtype=float) for name in ("weight", "is_bought"))
        past = Past(*(sparse.csr_matrix((values, (rows, items)), shape=shape) for values in (weights, bought)))
        return cls(engine, personal, past)

    def ordered(self, found: pd.DataFrame) -> pd.DataFrame:
        """Rows of search_results of one query as the user gets them, with the columns of user_search_results."""
        held, asked = self.engine.arranging.held, Asked(FIRST, FIRST)
        return rows(found, self._answers(found), asked, self.personal, held, self.past, len(found))

    def told(self, found: pd.DataFrame) -> dict[str, dict[str, float]]:
        """By item and by part, what it adds to the personal score of the answers, rows of search_results of a query."""
        told, _ = known(self._answers(found), Asked(FIRST, FIRST), self.personal.leanings, self.past)
        parts = (told.scores[:, 1:] * self.personal.weights + 0.0).tolist()
        return {item: dict(zip(PARTS, one, strict=True)) for item, one in zip(found["item_id"], parts, strict=True)}

    def _answers(self, found: pd.DataFrame) -> Answers:
        return Answers.published(found, Vocabulary(found["query"]), self.engine.items)
