"""Acts: what people did with items by day, read from the marts in blocks of whole users and never laid out at once."""

import datetime as dt
from collections.abc import Callable, Iterator
from functools import cached_property

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from scipy import sparse

from models.vocabulary import Vocabulary

BLOCK = 1 << 18  # rows of `interactions` that a block has, were all users alike
NOTHING = 1e-12  # what rounding may leave of a weight that was undone in parts
READ = """
    with acts as (
        select user_id, item_id, event_date, sum(weight) as weight, sum({value})::double as value
        from interactions
        where user_id between ? and ? and known_date <= ? and event_date > ?
        group by all
    )
    select "user", item, event_date, weight, value
    from acts
    join block_users using (user_id)
    join item_places using (item_id)
    order by "user", item, event_date
"""
BASKETS = """
    with several as (
        select basket_id, item_id
        from baskets
        where basket_date <= $until and (undone_date is null or undone_date > $until)
        qualify count(*) over (partition by basket_id) between 2 and $most
    )
    select dense_rank() over (order by basket_id)::integer as basket, item
    from several
    join item_places using (item_id)
    order by basket_id, item
"""


class Acts:
    """The rows of `interactions` as they were known at the end of a day; users and items are positions.

    Ids become positions where the rows lie: read as text they took twice the memory and the time. The table lies in
    the order of its users, so that a block reads its own part of it.

    Args:
        value: what counts as a success, in SQL.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, users: Vocabulary, items: Vocabulary, value: str) -> None:
        self.connection, self.shape = connection, (len(users), len(items))
        self.users, self.query = _places("user", users), READ.format(value=value)
        connection.register("item_places", _places("item", items))

    def blocks(self, until: dt.date, after: dt.date | None = None) -> Iterator[tuple[slice, pd.DataFrame]]:
        """The users of each block, and what they did: user, item, event_date, weight and value (successes), by user,
        item and day; what has no position is left out."""
        for start in range(0, len(self.users), self._users_per_block):
            users = self.users.slice(start, self._users_per_block)
            self.connection.register("block_users", users)
            between = users["user_id"][0].as_py(), users["user_id"][-1].as_py()
            rows = self.connection.execute(self.query, [*between, until, after or dt.date.min]).df()
            yield slice(start, start + len(users)), rows

    def matrix(
        self, values: Callable[[pd.DataFrame], pd.Series], until: dt.date, after: dt.date | None = None
    ) -> sparse.csr_matrix:
        """(U, I) sums of what `values` makes of rows, cells that are not positive left out."""
        parts = [sparse.csr_matrix((0, self.shape[1]))]
        for users, rows in self.blocks(until, after):
            shape = users.stop - users.start, self.shape[1]
            parts.append(summed(rows["user"].to_numpy() - users.start, rows["item"].to_numpy(), values(rows), shape))
        return sparse.vstack(parts, format="csr")

    def baskets(self, until: dt.date, most: int) -> pd.DataFrame:
        """What baskets of two to `most` items hold: basket (a number) and item, by both; what has no position is left
        out."""
        return self.connection.execute(BASKETS, {"until": until, "most": most}).df()

    @cached_property
    def _users_per_block(self) -> int:
        """One more, or many fewer: users are not alike, and a block is no narrower than its users."""
        found = self.connection.execute("select count(*) from interactions").fetchone()
        return max(len(self.users) * BLOCK // max(found[0] if found else 0, 1), 1)


def summed(rows: np.ndarray, columns: np.ndarray, values: pd.Series, shape: tuple[int, int]) -> sparse.csr_matrix:
    """Sums of values per cell, cells that are not positive left out; positions of -1 are unknown and left out."""
    known = (rows >= 0) & (columns >= 0)
    matrix = sparse.csr_matrix((values.to_numpy(dtype=float)[known], (rows[known], columns[known])), shape=shape)
    matrix.data[matrix.data <= NOTHING] = 0.0
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _places(name: str, known: Vocabulary) -> pa.Table:
    """Ids beside their positions, for SQL."""
    places = {f"{name}_id": pa.array(known.ids, pa.string()), name: np.arange(len(known), dtype=np.int32)}
    return pa.table(places)
