import numpy as np
import pytest

from models.item_text import FIELDS, TextTokenizer, item_contents

TITLES = ["Red wool scarf", "Blue wool hat", "Red cotton shirt", "Crème brûlée set"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer.train(TITLES, vocabulary_size=400)


def words(tokenizer, tokens, row, field):
    """The text of one field of one row."""
    return tokenizer.decode(tokens.ids[row][tokens.fields[row] == FIELDS.index(field)])


def test_spelling_variants_are_one_text(tokenizer):
    """Case, accents, full width and spaces do not change the tokens."""
    tokens = tokenizer.encode_queries(["CRÈME brulee", "crème brûlée", " ｃｒｅｍｅ \t brûlée\n"])
    assert (tokens.ids == tokens.ids[0]).all()


def test_marks_that_carry_meaning_stay(tokenizer):
    """Voiced kana and Hangul are not accents."""
    assert tokenizer.decode(tokenizer.encode_queries(["がぎ"]).ids[0]) == "がぎ"
    assert tokenizer.decode(tokenizer.encode_queries(["한글"]).ids[0]) == "한글"


@pytest.mark.parametrize("text", ["寿司 🍣", "\x00\x07x", "naïve‽", "[PAD] x", "हिन्दी"])
def test_no_string_is_unknown(tokenizer, text):
    """Any string becomes tokens of the vocabulary, none of them padding, and can be read back."""
    ids = tokenizer.encode_queries([text]).ids[0]
    assert 0 < np.count_nonzero(ids) <= 48
    assert ids.max() < tokenizer.vocabulary_size
    assert tokenizer.decode(ids) == text.lower().replace("ï", "i").strip()


def test_items_keep_their_fields_in_order(tokenizer):
    """Title first, description last, each token marked with its field, whatever the order of the mapping."""
    item = {"description": ["wool"], "price_band": ["low"], "brand": ["Nord"], "category": ["hats"], "title": ["blue"]}
    tokens = tokenizer.encode_items(item)
    fields = tokens.fields[0][: tokens.lengths[0]]
    assert fields.tolist() == sorted(fields)
    for field in item:
        assert words(tokenizer, tokens, 0, field) == item[field][0].lower()


def test_the_description_is_cut(tokenizer):
    """A long description is cut at max_tokens, the rest of the item stays whole."""
    tokens = tokenizer.encode_items({"title": ["red scarf"], "description": ["wool " * 99]}, max_tokens=12)
    assert tokens.ids.shape == (1, 12)
    assert tokens.lengths.tolist() == [12]
    assert words(tokenizer, tokens, 0, "title") == "red scarf"
    assert words(tokenizer, tokens, 0, "description").startswith("wool wool")


def test_missing_text_leaves_no_token(tokenizer):
    """None and the empty text leave padding; nothing of the item's neighbour slips in."""
    tokens = tokenizer.encode_items({"title": [None, "red", ""], "brand": ["nord", None, None]})
    assert words(tokenizer, tokens, 0, "brand") == "nord"
    assert words(tokenizer, tokens, 1, "brand") == ""
    assert tokens.lengths[2] == 0
    assert (tokens.fields[tokens.ids == 0] == 0).all()


def test_queries_are_queries(tokenizer):
    """Every token of a query is of the field `query`; no query gives no row."""
    assert not tokenizer.encode_queries(["red hat"]).fields.any()
    assert tokenizer.encode_queries([], max_tokens=5).ids.shape == (0, 5)


def test_taken_rows_are_no_wider_than_needed(tokenizer):
    """Rows are taken in the order asked for, and padding that none of them needs is dropped."""
    tokens = tokenizer.encode_queries(["red wool scarf", "red", "hat"])
    taken = tokens.take(np.array([2, 1]))
    assert [tokenizer.decode(ids) for ids in taken.ids] == ["hat", "red"]
    assert taken.ids.shape[1] == taken.lengths.max()
    assert tokens.take(np.array([], dtype=int)).ids.shape == (0, 1)


def test_equal_items_have_equal_contents():
    """Items that say the same in each field share a number; a word in another field makes another one."""
    one, same, other = item_contents({"brand": [None, None, "red"], "title": ["red", "red", None]})
    assert one == same != other


@pytest.mark.parametrize("word", ["red wool", "w" * 200, "crème  brûlée"])
def test_the_end_of_a_long_text_changes_nothing(tokenizer, word):
    """A text is cut before it is read where its start is enough, and has the tokens of the whole one."""
    text = " ".join([word] * 100)
    whole = tokenizer.encode_queries([text], max_tokens=10_000).ids
    np.testing.assert_array_equal(tokenizer.encode_queries([text], max_tokens=9).ids, whole[:, :9])


def test_training_repeats(tmp_path):
    """The same texts give the same tokenizer, byte for byte, and a saved one comes back."""
    for name in ("a", "b"):
        TextTokenizer.train(iter(TITLES), vocabulary_size=400).save(tmp_path / name)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
    loaded, fresh = TextTokenizer.load(tmp_path / "a"), TextTokenizer.train(TITLES, 400)
    texts = [*TITLES, "[PAD]"]
    np.testing.assert_array_equal(loaded.encode_queries(texts).ids, fresh.encode_queries(texts).ids)


def test_frequent_words_are_one_token(tokenizer):
    """A word of the catalogue is learnt whole."""
    assert tokenizer.encode_queries(["wool"]).lengths.tolist() == [1]


def test_wrong_fields_are_named(tokenizer):
    """An unknown field, fields of different length, or a vocabulary without room say what to do."""
    with pytest.raises(ValueError, match=r"unknown item fields \['colour'\]"):
        tokenizer.encode_items({"colour": ["red"]})
    with pytest.raises(ValueError, match="'title': 1, 'brand': 2"):
        tokenizer.encode_items({"title": ["red"], "brand": ["a", "b"]})
    with pytest.raises(ValueError, match="vocabulary_size is 200"):
        TextTokenizer.train(TITLES, vocabulary_size=200)
