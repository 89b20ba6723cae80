"""What is known as of a day is what had happened by then, whatever comes after it."""

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest

from pipelines.fuse.knowledge import ITEM_COLUMNS, PAIR_COLUMNS, USER_COLUMNS, Knowledge
from pipelines.marts import Marts
from pipelines.settings import Settings

CUT = dt.date(2026, 2, 1)
ACTS = [  # user, item, day, purchases
    ("anna", "mug", "2026-01-02", 1),
    ("anna", "pot", "2026-01-02", 1),
    ("anna", "mug", "2026-01-12", 1),
    ("anna", "mug", "2026-01-22", 1),
    ("bert", "mug", "2026-01-30", 1),
    ("bert", "pan", "2026-01-31", 0),
]
LATER = [("anna", "mug", "2026-02-02", 1), ("anna", "pan", "2026-02-20", 1), ("bert", "pot", "2026-02-03", 1)]


VERSIONS = [  # item, first day, first day after it, category, brand, price
    ("mug", "2025-01-01", None, "kitchen", "a", 300),
    ("pan", "2026-01-20", None, "kitchen", "b", None),
    ("pot", "2025-01-01", None, "garden", None, 900),
]


def known(folder: Path, acts: list[tuple], versions: list[tuple] = VERSIONS) -> tuple[Knowledge, Marts]:
    """Knowledge as of the cut, from marts that hold these acts and versions of items."""
    path = folder / f"marts-{len(acts)}-{len(versions)}.duckdb"
    with duckdb.connect(str(path)) as marts:
        marts.execute("""
            create table catalogue as select * from (values
                ('mug', date '2025-01-01'), ('pan', date '2026-01-20'), ('pot', date '2025-01-01')
            ) as t(item_id, first_arrival_date);
            create table users as select * from (values
                ('anna', 'DE', date '2026-01-01', null::date), ('bert', 'FR', date '2026-01-01', null::date)
            ) as t(user_id, country, first_seen_date, flagged_date);
            create table interactions(user_id varchar, item_id varchar, event_date date, known_date date, weight double,
                count_views bigint, count_carts bigint, count_purchases bigint);
            create table item_history(item_id varchar, valid_from date, valid_to date, category varchar, brand varchar,
                price_cents bigint);
        """)
        for user, item, day, count in acts:
            row = [user, item, day, day, 5.0 if count else 1.0, 1 - count, 0, count]
            marts.execute("insert into interactions values (?, ?, ?, ?, ?, ?, ?, ?)", row)
        for row in versions:
            marts.execute("insert into item_history values (?, ?, ?, ?, ?, ?)", row)
        marts.execute("""
            create table item_days as
            select item_id, event_date, known_date, count(distinct user_id) as count_visitors,
                count(distinct user_id) filter (where count_purchases > 0) as count_buyers
            from interactions group by all
        """)
    read = Marts(SimpleNamespace(of=lambda stage, name: path, settings=Settings()))
    return Knowledge(read, CUT), read


@pytest.fixture
def told(tmp_path: Path) -> Knowledge:
    return known(tmp_path, ACTS)[0]


def pair(knowledge: Knowledge, user: int, item: int) -> dict[str, float]:
    values = knowledge.pairs.at(np.array([user]), np.array([item]))[0]
    return dict(zip(PAIR_COLUMNS, values.tolist(), strict=True))


def test_what_comes_after_the_cut_changes_nothing(tmp_path: Path):
    """Purchases, a bestseller, and another price, category and brand of later days are planted: every number stays as
    it was."""
    then, _ = known(tmp_path, ACTS)
    mug, *others = VERSIONS
    moved = [("mug", "2025-01-01", "2026-02-02", *mug[3:]), ("mug", "2026-02-02", None, "garden", "b", 100), *others]
    now, _ = known(tmp_path, ACTS + LATER, moved)
    users, items = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)
    for place in range(2):
        expected = then.kind_share(place, users, items)
        assert np.array_equal(now.kind_share(place, users, items), expected, equal_nan=True)
    assert np.array_equal(then.users, now.users, equal_nan=True)
    assert np.array_equal(then.items, now.items, equal_nan=True)
    assert np.array_equal(then.pairs.values, now.pairs.values, equal_nan=True)
    assert then.pairs.keys.tolist() == now.pairs.keys.tolist()
    assert np.array_equal(then.country_share, now.country_share)
    assert (then.tastes != now.tastes).nnz == 0


def test_a_user_and_an_item_have_a_rhythm(told: Knowledge):
    """Anna buys the mug every ten days, for the last time ten days ago: it is due today."""
    mug = pair(told, 0, 0)
    assert (mug["days_bought"], mug["since"], mug["gap"], mug["rhythm"]) == (3.0, 10.0, 10.0, 1.0)
    assert mug["in_last"] == 1.0
    assert mug["count_14"] == pytest.approx(2 ** (-10 / 14) + 2 ** (-20 / 14) + 2 ** (-30 / 14), rel=1e-6)


def test_who_never_met_has_no_times(told: Knowledge):
    """Counts are zero, and times are unknown rather than long ago; a view is an interest, not a purchase."""
    never, seen = pair(told, 0, 1), pair(told, 1, 1)
    assert never["count_400"] == never["days_bought"] == never["interest_14"] == 0.0
    assert np.isnan(never["since"])
    assert seen["interest_14"] > 0.0
    assert np.isnan(seen["since"])


def test_users_are_told_by_their_purchases(told: Knowledge):
    """Anna came on three days with 4/3 items each and two distinct ones; bert once, so that his gap is unknown."""
    anna, bert = (dict(zip(USER_COLUMNS, row.tolist(), strict=True)) for row in told.users)
    assert (anna["days_bought"], anna["breadth"], anna["since"], anna["gap"]) == (3.0, 2.0, 10.0, 10.0)
    assert anna["basket"] == pytest.approx(4 / 3)
    assert anna["repeat_rate"] == 0.5
    assert np.isnan(bert["gap"])


def test_items_are_told_by_their_buyers(told: Knowledge):
    """The mug had a buyer in the last week; the pan nobody, and its age is that of its first arrival."""
    mug, pan, pot = (dict(zip(ITEM_COLUMNS, row.tolist(), strict=True)) for row in told.items)
    assert np.floor(mug["buyers_7"]) == 1.0
    assert pan["age"] == 12.0
    assert np.isnan(pan["since"])
    assert np.isnan(pan["log_price"])
    assert pot["log_price"] == pytest.approx(np.log(900))
    assert mug["repeat_rate"] > pot["repeat_rate"]


def test_shares_of_a_category_and_of_nothing(told: Knowledge):
    """Nearly all that anna did lately was in the kitchen; the pot has no brand, so nobody has a share of it."""
    kitchen, garden = told.kind_share(0, np.array([0, 0]), np.array([0, 2]))
    assert kitchen + garden == pytest.approx(1.0)
    assert kitchen > garden
    assert np.isnan(told.kind_share(1, np.array([0]), np.array([2]))[0])


def test_a_shop_without_acts_is_known_too(tmp_path: Path):
    """Nothing happened yet: no pair, no rhythm, no buyer."""
    empty, _ = known(tmp_path, [])
    assert len(empty.pairs.keys) == 0
    assert pair(empty, 0, 0)["count_14"] == 0.0
    assert empty.users.shape == (2, len(USER_COLUMNS))
    assert empty.country_share.shape == (2, 3)
