"""What training, encoding and search need of a network that reads texts, whichever it is."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.item_text import Tokens

BATCH = 128  # texts; the states of more fall out of a processor's cache


class Shape(Protocol):
    """What is fixed before an encoder learns; equal shapes may go on from each other's weights.

    Attributes:
        learns_words: whether pairs of an item and some of its own words teach it.
        reads: fields of an item that are laid before it.
    """

    learns_words: ClassVar[bool]
    reads: ClassVar[tuple[str, ...]]

    @property
    def vocabulary_size(self) -> int: ...
    @property
    def embedding_size(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    def build(self) -> TextEncoder:
        """An encoder of this shape as it is before the first step."""
        ...


class TextEncoder(nn.Module, ABC):
    """Reads items and queries, (B, T) token ids and fields, and gives unit vectors; zero for a text without tokens."""

    config: Shape

    @abstractmethod
    def forward(self, ids: Tensor, fields: Tensor) -> Tensor:
        """Unit vectors (B, E)."""

    @abstractmethod
    def hide(self, ids: Tensor) -> Tensor:
        """Which tokens (B, T) of texts are to be guessed while it learns, drawn at random."""

    @abstractmethod
    def recall(self, ids: Tensor, fields: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (B, E) of texts without these hidden tokens (B, T), and the cross-entropy (M,) of guessing each."""

    @contextmanager
    def learning(self, learning_rate: float) -> Iterator[list[dict[str, Any]]]:
        """What may change while it learns, in groups with the peak learning rate of each."""
        yield [{"params": list(self.parameters()), "lr": learning_rate}]

    @abstractmethod
    def save(self, folder: Path | str) -> None:
        """Write the weights as safetensors and encoder.json."""


def load(folder: Path | str) -> TextEncoder:
    """The encoder that was saved there, ready to encode."""
    if "source" in json.loads((Path(folder) / "encoder.json").read_text(encoding="utf-8")):
        from models.pretrained import PretrainedEncoder  # importing transformers takes seconds

        return PretrainedEncoder.load(folder)
    from models.profile import ItemProfileEncoder

    return ItemProfileEncoder.load(folder)


@dataclass(frozen=True)
class Remembered:
    """Vectors that need not be computed again.

    Attributes:
        keys: (N,) uint64, what was read by which weights.
        vectors: (N, E) float32.
    """

    keys: np.ndarray
    vectors: np.ndarray

    def save(self, folder: Path | str) -> None:
        """Write item_keys.npy and item_vectors.npy."""
        np.save(Path(folder) / "item_keys.npy", self.keys)
        np.save(Path(folder) / "item_vectors.npy", self.vectors)

    @classmethod
    def load(cls, folder: Path | str) -> Remembered:
        """Read what `save` wrote."""
        return cls(np.load(Path(folder) / "item_keys.npy"), np.load(Path(folder) / "item_vectors.npy"))


def encode(encoder: TextEncoder, tokens: Tokens, batch_size: int = BATCH) -> np.ndarray:
    """Vectors (N, E) float32 of all texts in the order given."""
    return remember(encoder, tokens.contents, tokens.take, batch_size=batch_size).vectors


@torch.inference_mode()
def remember(
    encoder: TextEncoder,
    contents: np.ndarray,
    tokens_of: Callable[[np.ndarray], Tokens],
    earlier: Remembered | None = None,
    batch_size: int = BATCH,
) -> Remembered:
    """Vectors of all texts in the order given, with their keys.

    Equal texts are read once, and what these weights read `earlier` not at all; texts of like length share a batch.

    Args:
        contents: (N,) uint64 hash of each text; equal texts have equal ones.
        tokens_of: the tokens of the texts at some of these positions, by the tokenizer that the weights grew up with.
    """
    encoder.eval()
    keys = contents ^ np.uint64(int(version(encoder)[:16], 16))
    distinct, first, place = np.unique(keys, return_index=True, return_inverse=True)
    vectors, is_new = np.zeros((len(distinct), encoder.config.embedding_size), np.float32), np.ones(len(distinct), bool)
    if earlier is not None:
        _, ours, theirs = np.intersect1d(distinct, earlier.keys, return_indices=True)
        vectors[ours], is_new[ours] = earlier.vectors[theirs], False
    unread = np.flatnonzero(is_new)
    tokens = tokens_of(first[unread])
    order = np.argsort(tokens.lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        vectors[unread[rows]] = encoder(*as_tensors(tokens.take(rows), encoder)).float().cpu().numpy()
    return Remembered(keys, vectors[place])


def version(encoder: TextEncoder) -> str:
    """SHA-256 of the weights, hexadecimal: equal versions give a text equal vectors."""
    hashed = hashlib.sha256()
    for name, weights in sorted(encoder.state_dict().items()):
        hashed.update(name.encode())
        hashed.update(weights.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def as_tensors(tokens: Tokens, encoder: TextEncoder) -> tuple[Tensor, Tensor]:
    """Ids and fields as the encoder wants them, on its device.

    Raises:
        ValueError: the texts are longer than the encoder reads, or another tokenizer made them.
    """
    config, width, largest = encoder.config, tokens.ids.shape[1], int(tokens.ids.max(initial=0))
    if width > config.max_tokens:
        raise ValueError(f"texts have up to {width} tokens, the encoder reads {config.max_tokens}: encode them shorter")
    if largest >= config.vocabulary_size:
        raise ValueError(f"token {largest} is beyond the {config.vocabulary_size} of the encoder: use its tokenizer")
    device = next(encoder.parameters()).device
    return torch.from_numpy(tokens.ids).long().to(device), torch.from_numpy(tokens.fields).long().to(device)


def guessing_losses(states: Tensor, table: Tensor, ids: Tensor, hidden: Tensor) -> Tensor:
    """(M,) cross-entropy of naming each hidden token from its state (B, T, D), by the token embeddings (V, D)."""
    scores = states[hidden] @ table.T / table.shape[1] ** 0.5  # (M, V)
    return functional.cross_entropy(scores, ids[hidden], reduction="none")
