"""Any Hugging Face encoder in place of the shop's own: its tokenizer, its states, and what is learnt on top of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import cached_file

from models.encoder import TextEncoder, guessing_losses
from models.errors import UnknownEncoder
from models.item_text import ITEM_FIELDS, TextTokenizer

FineTune = Literal["full", "lora", "none"]
Pooling = Literal["mean", "cls"]
SHARES = {"full": 0.01, "lora": 0.1, "none": 0.0}  # of the learning rate: what was learnt elsewhere must not be undone
HEAD_SHARE = 0.1  # of the projection, which begins as what changes nothing
ADAPTER_RANK = 8
HIDDEN = 0.1  # share of tokens that are hidden while training, and guessed
BODY = "pretrained"  # folder of the Hugging Face model beside the weights of the head
POOLING, PROMPTS = "1_Pooling/config.json", "config_sentence_transformers.json"  # beside it, if it was made for search
WAYS = {"mean", "cls", "max", "mean_sqrt_len", "weightedmean", "lasttoken"}  # in which sentence-transformers pools


@dataclass(frozen=True)
class PretrainedConfig:
    """What an encoder is made of; saved beside its weights."""

    learns_words: ClassVar[bool] = False  # they teach nothing to who can read, and undo what was learnt elsewhere
    reads: ClassVar[tuple[str, ...]] = tuple(name for name in ITEM_FIELDS if name != "price_band")  # a number, no word

    source: str  # name on the Hugging Face hub, or a folder
    vocabulary_size: int  # of its tokenizer, as `TextTokenizer` counts
    embedding_size: int
    max_tokens: int  # of a text, without those that frame it
    fine_tune: FineTune
    shift: int  # of the ids, see `TextTokenizer`
    before: tuple[int, ...] = ()  # the model's own ids that frame a text, such as [CLS]
    after: tuple[int, ...] = ()
    mask: int | None = None  # stands for a hidden token; without it nothing is hidden
    pooling: Pooling = "mean"  # of the last states of all tokens, or of the first alone
    query_prompt: tuple[int, ...] = ()  # the model's own ids that it expects before a query,
    item_prompt: tuple[int, ...] = ()  # and before what is searched

    def build(self) -> PretrainedEncoder:
        return PretrainedEncoder(_told_where(self.source, AutoModel, dtype=torch.float32, use_safetensors=True), self)


def read(source: str, max_tokens: int, fine_tune: FineTune) -> tuple[TextTokenizer, PretrainedConfig]:
    """The tokenizer of a Hugging Face encoder, and the shape of ours on top of it, as wide as the model.

    Raises:
        UnknownEncoder: it cannot be read, has no fast tokenizer, is no plain encoder, pools in another way than the
            mean and the first token, or reads shorter texts.
    """
    found, shape = _told_where(source, AutoTokenizer), _told_where(source, AutoConfig)
    if not hasattr(found, "backend_tokenizer") or shape.is_encoder_decoder:
        raise UnknownEncoder(f"{source} is no plain encoder with a tokenizer.json: name another model")
    backend = found.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    framed, bare = (backend.encode("a", add_special_tokens=special).ids for special in (True, False))
    start = framed.index(bare[0])
    longest = getattr(shape, "max_position_embeddings", None) or max_tokens + len(framed)
    prompts = [tuple(backend.encode(text, add_special_tokens=False).ids) for text in _prompts(source)]
    if max_tokens + len(framed) - len(bare) + max(map(len, prompts)) > longest:
        raise UnknownEncoder(f"{source} reads {longest} tokens: lower profile.max_tokens, {max_tokens}, to fit in them")
    tokenizer = TextTokenizer(backend)
    return tokenizer, PretrainedConfig(
        source=source,
        vocabulary_size=tokenizer.vocabulary_size,
        embedding_size=shape.hidden_size,
        max_tokens=max_tokens,
        fine_tune=fine_tune,
        shift=tokenizer.shift,
        before=tuple(framed[:start]),
        after=tuple(framed[start + len(bare) :]),
        mask=found.mask_token_id,
        pooling=_pooling(source),
        query_prompt=prompts[0],
        item_prompt=prompts[1],
    )


class PretrainedEncoder(TextEncoder):
    """The model's last states, pooled as it was taught, and projected, at first onto themselves.

    It knows queries from items by their prompts, and not which field a word came from.
    """

    config: PretrainedConfig
    body: Any  # the model, while it learns within low-rank adapters

    def __init__(self, body: PreTrainedModel, config: PretrainedConfig):
        super().__init__()
        self.config, self.body = config, body
        width, words = body.config.hidden_size, self.body.get_input_embeddings().weight.shape[1]
        self.project = nn.Linear(width, config.embedding_size, bias=False)
        nn.init.eye_(self.project.weight)
        self.guess = nn.Linear(width, words)  # from a state to the word that was hidden

    def forward(self, ids: Tensor, fields: Tensor) -> Tensor:
        return self._read(ids, fields, torch.zeros_like(ids, dtype=torch.bool))[0]

    def hide(self, ids: Tensor) -> Tensor:
        if self.config.mask is None:
            return torch.zeros_like(ids, dtype=torch.bool)
        return (torch.rand(ids.shape, device=ids.device) < HIDDEN) & (ids > 0)

    def recall(self, ids: Tensor, fields: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        vectors, states = self._read(ids, fields, hidden)
        table = self.body.get_input_embeddings().weight
        return vectors, guessing_losses(self.guess(states), table, (ids - self.config.shift).clamp_min(0), hidden)

    def _read(self, ids: Tensor, fields: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors (B, E) and the states (B, T, D) of the text's own tokens."""
        before, after = self.config.before + self._prompt(fields), self.config.after
        words, mask = self._framed(ids, hidden, before)  # (B, before + T + after)
        states = self.body(input_ids=words, attention_mask=mask.long()).last_hidden_state
        pooled = states[:, 0] if self.config.pooling == "cls" else _mean(states, mask)  # (B, D)
        vectors = functional.normalize(self.project(pooled), dim=1) * (ids[:, :1] > 0)
        return vectors, states[:, len(before) : states.shape[1] - len(after)]

    def _prompt(self, fields: Tensor) -> tuple[int, ...]:
        """What goes before these texts, which are all items or all queries, of field 0."""
        return self.config.item_prompt if fields.any() else self.config.query_prompt

    def _framed(self, ids: Tensor, hidden: Tensor, opening: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The model's own ids of framed texts, and where they are; the frame closes right after the last token."""
        frame = opening, self.config.after
        before, after = (torch.tensor(one, dtype=torch.long, device=ids.device) for one in frame)
        rows = torch.arange(len(ids), device=ids.device)
        own = (ids - self.config.shift).clamp_min(0).masked_fill(hidden, self.config.mask or 0)
        words = torch.cat([before.expand(len(ids), -1), own, after.expand(len(ids), -1)], dim=1)
        ends = len(before) + (ids > 0).sum(dim=1)  # (B,)
        for place, token in enumerate(after):
            words[rows, ends + place] = token
        mask = torch.arange(words.shape[1], device=ids.device) < (ends + len(after))[:, None]
        return words, mask

    @contextmanager
    def learning(self, learning_rate: float) -> Iterator[list[dict[str, Any]]]:
        """All weights, low-rank adapters that are added to them in the end (Hu et al., 2022), or what is on top."""
        how = self.config.fine_tune
        self.body.requires_grad_(how == "full")
        if how == "lora":
            adapters = LoraConfig(r=ADAPTER_RANK, lora_alpha=2 * ADAPTER_RANK, target_modules="all-linear")
            self.body = get_peft_model(self.body, adapters)
        body = [one for one in self.body.parameters() if one.requires_grad]
        groups = [
            {"params": body, "lr": learning_rate * SHARES[how]},
            {"params": list(self.project.parameters()), "lr": learning_rate * HEAD_SHARE},
            {"params": list(self.guess.parameters()), "lr": learning_rate},
        ]
        try:
            yield groups[not body :]
        finally:
            if how == "lora":
                self.body = self.body.merge_and_unload()

    def save(self, folder: Path | str) -> None:
        """Write encoder.safetensors, encoder.json and the model's own folder."""
        head = {name: one.detach().cpu() for name, one in self.state_dict().items() if not name.startswith("body.")}
        self.body.save_pretrained(Path(folder) / BODY)
        save_file(head, Path(folder) / "encoder.safetensors")
        (Path(folder) / "encoder.json").write_text(json.dumps(asdict(self.config)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> PretrainedEncoder:
        """Read what `save` wrote; ready to encode."""
        told: dict[str, Any] = json.loads((Path(folder) / "encoder.json").read_text(encoding="utf-8"))
        told |= {name: tuple(one) for name, one in told.items() if isinstance(one, list)}
        config = PretrainedConfig(**told)
        encoder = cls(AutoModel.from_pretrained(Path(folder) / BODY, dtype=torch.float32, use_safetensors=True), config)
        encoder.load_state_dict(load_file(Path(folder) / "encoder.safetensors"), strict=False)
        return encoder.eval()


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    """(B, D) of states (B, T, D) where the mask (B, T) lets them count."""
    return (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1)


def _pooling(source: str) -> Pooling:
    """How the model was taught to pool; the mean, where nothing says so."""
    told = _beside(source, POOLING)
    named = {name.removeprefix("pooling_mode_") for name, is_so in told.items() if is_so is True}
    named = {told["pooling_mode"]} if "pooling_mode" in told else named
    ways = {name.removesuffix("_token").removesuffix("_tokens") for name in named} & WAYS
    if len(ways) > 1 or ways - {"mean", "cls"}:
        raise UnknownEncoder(f"{source} pools by {', '.join(sorted(ways))}: name a model that pools by mean or by cls")
    return "cls" if ways == {"cls"} else "mean"


def _prompts(source: str) -> tuple[str, str]:
    """What the model expects before a query and before what is searched; nothing, where nothing says so."""
    told = _beside(source, PROMPTS).get("prompts") or {}
    return told.get("query") or "", told.get("document") or told.get("passage") or ""


def _beside(source: str, name: str) -> dict[str, Any]:
    """A JSON file of the model's folder; nothing, where it has none."""
    path = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def _told_where(source: str, kind: Any, **options: Any) -> Any:
    """What a class of transformers reads there; none of it brings code of its own."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise UnknownEncoder(
            f"{source} cannot be read: {error}. Name a folder with config.json, model.safetensors and tokenizer.json,"
            " or a model that this machine can reach"
        ) from error
