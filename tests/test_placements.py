"""Shelves that a shop declares: which items may stand there, and what is said of a wrong declaration."""

from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest

from pipelines import placements, settings
from pipelines.errors import BadSetting
from pipelines.settings import Placement

CATALOGUE = pd.DataFrame(
    {
        "item_id": ["beans", "cup", "drum", "vase"],
        "category": ["Kitchen > Coffee", "Kitchen", "Music > Drums", None],
        "brand": ["Alto", "Alto", "Opus", None],
        "price_cents": pd.array([900, 1900, 9900, None], dtype="Int64"),
    }
)
AGES = np.array([40, 13, 14, 0])


@pytest.mark.parametrize(
    ("asked", "stand"),
    [
        ({}, ["beans", "cup", "drum", "vase"]),
        ({"category": ["Kitchen"]}, ["beans", "cup"]),
        ({"category": ["Kitchen > Coffee", "Music"]}, ["beans", "drum"]),
        ({"brand": ["Alto"], "price_to_cents": 900}, ["beans"]),
        ({"price_from_cents": 1900}, ["cup", "drum"]),
        ({"new_days": 14}, ["cup", "vase"]),
    ],
)
def test_what_may_stand_on_a_declared_shelf(asked: dict[str, object], stand: list[str]):
    """All that is asked must hold, a category has all below it, and what is not known fits nothing."""
    told = settings.parse({"placements": {"own": asked}})
    marts = SimpleNamespace(catalogue=CATALOGUE, ages_days=lambda day: AGES)
    may = placements.items(SimpleNamespace(day=None, settings=told), marts)["own"]
    assert CATALOGUE["item_id"][may].tolist() == stand


def test_a_category_that_no_item_has_is_refused_with_the_nearest():
    """A slip is no empty shelf; what lies above a category is one, too."""
    with duckdb.connect() as connection:
        connection.execute("create table catalogue as select 'Kitchen > Coffee' as category, 'Alto' as brand")
        placements.refuse_unknown(connection, settings.parse({"placements": {"own": {"category": ["Kitchen"]}}}))
        with pytest.raises(BadSetting, match=r"placements\.own\.category: no item .* 'Kitchn'. The nearest: Kitchen,"):
            placements.refuse_unknown(connection, settings.parse({"placements": {"own": {"category": ["Kitchn"]}}}))


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({"own": {"colour": ["red"]}}, r"placements\.own\.colour is no setting"),
        (
            {"own": {"ranking": "newest"}},
            r"placements\.own\.ranking = 'newest': .*'for_you', 'discover' or 'buy_again'",
        ),
        ({"for_you": {}}, "'for_you' is no name for a placement"),
        ({"My shelf": {}}, "'My shelf' is no name for a placement"),
    ],
)
def test_a_wrong_declaration_is_named(declared: dict[str, object], words: str):
    """Before anything is written."""
    with pytest.raises(BadSetting, match=words):
        settings.parse({"placements": declared})


def test_a_few_lines_make_a_shelf():
    """Its promise is that of one of the three, its length its own."""
    told = settings.parse({"placements": {"coffee": {"ranking": "discover", "length": 6, "category": "Kitchen"}}})
    assert told.shelves == {
        "for_you": "for_you",
        "discover": "discover",
        "buy_again": "buy_again",
        "coffee": "discover",
    }
    assert (told.length_of("coffee"), told.length_of("for_you")) == (6, told.shelve.length)
    assert settings.parse({}).placements == {"new_for_you": Placement(ranking="discover", new_days=14)}
