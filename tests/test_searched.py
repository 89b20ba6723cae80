"""What a user typed speaks for the items that match it, as far as it was known on the day."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest

from pipelines.marts import Marts
from pipelines.searched import Searched
from pipelines.settings import Settings

CUT = dt.date(2026, 2, 20)
TITLES = {"i1": "Blue garden lantern", "i2": "Garden chairs", "i3": "Steel pan"}


TYPED = [  # user, query, day
    ("anna", "garden lanterns", "2026-02-20"),
    ("anna", "pan", "2026-01-21"),  # thirty days before the cut
    ("bert", "garden lanterns", "2026-02-10"),
    ("carl", "??", "2026-02-20"),
]
CLICKS = [("garden lanterns", "i2", "2026-02-10", 60.0)]
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


def every(of: Searched) -> list[list[str | None]]:
    """By user, of each item."""
    return of.best(np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)).reshape(3, 3).tolist()


def test_an_item_that_has_every_word_is_asked_for(told: Searched):
    """The lantern has both words; the chairs one, and others took to them; the pan's query is old, “??” has no word."""
    asked = ["garden lanterns", "garden lanterns", None]
    assert every(told) == [asked, asked, [None] * 3]


def test_half_the_words_are_too_few(tmp_path: Path):
    """Where nobody took to the chairs they only share a word."""
    assert every(searched(tmp_path, TYPED, []))[0] == ["garden lanterns", None, None]


def test_the_latest_of_two_queries_is_shown(tmp_path: Path):
    """Both ask for the lantern, and what was typed fades."""
    both = [*TYPED, ("anna", "blue", "2026-02-10")]
    assert every(searched(tmp_path, both, []))[0][0] == "garden lanterns"


def test_what_comes_after_the_cut_changes_nothing(told: Searched, tmp_path: Path):
    """Another query and another purchase after it are planted on the next day."""
    query, click = LATER
    assert every(searched(tmp_path, [*TYPED, query], [*CLICKS, click])) == every(told)


def test_a_shop_without_queries(tmp_path: Path):
    """Nobody typed anything: no evidence."""
    assert every(searched(tmp_path, [], [])) == [[None] * 3] * 3
