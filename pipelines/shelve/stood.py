"""Stood: what users' shelves held in the release that the run follows."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from pipelines import warehouse
from pipelines.errors import NothingPublished
from pipelines.marts import Marts
from pipelines.run import Run

SHELVES = "select placement, user_id, rank, item_id from user_recommendations order by placement, user_id, rank"


def before(run: Run, marts: Marts) -> Mapping[str, np.ndarray]:
    """By placement, (U, S) items of each user's shelf, -1 for none; nothing for a run that follows no release.

    Raises NothingPublished when that release is not kept any more.
    """
    if run.follows is None:
        return {}
    house = warehouse.of(run.home, run.settings)
    if run.follows not in house.kept():
        raise NothingPublished(
            f"{run.run_id} shall differ from {run.follows} (shelve.freshness), which is not kept any more. Run the day "
            "under another --label: it follows one that is kept."
        )
    with house.connect(run.follows) as release:
        rows = release.execute(SHELVES).df()
    users, items = marts.users.positions(rows["user_id"]), marts.items.positions(rows["item_id"])
    known = rows.assign(user=users, item=items)[users >= 0]
    return {str(name): _padded(part, len(marts.users)) for name, part in known.groupby("placement")}


def _padded(rows: pd.DataFrame, count_users: int) -> np.ndarray:
    """(U, S) items of rows (user, rank from 1, item), -1 where there is none."""
    shelves = np.full((count_users, rows["rank"].max()), -1)
    shelves[rows["user"], rows["rank"] - 1] = rows["item"]
    return shelves
