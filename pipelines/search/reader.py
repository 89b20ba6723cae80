"""Reader: what turns queries into vectors, the shop's own encoder or a pretrained one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.item_text import TextTokenizer
from models.reading import OwnEncoder, is_own

if TYPE_CHECKING:
    from models.encoder import TextEncoder  # importing torch takes longer than an answer

QUERIES_PER_BATCH = 1024


@dataclass(frozen=True)
class Reader:
    """An encoder with its tokenizer."""

    tokenizer: TextTokenizer
    encoder: OwnEncoder | TextEncoder

    @classmethod
    def load(cls, tokenizer: Path, weights: Path) -> Reader:
        if is_own(weights):
            return cls(TextTokenizer.load(tokenizer), OwnEncoder.load(weights))
        from models import encoder

        return cls(TextTokenizer.load(tokenizer), encoder.load(weights))

    def read(self, queries: Sequence[str]) -> np.ndarray:
        """(Q, E) unit vectors."""
        if isinstance(self.encoder, OwnEncoder):
            tokens = self.tokenizer.encode_queries(queries, self.encoder.config["max_tokens"])
            return self.encoder.encode(tokens, QUERIES_PER_BATCH)
        from models.encoder import encode

        tokens = self.tokenizer.encode_queries(queries, self.encoder.config.max_tokens)
        return encode(self.encoder, tokens, QUERIES_PER_BATCH)

    def save(self, folder: Path) -> None:
        self.tokenizer.save(folder)
        self.encoder.save(folder)
