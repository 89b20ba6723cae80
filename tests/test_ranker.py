import numpy as np
import pytest

from models.errors import NothingToLearn
from models.ranker import LambdaRank

OFFSETS = np.arange(0, 1501, 5)  # 300 users with five candidates each
NAMES = ("signal", "noise")


def world(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Each user takes the candidate with the largest signal."""
    features = np.random.default_rng(seed).random((1500, 2)).astype(np.float32)
    best = features[:, 0].reshape(-1, 5).argmax(axis=1)
    return features, (np.arange(5) == best[:, None]).ravel()


def ranker(**settings: object) -> LambdaRank:
    return LambdaRank(NAMES, **{"trees": 30, "leaves": 4, "least_rows": 20, **settings})


def test_the_trees_learn_what_people_take():
    """Of users that it has not seen, nearly all get what they took on top; guessing would serve a fifth."""
    learnt, (features, labels) = ranker().fit(world()[0], OFFSETS, world()[1]), world(seed=1)
    first = learnt.score(features).reshape(-1, 5).argmax(axis=1)
    assert (first == labels.reshape(-1, 5).argmax(axis=1)).mean() > 0.8


def test_payouts_sum_to_the_score():
    """Of each candidate, also of one with unknown features."""
    features, labels = world()
    learnt = ranker().fit(features, OFFSETS, labels)
    features[::7] = np.nan
    assert learnt.payouts([0, 1]).to(features).sum(axis=1) == pytest.approx(learnt.score(features), abs=1e-9)


def test_equal_arguments_give_equal_trees(tmp_path):
    """To the byte of the saved file; what is saved comes back with its scores, which no number of threads changes."""
    features, labels = world()
    for name in ("one", "other"):
        ranker(seed=5, threads=2).fit(features, OFFSETS, labels).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    learnt = ranker(seed=5, threads=2).fit(features, OFFSETS, labels)
    assert LambdaRank.load(tmp_path / "one").score(features).tolist() == learnt.score(features).tolist()
    assert (
        ranker(seed=5, threads=1).fit(features, OFFSETS, labels).score(features).tolist()
        == learnt.score(features).tolist()
    )


def test_a_rising_feature_never_lowers_a_score():
    """Though the lessons say the opposite: what is told to rise rises or says nothing."""
    features, labels = world()
    features[:, 0] = 1.0 - features[:, 0]
    learnt = ranker(rising=["signal"]).fit(features, OFFSETS, labels)
    ladder = np.stack([np.linspace(0, 1, 50), np.full(50, 0.5)], axis=1).astype(np.float32)
    assert (np.diff(learnt.score(ladder)) >= 0).all()
    free = ranker().fit(features, OFFSETS, labels).score(ladder)
    assert free[0] > free[-1]


@pytest.mark.parametrize("labels", [np.zeros(1500, dtype=bool), np.ones(1500, dtype=bool)])
def test_without_a_choice_there_is_nothing_to_learn(labels: np.ndarray):
    """Users who took nothing, or everything, tell no candidate from another."""
    with pytest.raises(NothingToLearn, match="1500 candidates"):
        ranker().fit(world()[0], OFFSETS, labels)
    with pytest.raises(NothingToLearn, match="0 candidates"):
        ranker().fit(np.empty((0, 2)), np.zeros(1, dtype=np.int64), np.empty(0, dtype=bool))


def test_users_without_candidates_are_no_obstacle():
    """Empty users among the others change nothing."""
    features, labels = world()
    with_gaps = np.insert(OFFSETS, [0, 7, len(OFFSETS)], [0, OFFSETS[7], OFFSETS[-1]])
    plain = ranker().fit(features, OFFSETS, labels).score(features)
    assert ranker().fit(features, with_gaps, labels).score(features).tolist() == plain.tolist()


def test_a_ranker_that_has_not_learnt_says_so():
    """Scoring before `fit` is a mistake of the caller."""
    with pytest.raises(RuntimeError, match="has not learnt"):
        ranker().score(np.zeros((1, 2)))
