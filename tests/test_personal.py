"""A user's own order of the answers: what speaks for an item, and that it counts only where it helps."""

from dataclasses import replace
from types import SimpleNamespace

import duckdb
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from models.candidates import Candidates, starts
from models.vocabulary import Vocabulary
from pipelines import warehouse
from pipelines.marts import Marts
from pipelines.search.arranging import Arranging
from pipelines.search.leanings import PARTS, Leanings, Past, written
from pipelines.search.lexical import Lexical
from pipelines.search.personal import Answers, Asked, Personal, kind_shares, known, rows
from pipelines.search.personal_proof import NEUTRAL, PersonalLesson, prove
from pipelines.settings import Settings

NIGHT = SimpleNamespace(settings=Settings())
COUNT = 6  # answers of each query


def leanings() -> Leanings:
    """Four items of one category: two brands, cheap and dear, two styles."""
    styles = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]])
    prices = np.array([-1.0, -1.0, 1.0, 1.0])
    return Leanings(np.array([0, 0, 1, -1]), np.array([0.5, 0.5]), prices, styles, 20.0, np.zeros(4, dtype=np.int64))


def past(*weights: float) -> Past:
    """One user's, and of another one who did nothing."""
    told = sparse.csr_matrix(np.array([weights, np.zeros(4)]))
    return Past(told, sparse.csr_matrix(told > 8).astype(float))


def test_a_past_speaks_for_what_is_like_it():
    """Brand, price and style of what was met count for an item that was not; that it was met and bought, for itself."""
    told = dict(zip(PARTS, leanings().parts(past(20, 0, 0, 0), np.zeros(4, int), np.arange(4)).T, strict=True))
    assert told["brand"] == pytest.approx([np.log(60 / 40), np.log(60 / 40), np.log(20 / 40), 0.0])
    assert told["price"].tolist() == [0.5, 0.5, -0.5, -0.5]
    assert told["style"].tolist() == [1.0, 1.0, -1.0, -1.0]
    assert told["met"] == pytest.approx([np.log(21), 0, 0, 0])
    assert told["bought"].tolist() == [1, 0, 0, 0]


def test_what_was_bought_every_week_says_no_more_of_a_style():
    """An item met once and one met often pull the style alike; the price goes by what was done."""
    told = leanings().parts(past(400, 0, 20, 0), np.zeros(4, int), np.arange(4))
    assert told[:, PARTS.index("style")].tolist() == [0, 0, 0, 0]
    assert told[0, PARTS.index("price")] > 0.8


def test_a_leaning_counts_as_far_as_the_query_means_the_kind():
    """Answers of the first kind have 1 + 1/2 of 1 + 1/2 + 1/3 in reciprocal ranks; so much of each part counts."""
    answers = Answers(["q"], np.array([0, 3]), np.arange(3), np.arange(1, 4), np.zeros(3, bool))
    assert kind_shares(answers, np.array([5, 5, 0, 0])).tolist() == pytest.approx([9 / 11, 9 / 11, 2 / 11])
    of_kinds = replace(leanings(), kinds=np.array([5, 5, 0, 0]))
    told, _ = known(answers, Asked(np.zeros(1, int), np.zeros(1, int)), of_kinds, past(20, 0, 0, 0))
    assert told.scores[:, 1 + PARTS.index("price")] == pytest.approx([0.5 * 9 / 11, 0.5 * 9 / 11, -0.5 * 2 / 11])


def test_leanings_of_an_older_release_know_one_kind(tmp_path):
    """A release that is older than kinds orders as it did: every answer is of one kind."""
    told = vars(leanings())
    np.savez(tmp_path / "leanings.npz", **{name: told[name] for name in told if name != "kinds"})
    assert Leanings.load(tmp_path / "leanings.npz").kinds.tolist() == [0, 0, 0, 0]


def test_a_user_without_a_past_leans_nowhere():
    """All parts are 0."""
    assert not leanings().parts(past(20, 0, 0, 0), np.ones(4, int), np.arange(4)).any()


def test_what_is_called_by_its_number_stays_first_and_unknown_users_get_the_order_of_all():
    """The fourth item is exact; of the others, who met the third gets it before the first."""
    found = pd.DataFrame({"query": "q", "rank": [1, 2, 3, 4], "item_id": ["d", "a", "b", "c"]})
    found["reason"] = ["exact", "words", "words", "words"]
    answers = Answers.published(found, Vocabulary(["q"]), Vocabulary("abcd"))
    weights = np.array([1.0 * (part == "met") for part in PARTS])
    asked = Asked(np.array([0, 1]), np.zeros(2, int))
    told = rows(found, answers, asked, Personal(leanings(), weights), Arranging.none(4), past(0, 0, 5, 0), 3)
    listed = told.groupby("user")["item_id"].agg(list).to_dict()
    assert listed == {0: ["d", "c", "a"], 1: ["d", "a", "b"]}
    assert told["search_rank"].tolist() == [1, 4, 2, 1, 2, 3]


def lesson(seed: int, helps: bool) -> PersonalLesson:
    """300 users, a query each; most want an answer that stands high, and lean to its brand, or to any."""
    dice = np.random.default_rng(seed)
    likely = 1 / np.arange(1, COUNT + 1)
    wanted = dice.choice(COUNT, size=300, p=likely / likely.sum())
    leant = wanted if helps else dice.integers(COUNT, size=300)
    scores = np.zeros((300, COUNT, 1 + len(PARTS)))
    scores[:, :, 0] = -np.log(np.arange(1, COUNT + 1))
    scores[np.arange(300), leant, 1] = 0.4
    found = Candidates(
        np.arange(300), starts(np.full(300, COUNT)), np.tile(np.arange(COUNT), 300), scores.reshape(-1, 1 + len(PARTS))
    )
    chosen = sparse.csr_matrix((np.ones(300), (np.arange(300), wanted)), shape=(300, COUNT))
    return PersonalLesson(found, np.zeros(300 * COUNT, bool), chosen)


def figures(records: list[dict]) -> dict[str, dict]:
    return {record["metric"]: record for record in records}


def test_what_helps_on_later_days_counts():
    """The brand gets its weight, and the gain is beyond chance; what says nothing gets none."""
    weights, records = prove(NIGHT, [lesson(1, helps=True), lesson(2, helps=True)])
    assert weights[PARTS.index("brand")] > 1
    assert weights[PARTS.index("price")] == 0
    assert figures(records)["search/personal_gain/ndcg_at_10"]["low"] > 0.1


def test_what_helped_once_and_not_again_counts_nothing():
    """Learnt in one window and refuted by the next: every user gets the order of all."""
    weights, records = prove(NIGHT, [lesson(1, helps=True), lesson(2, helps=False)])
    assert weights.tolist() == NEUTRAL.tolist()
    assert figures(records)["search/personal/weight_of_brand"]["value"] == 0
    assert figures(records)["search/personal_gain/ndcg_at_10"]["low"] <= 0


def test_one_window_proves_nothing():
    """There is nothing to learn from before it."""
    assert prove(NIGHT, [lesson(1, helps=True)])[0].tolist() == NEUTRAL.tolist()


@pytest.mark.slow
def test_the_parts_say_what_is_published_of_users(night):
    """The brand's part is the logarithm of its published lift, for users with and without the brand."""
    marts = Marts(night)
    with warehouse.connect(night.home) as release:
        told = release.execute(
            "select user_id, item_id, p.lift from user_preferences as p join items as i on i.brand = p.value"
            " where facet = 'brand' order by user_id, item_id"
        ).df()
    users, items = marts.users.positions(told["user_id"]), marts.items.positions(told["item_id"])
    styles = written(marts.catalogue, Lexical.of(marts.catalogue, night.settings.search.language))
    parts = Leanings.of(night, marts, "final", styles).parts(Past.of(marts, "final"), users, items)
    assert parts[:, PARTS.index("brand")] == pytest.approx(np.log(told["lift"].to_numpy()), abs=1e-6)


@pytest.mark.slow
def test_each_users_list_is_the_querys_in_another_order(night):
    """Who typed a query in the last days has a list of it, of the first answers of all with what speaks for each."""
    with warehouse.connect(night.home) as release:
        release.execute("create temp table own as select * from user_search_results")
        told = one(release, "select count(distinct (user_id, query)), max(rank) from own")
        other = "from own anti join search_results as s on s.query = own.query and s.item_id = own.item_id"
        assert one(release, f"select count(*) {other} and s.rank = own.search_rank") == (0,)
        moved = "abs(score + ln(search_rank) - personal_score) > 1e-9"
        assert one(release, f"select count(*) from own where reason <> 'exact' and {moved}") == (0,)
    _, typed = Marts(night).typed(night.day, night.settings.search.user_query_days)
    assert told == (typed.nnz, night.settings.search.user_results)


def one(release: duckdb.DuckDBPyConnection, query: str) -> tuple:
    row = release.execute(query).fetchone()
    assert row is not None
    return row
