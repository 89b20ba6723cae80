"""A query is read whole: price, slips, brand, category, colour, size and synonyms."""

import pytest

from models.understanding import Lexicon, Synonym, Understood, understand
from models.wishes import Boost

ITEMS = {
    "title": ["Folio sketch pad", "Folio blue lantern", "Inkline folio pen", "Mug"],
    "description": ["Paper, 20 cm wide", None, "", "For tea"],
    "brand": ["Folio", "Folio", "Inkline", None],
    "category": ["Stationery > Paper", "Garden > Lights", "Stationery > Pens", None],
}
HOSTILE = ["", "   ", "🙂🙃", "\x00\x07\x1b[", '"', "'", "\"\" ''", "(.*)+$", "%", "\u202e\u200f", "<", "€"]


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.learn(ITEMS, {"blue lantern": 30, "BLUE  lantern": 2, "pen": 5}, [("pad", "writing block")])


@pytest.mark.parametrize(
    ("query", "rest", "low", "high"),
    [
        ("lantern under 20", "lantern", None, 2000),
        ("lantern < 19,99 €", "lantern", None, 1999),
        ("max 30 euro lantern", "lantern", None, 3000),
        ("lantern unter 20 Euro", "lantern", None, 2000),
        ("lantern over $1,500", "lantern", 150_000, None),
        ("lantern > 5", "lantern", 500, None),
        ("lantern between 50 and 20", "lantern", 2000, 5000),
        ("20-50 € lantern", "lantern", 2000, 5000),
    ],
)
def test_a_price_is_a_filter(lexicon: Lexicon, query: str, rest: str, low: int | None, high: int | None):
    """Its words are no words of the item."""
    read = understand(query, lexicon)
    assert (read.meant, [(wish.low, wish.high) for wish in read.filters]) == (rest, [(low, high)])


@pytest.mark.parametrize(
    "query", ["lantern under 20cm", "pen max 256", "pen over 50", "under armour", "20€ pen", "pen 10-11"]
)
def test_what_may_be_something_else_is_no_price(lexicon: Lexicon, query: str):
    """A size, a model, an age."""
    assert understand(query, lexicon).filters == ()


def test_brand_and_category_are_boosts_as_sure_as_the_catalogue(lexicon: Lexicon):
    """Two of the three items that say folio are of that brand; the words of a longer name are not taken twice."""
    assert understand("folio pens", lexicon).boosts == (
        Boost("brand", "Folio", 0.6667, "folio"),
        Boost("category", "Stationery > Pens", 1.0, "pen"),
    )


def test_colour_and_size_are_boosts(lexicon: Lexicon):
    """In whatever way the size is written."""
    assert understand("blue lantern 20 CM", lexicon).boosts[-2:] == (
        Boost("colour", "blue", 1.0, "blue"),
        Boost("size", "20cm", 1.0, "20cm"),
    )


def test_synonyms_work_both_ways(lexicon: Lexicon):
    """Of several words too."""
    assert understand("blue writing blocks", lexicon).synonyms == (Synonym(("writing", "block"), ("pad",)),)
    assert understand("pads", lexicon).synonyms == (Synonym(("pad",), ("writing", "block")),)


def test_a_slip_is_put_right_before_wishes_are_read(lexicon: Lexicon):
    """The log's spelling of the same query counts once, under its one spelling."""
    read = understand("BLEU   lantern < 20", lexicon)
    assert (read.query, read.meant, read.tokens) == ("bleu lantern < 20", "blue lantern", ("blue", "lantern"))
    assert [(one.typed, one.meant) for one in read.corrections] == [("bleu lantern", "blue lantern")]


@pytest.mark.parametrize("query", HOSTILE)
def test_what_has_no_words_has_no_tokens(lexicon: Lexicon, query: str):
    """And no wishes: there is nothing to answer."""
    read = understand(query, lexicon)
    assert read == Understood(read.query, read.query, (), None, (), (), (), ())


@pytest.mark.parametrize("query", ["'; drop table items; --", "x" * 10_000, "the of and", "שלום עולם", "1 " * 5_000])
def test_hostile_queries_are_words_like_others(lexicon: Lexicon, query: str):
    """SQL, endless text, stop words alone and letters from right to left are searched as what they are."""
    read = understand(query, lexicon)
    assert read.tokens
    assert read.corrections == read.filters == ()
