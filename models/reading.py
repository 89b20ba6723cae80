"""The shop's own encoder for whoever reads a few texts and cannot wait for torch to load: the same sums in numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.special import erf

from models.item_text import Tokens

SMALLEST_VARIANCE = 1e-5  # added by layer norms, as torch does


def is_own(folder: Path) -> bool:
    """Whether the encoder that was saved there is one of the shop's own."""
    return "source" not in json.loads((folder / "encoder.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class OwnEncoder:
    """`ItemProfileEncoder` as it was saved in a folder; it reads and does not learn."""

    weights: Mapping[str, np.ndarray]
    config: Mapping[str, int]  # of `ProfileConfig`

    @classmethod
    def load(cls, folder: Path) -> OwnEncoder:
        config = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        return cls(load_file(folder / "encoder.safetensors"), config)

    def save(self, folder: Path) -> None:
        save_file(dict(self.weights), folder / "encoder.safetensors")
        (folder / "encoder.json").write_text(json.dumps(dict(self.config)), encoding="utf-8")

    def encode(self, tokens: Tokens, batch_size: int = 512) -> np.ndarray:
        """Unit vectors (N, E) float32 in the order given; zero for a text without tokens."""
        rows = [np.arange(start, min(start + batch_size, len(tokens))) for start in range(0, len(tokens), batch_size)]
        size = self.weights["project.weight"].shape[0]
        told = [self._read(tokens.take(some)) for some in rows]
        return np.concatenate([np.empty((0, size), dtype=np.float32), *told])

    def _read(self, tokens: Tokens) -> np.ndarray:
        present, w = tokens.ids > 0, self.weights  # (B, T)
        mask = present.copy()
        mask[:, 0] = True
        x = w["token.weight"][tokens.ids] + w["field.weight"][tokens.fields]  # (B, T, D)
        x = x + w["position.weight"][: x.shape[1]]
        for n in range(self.config["layers"]):
            x = x + self._attended(self._normed(x, f"blocks.{n}.attention_norm"), mask, f"blocks.{n}.attention")
            thought = self._linear(self._normed(x, f"blocks.{n}.thought_norm"), f"blocks.{n}.thought.0")
            x = x + self._linear(thought * (1 + erf(thought / np.sqrt(2))) / 2, f"blocks.{n}.thought.2")
        x = self._normed(x, "norm")
        share = _softmax(np.where(mask, self._linear(x, "weight")[..., 0], -np.inf))  # (B, T)
        vectors = np.einsum("bt,btd->bd", share, x) @ w["project.weight"].T  # (B, E)
        lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return (vectors / lengths * present[:, :1]).astype(np.float32)

    def _attended(self, x: np.ndarray, mask: np.ndarray, name: str) -> np.ndarray:
        b, t, d = x.shape
        heads = self.config["heads"]
        parts = self._linear(x, f"{name}.read").reshape(b, t, 3, heads, d // heads)
        q, k, v = parts.transpose(2, 0, 3, 1, 4)  # (B, heads, T, D/heads)
        scores = q @ k.swapaxes(2, 3) / np.sqrt(d // heads)  # (B, heads, T, T)
        y = _softmax(np.where(mask[:, None, None, :], scores, -np.inf)) @ v
        return self._linear(y.transpose(0, 2, 1, 3).reshape(b, t, d), f"{name}.write")

    def _normed(self, x: np.ndarray, name: str) -> np.ndarray:
        off = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + SMALLEST_VARIANCE)
        return off * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]


def _softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis, of which at least one cell is finite."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
