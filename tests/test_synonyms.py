"""Terms that lead to the same items mean the same; others in the same place do not."""

import numpy as np
from scipy import sparse

from models.synonyms import mine

QUERIES = [
    "blue couch",
    "blue sofa",
    "blue table",
    "red couch",
    "red sofa",
    "red table",
    "couch",
    "settee",
    "b 20",
    "b 30",
]
SOFAS, TABLES = [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]
CLICKS = sparse.csr_matrix(np.array([SOFAS, SOFAS, TABLES, SOFAS, SOFAS, TABLES, SOFAS, SOFAS, SOFAS, SOFAS], float))


def found(followed: dict[tuple[str, str], tuple[int, int]]) -> dict[tuple[str, str], tuple[int, int, int]]:
    return {
        (one.term, one.other): (one.count_items, one.count_visits, one.count_answered)
        for one in mine(QUERIES, CLICKS, followed)
    }


def test_terms_that_lead_to_the_same_items_are_proposed():
    """Couch and sofa, beside two colours, with three items each; a table is no sofa, a number no other number."""
    assert {pair: told for pair, told in found({}).items() if "table" in pair or "couch" in pair or "20" in pair} == {
        ("couch", "sofa"): (6, 0, 0)
    }


def test_a_query_typed_for_another_one_is_evidence():
    """Without a common word, only where people typed one after the other."""
    assert found({("couch", "settee"): (4, 3)})["couch", "settee"] == (3, 4, 3)
    assert ("couch", "settee") not in found({})


def test_visits_add_to_what_items_say():
    """In both directions."""
    told = found({("blue couch", "blue sofa"): (2, 1), ("blue sofa", "blue couch"): (1, 0)})
    assert told["couch", "sofa"] == (6, 3, 1)


def test_more_evidence_is_believed_more():
    """The same likeness, a higher score."""
    (few,) = [one.score for one in mine(QUERIES, CLICKS, {}) if one.term == "couch"]
    (more,) = [one.score for one in mine(QUERIES, CLICKS, {("red couch", "red sofa"): (9, 9)}) if one.term == "couch"]
    assert 0 < few < more < 1
