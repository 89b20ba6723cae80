import json

import pytest

from models.vocabulary import CorruptVocabulary, Vocabulary


def test_positions_follow_the_sorted_unique_ids():
    """Ids are sorted and unique, and a position leads back to its id."""
    vocabulary = Vocabulary(["pear", "apple", "pear", "fig"])
    assert vocabulary.ids.tolist() == ["apple", "fig", "pear"]
    assert len(vocabulary) == 3
    assert vocabulary.positions(["fig", "pear", "apple"]).tolist() == [1, 2, 0]


def test_the_unknown_are_at_minus_one():
    """An id that was never seen has position -1, also in an empty vocabulary."""
    assert Vocabulary(["fig"]).positions(["kiwi", "fig", ""]).tolist() == [-1, 0, -1]
    assert Vocabulary([]).positions(["fig"]).tolist() == [-1]
    assert Vocabulary(["fig"]).positions([]).dtype == "int64"


def test_the_hash_is_of_the_content():
    """Order and repetition do not change the hash; an id does, and so does where one id ends and the next begins."""
    assert Vocabulary(["b", "a", "a"]).hash == Vocabulary(["a", "b"]).hash
    assert len({Vocabulary(ids).hash for ids in (["ab", "c"], ["a", "bc"], ["abc"], [])}) == 4


def test_ids_must_be_strings():
    """A number or a missing value among the ids is named, not cast in silence."""
    with pytest.raises(TypeError, match=r"\['NoneType', 'int'\]"):
        Vocabulary(["a", 7, None])


def test_a_saved_vocabulary_comes_back(tmp_path):
    """Saving and loading keeps ids, positions and hash, whatever the script of the ids."""
    vocabulary = Vocabulary(["açaí", "寿司", "a\nb", ""])
    vocabulary.save(tmp_path / "items.json")
    loaded = Vocabulary.load(tmp_path / "items.json")
    assert loaded.ids.tolist() == vocabulary.ids.tolist()
    assert loaded.hash == vocabulary.hash


def test_a_vocabulary_that_was_edited_is_refused(tmp_path):
    """An id added by hand would shift positions, so loading stops."""
    Vocabulary(["a", "c"]).save(tmp_path / "items.json")
    stored = json.loads((tmp_path / "items.json").read_text())
    (tmp_path / "items.json").write_text(json.dumps({**stored, "ids": ["a", "b", "c"]}))
    with pytest.raises(CorruptVocabulary, match="3 ids hash to"):
        Vocabulary.load(tmp_path / "items.json")
