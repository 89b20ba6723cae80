"""A Hugging Face encoder in place of the shop's own: a tiny one, made here and read without a network."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from models import pretrained
from models.encoder import as_tensors, encode, load
from models.errors import UnknownEncoder
from models.item_text import TextTokenizer
from models.pretrained import PretrainedEncoder
from models.profile_training import train_encoder

WORDS = ["spade", "seeds", "hose", "rake", "pan", "knife", "whisk", "bowl"]
GROUP = np.arange(16) % 2
TITLES = [" ".join(np.random.default_rng(row).choice(WORDS[4 * (row % 2) :][:4], 2)) for row in range(16)]
NONE = np.empty((0, 2), dtype=np.int64)


def checkpoint(folder: Path, padding: str = "[PAD]", width: int = 16) -> str:
    """A BERT of one layer that has learnt nothing, with a tokenizer of a few words."""
    frame = ["[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: place for place, word in enumerate([*sorted({padding, "[PAD]"} - {"[PAD]"}), "[PAD]", *frame])}
    vocabulary |= {word: len(vocabulary) + place for place, word in enumerate([*WORDS, "a"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    framing = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=framing)
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    special = {f"{name}_token": word for name, word in names.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    shape = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        pad_token_id=vocabulary["[PAD]"],
    )
    torch.manual_seed(0)
    BertModel(shape).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    return checkpoint(tmp_path_factory.mktemp("bert"))


def trained(source: str, fine_tune: pretrained.FineTune, steps: int = 3) -> tuple[TextTokenizer, PretrainedEncoder]:
    """After a few steps on baskets of one group each."""
    tokenizer, config = pretrained.read(source, 10, fine_tune)
    items = tokenizer.encode_items({"title": TITLES}, max_tokens=10)
    baskets = np.array([(a, b) for a in range(16) for b in range(16) if a != b and GROUP[a] == GROUP[b]])
    encoder, _ = train_encoder(
        items,
        tokenizer.encode_queries(["spade"]),
        baskets,
        np.array([[0, 0]]),
        np.ones(16),
        config,
        steps=steps,
        batch_size=32,
        learning_rate=0.02,
        temperature=0.1,
        seed=1,
    )
    return tokenizer, encoder


def test_a_text_reaches_the_model_as_its_own_tokenizer_lays_it(source: str):
    """Framed by [CLS] and [SEP], the latter right after the last word; fields follow each other without a frame."""
    tokenizer, config = pretrained.read(source, 10, "none")
    encoder = config.build()
    tokens = tokenizer.encode_items({"title": ["spade hose", "pan"], "brand": ["rake", None]}, max_tokens=10)
    ids, _ = as_tensors(tokens.take(np.array([0, 1])), encoder)
    words, mask = encoder._framed(ids, torch.zeros_like(ids, dtype=torch.bool), config.before)
    expected = TextTokenizer.load(source)._tokenizer.encode_batch(["spade hose rake", "pan"])
    assert [row[seen].tolist() for row, seen in zip(words, mask, strict=True)] == [one.ids for one in expected]


def test_padding_may_have_any_id(source: str, tmp_path: Path):
    """Where id 0 is a word, ids count from 1: a text reads as it did, and its word of id 0 does not vanish."""
    tokenizer, config = pretrained.read(checkpoint(tmp_path, padding="spade"), 10, "none")
    assert (tokenizer.shift, pretrained.read(source, 10, "none")[1].shift) == (1, 0)
    tokens = tokenizer.encode_queries(["spade pan"], max_tokens=10)
    assert tokens.lengths.tolist() == [2]
    assert tokenizer.decode(tokens.ids[0]) == "spade pan"
    assert encode(config.build(), tokens).any()


def vectors(source: str, told: dict[str, dict[str, object]], folder: Path) -> np.ndarray:
    """What an untaught encoder makes of a query and of an item, once files of sentence-transformers lie beside it."""
    shutil.copytree(source, folder)
    for name, content in told.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    tokenizer, config = pretrained.read(str(folder), 8, "none")
    encoder = config.build()
    read = tokenizer.encode_queries(["spade pan"], 8), tokenizer.encode_items({"title": ["spade pan"]}, 8)
    return np.concatenate([encode(encoder, tokens) for tokens in (one.take(np.array([0])) for one in read)])


def states(source: str, words: list[str]) -> np.ndarray:
    """The model's own last states (T, D) of a framed text."""
    ids = TextTokenizer.load(source)._tokenizer.encode(" ".join(words)).ids
    with torch.inference_mode():
        return BertModel.from_pretrained(source).eval()(torch.tensor([ids])).last_hidden_state[0].numpy()


def test_an_untaught_encoder_says_what_the_model_says(source: str, tmp_path: Path):
    """The mean of its last states, as wide as they are: nothing is lost by a projection that has learnt nothing."""
    said = states(source, ["spade", "pan"]).mean(axis=0)
    query, item = vectors(source, {}, tmp_path / "plain")
    np.testing.assert_allclose(query, said / np.linalg.norm(said), atol=1e-5)
    np.testing.assert_array_equal(query, item)


@pytest.mark.parametrize("told", [{"pooling_mode": "cls"}, {"pooling_mode_cls_token": True, "include_prompt": True}])
def test_a_model_that_pools_by_its_first_token_is_pooled_so(source: str, tmp_path: Path, told: dict[str, object]):
    """As sentence-transformers wrote it down then and now."""
    said = states(source, ["spade", "pan"])[0]
    query, _ = vectors(source, {"1_Pooling/config.json": told}, tmp_path / "first")
    np.testing.assert_allclose(query, said / np.linalg.norm(said), atol=1e-5)


def test_a_model_that_pools_in_another_way_is_refused(source: str, tmp_path: Path):
    """It would be read wrongly."""
    with pytest.raises(UnknownEncoder, match="pools by lasttoken: name a model that pools by mean or by cls"):
        vectors(source, {"1_Pooling/config.json": {"pooling_mode_lasttoken": True}}, tmp_path / "last")


def test_queries_and_items_go_behind_their_prompts(source: str, tmp_path: Path):
    """What the model was taught to expect stands before each, within the frame."""
    prompts = {"prompts": {"query": "hose ", "document": "rake knife "}}
    told = vectors(source, {"config_sentence_transformers.json": prompts}, tmp_path / "prompts")
    for vector, words in zip(told, (["hose"], ["rake", "knife"]), strict=True):
        said = states(source, [*words, "spade", "pan"]).mean(axis=0)
        np.testing.assert_allclose(vector, said / np.linalg.norm(said), atol=1e-5)


def test_without_a_basket_or_click_it_stays_as_it_is(source: str):
    """An item's own words teach nothing to who can read; the shop's own encoder learns to read by them."""
    tokenizer, config = pretrained.read(source, 10, "full")
    items, queries = tokenizer.encode_items({"title": TITLES}, 10), tokenizer.encode_queries(["spade"])
    encoder, training = train_encoder(items, queries, NONE, NONE, np.ones(16), config, steps=3, batch_size=32)
    assert (training.ended_by, training.losses) == ("nothing to learn", [])
    before = BertModel.from_pretrained(source).state_dict()
    assert all(torch.equal(one, before[name]) for name, one in encoder.body.state_dict().items())


@pytest.mark.parametrize("fine_tune", ["full", "lora", "none"])
def test_what_learns_is_what_was_asked_for(source: str, fine_tune: pretrained.FineTune):
    """All weights of the model, adapters that end in its attention and layers but not in its words, or none of it."""
    _, encoder = trained(source, fine_tune)
    before = BertModel.from_pretrained(source).state_dict()
    changed = {name for name, one in encoder.body.state_dict().items() if not torch.equal(one, before[name])}
    assert bool(changed) == (fine_tune != "none")
    assert ("embeddings.word_embeddings.weight" in changed) == (fine_tune == "full")
    assert not any("lora" in name for name in encoder.state_dict())


def test_it_learns_what_sells_together(source: str):
    """Texts of one group end nearer to each other than to those of the other."""
    tokenizer, encoder = trained(source, "full", steps=200)
    vectors = encode(encoder, tokenizer.encode_items({"title": TITLES}, max_tokens=10))
    cosine, alike = vectors @ vectors.T, GROUP[:, None] == GROUP[None, :]
    assert cosine[alike].mean() > cosine[~alike].mean() + 0.4


def test_a_saved_pretrained_encoder_needs_its_source_no_more(tmp_path: Path):
    """It comes back from safetensors and JSON alone, adapters merged, with the same vectors."""
    tokenizer, encoder = trained(checkpoint(tmp_path / "source"), "lora")
    encoder.save(tmp_path / "saved")
    tokenizer.save(tmp_path / "saved")
    (tmp_path / "source").rename(tmp_path / "gone")
    loaded = load(tmp_path / "saved")
    texts = TextTokenizer.load(tmp_path / "saved").encode_queries(["spade", "", "pan bowl"], max_tokens=10)
    np.testing.assert_array_equal(encode(loaded, texts), encode(encoder, texts))
    assert not encode(loaded, texts)[1].any()
    files = {file.suffix for file in (tmp_path / "saved").rglob("*") if file.is_file()}
    assert files == {".safetensors", ".json"}


def test_equal_seeds_equal_pretrained_weights(source: str):
    """Two fine-tunings agree to the bit."""
    one, again = (trained(source, "lora")[1].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], again[name]) for name in one)


def test_an_encoder_that_cannot_be_used_says_why(source: str, tmp_path: Path):
    """Nothing there, a model with code of its own, or texts longer than it reads: each names its cure."""
    with pytest.raises(UnknownEncoder, match=r"nowhere cannot be read: .*Name a folder with config\.json"):
        pretrained.read(str(tmp_path / "nowhere"), 10, "lora")
    with pytest.raises(UnknownEncoder, match=r"reads 12 tokens: lower profile\.max_tokens, 11"):
        pretrained.read(source, 11, "lora")
    own_code = Path(checkpoint(tmp_path / "own"))
    told = json.loads((own_code / "config.json").read_text())
    told |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.Strange", "AutoModel": "code.Model"}}
    (own_code / "config.json").write_text(json.dumps(told))
    with pytest.raises(UnknownEncoder, match="cannot be read"):
        pretrained.read(str(own_code), 10, "lora")
