"""The device of a run is decided as it opens, and obeyed by all that learns, reads and seeks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import profile_training, together
from models.errors import NothingToLearn
from models.item_text import TextTokenizer
from models.profile import ProfileConfig
from models.profile_training import PairSource
from models.together import ALONE
from pipelines import device, encoders, train_profile
from pipelines.errors import BadSetting
from pipelines.fuse.sources import Factors
from pipelines.marts import Marts
from pipelines.open import open_run
from pipelines.settings import parse
from tests.conftest import LAST_DAY

CUDA, AUTO = (parse({"machine": {"device": name}}) for name in ("cuda", "auto"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where PyTorch says that it can use a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_auto_is_settled_by_what_is_there(gpu: None, monkeypatch: pytest.MonkeyPatch):
    """A run keeps the device, not the question: with a GPU, and without."""
    assert device.settled(AUTO).machine.device == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.settled(AUTO).machine.device == "cpu"


@pytest.mark.parametrize(("built", "lacks"), [(None, "was built without CUDA"), ("13.0", "finds no GPU")])
def test_a_gpu_that_is_missing_is_told_before_the_night(shop: Path, monkeypatch, built: str | None, lacks: str):
    """The error says what lacks and the setting to change; nothing is left of the run."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built)
    with pytest.raises(BadSetting, match=rf"machine.device is cuda, and PyTorch .* {lacks}.*set machine.device to cpu"):
        open_run(owner="cli:here:1", day=LAST_DAY, overrides={"machine.device": "cuda"}, home=shop)
    assert not list((shop / "runs").glob("*"))


def test_the_run_tells_its_device(shop: Path):
    """What `auto` found stands in the run's settings, and so in the manifest of its release."""
    opened = open_run(owner="cli:here:1", day=LAST_DAY, overrides={"machine.device": "auto"}, home=shop)
    assert opened.settings.machine.device == ("cuda" if torch.cuda.is_available() else "cpu")


def test_items_are_sought_on_the_device(gpu: None, monkeypatch: pytest.MonkeyPatch):
    """Where the run's device is no CPU, a source's proposals pass the sieve that was made for it."""
    seen = []
    monkeypatch.setattr("models.retrieval_torch.on", lambda name: lambda items, room: seen.append((name, room)))
    sources = [Factors(np.ones((1, 2)), np.ones((3, 2)), 100, 2, device.sieve(told)) for told in (CUDA, parse({}))]
    for source in sources:
        source.propose(np.array([], dtype=int), 2, None, np.ones(3, dtype=bool))
    assert seen == [("cuda", 50)]


@pytest.mark.parametrize("is_learning", [True, False])
def test_what_an_encoder_makes_is_on_its_device(is_learning: bool):
    """Vectors and losses, on a device without memory (`meta`): nothing of them was made elsewhere."""
    titles = ["spade", "two spades", "a red hose"] * 40
    tokenizer = TextTokenizer.train(titles, vocabulary_size=300)
    items = tokenizer.encode_items({"title": titles}, max_tokens=8)
    shape = ProfileConfig(tokenizer.vocabulary_size, 8, layers=1, heads=2, hidden_size=8, max_tokens=8)
    batch = PairSource(
        items, tokenizer.encode_queries(["hose"]), np.array([[0, 1]]), np.array([[0, 2]]), np.ones(120), 128
    ).draw(np.random.default_rng(0))
    encoder = shape.build().to("meta").train(is_learning)
    encoder.recall = lambda ids, fields, hidden: (encoder(ids, fields), ids[:, 0].float())  # `meta` knows no counts
    found = profile_training._sides(encoder, items, batch, ALONE)
    assert {one.device.type for one in found} == {"meta"}


@pytest.mark.slow
def test_networks_learn_where_the_run_does(night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The encoder, the attention and the network of histories are all taught on the run's device."""
    taught = []

    def teach(*_: object, device: str, **__: object) -> None:
        taught.append(device)
        raise NothingToLearn("the device is known")

    monkeypatch.setattr(device, "chosen", lambda told: "meta")
    monkeypatch.setattr(profile_training, "train_encoder", teach)
    monkeypatch.setattr(profile_training, "train_history", teach)
    monkeypatch.setattr(train_profile, "train_sequence", teach)
    marts, until = Marts(night), night.cuts["holdout"]
    texts = encoders.item_texts(marts)
    tokenizer, shape = encoders._beginnings(night, texts)
    vectors = np.ones((len(marts.items), 4), np.float32)
    with pytest.raises(NothingToLearn):
        encoders._learn(
            night, marts, tokenizer, tokenizer.encode_items(texts, 8), until, shape, together.run, tmp_path, None
        )
    train_profile._train_history(night, marts, vectors, until)
    with pytest.raises(NothingToLearn):
        train_profile._train_sequence(night, vectors, marts.histories(until), None)
    assert taught == ["meta"] * 3


def test_tasks_of_spark_with_a_gpu_are_refused(gpu: None):
    """Whether it was asked for or found: several tasks learn on processors; a single process may learn anywhere."""
    several, alone = ({"launcher": "spark", "processes": count} for count in (2, 1))
    with pytest.raises(BadSetting, match=r"Set machine.device to cpu, or profile.launcher to local"):
        device.settled(parse({"machine": {"device": "auto"}, "profile": several}))
    assert device.settled(parse({"machine": {"device": "auto"}, "profile": alone})).machine.device == "cuda"
