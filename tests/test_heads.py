"""The head of a query says which thing is wanted, and what only goes with that thing comes after it."""

import numpy as np
import pandas as pd
import pytest

from models import heads
from models.bm25 import Bm25
from models.understanding import Lexicon, Understood, understand
from pipelines.search.lexical import Lexical

GOODS = pd.DataFrame(
    [
        ("a", "Cover for a keyboard, keyboard black", "Covers"),
        ("b", "Keyboard cover", "Office > Keyboard covers"),
        ("c", "Silent wireless keyboard, black, with lights", "Keyboards & mice"),
        ("d", "Black typing set", "Office > Keyboards"),
        ("e", "Mouse", None),
    ],
    columns=["item_id", "title", "category"],
).assign(brand=None, description=None)
TEXTS = {name: list(GOODS[name].fillna("")) for name in ("title", "description", "brand", "category")}
LEXICON = Lexicon.learn(TEXTS, {})


@pytest.fixture(scope="module")
def lexical() -> Lexical:
    return Lexical.of(GOODS, "english")


def read(query: str) -> Understood:
    return understand(query, LEXICON)


def scores(lexical: Lexical, query: str) -> dict[str, float]:
    return dict(zip(GOODS["item_id"], lexical.scores([read(query)]).toarray()[0], strict=True))


@pytest.mark.parametrize(
    ("query", "head"),
    [("gaming keyboard", "keyboard"), ("keyboards black 20cm", "keyboard"), ("cover for keyboard", "cover"),
     ("for keyboard", "keyboard"), ("hs-300", None), ("", None)],
)  # fmt: skip
def test_the_last_name_before_a_link_is_wanted(query: str, head: str | None):
    """Numbers, sizes and colours are no things, and what stands behind `for` goes with one."""
    assert heads.wanted(query, "english") == head


def test_a_language_that_puts_the_head_first_has_none():
    """Nothing is said of French, where `housse de clavier` is a cover."""
    assert heads.wanted("housse clavier", "french") is None
    assert heads.beside("housse pour clavier", "Housses clavier", "french") == set()


@pytest.mark.parametrize(
    ("title", "category", "other"),
    [("Cover for a keyboard", "", {"keyboard"}), ("Keyboard for a keyboard tray", "", {"tray"}),
     ("With love", "", set()), ("Rubber", "Office > Keyboard covers", {"keyboard"}),
     ("Rubber", "Keyboards & mice", set()), ("Hülle für Tastatur", "", set())],
)  # fmt: skip
def test_what_an_item_goes_with(title: str, category: str, other: set[str]):
    """What is named behind a link and not before it, and what stands before the last word of a category."""
    assert heads.beside(title, category, "english") - {"a"} == other


def test_the_thing_comes_before_what_goes_with_it(lexical: Lexical):
    """A keyboard is found before covers whose short titles say `keyboard`; whoever wants covers has them first."""
    found = scores(lexical, "keyboard")
    assert min(found["c"], found["d"]) > found["b"]
    assert max(scores(lexical, "keyboard cover"), key=scores(lexical, "keyboard cover").__getitem__) == "b"


def test_a_query_that_is_a_categorys_name_means_the_category(lexical: Lexical):
    """All that is of it comes first, whatever it is called; within a longer query the name is words as others."""
    assert max(scores(lexical, "keyboards"), key=scores(lexical, "keyboards").__getitem__) == "d"
    assert ("any keyboard", "kind") in [(word, field) for word, field, _ in lexical.told(read("keyboards"), 3)]
    assert "kind" not in [field for _, field, _ in lexical.told(read("black keyboards"), 3)]


@pytest.mark.parametrize("query", ["keyboard", "black keyboard", "mouse"])
def test_what_is_lost_is_told(lexical: Lexical, query: str):
    """The parts of a score sum to it, the loss among them."""
    for place, score in enumerate(scores(lexical, query).values()):
        assert sum(value for *_, value in lexical.told(read(query), place)) == pytest.approx(score, rel=1e-4)
    assert ("keyboard" in query) == bool(lexical.told(read(query), 0)[-1:] and lexical.told(read(query), 0)[-1][2] < 0)


def test_a_field_that_most_items_lack_is_as_long_as_where_it_is():
    """Its mean length is over the items that have it, as Lucene counts: the name of a rare field is not a long one."""
    index = Bm25.index({"category": [["mouse"], *([[]] * 9)]}, {"category": 3.0})
    assert index.fields["category"][0, 0] == pytest.approx(3.0)
    assert np.isfinite(Bm25.index({"category": [[]]}, {"category": 3.0}).fields["category"].toarray()).all()
