"""One thing has one spelling, and what says the same shares its tokens."""

import pytest

from models import words

SPELLINGS = {
    "  Blue\tGarden  LANTERN ": "blue garden lantern",
    "20 CM vase": "20cm vase",
    "20 x 30 cm": "20x30cm",
    "15,6″ laptop": "15.6in laptop",
    "½ inch": "1/2in",
    "1½ Zoll": "1 1/2in",
    "1,000 ml": "1000ml",
    "0,5 Liter": "0.5l",
    "3 in 1 charger": "3 in 1 charger",
    "“model 20”": "model 20",
    "6' 2\"": "6ft 2in",
    "Canon™ EOS": "canon eos",
    "ＬＥＤ　ｌａｍｐ": "led lamp",
    "a\x00b\u200bc": "a bc",
    "\u202eשלום\u202c": "שלום",
    "": "",
    "🙂": "🙂",
    "'; DROP TABLE items; --": "; drop table items; --",
    "(.*)+": "(.*)+",
}
TOKENS = {
    "Blue lanterns": ["blue", "lantern"],
    "batteries, boxes and glasses": ["battery", "box", "glass"],
    "women's shoes": ["woman", "shoe"],
    "HS-300": ["hs300", "hs", "300"],
    "20 cm": ["20cm", "20", "cm"],
    "1.5l": ["1.5l", "1.5"],
    "pour-over dripper": ["pourover", "pour", "over", "dripper"],
    "café": ["cafe"],
    "cafe\u0301": ["cafe"],
    "蓝色花园灯笼": ["蓝色", "花园", "灯笼"],
    "コーヒー豆を挽く": ["コーヒー", "豆", "を", "挽く"],
    "กระเป๋าสีน้ำเงิน": ["กระเป๋า", "สีน้ำเงิน"],
    "नीला लालटेन": ["नीला", "लालटेन"],
    "שלום עולם": ["שלום", "עולם"],
    "the boys": ["boy"],
    "the": ["the"],
    "": [],
    "🙂 \u202e (.*)+": [],
}


@pytest.mark.parametrize("query", SPELLINGS)
def test_the_spelling_of_a_query(query: str):
    """Case, space, quotes and the way of writing a size make no difference; what cannot be seen is not there."""
    assert words.normalise(query) == SPELLINGS[query]
    assert words.normalise(SPELLINGS[query]) == SPELLINGS[query]


@pytest.mark.parametrize("text", TOKENS)
def test_the_tokens_of_a_text(text: str):
    """Plural and accent fall, numbers count whole and in pieces, scripts without spaces are cut by dictionary."""
    assert words.tokens(text) == TOKENS[text]


def test_a_model_number_is_found_however_it_is_typed():
    """With hyphen, space or nothing between, the pieces or the whole are shared."""
    item = set(words.tokens("Brother TN-2110 toner", keep_stop_words=True))
    assert [item >= set(words.tokens(query)) for query in ("tn-2110", "tn2110", "TN 2110")] == [True] * 3


def test_only_the_beginning_of_an_endless_query_is_read():
    """Ten thousand characters cost what 256 do."""
    assert words.normalise("x" * 10_000) == "x" * words.LONGEST_QUERY
    assert len(words.normalise('1"' * 5_000)) <= 2 * words.LONGEST_QUERY


def test_catalogues_keep_their_stop_words():
    """A query of stop words alone must find something."""
    assert words.tokens("The Who", keep_stop_words=True) == ["the", "who"]


def test_compounds_are_taken_apart_where_the_parts_say_more():
    """A link letter may stand between; a word that is more usual than its parts stays whole."""
    counts = {"garten": 5, "gartenlampe": 2, "lampe": 9, "arbeit": 4, "note": 5, "book": 9, "notebook": 20}
    assert [words.parts(word, counts) for word in ("gartenlampe", "arbeitslampe", "notebook", "sofa")] == [
        ("garten", "lampe"),
        ("arbeit", "lampe"),
        ("notebook",),
        ("sofa",),
    ]


def test_other_languages_have_other_plurals_and_stop_words():
    """German by Snowball."""
    assert words.tokens("die Bücher und das Buch", "german") == ["buch", "buch"]


def test_an_unknown_language_is_refused():
    """The message lists the known ones."""
    with pytest.raises(ValueError, match=r"'klingon' is no language of Snowball: choose from .*english"):
        words.tokens("x", "klingon")
