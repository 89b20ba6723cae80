import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import fusion
from models.errors import NothingToLearn
from models.fusion import LinearBlend, Ranker, log_ranks, ranks_by_user, reciprocal_ranks, scale_by_user

OFFSETS = np.array([0, 0, 3, 3, 5, 5])  # users 0, 2 and 4 have no candidate


def test_each_source_runs_from_zero_to_one_within_a_user():
    """Scales do not leak between users or sources, and users without candidates are no obstacle."""
    scores = np.array([[1, 9], [3, 7], [2, 8], [100, 0], [300, 1]], dtype=float)
    expected = [[0, 1], [1, 0], [0.5, 0.5], [0, 0], [1, 1]]
    assert scale_by_user(scores, OFFSETS).tolist() == expected


def test_what_a_source_does_not_know_is_zero():
    """NaN and -inf are unknown: they score 0 and do not stretch the scale; constants say nothing and score 0."""
    scores = np.array([[np.nan, 5], [4, 5], [2, 5], [np.nan, -np.inf], [np.nan, 3]])
    assert scale_by_user(scores, OFFSETS).tolist() == [[0, 0], [1, 0], [0, 0], [0, 0], [0, 0]]


@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32) | st.just(float("nan")), max_size=5), max_size=6))
def test_scaling_is_what_a_loop_over_users_does(users):
    """The vectorised scale agrees with the plain one for any split into users."""
    offsets = np.cumsum([0, *map(len, users)])
    scores = np.array([score for user in users for score in user]).reshape(-1, 1)
    expected = []
    for user in users:
        known = [score for score in user if score == score]
        low, high = min(known, default=0), max(known, default=0)
        expected += [(s - low) / (high - low) if s == s and high > low else 0.0 for s in user]
    np.testing.assert_allclose(scale_by_user(scores, offsets)[:, 0], expected)


def test_ranks_start_at_one_for_each_user():
    """The largest score has rank 1, equal scores go to the smaller position, NaN comes last."""
    scores, positions = np.array([2.0, np.nan, 2.0, 5.0, 7.0]), np.array([9, 1, 4, 0, 3])
    assert ranks_by_user(scores, OFFSETS, positions).tolist() == [2, 3, 1, 2, 1]


@pytest.mark.parametrize("kind", ["float32", "float64", "int64"])
@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("shuffled", [False, True])
def test_ranks_are_those_of_sorting_by_user_score_and_position(monkeypatch, kind, broken, shuffled):
    """Equal scores, users without rows, positions in any order and scores that are not finite, a few users at once."""
    monkeypatch.setattr(fusion, "USERS_AT_ONCE", 7)
    dice = np.random.default_rng(2)
    counts = dice.integers(0, 40, size=30)
    users, positions = np.repeat(np.arange(30), counts), np.arange(counts.sum())
    scores = dice.integers(-3, 4, size=counts.sum()).astype(kind)
    if broken and kind != "int64":
        scores[::7], scores[::9] = np.nan, -np.inf
    positions = dice.permutation(positions) if shuffled else positions
    order = np.lexsort((positions, -scores, users))
    ranks = ranks_by_user(scores, np.append(0, np.cumsum(counts)), positions)
    assert ranks[order].tolist() == [place + 1 for count in counts for place in range(count)]


def test_no_candidates_at_all():
    """A night without candidates gives empty answers."""
    assert scale_by_user(np.zeros((0, 2)), np.zeros(3, int)).shape == (0, 2)
    assert ranks_by_user(np.zeros(0), np.zeros(3, int), np.zeros(0)).shape == (0,)


def test_offsets_must_tile_the_rows():
    """Offsets of another night's rows are refused."""
    with pytest.raises(ValueError, match="offsets must rise from 0 to the 4 rows"):
        scale_by_user(np.zeros((4, 2)), OFFSETS)


def test_reciprocal_ranks_add_up():
    """Each source that lists an item adds 1 / (60 + rank); 0 and NaN add nothing."""
    fused = reciprocal_ranks(np.array([[1, 2], [3, 0], [np.nan, np.nan]])).sum(axis=1)
    np.testing.assert_allclose(fused, [1 / 61 + 1 / 62, 1 / 63, 0])


def test_logarithms_of_ranks_run_from_one_to_nothing():
    """The first of a source has 1, what it does not list 0, and twice the rank costs the same anywhere."""
    told = log_ranks(np.array([[1, 0], [2, 1], [4, 7]]), np.array([7, 7, 7]))
    assert told[:, 0].tolist() == pytest.approx([1, 2 / 3, 1 / 3])
    assert told[:, 1].tolist() == pytest.approx([0, 1, 1 - np.log(7) / np.log(8)])


def choices(users=400, seed=0):
    """Ten candidates a user; the one bought follows a logit with weights 3, 1 and 0 on three sources."""
    dice = np.random.default_rng(seed)
    features = dice.random((users * 10, 3))
    wish = features @ [3.0, 1.0, 0.0] + dice.gumbel(size=users * 10)
    labels = np.zeros(users * 10, dtype=bool)
    labels[np.arange(0, users * 10, 10) + wish.reshape(users, 10).argmax(axis=1)] = True
    return features, np.arange(0, users * 10 + 1, 10), labels


def test_the_blend_finds_the_weights_that_made_the_choices():
    """From choices of a known logit come its weights back."""
    blend = LinearBlend(["als", "profile", "noise"]).fit(*choices(users=4000))
    np.testing.assert_allclose(blend.weights, [3.0, 1.0, 0.0], atol=0.15)


def test_a_harmful_source_gets_no_weight():
    """Weights never fall below zero."""
    features, offsets, labels = choices()
    blend = LinearBlend(["good", "bad"]).fit(np.column_stack([features[:, 0], -features[:, 0]]), offsets, labels)
    assert blend.weights[0] > 1
    assert blend.weights[1] == 0


def test_users_without_a_choice_do_not_count():
    """Users who bought nothing, or everything, or have no candidate leave the weights as they were."""
    features, offsets, labels = choices()
    more = np.random.default_rng(9).random((6, 3))
    padded = np.concatenate([features, more])
    wider = np.concatenate([offsets, [len(features), len(features) + 4, len(features) + 6, len(features) + 6]])
    bought = np.concatenate([labels, [False] * 4, [True] * 2])
    expected = LinearBlend("abc").fit(features, offsets, labels).weights
    np.testing.assert_array_equal(LinearBlend("abc").fit(padded, wider, bought).weights, expected)


def test_the_gradient_is_the_slope_of_the_likelihood():
    """At the optimum no small step raises the likelihood, for users with several purchases too."""
    features, offsets, labels = choices(users=60)
    labels = labels | (np.random.default_rng(2).random(len(labels)) < np.repeat([0.0, 0.6], 300))
    blend = LinearBlend("abc", regularization=0.0).fit(features, offsets, labels)

    def likelihood(weights):
        by_user = (features @ weights).reshape(-1, 10)
        log_p = by_user - np.log(np.exp(by_user).sum(axis=1, keepdims=True))
        return log_p.ravel()[labels].sum()

    nearby = [np.maximum(blend.weights + step, 0) for step in np.vstack([np.eye(3), -np.eye(3)]) * 0.002]
    assert max(map(likelihood, nearby)) <= likelihood(blend.weights)


def test_contributions_sum_to_the_score():
    """What each source adds is the score."""
    features, offsets, labels = choices()
    blend = LinearBlend(["als", "profile", "noise"]).fit(features, offsets, labels)
    np.testing.assert_array_equal(blend.contributions(features).sum(axis=1), blend.score(features))
    np.testing.assert_allclose(blend.score(features), features @ blend.weights)


def test_a_saved_blend_comes_back(tmp_path):
    """Saving and loading keeps names and every bit of the weights."""
    blend = LinearBlend(["als", "profile", "noise"]).fit(*choices())
    blend.save(tmp_path / "blend.json")
    loaded = LinearBlend.load(tmp_path / "blend.json")
    assert loaded.sources == ("als", "profile", "noise")
    np.testing.assert_array_equal(loaded.weights, blend.weights)


def test_before_learning_all_sources_count_the_same():
    """A blend that was never fitted is the mean of its sources, and it fits the ranker's seat."""
    blend: Ranker = LinearBlend(["a", "b"])
    assert blend.score(np.array([[1.0, 0.0], [1.0, 1.0]])).tolist() == [0.5, 1.0]


def test_without_a_purchase_there_is_nothing_to_learn():
    """No bought candidate is an error that names the way out."""
    features, offsets, labels = choices(users=3)
    with pytest.raises(NothingToLearn, match="reciprocal_ranks"):
        LinearBlend("abc").fit(features, offsets, np.zeros_like(labels))


def test_features_must_be_scaled_and_named():
    """NaN features, or more columns than sources, are refused."""
    with pytest.raises(ValueError, match="scale_by_user first"):
        LinearBlend("a").score(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="the sources are"):
        LinearBlend("a").score(np.zeros((2, 2)))
