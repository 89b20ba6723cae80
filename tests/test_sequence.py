import numpy as np
import pytest
import torch

from models import personalization, sequence_training
from models.errors import Diverged, NothingToLearn
from models.histories import Histories
from models.profile import HistoryAttention, check_vectors
from models.sequence import SequenceConfig, SequenceModel
from models.sequence_training import sequence_vectors, train_sequence, withhold_last_day
from models.vocabulary import Vocabulary
from pipelines import train_profile

CONTENT = np.eye(12, dtype=np.float32)
CONFIG = SequenceConfig(12, 12, embedding_size=16)
DICE = np.random.default_rng(0)


def histories(positions, ages):
    """Purchases, each worth 1."""
    ones = np.ones(np.shape(positions), dtype=np.float32)
    return Histories(np.array(positions), np.array(ages, dtype=np.float32), ones, ones > 0)


# The day after item i everybody buys item i + 1, on a circle of twelve; a walk is four days long.
STARTS = DICE.integers(12, size=200)
WALKS = histories((STARTS[:, None] + np.arange(4)) % 12, np.tile([9, 6, 3, 0], (200, 1)))
FAST = {"epochs": 15, "batch_size": 32, "learning_rate": 2e-2}


@pytest.fixture(scope="module")
def trained():
    return train_sequence(CONTENT, WALKS, CONFIG, **FAST)


def test_the_next_step_comes_first(trained):
    """Who walked from i to i + 3 is foretold i + 4: the network reads what was last, not only what was at all."""
    users, items, _ = sequence_vectors(trained, CONTENT, WALKS)
    assert ((users @ items.T).argmax(axis=1) == (STARTS + 4) % 12).mean() > 0.95


def test_a_carried_network_knows_its_items_at_their_new_places(trained):
    """One item comes before all others, whose scores stay; it is scored, too, by what its text says."""
    names = [f"i{n:02}" for n in range(12)]
    carried = trained.carried(Vocabulary(names), Vocabulary(["a", *names]))
    before, items, _ = sequence_vectors(trained, CONTENT, WALKS)
    moved = histories(WALKS.positions + 1, WALKS.ages_days)
    after, more, _ = sequence_vectors(carried, np.concatenate([CONTENT[:1], CONTENT]), moved)
    np.testing.assert_allclose(after @ more[1:].T, before @ items.T, atol=1e-5)
    assert np.isfinite(after @ more[0]).all()


def test_a_sample_of_rivals_teaches_the_same():
    """With fewer rivals than items the correction keeps the answer right."""
    model = train_sequence(CONTENT, WALKS, CONFIG, rivals=6, **FAST)
    users, items, _ = sequence_vectors(model, CONTENT, WALKS)
    assert ((users @ items.T).argmax(axis=1) == (STARTS + 4) % 12).mean() > 0.95


def test_a_short_history_is_read_alike_in_any_company(trained):
    """Beside long ones, which come in other columns too, it has the vector and the attention that it has alone."""
    row, ages = [-1, 3, -1, 4], [0, 6, 0, 2]
    alone, _, attention = sequence_vectors(trained, CONTENT, histories([row], [ages]))
    beside, _, shares = sequence_vectors(
        trained, CONTENT, histories([*WALKS.positions[:3], row], [*WALKS.ages_days[:3], ages])
    )
    np.testing.assert_allclose(beside[3], alone[0], atol=1e-6)
    np.testing.assert_allclose(shares[3], attention[0], atol=1e-6)
    assert attention[0][[0, 2]].tolist() == [0, 0]


def test_steps_of_an_epoch_grow_with_users_up_to_a_bound(monkeypatch: pytest.MonkeyPatch):
    """Beyond the bound it is batches that grow; everybody teaches once an epoch all the same."""
    seen = []

    def counted(model, content, some, *_):
        seen.append(len(some))
        return model.bias.weight.sum()

    monkeypatch.setattr(sequence_training, "_loss", counted)
    for most, sizes in ((200, [8] * 25), (5, [40] * 5)):
        train_sequence(CONTENT, WALKS, CONFIG, epochs=1, batch_size=8, most_steps=most)
        assert seen == sizes
        seen.clear()


def test_no_day_sees_itself_or_later(trained):
    """What is foretold for a day does not change with what happened on it or after."""
    items, days, ones = torch.tensor([[1, 2, 3]]), torch.tensor([[-5.0, -3.0, -1.0]]), torch.ones(1, 3)
    content, asked, mask = torch.from_numpy(CONTENT), torch.tensor([[-3.0]]), ones > 0
    one, shares = trained(content, items, days, ones, mask, asked)
    other, _ = trained(content, torch.tensor([[1, 7, 8]]), days, ones, mask, asked)
    assert torch.equal(one, other)
    assert shares[0, 0].tolist() == [1, 0, 0]


def test_the_order_within_a_day_is_nothing(trained):
    """Events of one day may come in any order."""
    one, other = (
        sequence_vectors(trained, CONTENT, histories([row], [[5, 2, 2, 2]]))[0] for row in ([1, 2, 3, 4], [1, 4, 2, 3])
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_attention_sums_to_one(trained):
    """Also beside padding; a user without history is the zero vector and attends to nothing."""
    users, _, attention = sequence_vectors(trained, CONTENT, histories([[0, -1], [-1, -1]], [[3, np.nan], [0, 0]]))
    np.testing.assert_allclose(attention.sum(axis=1), [1, 0], atol=1e-6)
    assert np.isfinite(users).all()
    assert not users[1].any()


def test_equal_seeds_equal_sequences():
    """Two trainings agree to the bit; a start is not changed by going on from it."""
    one, again = (train_sequence(CONTENT, WALKS, CONFIG, epochs=1, seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    train_sequence(CONTENT, WALKS, CONFIG, epochs=1, start=one)
    assert torch.equal(one.own_in.weight, again.own_in.weight)


def test_an_epoch_reads_so_many_users_at_most(monkeypatch: pytest.MonkeyPatch):
    """Others in each; where there are no more users than that, the training is what it is without the bound."""
    read, loss = [], sequence_training._loss
    monkeypatch.setattr(sequence_training, "_loss", lambda *given: read.append(given[2]) or loss(*given))
    train_sequence(CONTENT, WALKS, CONFIG, epochs=2, batch_size=32, most_users=64)
    assert [len(one) for one in read] == [32] * 4
    starts = [np.concatenate([one.positions[:, 0] for one in epoch]).tolist() for epoch in (read[:2], read[2:])]
    assert starts[0] != starts[1]
    one, other = (train_sequence(CONTENT, WALKS, CONFIG, epochs=1, most_users=most) for most in (200, None))
    assert torch.equal(one.own_in.weight, other.own_in.weight)


def test_a_tenth_of_the_people_choose_the_network_but_no_more_than_twenty_thousand():
    """Evenly: of a million every fiftieth."""
    assert train_profile._tested(np.arange(1000)).tolist() == list(range(0, 1000, 10))
    many = train_profile._tested(np.arange(1_000_000))
    assert (len(many), many[1]) == (20_000, 50)


def test_one_day_teaches_nothing():
    """Whoever never came back is no example, and that is said."""
    with pytest.raises(NothingToLearn, match="none of 1 users came back"):
        train_sequence(CONTENT, histories([[1, 2]], [[4, 4]]), CONFIG)


def test_a_sequence_that_diverges_names_its_cure():
    """A learning rate beyond reason is an error."""
    with pytest.raises(Diverged, match="lower learning_rate"):
        train_sequence(CONTENT, WALKS, CONFIG, epochs=9, learning_rate=1e30)


def test_the_last_day_is_withheld():
    """Only the users named lose it, and it is told what they bought on it."""
    seen, wanted = withhold_last_day(histories([[1, 2, 3], [4, 5, 6]], [[9, 1, 1], [9, 1, 1]]), np.array([1]))
    assert seen.positions.tolist() == [[1, 2, 3], [4, -1, -1]]
    assert [one.tolist() for one in wanted] == [[5, 6]]


def test_the_better_network_is_kept(trained, tmp_path):
    """The sequence reads walks better than the attention, comes back from its folder, and gives the same vectors."""
    tested = np.arange(0, 200, 10)
    seen, wanted = withhold_last_day(WALKS, tested)
    attention = HistoryAttention(12).eval()
    figures = [personalization.measure(one, CONTENT, seen, tested, wanted) for one in (attention, trained)]
    trained.save(tmp_path)
    assert personalization.keep_better(tmp_path, *figures) == "sequence"
    loaded = personalization.load(tmp_path)
    assert isinstance(loaded, SequenceModel)
    for one, other in zip(*(personalization.read_history(n, CONTENT, WALKS) for n in (trained, loaded)), strict=True):
        np.testing.assert_array_equal(one, other)
    assert personalization.keep_better(tmp_path, 0.1, 0.1) == "attention"
    assert personalization.keep_better(tmp_path, 0.1, float("nan")) == "attention"


def test_collapsed_vectors_stop_the_night():
    """All cosines near 1, or a NaN, are named with their cure; a few items of one text are no collapse."""
    like = np.ones((20, 8)) + DICE.normal(size=(20, 8)) * 1e-3
    like /= np.linalg.norm(like, axis=1, keepdims=True)
    with pytest.raises(Diverged, match=r"collapsed.*lower profile\.learning_rate"):
        check_vectors(like)
    with pytest.raises(Diverged, match="1 of 2 item vectors are not finite"):
        check_vectors(np.array([[np.nan, 0], [1, 0]]))
    check_vectors(np.tile(like[0], (30, 1)))
    check_vectors(np.zeros((30, 8)))
    check_vectors(like[:1])
