"""Any Hugging Face encoder in place of the shop's own: its tokenizer, its states, and what is learnt on top of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from models.encoder import TextEncoder, guessing_losses
from models.errors import UnknownEncoder
from models.item_text import TextTokenizer

FineTune = Literal["full", "lora", "none"]
SHARES = {"full": 0.01, "lora": 0.1, "none": 0.0}  # of the learning rate: what was learnt elsewhere must not be undone
ADAPTER_RANK = 8
HIDDEN = 0.1  # share of tokens that are hidden while training, and guessed
BODY = "pretrained"  # folder of the Hugging Face model beside the weights of the head


@dataclass(frozen=True)
class PretrainedConfig:
    """What an encoder is made of; saved beside its weights."""

    source: str  # name on the Hugging Face hub, or a folder
    vocabulary_size: int  # of its tokenizer, as `TextTokenizer` counts
    embedding_size: int
    max_tokens: int  # of a text, without those that frame it
    fine_tune: FineTune
    shift: int  # of the ids, see `TextTokenizer`
    before: tuple[int, ...] = ()  # the model's own ids that frame a text, such as [CLS]
    after: tuple[int, ...] = ()
    mask: int | None = None  # stands for a hidden token; without it nothing is hidden

    def build(self) -> PretrainedEncoder:
        return PretrainedEncoder(_told_where(self.source, AutoModel, dtype=torch.float32, use_safetensors=True), self)


def read(
    source: str, embedding_size: int, max_tokens: int, fine_tune: FineTune
) -> tuple[TextTokenizer, PretrainedConfig]:
    """The tokenizer of a Hugging Face encoder, and the shape of ours on top of it.

    Raises:
        UnknownEncoder: it cannot be read, has no fast tokenizer, is no plain encoder or reads shorter texts.
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
    if max_tokens + len(framed) - len(bare) > longest:
        raise UnknownEncoder(f"{source} reads {longest} tokens: lower profile.max_tokens, {max_tokens}, to fit in them")
    tokenizer = TextTokenizer(backend)
    return tokenizer, PretrainedConfig(
        source=source,
        vocabulary_size=tokenizer.vocabulary_size,
        embedding_size=embedding_size,
        max_tokens=max_tokens,
        fine_tune=fine_tune,
        shift=tokenizer.shift,
        before=tuple(framed[:start]),
        after=tuple(framed[start + len(bare) :]),
        mask=found.mask_token_id,
    )


class PretrainedEncoder(TextEncoder):
    """The mean of the model's last states, projected; it reads texts only, not which field a word came from."""

    config: PretrainedConfig
    body: Any  # the model, while it learns within low-rank adapters

    def __init__(self, body: PreTrainedModel, config: PretrainedConfig):
        super().__init__()
        self.config, self.body = config, body
        width, words = body.config.hidden_size, self.body.get_input_embeddings().weight.shape[1]
        self.project = nn.Linear(width, config.embedding_size, bias=False)
        self.guess = nn.Linear(width, words)  # from a state to the word that was hidden

    def forward(self, ids: Tensor, fields: Tensor) -> Tensor:
        return self._read(ids, torch.zeros_like(ids, dtype=torch.bool))[0]

    def hide(self, ids: Tensor) -> Tensor:
        if self.config.mask is None:
            return torch.zeros_like(ids, dtype=torch.bool)
        return (torch.rand(ids.shape, device=ids.device) < HIDDEN) & (ids > 0)

    def recall(self, ids: Tensor, fields: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        vectors, states = self._read(ids, hidden)
        table = self.body.get_input_embeddings().weight
        return vectors, guessing_losses(self.guess(states), table, (ids - self.config.shift).clamp_min(0), hidden)

    def _read(self, ids: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors (B, E) and the states (B, T, D) of the text's own tokens."""
        before, after = self.config.before, self.config.after
        words, mask = self._framed(ids, hidden)  # (B, before + T + after)
        states = self.body(input_ids=words, attention_mask=mask.long()).last_hidden_state
        pooled = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp_min(1)  # (B, D)
        vectors = functional.normalize(self.project(pooled), dim=1) * (ids[:, :1] > 0)
        return vectors, states[:, len(before) : states.shape[1] - len(after)]

    def _framed(self, ids: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The model's own ids of framed texts, and where they are; the frame closes right after the last token."""
        frame = self.config.before, self.config.after
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
        """All weights, low-rank adapters that are added to them in the end (Hu et al., 2022), or only the head."""
        how = self.config.fine_tune
        self.body.requires_grad_(how == "full")
        if how == "lora":
            adapters = LoraConfig(r=ADAPTER_RANK, lora_alpha=2 * ADAPTER_RANK, target_modules="all-linear")
            self.body = get_peft_model(self.body, adapters)
        body = [one for one in self.body.parameters() if one.requires_grad]
        head = [*self.project.parameters(), *self.guess.parameters()]
        groups = [{"params": body, "lr": learning_rate * SHARES[how]}, {"params": head, "lr": learning_rate}]
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
        told = json.loads((Path(folder) / "encoder.json").read_text(encoding="utf-8"))
        config = PretrainedConfig(**told | {side: tuple(told[side]) for side in ("before", "after")})
        encoder = cls(AutoModel.from_pretrained(Path(folder) / BODY, dtype=torch.float32, use_safetensors=True), config)
        encoder.load_state_dict(load_file(Path(folder) / "encoder.safetensors"), strict=False)
        return encoder.eval()


def _told_where(source: str, kind: Any, **options: Any) -> Any:
    """What a class of transformers reads there; none of it brings code of its own."""
    try:
        return kind.from_pretrained(source, trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise UnknownEncoder(
            f"{source} cannot be read: {error}. Name a folder with config.json, model.safetensors and tokenizer.json,"
            " or a model that this machine can reach"
        ) from error
