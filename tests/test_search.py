"""Words find the items that have them, numbers name one item, behaviour counts the more, the more there is of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from models.candidates import Candidates
from models.understanding import Lexicon, understand
from models.vocabulary import Vocabulary
from pipelines.search import lexicons
from pipelines.search.answers import FEATURES, Engine, Shop, smoothed
from pipelines.search.lexical import Lexical, best, words_of
from pipelines.search.proof import choose, without_clicks
from pipelines.search.rankings import UNTAUGHT, Lesson, Ranking, mix, mixed_ranks, reasons

TITLES = {
    "a1": "blue garden lantern",
    "b2": "red garden chair",
    "c3": "blue mug",
    "d4": "lanterns, set of two",
    "e5": "Toner for Brother HL-2130",
    "f6": "Brother TN-2110 toner",
    "g7": "smartwatch with a strap",
}
PRICES = np.array([1000.0, 2000, 300, 4000, 5000, 6000, np.nan])
LEXICON = Lexicon.learn(
    {"title": list(TITLES.values()), **dict.fromkeys(("description", "brand", "category"), [""] * len(TITLES))},
    {"lantern": 9, "garden lantern": 50},
    [("mug", "cup")],
)
ALL = np.ones(len(TITLES), dtype=bool)


class Letters:
    """A reader whose vectors count letters: close enough to meaning for seven titles."""

    def read(self, queries):
        counts = np.array(
            [[query.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for query in queries]
        )
        return (counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)).astype(np.float32)


@pytest.fixture(scope="module")
def lexical() -> Lexical:
    catalogue = pd.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values())})
    description = [None, "with a blue cushion", None, None, "instead of the TN-2110", None, None]
    return Lexical.of(catalogue.assign(brand=None, category=None, description=description), "english")


def engine(lexical: Lexical, clicks: dict[tuple[str, str], float] | None = None, allowed: np.ndarray = ALL) -> Engine:
    items, told = Vocabulary(TITLES), clicks or {}
    queries = Vocabulary(query for query, _ in told)
    matrix = sparse.csr_matrix((len(queries), len(items)))
    for (query, item), weight in told.items():
        matrix += sparse.csr_matrix(
            ([weight], (queries.positions([query]), items.positions([item]))), shape=matrix.shape
        )
    nothing = np.zeros(len(items), dtype=np.float32)
    shop = Shop(nothing, nothing, np.zeros(len(items), dtype=int), PRICES, allowed)
    return Engine(
        items, LEXICON, lexical, Letters(), Letters().read(list(TITLES.values())), queries, matrix, shop, 5, 8 << 20
    )


def found(made: Engine, query: str) -> list[str]:
    slate = made.answers([query])
    return [str(made.items.ids[item]) for item in slate.found.best(Ranking().score(slate), 5)[0] if item >= 0]


def by_words(lexical: Lexical, query: str) -> list[str]:
    scores = (lexical.asked([understand(query, LEXICON)]) @ lexical.index.weights).toarray()[0]
    return [list(TITLES)[n] for n in np.lexsort((np.arange(len(scores)), -scores)) if scores[n] > 0]


def test_the_item_with_all_the_words_is_first(lexical: Lexical):
    """Plural and singular are the same word; the title counts more than the description."""
    assert by_words(lexical, "blue garden lanterns")[0] == "a1"
    assert set(by_words(lexical, "lantern")) == {"a1", "d4"}
    assert by_words(lexical, "blue")[-1] == "b2"


def test_two_words_that_the_catalogue_writes_as_one(lexical: Lexical):
    """`smart watch` finds the smartwatch."""
    assert by_words(lexical, "smart watch") == ["g7"]


def test_scores_are_told_word_by_word_and_field_by_field(lexical: Lexical):
    """The parts of a score sum to it."""
    query = words_of(understand("blue garden chair", LEXICON))
    told = lexical.index.told(query, 1)
    assert [(word, field) for word, field, _ in told] == [
        ("chair", "title"),
        ("garden", "title"),
        ("blue", "description"),
    ]
    score = (lexical.asked([understand("blue garden chair", LEXICON)]) @ lexical.index.weights)[0, 1]
    assert sum(value for *_, value in told) == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize(("query", "item"), [("C3", "c3"), ("tn-2110", "f6"), ("toner brother TN 2110 lantern", "f6"),
                                             ("cheap tn2110 toner", "f6"), ("lantern a1", None)])  # fmt: skip
def test_a_number_that_names_one_item_goes_first(lexical: Lexical, query: str, item: str | None):
    """An id alone, or a model number within the query, whatever else the words and the meaning say."""
    slate = engine(lexical, {(query.lower(), "b2"): 1000.0}).answers([query.lower()])
    named = [list(TITLES)[n] for n in slate.found.items[slate.exact]]
    assert named == ([item] if item else [])
    if item:
        assert found(engine(lexical, {(query.lower(), "b2"): 1000.0}), query.lower())[0] == item


def test_a_slip_a_synonym_and_a_price_are_read(lexical: Lexical):
    """What was meant is searched for, with the clicks of the right spelling; what means the same counts too; what costs
    more than the query says, as far as it is known, is left out."""
    clicked = engine(lexical, {("garden lantern", "c3"): 500.0})
    assert found(clicked, "gardne lantern") == found(clicked, "garden lantern")
    assert "c3" in found(engine(lexical), "cup")[:1]
    assert {"b2", "d4", "e5", "f6"} & set(found(engine(lexical), "garden under 15")) == set()


def test_what_may_not_be_shown_is_not_found(lexical: Lexical):
    """Items that are not allowed are no candidates, even when their number is typed or people went there."""
    allowed = np.array([name not in ("c3", "a1") for name in TITLES])
    assert not {"c3", "a1"} & set(found(engine(lexical, {("c3", "a1"): 9.0}, allowed), "c3"))


@pytest.mark.parametrize(
    "query",
    ["", "   ", "the of and", "🙂", "'; drop table items; --", "x" * 10_000, "(.*)+", "\x00", "שלום", "%s{}$1", '"""'],
)
def test_strange_queries_are_answered_and_break_nothing(lexical: Lexical, query: str):
    """Their words find what has them; the rest is left to the meaning, and a score is a number."""
    slate = engine(lexical).answers([query])
    assert np.isfinite(slate.features).all()
    assert np.isfinite(Ranking().score(slate)).all()
    assert len(slate.found.items) == 0 or understand(query, LEXICON).tokens


def test_the_best_of_each_row_with_ties_by_position():
    """Of equal scores at the border the first positions stay, and rows keep their own."""
    scores = sparse.csr_matrix(np.array([[1.0, 5.0, 1.0, 1.0, 7.0], [0.0, 2.0, 0.0, 0.0, 0.0]]))
    assert best(scores, 3).toarray().tolist() == [[1.0, 5.0, 0.0, 0.0, 7.0], [0.0, 2.0, 0.0, 0.0, 0.0]]


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


def test_the_reason_is_the_source_that_ranks_the_item_best(lexical: Lexical):
    """People's choice, the word, or the meaning; a number before all."""
    slate = engine(lexical, {("lantern", "c3"): 50.0}).answers(["lantern", "c3"])
    told = {
        (slate.queries[row], list(TITLES)[item]): reason
        for row, item, reason in zip(slate.found.rows, slate.found.items, reasons(slate), strict=True)
    }
    assert told["lantern", "c3"] == "behaviour"
    assert told["lantern", "d4"] == "words"
    assert told["lantern", "b2"] == "meaning"
    assert told["c3", "c3"] == "exact"


def test_trees_rank_only_where_nothing_is_better_beyond_chance():
    """They give way to what is better on nearly every query, and to the shop's wish."""
    trees, good, bad = np.full(50, 0.5), np.full(50, 0.6), np.full(50, 0.3)
    assert choose({"lambdarank": trees, "mix": bad, "rrf": bad, "lexical": trees}, "lambdarank", 1) == "lambdarank"
    assert choose({"lambdarank": trees, "mix": good, "rrf": bad, "lexical": trees}, "lambdarank", 1) == "mix"
    assert choose({"lambdarank": trees, "mix": bad, "rrf": good}, "lambdarank", 1) == "rrf"
    assert choose({"lambdarank": trees, "mix": bad, "rrf": bad}, "mix", 1) == "mix"
    assert choose({"mix": bad, "rrf": bad}, "lambdarank", 1) == "mix"


@pytest.mark.parametrize(("wished", "ranks"), [("lambdarank", "ranks"), ("mix", "mix"), ("rrf", "rrf")])
def test_without_clicks_the_wished_ranking_ranks(wished: str, ranks: str):
    """Trees, which clicks must teach, give way to the sum of ranks."""
    assert without_clicks(wished) == ranks


@pytest.mark.parametrize("name", ["mix", UNTAUGHT])
def test_words_lead_where_nobody_clicked(lexical: Lexical, name: str):
    """Meaning only breaks near ties; what people did after the query outweighs both."""
    slate = engine(lexical, {("lantern", "c3"): 500.0}).answers(["lantern", "blue lantern"])
    best = slate.found.best(Ranking(name).score(slate), 1)[:, 0]
    assert [list(TITLES)[n] for n in best] == ["c3", "a1"]


def test_ranks_do_not_ask_how_far_cosines_lie_apart(lexical: Lexical):
    """An encoder that spreads them otherwise puts answers in the same order; under the sum of scores it does not."""
    slate = engine(lexical).answers(["lantern"])
    spread = replace(slate, found=replace(slate.found, scores=slate.found.scores ** [1, 9, 1]))
    assert mixed_ranks(spread).tolist() == mixed_ranks(slate).tolist()
    assert mix(spread).tolist() != mix(slate).tolist()


def test_grades_grow_with_what_people_did(lexical: Lexical):
    """A view, a cart and a purchase after a query are worth more together than the view alone; nothing is 0."""
    slate = engine(lexical).answers(["lantern"])
    wanted = sparse.csr_matrix(([1.0, 9.0], ([0, 0], [0, 3])), shape=(1, len(TITLES)))
    grades = dict(zip(slate.found.items, Lesson(slate, wanted, "holdout").grades, strict=True))
    assert (grades[0], grades[3], grades[1]) == (1, 4, 0)


def test_features_have_names(lexical: Lexical):
    """One column per name, and the share of the query's words in the title is 1 for the item that has them all."""
    slate = engine(lexical).answers(["blue garden lantern"])
    assert slate.features.shape == (len(slate.found.items), len(FEATURES))
    titled = dict(zip(slate.found.items, slate.features[:, FEATURES.index("title")], strict=True))
    assert titled[0] == pytest.approx(1.0)


def test_a_lexicon_survives_its_file(tmp_path: Path):
    """A slip is put right, and a synonym known, as before."""
    lexicons.save(LEXICON, tmp_path / "lexicon.json")
    again = lexicons.load(tmp_path / "lexicon.json")
    for query in ("gardne lantern", "cup under 20", "Brother TN-2110"):
        assert understand(query, again) == understand(query, LEXICON)


def test_an_index_survives_its_file(lexical: Lexical, tmp_path: Path):
    """Words and weights come back as they were."""
    lexical.save(tmp_path)
    again = Lexical.load(tmp_path)
    assert by_words(again, "blue garden lantern") == by_words(lexical, "blue garden lantern")
    assert (again.index.weights != lexical.index.weights).nnz == 0
