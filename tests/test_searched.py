"""What a user typed speaks for the items that match it, as far as it was known on the day."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest

from pipelines.fuse.searched import Searched
from pipelines.marts import Marts
from pipelines.settings import Settings

CUT = dt.date(2026, 2, 20)
TITLES = {"i1": "Blue garden lantern", "i2": "Garden chairs", "i3": "Steel pan"}


TYPED = [  # user, query, day
    ("anna", "garden lanterns", "2026-02-20"),
    ("anna", "pan", "2026-01-21"),  # thirty days before the cut
    ("bert", "garden lanterns", "2026-02-10"),
    ("carl", "??", "2026-02-20"),
]
CLICKS = [("garden lanterns", "i2", "2026-02-10", 6.0)]
LATER = ("anna", "pan", "2026-02-21"), ("garden lanterns", "i3", "2026-02-21", 6.0)


def searched(folder: Path, typed: Sequence[tuple], clicks: Sequence[tuple]) -> Searched:
    """As of the cut, from marts that hold these queries, and what people took to after them."""
    path = folder / f"marts-{len(typed)}.duckdb"
    with duckdb.connect(str(path)) as marts:
        marts.execute("""
            create table catalogue(item_id varchar, title varchar, brand varchar, category varchar);
            create table users as select unnest(['anna', 'bert', 'carl']) as user_id;
            create table user_queries(user_id varchar, query varchar, event_date date);
            create table query_clicks(query varchar, item_id varchar, event_date date, known_date date, weight double);
        """)
        for row in TITLES.items():
            marts.execute("insert into catalogue values (?, ?, null, 'Outdoor')", row)
        for row in typed:
            marts.execute("insert into user_queries values (?, ?, ?)", row)
        for row in clicks:
            marts.execute("insert into query_clicks values ($1, $2, $3, $3, $4)", row)
    return Searched(Marts(SimpleNamespace(of=lambda stage, name: path, settings=Settings())), CUT)


@pytest.fixture
def told(tmp_path: Path) -> Searched:
    return searched(tmp_path, TYPED, CLICKS)


def every(of: Searched) -> np.ndarray:
    """(3 users, 3 items, 2)."""
    return of.at(np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)).reshape(3, 3, 2)


def test_words_count_by_their_share_of_the_query(told: Searched):
    """Of “garden lanterns” the lantern has both words, the chairs one, the pan none; long ago is over."""
    assert every(told)[0, :, 1] == pytest.approx([1.0, 0.5, 0.0])


def test_what_was_typed_fades_evenly(told: Searched):
    """Bert typed the same ten of thirty days ago."""
    assert every(told)[1] == pytest.approx(every(told)[0] * (1 - 10 / 30))


def test_what_others_took_to_after_the_same_query_counts(told: Searched):
    """All that followed was about the chairs; as few acts as these are half believed."""
    lantern, chairs, pan = every(told)[0, :, 0]
    assert (lantern, pan) == (0.0, 0.0)
    assert 0.4 < chairs < 0.6


def test_the_query_that_says_most_is_the_evidence(told: Searched):
    """Of an item that no query of the user matches there is none, nor of who typed no word."""
    users, items = np.array([0, 0, 2, 1]), np.array([0, 2, 0, 1])
    assert told.best(users, items).tolist() == ["garden lanterns", None, None, "garden lanterns"]


def test_what_comes_after_the_cut_changes_nothing(told: Searched, tmp_path: Path):
    """Another query and another purchase after it are planted on the next day."""
    query, click = LATER
    later = searched(tmp_path, [*TYPED, query], [*CLICKS, click])
    assert np.array_equal(every(later), every(told))


def test_a_shop_without_queries(tmp_path: Path):
    """Nobody typed anything: no number, no evidence."""
    nothing = searched(tmp_path, [], [])
    assert not nothing.at(np.zeros(3, dtype=int), np.arange(3)).any()
    assert nothing.best(np.zeros(3, dtype=int), np.arange(3)).tolist() == [None] * 3
