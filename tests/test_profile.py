import numpy as np
import pytest
import torch

from models.early_stop import Watch
from models.encoder import encode, load
from models.errors import Diverged, NothingToLearn
from models.histories import Histories
from models.item_text import FIELDS, TextTokenizer, Tokens
from models.profile import HistoryAttention, ItemProfileEncoder, ProfileConfig
from models.profile_training import (
    ITEMS,
    MAX_WORDS,
    QUERIES,
    WORDS,
    Batch,
    PairSource,
    contrastive_loss,
    pseudo_queries,
    split,
    train_encoder,
    train_history,
    user_vectors,
)

# Even items are of the garden, odd ones of the kitchen; a title is two words of its group, so that two items of one
# group mostly share no word. The last twenty items are cold: nobody has bought them.
GARDEN = ["spade", "seeds", "hose", "rake", "lawn", "soil", "hedge", "shears", "gravel", "fern", "bulb", "trowel"]
KITCHEN = ["pan", "knife", "whisk", "bowl", "oven", "spoon", "kettle", "grater", "jug", "tray", "sieve", "ladle"]
GROUP = np.arange(100) % 2
WARM, COLD = np.arange(80), np.arange(80, 100)
DICE = np.random.default_rng(0)
TITLES = [" ".join(DICE.choice((GARDEN, KITCHEN)[group], 2, replace=False)) for group in GROUP]
BASKETS = DICE.choice(40, size=(400, 2)) * 2 + DICE.integers(2, size=(400, 1))  # two warm items of one group
NO_PAIRS = np.empty((0, 2), dtype=np.int64)
POPULARITY = np.ones(100)
FAST = {"batch_size": 64, "learning_rate": 5e-3, "temperature": 0.1}


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer.train(TITLES * 2, vocabulary_size=600)


@pytest.fixture(scope="module")
def items(tokenizer):
    return tokenizer.encode_items({"title": TITLES}, max_tokens=12)


@pytest.fixture(scope="module")
def config(tokenizer):
    return ProfileConfig(tokenizer.vocabulary_size, embedding_size=16, hidden_size=32, heads=2, max_tokens=12)


@pytest.fixture(scope="module")
def trained(items, tokenizer, config):
    return train_encoder(
        items, tokenizer.encode_queries([]), BASKETS, NO_PAIRS, POPULARITY, config, steps=120, seed=3, **FAST
    )


def untrained(config, seed=0):
    """An encoder as it is before the first step."""
    torch.manual_seed(seed)
    return ItemProfileEncoder(config)


def agreement(encoder, items, rows):
    """Share of the twenty nearest neighbours of `rows` that are of their group."""
    vectors = encode(encoder, items)
    scores = vectors[rows] @ vectors.T
    scores[np.arange(len(rows)), rows] = -np.inf
    nearest = np.argsort(-scores, axis=1)[:, :20]
    return (GROUP[nearest] == GROUP[rows][:, None]).mean()


def test_neighbours_share_their_group(trained, items, config):
    """Baskets teach which words go together: neighbours agree with the group, also those of items nobody bought."""
    encoder, training = trained
    losses = training.losses
    assert agreement(encoder, items, WARM) > 0.97
    assert agreement(encoder, items, COLD) > 0.9
    assert agreement(untrained(config), items, WARM) < 0.9
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.5


def test_search_works_before_anyone_has_visited(items, tokenizer, config):
    """From the catalogue alone the encoder learns that a word asks for the items which bear it."""
    encoder, _ = train_encoder(
        items, tokenizer.encode_queries([]), NO_PAIRS, NO_PAIRS, POPULARITY, config, steps=150, **FAST
    )
    words = GARDEN + KITCHEN
    scores = encode(encoder, tokenizer.encode_queries(words)) @ encode(encoder, items).T
    best = scores.argsort(axis=1)[:, ::-1][:, :3]
    hits = [word in TITLES[item].split() for word, row in zip(words, best, strict=True) for item in row]
    assert np.mean(hits) > 0.9


def test_clicks_teach_words_that_no_item_bears(items, tokenizer, config):
    """Who asks for "cooking" and clicks on kitchen things teaches the word, also for items that were never clicked."""
    queries = tokenizer.encode_queries(["cooking", "outdoors"])
    clicks = np.column_stack([1 - GROUP[WARM], WARM])
    encoder, _ = train_encoder(items, queries, NO_PAIRS, clicks, POPULARITY, config, steps=120, **FAST)
    scores = encode(encoder, queries) @ encode(encoder, items).T
    liked = scores[0] > scores[1]
    assert (liked == (GROUP == 1))[COLD].mean() > 0.9


def test_equal_seeds_equal_weights(items, tokenizer, config):
    """Two trainings agree to the bit; another seed differs."""

    def vectors(seed):
        arguments = items, tokenizer.encode_queries([]), BASKETS, NO_PAIRS, POPULARITY, config
        return encode(train_encoder(*arguments, steps=4, seed=seed, **FAST)[0], items)

    np.testing.assert_array_equal(vectors(1), vectors(1))
    assert not np.array_equal(vectors(1), vectors(2))


def test_training_leaves_torch_as_it_was(items, tokenizer, config):
    """Neither the thread count nor the random state of the process is changed."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    arguments = items, tokenizer.encode_queries([]), BASKETS, NO_PAIRS, POPULARITY, config
    train_encoder(*arguments, steps=1, threads=threads + 1, **FAST)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_training_continues_from_earlier_weights(trained, items, tokenizer, config):
    """A start lowers the first loss, stays unchanged itself, and must have the shape that is asked for."""
    encoder, training = trained
    before = encode(encoder, items)
    arguments = items, tokenizer.encode_queries([]), BASKETS, NO_PAIRS, POPULARITY
    _, later = train_encoder(*arguments, config, steps=2, start=encoder, **FAST)
    assert later.losses[0] < training.losses[0] - 0.5
    np.testing.assert_array_equal(encode(encoder, items), before)
    with pytest.raises(ValueError, match="train from scratch or keep the shape"):
        train_encoder(*arguments, ProfileConfig(600), steps=1, start=encoder)


def test_training_ends_when_nothing_gets_better():
    """Two looks in a row without gain, or the time, end it; the best weights are remembered."""
    module, figures = torch.nn.Linear(1, 1), iter([3.0, 2.0, 2.5, 2.5, 1.0])
    watch = Watch(lambda: next(figures), patience=2, max_seconds=60, clock=lambda: 0)
    weights = []
    for step in range(1, 5):
        weights.append(module.weight.item())
        assert watch.is_over(module, step, 20) == (step == 4)
        torch.nn.init.normal_(module.weight)
    assert (watch.ended_by, watch.best["weight"].item()) == ("patience", weights[1])
    clock = iter([0, 61])
    late = Watch(lambda: 1.0, patience=2, max_seconds=60, clock=lambda: next(clock))
    assert late.is_over(module, 1, 1000)
    assert (late.ended_by, len(late.best)) == ("minutes", 2)


def test_it_is_told_how_training_went(trained):
    """A twentieth of the steps between two looks; five looks without gain after the best ended it."""
    _, training = trained
    assert (training.ended_by, len(training.losses)) == ("patience", 6 * len(training.validation))
    assert training.validation.index(min(training.validation)) == len(training.validation) - 6
    assert min(training.validation) < training.validation[0] - 0.2


def test_a_pair_kept_apart_is_kept_apart_whole():
    """One pair in twenty validates, and neither it nor its mirror image teaches; of a few pairs none is spared."""
    pairs = DICE.integers(300, size=(10_000, 2))
    taught, kept = split(np.concatenate([pairs, pairs[:, ::-1]]))
    sides = [{tuple(sorted(pair)) for pair in side.tolist()} for side in (taught, kept)]
    assert not sides[0] & sides[1]
    assert 0.03 < len(kept) / 20_000 < 0.07
    assert [len(side) for side in split(pairs[:50])] == [50, 50]


def test_hidden_words_are_guessed_from_their_neighbours(config):
    """Where two words always stand together, training teaches to name the one that is hidden."""
    encoder = untrained(config).train()
    ids = torch.tensor([[9, 5, 6], [9, 7, 8]]).repeat(32, 1)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        _, guesses = encoder.recall(ids, torch.ones_like(ids), encoder.hide(ids))
        optimizer.zero_grad()
        guesses.mean().backward()
        optimizer.step()
        losses.append(guesses.mean().item())
    assert np.mean(losses[-5:]) < 0.2 < losses[0]


def test_divergence_names_its_cure(items, tokenizer, config):
    """A learning rate beyond reason ends in an error, not in NaN vectors."""
    arguments = items, tokenizer.encode_queries([]), BASKETS, NO_PAIRS, POPULARITY, config
    with pytest.raises(Diverged, match="lower learning_rate 1e\\+30"):
        train_encoder(*arguments, steps=9, batch_size=16, learning_rate=1e30)


def test_nothing_to_learn_is_said(tokenizer, config):
    """Neither a pair nor a title is an error that asks for items."""
    silent = tokenizer.encode_items({"description": ["only this"]})
    with pytest.raises(NothingToLearn, match="load items"):
        train_encoder(silent, tokenizer.encode_queries([]), NO_PAIRS, NO_PAIRS, np.ones(1), config)


@pytest.mark.parametrize(
    ("baskets", "clicks", "expected"),
    [(BASKETS, [[0, 1]], [32, 16, 16]), (BASKETS, NO_PAIRS, [43, 0, 21]), (NO_PAIRS, NO_PAIRS, [0, 0, 64])],
)
def test_a_batch_mixes_the_kinds_that_exist(items, tokenizer, baskets, clicks, expected):
    """Half baskets, a quarter clicks, a quarter own words; what the shop lacks is shared out among the rest."""
    queries = tokenizer.encode_queries(["anything"])
    batch = PairSource(items, queries, baskets, np.array(clicks), POPULARITY, 64).draw(np.random.default_rng(0))
    assert np.bincount(batch.kinds, minlength=3).tolist() == expected
    assert len(batch.item_lefts) + len(batch.texts) == len(batch.rights) == len(batch.keys) == 64
    assert (batch.texts.lengths > 0).all()
    item_keys, query_keys, word_keys = (batch.keys[batch.kinds == kind] for kind in (ITEMS, QUERIES, WORDS))
    assert set(item_keys) <= set(range(100))
    assert set(query_keys) <= {100}
    assert len({*word_keys[word_keys < 0]}) == len(word_keys)


def test_the_sampling_probability_is_what_is_drawn(items, tokenizer):
    """log_q is the log frequency with which an item stands on the right of a pair."""
    skewed = np.array([[0, 1]] * 6 + [[2, 3]] * 2)
    popularity = 1e6 * np.bincount(skewed.ravel(), minlength=100)
    source = PairSource(items, tokenizer.encode_queries([]), skewed, NO_PAIRS, popularity, 64)
    dice = np.random.default_rng(0)
    rights = np.concatenate([source.draw(dice).rights for _ in range(400)])
    np.testing.assert_allclose(np.bincount(rights, minlength=100) / len(rights), np.exp(source.log_q), atol=0.01)
    assert np.exp(source.log_q).sum() == pytest.approx(1)


def test_pseudo_queries_are_own_words(tokenizer):
    """One to four tokens of the item's title, category and brand, in their order; never the price or description."""
    words = {"title": "spade seeds hose rake lawn", "category": "soil", "brand": "fern"}
    item = tokenizer.encode_items({k: [v] for k, v in {**words, "price_band": "pan", "description": "oven"}.items()})
    texts = pseudo_queries(item.take(np.zeros(500, dtype=int)), np.random.default_rng(0))
    own = item.ids[0][np.isin(item.fields[0], [FIELDS.index(name) for name in words]) & (item.ids[0] > 0)].tolist()
    places = [[own.index(one) for one in row if one] for row in texts.ids]
    assert all(row == sorted(set(row)) for row in places)
    assert {len(row) for row in places} == set(range(1, MAX_WORDS + 1))
    assert {place for row in places for place in row} == set(range(len(own)))
    assert any(np.diff(row).max(initial=1) > 1 for row in places)
    assert not texts.fields.any()


def test_a_pseudo_query_of_a_short_title_is_not_empty(tokenizer):
    """An item of one word gives that word."""
    item = tokenizer.encode_items({"title": ["spade"] * 50})
    assert (pseudo_queries(item, np.random.default_rng(0)).ids[:, :1] == item.ids[:, :1]).all()


def batch_of(rights, keys, kinds):
    """A batch that is only looked at by the loss."""
    texts = Tokens(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.int8))
    return Batch(np.array([]), texts, np.array(rights), np.array(kinds), np.array(keys), np.zeros(len(rights)))


def test_an_item_is_no_negative_of_itself():
    """Pairs with the same right side, or whose right is the left of another, do not push each other away."""
    # Pairs 5→7 and 7→5 and 8→7: every off-diagonal score is a false negative, so that nothing is left to lose.
    batch = batch_of(rights=[7, 5, 7], keys=[5, 7, 5], kinds=[ITEMS] * 3)
    assert contrastive_loss(torch.zeros(3, 3), batch, np.zeros(9)).item() == 0
    apart = batch_of(rights=[1, 2, 3], keys=[4, 5, 6], kinds=[ITEMS] * 3)
    assert contrastive_loss(torch.zeros(3, 3), apart, np.zeros(9)).item() == pytest.approx(np.log(3))


def test_a_query_is_no_rival_of_an_item():
    """From the item's side, left sides of another kind do not compete."""
    mixed = batch_of(rights=[1, 2, 3], keys=[4, 105, -1], kinds=[ITEMS, QUERIES, WORDS])
    assert contrastive_loss(torch.zeros(3, 3), mixed, np.zeros(9)).item() == pytest.approx(np.log(3) / 2)


def test_the_popular_are_forgiven():
    """logQ: an item that is drawn e times as often is lowered by 1 as a negative (Yi et al., 2019)."""
    batch = batch_of(rights=[1, 2], keys=[4, 5], kinds=[ITEMS, QUERIES])
    loss = contrastive_loss(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), batch, np.array([0.0, 0.0, 1.0]))
    first, second = np.log(2), np.log(np.exp(-1) + 1) + 1
    assert loss.item() == pytest.approx((first + second) / 2 / 2)


def test_vectors_come_in_the_order_given(trained, tokenizer):
    """Batches by length change neither order nor value, whatever the batch size."""
    encoder, _ = trained
    items = tokenizer.encode_queries(
        ["pan bowl jug tray", "pan", "hose rake soil", "oven knife", "fern"] * 5, max_tokens=12
    )
    ids, fields = torch.from_numpy(items.ids).long(), torch.from_numpy(items.fields).long()
    expected = encoder(ids, fields).detach().numpy()
    for batch_size in (7, 512):
        np.testing.assert_allclose(encode(encoder, items, batch_size), expected, atol=1e-5)
    assert encode(encoder, items).dtype == np.float32


def test_vectors_have_length_one(trained, items, tokenizer):
    """Every text gives a unit vector, a text without a word the zero vector."""
    encoder, _ = trained
    np.testing.assert_allclose(np.linalg.norm(encode(encoder, items), axis=1), 1, atol=1e-5)
    assert not encode(encoder, tokenizer.encode_queries(["", "  "])).any()
    assert encode(encoder, tokenizer.encode_queries([])).shape == (0, 16)


def test_an_empty_text_does_not_poison_the_gradient(config):
    """One item without text in a batch leaves all gradients finite."""
    encoder = untrained(config).train()
    ids = torch.tensor([[0, 0], [5, 6]])
    encoder(ids, torch.zeros_like(ids)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_fields_and_order_are_read_once_learnt(config):
    """At the start a text is a bag of words; with learnt fields and positions the same words differ."""
    encoder = untrained(config).eval()
    ids, query = torch.tensor([[5, 6], [6, 5]]), torch.zeros(2, 2, dtype=torch.long)
    one, swapped = encoder(ids, query).detach()
    np.testing.assert_allclose(one, swapped, atol=1e-5)
    torch.nn.init.normal_(encoder.position.weight)
    assert not torch.allclose(*encoder(ids, query), atol=1e-2)
    torch.nn.init.normal_(encoder.field.weight)
    assert not torch.allclose(encoder(ids, query), encoder(ids, query + 1), atol=1e-2)


def test_a_saved_encoder_comes_back(trained, items, tmp_path):
    """Encoder and attention share a folder of safetensors and JSON, and keep every bit."""
    encoder, _ = trained
    encoder.save(tmp_path)
    attention = HistoryAttention(16)
    torch.nn.init.normal_(attention.query.weight)
    attention.save(tmp_path)
    np.testing.assert_array_equal(encode(load(tmp_path), items), encode(encoder, items))
    assert torch.equal(HistoryAttention.load(tmp_path).query.weight, attention.query.weight)
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_texts_must_fit_the_encoder(config):
    """Too many tokens, or those of another tokenizer, are named before PyTorch stumbles over them."""
    encoder = untrained(config)
    with pytest.raises(ValueError, match="up to 13 tokens, the encoder reads 12"):
        encode(encoder, Tokens(np.ones((1, 13), np.int32), np.zeros((1, 13), np.int8)))
    with pytest.raises(ValueError, match="token 9999 is beyond"):
        encode(encoder, Tokens(np.full((1, 3), 9999, np.int32), np.zeros((1, 3), np.int8)))


def test_heads_must_divide_the_width():
    """A shape that cannot be built says which two numbers disagree."""
    with pytest.raises(ValueError, match="hidden_size 30 is not a multiple of heads 4"):
        ItemProfileEncoder(ProfileConfig(600, hidden_size=30))


def histories(positions, ages, weights=None):
    """Histories from lists; every event is worth 1 unless said otherwise."""
    weights = np.ones(np.shape(positions)) if weights is None else np.array(weights)
    bought = np.ones(np.shape(positions), dtype=bool)
    return Histories(np.array(positions), np.array(ages, dtype=np.float32), weights.astype(np.float32), bought)


VECTORS = DICE.normal(size=(6, 16)).astype(np.float32)


def test_the_user_is_the_weighted_sum_of_the_history():
    """Attention sums to one, skips padding wherever it stands, and rebuilds the user's vector exactly."""
    torch.manual_seed(0)
    attention = HistoryAttention(16)
    torch.nn.init.normal_(attention.query.weight)
    done = histories([[0, 1, 2], [-1, 3, -1], [-1, -1, -1]], [[0, 5, 9], [np.nan, 2, np.nan], [np.nan] * 3])
    users, weights = user_vectors(attention, VECTORS, done)
    np.testing.assert_allclose(weights.sum(axis=1), [1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(users, (weights[..., None] * VECTORS[done.positions]).sum(axis=1), atol=1e-6)
    np.testing.assert_array_equal(weights[1], [0, 1, 0])
    assert not users[2].any()


def test_users_do_not_depend_on_their_batch():
    """One user at a time gives what all together give, also for no user at all."""
    done = histories([[0, 1], [2, -1], [3, 4]], [[1, 2], [3, 0], [5, 6]])
    for one, all_together in zip(
        user_vectors(HistoryAttention(16), VECTORS, done, batch=1),
        user_vectors(HistoryAttention(16), VECTORS, done),
        strict=True,
    ):
        assert one.shape == all_together.shape
    attention = HistoryAttention(16)
    np.testing.assert_allclose(
        user_vectors(attention, VECTORS, done, batch=1)[0], user_vectors(attention, VECTORS, done)[0], atol=1e-6
    )
    assert user_vectors(attention, VECTORS, histories(np.zeros((0, 2), int), np.zeros((0, 2))))[0].shape == (0, 16)


def test_recent_and_heavy_events_count_for_more():
    """Before it has learnt anything, attention falls with age and rises with the event's weight."""
    done = histories([[0, 1], [0, 1]], [[0, 30], [5, 5]], [[1, 1], [1, 4]])
    _, weights = user_vectors(HistoryAttention(16), VECTORS, done)
    assert weights[0, 0] > weights[0, 1]
    assert weights[1, 0] < weights[1, 1]


@pytest.mark.parametrize("recent", [True, False])
def test_attention_learns_which_events_foretell(recent):
    """Where the next purchase repeats the last one attention turns to the last, where the first one, to the first."""
    dice = np.random.default_rng(1)
    vectors = np.eye(8, dtype=np.float32)
    positions = dice.permuted(np.tile(np.arange(8), (600, 1)), axis=1)[:, :4]
    done = histories(positions, np.tile([1, 10, 40, 160], (600, 1)))
    wanted = positions[:, 0 if recent else 3]
    attention = train_history(vectors, done, wanted, np.bincount(wanted, minlength=8), steps=150, learning_rate=0.05)
    _, weights = user_vectors(attention, vectors, done)
    assert (weights.argmax(axis=1) == (0 if recent else 3)).mean() > 0.95


def test_padding_may_hold_anything():
    """Ages that are missing at padding do not reach the gradient."""
    done = histories([[0, -1], [2, 3]], [[1, np.nan], [3, 4]], [[1, np.nan], [1, 1]])
    attention = train_history(VECTORS, done, np.array([4, 5]), np.ones(6), steps=3, batch_size=8)
    assert all(torch.isfinite(p).all() for p in attention.parameters())


def test_training_the_history_repeats():
    """Equal seeds give equal attention; no history at all is an error that asks for a wider window."""
    done = histories([[0, 1], [2, 3]], [[1, 2], [3, 4]])
    first, again = (
        train_history(VECTORS, done, np.array([4, 5]), np.ones(6), steps=5, batch_size=8, seed=2) for _ in range(2)
    )
    assert torch.equal(first.key.weight, again.key.weight)
    with pytest.raises(NothingToLearn, match="none of 1 histories"):
        train_history(VECTORS, histories([[-1]], [[0]]), np.array([0]), np.ones(6))
