"""What people did comes out of the marts by position, whatever became of their ids there."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest

from pipelines import settings
from pipelines.marts import Marts

DAY = dt.date(2026, 3, 1)
ROWS = """
    create table users as select unnest(['b', 'a', 'Ä', 'Z']) as user_id, null::date as flagged_date;
    create table catalogue as select unnest(['i10', 'i9', 'i1']) as item_id;
    create table interactions as
    select *, event_date as known_date
    from (values
        ('Ä', 'i9', date '2026-02-28', 2.0, 0),
        ('a', 'i1', date '2026-03-01', 1.0, 1),
        ('a', 'i1', date '2026-02-27', 0.5, 0),
        ('a', 'i1', date '2026-02-27', 0.5, 2),
        ('b', 'gone', date '2026-02-27', 9.0, 1),
        ('nobody', 'i1', date '2026-02-27', 9.0, 1),
        ('b', 'i9', date '2026-03-02', 9.0, 1),
        ('b', 'i10', date '2026-02-26', 0.0, 0)
    ) as acts (user_id, item_id, event_date, weight, count_purchases);
"""


@pytest.fixture
def marts(tmp_path: Path) -> Marts:
    path = tmp_path / "marts.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute(ROWS)
    return Marts(SimpleNamespace(settings=settings.Settings(), of=lambda *_: path))  # type: ignore[arg-type]


def test_acts_are_summed_by_day_and_stand_by_position(marts: Marts):
    """Positions follow the order of code points, Z before a before Ä; a user or item that is unknown, a later day and
    what weighs nothing are left out."""
    found = marts.acts(DAY)
    assert found.to_numpy().tolist() == [[1, 0, 2, 1.0, 2.0], [1, 0, 0, 1.0, 1.0], [3, 2, 1, 2.0, 0.0]]
    assert marts.users.ids[found["user"]].tolist() == ["a", "a", "Ä"]
    assert marts.items.ids[found["item"]].tolist() == ["i1", "i1", "i9"]


def test_a_position_takes_four_bytes_a_row(marts: Marts):
    """As text, ids were the largest thing that a stage held."""
    found = marts.acts(DAY)
    assert {found["user"].dtype, found["item"].dtype} == {np.dtype(np.int32)}


def test_what_was_bought_is_where_its_positions_say(marts: Marts):
    """User a has i1; nobody else has anything by that day."""
    assert marts.bought(DAY).toarray().tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
