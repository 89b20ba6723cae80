"""Candidates are the union of what the sources propose, ranked by parts that sum to the score."""

import numpy as np
import pytest
from scipy import sparse

from models.errors import NothingToLearn
from models.fusion import LinearBlend, cross_fitted_scores
from pipelines import fuse, shelve
from pipelines.fuse import SOURCES, Candidates, Sources
from pipelines.settings import Settings


class SmallRun:
    """As much of a run as fusing in memory needs: two candidates per source."""

    settings = Settings.model_validate({"fuse": {"candidates": 2}})


@pytest.fixture
def sources() -> Sources:
    """Two users and six items. Item 5 is not known yet; user 0 bought item 0, user 1 nothing."""
    bought = sparse.csr_matrix(([1.0], ([0], [0])), shape=(2, 6))
    return Sources(
        als_users=np.array([[1.0], [0.0]], dtype=np.float32),
        als_items=np.array([[0.9], [0.8], [0.1], [0.0], [0.0], [9.0]], dtype=np.float32),
        profile_users=np.array([[1.0], [0.0]], dtype=np.float32),
        profile_items=np.array([[0.0], [0.0], [0.0], [1.0], [0.5], [9.0]], dtype=np.float32),
        habit=bought * 0.7,
        bought=bought,
        popularity=np.array([1.0, 0.0, 3.0, 0.0, 2.0, 9.0]),
        known=np.array([True] * 5 + [False]),
    )


def test_candidates_are_the_union_and_everything_bought(sources: Sources):
    """User 0: ALS 1, 2; profile 3, 4; popular 2, 4; bought 0. What is not known yet is nobody's candidate."""
    found = fuse.candidates_of(SmallRun(), sources, np.array([0, 1]))
    assert found.items[: found.offsets[1]].tolist() == [0, 1, 2, 3, 4]
    assert 5 not in found.items
    assert found.is_bought.nonzero()[0].tolist() == [0]


def test_every_source_scores_every_candidate(sources: Sources):
    """An item that popularity proposed carries what ALS says of it too."""
    found = fuse.candidates_of(SmallRun(), sources, np.array([0]))
    scores = dict(zip(found.items.tolist(), found.scores.round(3).tolist(), strict=True))
    assert scores[2] == [0.1, 0.0, 0.0, round(float(np.log1p(3.0)), 3)]
    assert scores[0] == [0.9, 0.0, 0.7, round(float(np.log1p(1.0)), 3)]


def test_placements_filter_before_they_rank(sources: Sources):
    """`discover` never holds what was bought, `buy_again` nothing else."""
    found = fuse.candidates_of(SmallRun(), sources, np.array([0, 1]))
    assert 0 not in fuse.eligible(found, "discover").items[: fuse.eligible(found, "discover").offsets[1]]
    again = fuse.eligible(found, "buy_again")
    assert (again.items.tolist(), again.offsets.tolist()) == ([0], [0, 1, 1])


def test_no_users_give_no_candidates(sources: Sources):
    """A shop without users is fused like any other."""
    empty = fuse._joined([])
    assert (len(empty.items), empty.features.shape) == (0, (0, len(SOURCES)))


def test_without_a_held_out_purchase_rrf_ranks(sources: Sources):
    """There is nothing to learn: the choice falls on reciprocal-rank fusion, and the blend has no figures."""
    found = fuse.candidates_of(SmallRun(), sources, np.array([0, 1]))
    _, chosen, figures = fuse.learn_blend(found, sparse.csr_matrix((2, 6)), seed=1)
    assert chosen == "rrf"
    assert "blend" not in figures


def test_the_blend_learns_the_source_that_foretells():
    """Forty users buy what habit names, which every other source denies: the blend is chosen and habit carries it."""
    count = 40
    rng = np.random.default_rng(3)
    scores = rng.random((count * 5, len(SOURCES)))
    wanted_item = rng.integers(0, 5, size=count)
    habit = np.zeros((count, 5))
    habit[np.arange(count), wanted_item] = 1.0
    scores[:, SOURCES.index("habit")] = habit.ravel()
    found = Candidates(
        users=np.arange(count),
        offsets=np.arange(count + 1) * 5,
        items=np.tile(np.arange(5), count),
        scores=scores,
        is_bought=np.zeros(count * 5, dtype=bool),
    )
    wanted = sparse.csr_matrix((np.ones(count), (np.arange(count), wanted_item)), shape=(count, 5))
    blend, chosen, figures = fuse.learn_blend(found, wanted, seed=1)
    assert chosen == "blend"
    assert blend.weights.argmax() == SOURCES.index("habit")
    assert figures["blend"]["recall_at_10"]["value"] == 1.0
    assert figures["fused"] == figures["blend"]


def test_cross_fitting_needs_both_halves():
    """With all purchases in one half, nobody can be measured honestly."""
    features, labels = np.eye(4)[:, :2], np.array([True, False, False, False])
    with pytest.raises(NothingToLearn):
        cross_fitted_scores(("a", "b"), features, np.array([0, 2, 4]), labels, np.array([0, 1]))


def test_parts_sum_to_the_score_whichever_ranks(sources: Sources):
    """Both the blend and RRF tell what each source added."""
    found = fuse.candidates_of(SmallRun(), sources, np.array([0, 1]))
    blend = LinearBlend(SOURCES)
    for chosen, score in (("blend", blend.score(found.features)), ("rrf", found.reciprocal_ranks.sum(axis=1))):
        assert np.allclose(fuse.contributions(found, blend, chosen).sum(axis=1), score)


def test_a_short_shelf_is_filled_from_the_segment_and_then_the_shop():
    """Ranks go on where the own candidates end, nothing repeats, scores fall, each row says which list filled it."""
    lists = [("segment_popularity", [7, 3]), ("shop_popularity", [3, 8, 9])]
    rows = shelve._missing("for_you", 4, 1, 4, {7}, lists)
    assert [(item, rank, fallback) for _, _, item, rank, fallback, _ in rows] == [
        (3, 2, "segment_popularity"),
        (8, 3, "shop_popularity"),
        (9, 4, "shop_popularity"),
    ]
    assert [score for *_, score in rows] == [-2.0, -3.0, -4.0]
