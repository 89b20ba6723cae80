"""The item-profile network: one Transformer encoder for queries and items, and attention over a user's history."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.encoder import TextEncoder, guessing_losses
from models.errors import Diverged
from models.item_text import FIELDS, ITEM_FIELDS

QUIET = 0.02  # spread of the weights that write into the residual stream: layers start almost silent
LARGEST_COSINE = 0.95  # mean of random pairs of items; beyond it all vectors say the same
LEAST_DISTINCT = 10  # items below which likeness is no sign of collapse
COMPARED = 10_000  # random pairs


@dataclass(frozen=True)
class ProfileConfig:
    """The shape of the encoder; saved beside its weights."""

    learns_words: ClassVar[bool] = True  # nothing else teaches it to read where nobody has been yet
    reads: ClassVar[tuple[str, ...]] = ITEM_FIELDS

    vocabulary_size: int  # of the tokenizer
    embedding_size: int = 64  # of the vectors it gives; also what retrieval multiplies
    layers: int = 2
    heads: int = 4
    hidden_size: int = 64  # width inside; 96 finds 2% more in a shop of 4,000 items and takes twice as long
    max_tokens: int = 48  # of an item; the description is what is cut
    dropout: float = 0.1  # share of tokens hidden while training, and guessed: no item may hang on one word

    def build(self) -> ItemProfileEncoder:
        return ItemProfileEncoder(self)


class SelfAttention(nn.Module):
    """Every token reads every other token of its text."""

    def __init__(self, config: ProfileConfig):
        super().__init__()
        self.heads = config.heads
        self.read = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.write = nn.Linear(config.hidden_size, config.hidden_size)
        nn.init.normal_(self.write.weight, std=QUIET)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (
            self.read(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        )  # (B, heads, T, D/heads)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return self.write(y.transpose(1, 2).reshape(b, t, d))  # (B, T, D)


class Block(nn.Module):
    """One pre-norm Transformer layer."""

    def __init__(self, config: ProfileConfig):
        super().__init__()
        width = config.hidden_size
        self.attention_norm, self.attention = nn.LayerNorm(width), SelfAttention(config)
        self.thought_norm = nn.LayerNorm(width)
        conclude = nn.Linear(4 * width, width)
        nn.init.normal_(conclude.weight, std=QUIET)
        self.thought = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), conclude)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), mask)
        return x + self.thought(self.thought_norm(x))


class ItemProfileEncoder(TextEncoder):
    """The shop's own encoder, trained from scratch; it tells items and queries apart by their fields only.

    Raises:
        ValueError: hidden_size is not a multiple of heads.
    """

    config: ProfileConfig

    def __init__(self, config: ProfileConfig):
        super().__init__()
        if config.hidden_size % config.heads:
            raise ValueError(f"hidden_size {config.hidden_size} is not a multiple of heads {config.heads}: change one")
        self.config = config
        width = config.hidden_size
        self.token = nn.Embedding(config.vocabulary_size, width, padding_idx=0)
        self.field = nn.Embedding(len(FIELDS), width)
        self.position = nn.Embedding(config.max_tokens, width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.weight = nn.Linear(width, 1)  # how much each token counts in the text's vector
        self.project = nn.Linear(width, config.embedding_size, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        """Start as a bag of words: field and order count for nothing until the data say that they do."""
        nn.init.normal_(self.token.weight)
        with torch.no_grad():
            self.token.weight[0] = 0.0
        for silent in (self.field, self.position, self.weight):
            nn.init.zeros_(silent.weight)

    def forward(self, ids: Tensor, fields: Tensor) -> Tensor:
        return self._read(ids, fields, torch.zeros_like(ids, dtype=torch.bool))[0]

    def hide(self, ids: Tensor) -> Tensor:
        hidden = (torch.rand(ids.shape, device=ids.device) < self.config.dropout) & (ids > 0)
        hidden[:, 0] = False
        return hidden

    def recall(self, ids: Tensor, fields: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        vectors, states = self._read(ids, fields, hidden)
        return vectors, guessing_losses(states, self.token.weight, ids, hidden)

    def _read(self, ids: Tensor, fields: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Unit vectors (B, E) and states (B, T, D); nobody reads a hidden token, which itself reads the others."""
        present = ids > 0  # (B, T)
        mask = present & ~hidden
        mask[:, 0] = True  # attention needs something to read, even in an empty text
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.token(ids.masked_fill(hidden, 0)) + self.field(fields) + self.position(places)  # (B, T, D)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        share = self.weight(x)[..., 0].masked_fill(~mask, -torch.inf).softmax(dim=1)  # (B, T)
        pooled = (share[:, None, :] @ x)[:, 0]  # (B, D)
        return functional.normalize(self.project(pooled), dim=1) * present[:, :1], x

    def save(self, folder: Path | str) -> None:
        """Write encoder.safetensors and encoder.json."""
        _save(self, asdict(self.config), Path(folder), "encoder")

    @classmethod
    def load(cls, folder: Path | str) -> ItemProfileEncoder:
        """Read what `save` wrote; ready to encode."""
        weights, config = _load(Path(folder), "encoder")
        encoder = cls(ProfileConfig(**config))
        encoder.load_state_dict(weights)
        return encoder.eval()


class HistoryAttention(nn.Module):
    """Reads a user's history; the user's vector is the attention-weighted sum of its item vectors.

    So the score u·v of an item v is the sum over the history of attention × (h·v), and those terms are evidence.
    The vector keeps its length: a user of one taste gets a long one, a user of many tastes a short one.
    Attention is the softmax of content match, minus decay × log(1 + age), plus trust × log(event weight).
    """

    def __init__(self, embedding_size: int):
        super().__init__()
        self.query = nn.Linear(embedding_size, embedding_size, bias=False)
        self.key = nn.Linear(embedding_size, embedding_size, bias=False)
        self.decay = nn.Parameter(torch.tensor(0.5))
        self.trust = nn.Parameter(torch.tensor(0.5))
        nn.init.zeros_(self.query.weight)  # until it has learnt more, only age and weight count

    def forward(
        self, history_vectors: Tensor, ages_days: Tensor, event_weights: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """User vectors (B, E) and attention (B, H), which sums to 1, or to 0 for a user without history.

        Args:
            history_vectors: (B, H, E) item vectors.
            ages_days: (B, H) days from the event to the day of the recommendation.
            event_weights: (B, H) what the event is worth, positive.
            mask: (B, H) bool, False at padding.
        """
        prior = self.trust * event_weights.clamp_min(1e-6).log() - self.decay * ages_days.clamp_min(0).log1p()
        recent = _shares(prior, mask)[:, None, :] @ history_vectors  # (B, 1, E)
        match = self.query(recent) @ self.key(history_vectors).transpose(1, 2)  # (B, 1, H)
        attention = _shares(prior + match[:, 0], mask)
        return (attention[:, None, :] @ history_vectors)[:, 0], attention

    def save(self, folder: Path | str) -> None:
        """Write history.safetensors and history.json."""
        _save(self, {"embedding_size": self.query.in_features}, Path(folder), "history")

    @classmethod
    def load(cls, folder: Path | str) -> HistoryAttention:
        """Read what `save` wrote; ready to use."""
        weights, config = _load(Path(folder), "history")
        attention = cls(**config)
        attention.load_state_dict(weights)
        return attention.eval()


def check_vectors(vectors: np.ndarray, seed: int = 0) -> None:
    """Refuse vectors (N, E) of which nothing can be told.

    Raises:
        Diverged: one is not finite, or the distinct ones all point one way.
    """
    broken = len(vectors) - int(np.isfinite(vectors).all(axis=1).sum())
    if broken:
        raise Diverged(f"{broken} of {len(vectors)} item vectors are not finite: lower profile.learning_rate")
    distinct = np.unique(vectors[vectors.any(axis=1)], axis=0)
    if len(distinct) < LEAST_DISTINCT:
        return
    lefts, rights = np.random.default_rng(seed).integers(len(distinct), size=(2, COMPARED))
    cosine = float(np.mean(np.einsum("ne,ne->n", distinct[lefts], distinct[rights])[lefts != rights]))
    if cosine > LARGEST_COSINE:
        raise Diverged(
            f"{len(distinct)} item vectors have collapsed, the mean cosine of two is {cosine:.3f} (at most "
            f"{LARGEST_COSINE}): lower profile.learning_rate, or see whether the titles differ"
        )


def _shares(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the unmasked places of each row; zero where masked, also when all are."""
    return logits.masked_fill(~mask, -1e9).softmax(dim=1) * mask


def _save(module: nn.Module, config: dict[str, object], folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    save_file(weights, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")


def _load(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, int]]:
    config = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return load_file(folder / f"{name}.safetensors"), config
