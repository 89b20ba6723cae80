"""Words find the items that have them; behaviour counts the more, the more there is of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from models.candidates import Candidates
from models.vocabulary import Vocabulary
from pipelines.search import lexical as words
from pipelines.search.answers import smoothed
from pipelines.search.lexical import Lexical

TITLES = {"a1": "blue garden lantern", "b2": "red garden chair", "c3": "blue mug", "d4": "lanterns, set of two"}


@pytest.fixture
def lexical() -> Lexical:
    catalogue = pd.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values())})
    catalogue = catalogue.assign(brand=None, category=None, description=[None, "with a blue cushion", None, None])
    return Lexical(SimpleNamespace(catalogue=catalogue, items=Vocabulary(TITLES)))


def found(lexical: Lexical, query: str, count: int = 4, allowed: list[bool] | None = None) -> list[str]:
    scores = lexical.scores(np.array([query]), count, np.array(allowed or [True] * 4)).toarray()[0]
    order = np.lexsort((np.arange(4), -scores))
    return [list(TITLES)[n] for n in order if scores[n] > 0]


def test_the_item_with_all_the_words_is_first(lexical: Lexical):
    """Plural and singular are the same word; the title counts more than the description."""
    assert found(lexical, "blue garden lanterns")[0] == "a1"
    assert set(found(lexical, "lantern")) == {"a1", "d4"}
    assert found(lexical, "blue")[-1] == "b2"


def test_an_items_own_number_finds_it(lexical: Lexical):
    """Ids are words of the item."""
    assert found(lexical, "C3") == ["c3"]


def test_what_may_not_be_shown_is_not_found(lexical: Lexical):
    """Items that are not allowed get no score, and do not take a place of one that is."""
    assert found(lexical, "blue", count=1, allowed=[False, True, False, True]) == ["b2"]


@pytest.mark.parametrize(
    "query", ["", "   ", "the of and", "🙂", "'; drop table items; --", "x" * 10_000, "(.*)+", "\x00"]
)
def test_strange_queries_find_nothing_and_break_nothing(lexical: Lexical, query: str):
    """No word of the catalogue in it, no result."""
    assert found(lexical, query) in ([], ["b2"], ["a1"]) if "items" in query else found(lexical, query) == []


def test_behaviour_is_believed_with_its_evidence():
    """One click of one is worth less than fifty of fifty; shares fall with what went elsewhere."""
    clicks = sparse.csr_matrix(np.array([[1.0, 0.0], [50.0, 0.0], [25.0, 25.0]]))
    believed = smoothed(clicks).toarray()
    assert believed[0, 0] < believed[2, 0] < believed[1, 0] < 1.0


def test_rrf_counts_only_sources_that_say_something():
    """An item that only one source knows gets that source's 1 / (60 + rank) and nothing for the others' silence."""
    answers = Candidates(
        np.array([0]), np.array([0, 2]), np.array([0, 1]), np.array([[3.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    )
    assert answers.reciprocal_ranks.sum(axis=1).tolist() == pytest.approx([1 / 61, 1 / 62 + 1 / 61])


def test_the_largest_scores_with_ties_by_position():
    """Of equal scores at the border the first positions stay."""
    assert sorted(words._largest(np.array([1.0, 5.0, 1.0, 1.0, 7.0]), 3).tolist()) == [0, 1, 4]
