"""What people did comes out of the marts by position, whatever became of their ids there."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from pipelines import acts, settings
from pipelines.fuse.knowledge import Knowledge
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


MANY = """
    create table users as
    select 'u' || range as user_id, if(range % 9 = 0, date '2026-02-20', null) as flagged_date, 'DE' as country
    from range(300);
    create table catalogue as select 'i' || range as item_id, date '2026-01-01' as first_arrival_date from range(40);
    create table interactions as
    select distinct on (user_id, item_id, event_date)
        'u' || floor(pow(hash(range) % 1000 / 1000, 3) * 300)::integer as user_id,
        'i' || (hash(-range) % 40) as item_id,
        date '2026-03-05' - (hash(range // 2) % 60)::integer as event_date,
        event_date as known_date,
        1 + range % 7 / 3 as weight,
        (range % 4 = 0)::integer as count_purchases
    from range(5000)
    order by user_id, item_id, event_date;
    create table item_days as
    select item_id, event_date, known_date, count(*) as count_visitors, sum(count_purchases) as count_buyers
    from interactions group by all;
    create table item_history as
    select item_id, first_arrival_date as valid_from, null::date as valid_to, 'c' as category, 'b' as brand,
        9 as price_cents
    from catalogue;
"""
READS = {
    "interactions": lambda marts: marts.interactions(DAY),
    "tastes": lambda marts: marts.tastes(DAY),
    "habit": lambda marts: marts.habit(DAY),
    "bought": lambda marts: marts.bought(DAY, dt.date(2026, 2, 1)),
    "purchases": lambda marts: marts.purchases(DAY),
    "histories": lambda marts: marts.histories(DAY),
    "examples": lambda marts: marts.history_examples(DAY),
    "some examples": lambda marts: marts.history_examples(DAY, 50),
    "knowledge": lambda marts: Knowledge(marts, DAY),
}


@pytest.fixture
def marts(tmp_path: Path) -> Marts:
    return read(tmp_path / "marts.duckdb", ROWS)


def read(path: Path, tables: str) -> Marts:
    if not path.exists():
        with duckdb.connect(str(path)) as connection:
            connection.execute(tables)
    return Marts(SimpleNamespace(settings=settings.Settings(), of=lambda *_: path))  # type: ignore[arg-type]


def all_acts(marts: Marts) -> pd.DataFrame:
    return pd.concat([rows for _, rows in marts.acts(DAY)], ignore_index=True)


def test_acts_are_summed_by_day_and_stand_by_position(marts: Marts):
    """Positions follow the order of code points, Z before a before Ä; a user or item that is unknown, a later day and
    what weighs nothing are left out."""
    found = all_acts(marts)
    assert found.to_numpy().tolist() == [[1, 0, 2, 1.0, 2.0], [1, 0, 0, 1.0, 1.0], [3, 2, 1, 2.0, 0.0]]
    assert marts.users.ids[found["user"]].tolist() == ["a", "a", "Ä"]
    assert marts.items.ids[found["item"]].tolist() == ["i1", "i1", "i9"]


def test_a_position_takes_four_bytes_a_row(marts: Marts):
    """As text, ids were the largest thing that a stage held."""
    found = all_acts(marts)
    assert {found["user"].dtype, found["item"].dtype} == {np.dtype(np.int32)}


def test_what_was_bought_is_where_its_positions_say(marts: Marts):
    """User a has i1; nobody else has anything by that day."""
    assert marts.bought(DAY).toarray().tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("what", READS)
def test_blocks_of_users_tell_what_the_whole_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str):
    """Users who did much and users who did nothing, in one block or in many: every bit is the same."""
    whole = READS[what](read(tmp_path / "many.duckdb", MANY))
    monkeypatch.setattr(acts, "BLOCK", 100)
    marts = read(tmp_path / "many.duckdb", MANY)
    assert len(list(marts.acts(DAY))) > 20
    assert same(whole, READS[what](marts))


def same(one: object, other: object) -> bool:
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, sparse.csr_matrix):
        return all(same(getattr(one, name), getattr(other, name)) for name in ("shape", "data", "indices", "indptr"))
    if isinstance(one, pd.DataFrame):
        return one.equals(other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.size > 0 and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return same(list(vars(one).values()), list(vars(other).values())) if hasattr(one, "__dict__") else one == other
