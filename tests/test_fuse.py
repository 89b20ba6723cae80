"""Candidates are the union of what the sources propose; what held on the held-out days ranks them, part by part."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

from models import retrieval
from models.candidates import Candidates, joined
from models.errors import NothingToLearn
from models.neighbours import Neighbours
from models.vocabulary import Vocabulary
from pipelines import evidence, settings
from pipelines.fuse import features, proof, rankings, scoring
from pipelines.fuse import sources as sources_of_fuse
from pipelines.fuse.ablation import ablation
from pipelines.fuse.judging import Judged
from pipelines.fuse.lessons import Lesson, Notes
from pipelines.fuse.rankings import PARTS, ReciprocalRanks
from pipelines.fuse.slate import Slate
from pipelines.fuse.sources import SOURCES, Beside, Factors, Habit, Popularity, Sources
from pipelines.settings import Settings

MEMORY, THREADS = 1 << 20, 2


class SmallRun:
    """As much of a run as learning in memory needs."""

    settings = Settings.model_validate({"fuse": {"trees": 20, "leaves": 4, "candidates": 2}})


@pytest.fixture
def sources() -> Sources:
    """Two users, six items, two proposals a source. Item 5 is not known yet; user 0 bought item 0, user 1 nothing."""
    bought = sparse.csr_matrix(([1.0], ([0], [0])), shape=(2, 6))
    beside = np.zeros((6, 6), dtype=np.float32)
    beside[0, 2] = 0.5
    column = lambda values: np.array(values, dtype=np.float32)[:, None]  # noqa: E731
    by_name = {
        "als": Factors(column([1.0, 0.0]), column([0.9, 0.8, 0.1, 0.0, 0.0, 9.0]), MEMORY, THREADS),
        "neighbours": Beside(Neighbours(beside), bought),
        "profile": Factors(column([1.0, 0.0]), column([0.0, 0.0, 0.0, 1.0, 0.5, 9.0]), MEMORY, THREADS),
        "sequence": Factors(column([0.0, 0.0]), column([0.0] * 6), MEMORY, THREADS),
        "habit": Habit(bought * 0.7),
        "popularity": Popularity(np.array([1.0, 0.0, 3.0, 0.0, 2.0, 9.0])),
    }
    return Sources(by_name, bought, np.array([True] * 5 + [False]), count=2)


def lesson(count: int = 60, seed: int = 3, teller: str = "habit") -> Lesson:
    """Users with five candidates each, one of which is bought: the one that a single source names."""
    dice = np.random.default_rng(seed)
    scores = dice.random((count * 5, len(SOURCES)))
    wanted = dice.integers(0, 5, size=count)
    told = np.zeros((count, 5))
    told[np.arange(count), wanted] = 1.0
    scores[:, SOURCES.index(teller)] = told.ravel()
    found = Candidates(np.arange(count), np.arange(count + 1) * 5, np.tile(np.arange(5), count), scores)
    known = np.full((len(scores), len(features.NAMES)), np.nan, dtype=np.float32)
    known[:, features.GROUPS.index(teller)] = told.ravel()
    bought = sparse.csr_matrix((np.ones(count), (np.arange(count), wanted)), shape=(count, 5))
    return Lesson(Slate(found, np.zeros(len(scores), dtype=bool), known), told.ravel() > 0, bought)


def notes(*lessons: Lesson, **settings: int) -> Notes:
    """Of lessons of which everything is read."""
    fuse = SmallRun.settings.fuse.model_copy(update=settings)
    return Notes(SmallRun.settings.model_copy(update={"fuse": fuse})).read(lessons)


def test_candidates_are_the_union_and_everything_bought(sources: Sources):
    """User 0: ALS 1, 2; beside 2; profile 3, 4; popular 2, 4; bought 0. What is not known yet is nobody's candidate."""
    found = sources.candidates(np.array([0, 1]))
    assert found.items[: found.offsets[1]].tolist() == [0, 1, 2, 3, 4]
    assert 5 not in found.items
    assert sources.is_bought(found).nonzero()[0].tolist() == [0]


def test_only_what_may_stand_there_is_proposed(sources: Sources):
    """Where three items may, each source proposes its best of them; what was bought and may not is no candidate."""
    found = sources.candidates(np.array([0, 1]), np.isin(np.arange(6), [2, 3, 5]))
    assert [rows.tolist() for rows in np.split(found.items, found.offsets[1:-1])] == [[2, 3], [2, 3]]


@pytest.mark.parametrize(("n", "share"), [(4, 0.5), (30, 0.9), (3, 0.0)])
def test_what_sells_is_sought_once_for_everybody(n: int, share: float):
    """Each user gets the list that the exact search finds: ties by position, and -1 where nothing is left."""
    dice = np.random.default_rng(7)
    buyers, allowed = dice.integers(0, 6, size=25) * 0.3, dice.random(25) < share
    exclude = sparse.random_array((40, 25), density=0.3, rng=dice, format="csr")
    found = Popularity(buyers).propose(np.arange(40), n, exclude, allowed)
    one, sold = np.ones((40, 1), np.float32), buyers.astype(np.float32)[:, None]
    np.testing.assert_array_equal(found, retrieval.top_items(one, sold, n, exclude, allowed)[0])


def test_every_source_scores_every_candidate(sources: Sources):
    """An item that popularity proposed carries what ALS and the neighbours say of it too."""
    found = sources.candidates(np.array([0]))
    scores = dict(zip(found.items.tolist(), found.scores.round(3).tolist(), strict=True))
    assert scores[2] == pytest.approx([0.1, 0.5, 0.0, 0.0, 0.0, np.log1p(3.0)], abs=1e-3)
    assert scores[0] == pytest.approx([0.9, 0.0, 0.0, 0.0, 0.7, np.log1p(1.0)], abs=1e-3)


def test_neighbours_say_the_same_of_few_users_at_once(monkeypatch: pytest.MonkeyPatch):
    """Proposals and scores of five users, each of whom must not be given other items, of whom two at a time are read,
    are those of all at once."""
    dice = np.random.default_rng(4)
    histories, exclude = (sparse.random_array((5, 30), density=0.2, rng=dice, format="csr") for _ in range(2))
    source = Beside(Neighbours(dice.random((30, 30), dtype=np.float32)), histories)
    users, pairs = np.arange(5), (np.repeat(np.arange(5), 30), np.tile(np.arange(30), 5))
    whole = source.propose(users, 4, exclude, np.ones(30, bool)), source.score(*pairs)
    monkeypatch.setattr(sources_of_fuse, "USERS_AT_ONCE", 2)
    parts = source.propose(users, 4, exclude, np.ones(30, bool)), source.score(*pairs)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_source_ranks_only_what_it_speaks_for(sources: Sources):
    """ALS says nothing of items 3 and 4 to user 0: they have no rank there, so that no tie order becomes a score."""
    found = sources.candidates(np.array([0]))
    assert found.source_ranks[:, SOURCES.index("als")].tolist() == [1, 2, 3, 0, 0]


def test_placements_bar_before_they_rank(sources: Sources):
    """`discover` never holds what was bought, `buy_again` nothing else."""
    found = sources.candidates(np.array([0, 1]))
    whole = Slate(found, sources.is_bought(found), np.zeros((len(found.items), len(features.NAMES)), dtype=np.float32))
    assert 0 not in whole.only(whole.eligible("discover")).found.items[:4]
    again = whole.only(whole.eligible("buy_again")).found
    assert (again.items.tolist(), again.offsets.tolist()) == ([0], [0, 1, 1])


def test_no_users_give_no_candidates():
    """A shop without users is fused like any other."""
    empty = joined([], len(SOURCES))
    assert (len(empty.items), empty.scaled.shape, empty.reciprocal_ranks.shape) == (0, (0, 6), (0, 6))


@pytest.mark.parametrize("name", ["lambdarank", "blend"])
def test_a_ranking_learns_the_source_that_foretells(name: str):
    """Users buy what one source names and the others know nothing of: for other users it then comes first."""
    learnt = rankings.learn(name, "for_you", [notes(lesson(400))], SmallRun())
    told = lesson(50, seed=4)
    best = told.slate.found.best(learnt.score(told.slate), 1)
    assert best[:, 0].tolist() == told.wanted.indices.tolist()


@pytest.mark.parametrize("name", rankings.CONTENDERS)
def test_parts_sum_to_the_score(name: str):
    """Whatever ranks tells what each part added."""
    learnt, told = rankings.learn(name, "for_you", [notes(lesson(400))], SmallRun()), lesson(50, seed=4)
    rows = np.arange(0, 250, 7)
    parts = learnt.parts(told.slate, rows)
    assert parts.shape == (len(rows), len(PARTS))
    assert np.allclose(parts.sum(axis=1), learnt.score(told.slate)[rows])


def test_without_a_purchase_reciprocal_ranks_are_all_there_is():
    """There is nothing to learn: neither trees nor blend contend, and the choice falls on what needs no learning."""
    told = lesson(4)
    nobody = Lesson(told.slate, np.zeros(len(told.labels), dtype=bool), sparse.csr_matrix(told.wanted.shape))
    for name in ("lambdarank", "blend"):
        with pytest.raises(NothingToLearn):
            rankings.learn(name, "for_you", [notes(nobody)], SmallRun())
    assert proof.choose({"rrf": judged([0])}, "for_you", "lambdarank", seed=1) == "rrf"


def judged(hits: list[int]) -> Judged:
    """A ranking that puts the wanted item first for the users of `hits`, of forty, and last for the others."""
    first = np.isin(np.arange(40), hits)
    ranked = np.where(first[:, None], [[0, 1]], [[1, 0]])
    return Judged(ranked, sparse.csr_matrix((np.ones(40), (np.arange(40), np.zeros(40, dtype=int))), shape=(40, 2)))


def test_trees_give_way_only_to_a_plainer_ranking_that_is_better_beyond_chance():
    """One user of forty is chance; half of them are not. Own frequency and popularity are rivals, too."""
    some, more, most = judged(list(range(20))), judged(list(range(21))), judged(list(range(40)))
    assert proof.choose({"lambdarank": some, "rrf": more, "habit": more}, "for_you", "lambdarank", 1) == "lambdarank"
    assert proof.choose({"lambdarank": some, "rrf": most}, "for_you", "lambdarank", 1) == "rrf"
    assert proof.choose({"lambdarank": some, "rrf": some, "habit": most}, "for_you", "lambdarank", 1) == "rrf"
    assert proof.choose({"lambdarank": some, "blend": most, "rrf": some}, "for_you", "lambdarank", 1) == "blend"
    assert proof.choose({"lambdarank": most, "blend": some, "rrf": some}, "for_you", "blend", 1) == "blend"


def test_nobody_is_judged_by_what_was_learnt_of_them():
    """Without an earlier window the halves of the users teach each other; one half alone teaches nothing."""
    told, learn = lesson(40), partial(rankings.learn, "blend", run=SmallRun())
    assert rankings.taught(learn, "for_you", []) is None
    even, odd = (learn("for_you", [notes(told.half(odd))]).score(told.half(not odd).slate) for odd in (True, False))
    score = rankings.crossed(learn, "for_you", notes(told))(told.slate).reshape(20, 2, 5)
    assert (score[:, 0].ravel().tolist(), score[:, 1].ravel().tolist()) == (even.tolist(), odd.tolist())
    alone = replace(told, labels=told.labels & (told.slate.found.row_owners % 2 == 1))
    assert rankings.crossed(learn, "for_you", notes(alone)) is None


def test_an_ablated_source_is_gone_with_its_proposals():
    """Its columns are unknown, its scores silent, and what it alone proposed is out."""
    told = lesson(3)
    less = told.without("habit", proposals=1)
    own = np.array([group == "habit" for group in features.GROUPS])
    assert np.isnan(less.slate.features[:, own]).all()
    assert not less.slate.found.scores[:, SOURCES.index("habit")].any()
    others = np.delete(told.slate.found.scores, SOURCES.index("habit"), axis=1).reshape(3, 5, -1)
    kept = [sorted(set(one.argmax(axis=0).tolist())) for one in others]
    assert [rows.tolist() for rows in np.split(less.slate.found.items, less.slate.found.offsets[1:-1])] == kept


def test_what_a_part_tells_is_lost_without_it():
    """Users buy what habit names: without it the order is left to chance, and nobody else is missed."""
    records = ablation(SmallRun(), [[lesson(400)], [lesson(200, seed=4)]], "for_you", "lambdarank")
    losses = {record["metric"].split("/")[1].removeprefix("loss_without_"): record for record in records}
    assert set(losses) == set(PARTS)
    assert losses.pop("habit")["low"] > 0.2
    assert max(abs(loss["value"]) for loss in losses.values()) < 0.05


def test_held_out_lists_are_what_was_judged():
    """Ten rows at most, without padding, by id, and the last day that they know."""
    run = SimpleNamespace(holdout_cut="2026-02-15", run_id="r")
    marts = SimpleNamespace(users=Vocabulary(["anna", "bert"]), items=Vocabulary("abcdefghijkl"))
    ranked = np.array([np.arange(12), [3, 1, *[-1] * 10]])
    told = proof.lists(run, marts, np.array([1, 0]), {"for_you": ranked})
    assert told.groupby("user_id")["item_id"].agg("".join).to_dict() == {"anna": "db", "bert": "abcdefghij"}
    assert told.loc[told["user_id"] == "anna", "rank"].tolist() == [1, 2]


def test_thinning_keeps_every_purchase():
    """Two negatives a user: at most three rows each, the bought one among them; who bought nothing teaches nothing."""
    told = lesson(30)
    some = replace(told, labels=told.labels & (told.slate.found.row_owners < 20))
    thin = some.only(some.thinned("for_you", 2, seed=5))
    assert thin.labels.sum() == 20
    assert np.diff(thin.slate.found.offsets).tolist() == [3] * 20 + [0] * 10


def test_what_teaches_is_drawn_by_user_and_item():
    """A user keeps the same candidates in any company, and others by another seed."""
    told, some = lesson(30), np.arange(3, 30, 4)
    thin = told.only(told.thinned("for_you", 2, seed=5))
    few = told.of(some)
    assert (
        few.only(few.thinned("for_you", 2, seed=5)).slate.found.items.tolist()
        == thin.of(some).slate.found.items.tolist()
    )
    assert told.thinned("for_you", 2, seed=5).tolist() != told.thinned("for_you", 2, seed=6).tolist()


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("placement", rankings.LEARNED)
def test_notes_of_blocks_teach_what_the_whole_lesson_teaches(size: int, placement: str, tmp_path):
    """Whether users are read one by one, seven at a time or all at once: the same trees and weights, to the byte."""
    told = lesson(60)
    told = replace(told, slate=replace(told.slate, is_bought=np.random.default_rng(5).random(300) < 0.2))
    blocks = [told.of(np.arange(start, min(start + size, 60))) for start in range(0, 60, size)]
    for name in ("lambdarank", "blend"):
        for path, lessons in (("whole", [told]), ("blocks", blocks)):
            read = [notes(*lessons, negatives=2)]
            rankings.learn(name, placement, read, SmallRun()).save(tmp_path / path)
        assert (tmp_path / "blocks").read_bytes() == (tmp_path / "whole").read_bytes()


def test_notes_are_thin_and_teach_no_less():
    """Trees learn from notes what they learn from all rows; notes hold but what one of the placements reads."""
    told = lesson(60)
    told = replace(told, slate=replace(told.slate, is_bought=np.random.default_rng(5).random(300) < 0.2))
    (thin,) = notes(told, negatives=2).thin
    for placement in rankings.LEARNED:
        expected = told.only(told.thinned(placement, 2, SmallRun.settings.seed)).slate.found
        found = thin.only(thin.thinned(placement, 2, SmallRun.settings.seed)).slate.found
        assert (found.items.tolist(), found.offsets.tolist()) == (expected.items.tolist(), expected.offsets.tolist())
    assert len(thin.labels) < 250


@pytest.mark.parametrize("count_earlier", [0, 1])
def test_blocks_are_judged_as_the_whole_is(count_earlier: int):
    """One user at a time, seven or all: equal lists, purchases and candidates, whether an earlier window teaches or the
    halves of the last one teach each other."""

    def judged(size: int) -> list[object]:
        *earlier, last = (window(lesson(60, seed), size) for seed in range(count_earlier + 1))
        told = [proof._read(SmallRun(), one) for one in earlier]
        scores, notes, lessons = proof._contenders(SmallRun(), told, last)
        found = proof._judged(SmallRun(), lessons, scores).values()
        lists = [
            (name, one.ranked.tolist(), one.wanted.toarray().tolist())
            for b in found
            for name, one in b.judged().items()
        ]
        return [
            *lists,
            *(b.candidates(name).to_dict("list") for b in found for name in rankings.CONTENDERS),
            len(notes.thin),
        ]

    whole = judged(60)
    assert len(whole) == 2 * (len(SOURCES) + 2 * len(rankings.CONTENDERS)) + 1
    assert judged(1)[:-1] == judged(7)[:-1] == whole[:-1]
    assert judged(7)[-1] == 9  # read once, whoever teaches


def window(told: Lesson, size: int) -> SimpleNamespace:
    """Whose lessons are blocks of so many users."""
    count = len(told.slate.found.owners)
    starts = range(0, count, size)
    lessons = lambda: (told.of(np.arange(start, min(start + size, count))) for start in starts)  # noqa: E731
    return SimpleNamespace(lessons=lessons, wanted=told.wanted, every=lambda most: np.arange(count))


def test_the_rows_of_a_shelf_are_taken_apart_and_no_more():
    """Item 2 cannot be bought: the first two others tell their parts, the rest only their score."""
    told = lesson(2)
    may_stand = {"for_you": np.arange(5) != 2, "buy_again": np.ones(5, dtype=bool)}
    shown = scoring.ranked(told.slate, ReciprocalRanks(), ["for_you", "buy_again"], 4, may_stand, told=2)
    placement, user, item, score, *parts = shown
    assert user.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert (np.diff(score.reshape(2, 4)) <= 0).all()
    for one in np.split(np.arange(8), 2):
        expected = [row for row in one if item[row] != 2][:2]
        assert [row for row in one if np.isfinite(parts[0][row])] == expected
    assert set(placement) == {"for_you"}


def test_a_declared_shelf_keeps_the_promise_that_it_shares():
    """Like discover: nothing bought, under its own name, with parts for all among which the list builder chooses."""
    told = lesson(2).slate
    is_bought = told.found.items == 0
    own = settings.parse({"placements": {"own": {"ranking": "discover", "length": 20}}, "shelve": {"length": 1}})
    learnt = {"for_you": None, "discover": ReciprocalRanks()}
    some = Slate(told.found, is_bought, told.features)
    placement, _, item, _, *parts = scoring.declared("own", some, learnt, own, {"own": np.ones(5, dtype=bool)})
    assert (set(placement), 0 in item, len(item)) == ({"own"}, False, 8)
    assert np.isfinite(parts).all()


def test_reciprocal_ranks_need_no_lesson(sources: Sources):
    """Item 2 of user 0 is named by ALS third, by the neighbours first and by popularity first."""
    found = sources.candidates(np.array([0]))
    slate = Slate(found, sources.is_bought(found), np.empty((5, 0), dtype=np.float32))
    assert ReciprocalRanks().score(slate)[2] == pytest.approx(1 / 63 + 1 / 61 + 1 / 61)


def test_the_loudest_part_is_personal_unless_what_sells_outweighs_all_that_is():
    """What speaks against the item takes nothing off."""
    parts = np.zeros((3, len(evidence.SPEAKERS)))
    parts[:, evidence.SPEAKERS.index("als")], parts[:, evidence.HABIT] = 0.4, [0.3, 0.3, -0.3]
    parts[:, evidence.SPEAKERS.index("popularity")] = [0.6, 0.7, 0.3]
    assert evidence.loudest(parts).tolist() == ["als", "popularity", "als"]
