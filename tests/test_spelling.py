"""What was typed wrong is put right; what is known stays."""

import datetime as dt
from collections import Counter

import numpy as np
import pytest

from models import spelling
from models.spelling import Speller, word_counts
from models.words import normalise
from pipelines import generate
from pipelines.generate import catalogue, queries

ITEMS = {
    "garden": 9,
    "lantern": 900,
    "lamp": 80,
    "blue": 90,
    "pour-over": 30,
    "dripper": 30,
    "soda": 20,
    "docking": 50,
    "station": 60,
    "café": 30,
    "pet": 90,
    "bed": 90,
}
ASKED = {"blue garden lantern": 40, "pet bed": 60, "sofa": 80, "lamps": 12, "hs-300": 9}


@pytest.fixture(scope="module")
def speller() -> Speller:
    return Speller(ITEMS, ASKED)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("lanetrn", "lantern"),
        ("bleu gardne lamp", "blue garden lamp"),
        ("pte bed", "pet bed"),
        ("pouro-ver dripper", "pour-over dripper"),
        ("dockingstation", "docking station"),
        ("lan tern", "lantern"),
    ],
)
def test_a_slip_is_put_right(speller: Speller, typed: str, meant: str):
    """Letters changed over, a short word by the query that it stands in, words that run together or fell apart."""
    assert speller.correct(typed)[0] == meant


@pytest.mark.parametrize("query", ["lamps", "cafe", "sofa", "hs-301", "zzzz", "蓝色花园", "", "🙂", "(.*)+"])
def test_what_is_known_or_has_no_neighbour_stays(speller: Speller, query: str):
    """Plurals and accents are known; what many people type is no slip; a number has no spelling."""
    assert speller.correct(query) == (query, [])


def test_a_correction_tells_how_sure_it_is(speller: Speller):
    """More letters wrong, less certainty."""
    (near,), (far,) = speller.correct("blue lanttern")[1], speller.correct("blue lantttern")[1]
    assert (near.typed, near.meant, far.meant) == ("lanttern", "lantern", "lantern")
    assert 1.0 > near.confidence > far.confidence >= spelling.CERTAINTY


def test_the_generated_shops_slips_are_put_right():
    """At least nineteen of twenty misspelt queries are as they were meant, and no right one is touched."""
    shop = generate.make_shop(300, dt.date(2026, 1, 1), 50, 7)
    texts = catalogue.texts(shop.catalogue, np.arange(300), 0)
    known = word_counts(map(normalise, texts[["title", "category", "brand", "description"]].agg(" ".join, axis=1)))
    typed = queries.codes(np.random.default_rng(1), shop.catalogue, np.arange(6_000) % 300)
    told = queries.table().iloc[np.unique(typed)]
    asked = Counter(map(normalise, queries.table()["query"].to_numpy()[typed]))
    speller = Speller(known, asked)
    put_right = [speller.correct(normalise(query))[0] for query in told["query"]]
    is_right = np.array(put_right) == [normalise(query) for query in told["meant"]]
    is_slip = told["is_misspelled"].to_numpy()
    assert is_right[~is_slip].all()
    assert is_slip.sum() > 100
    assert is_right[is_slip].mean() >= 0.95
