"""A vocabulary gives every id a position: models see integers, tables see ids."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cached_property
from itertools import repeat
from pathlib import Path

import numpy as np


class CorruptVocabulary(ValueError):
    """The file's ids do not match the hash stored beside them."""


class Vocabulary:
    """The sorted, unique ids of one kind of thing (users, items, queries).

    Attributes:
        ids: (N,) str objects, ascending; the id at position p is `ids[p]`.
    """

    def __init__(self, ids: Iterable[str]):
        unique = set(ids)
        strangers = {type(one).__name__ for one in unique if not isinstance(one, str)}
        if strangers:
            raise TypeError(f"ids must be strings, found {sorted(strangers)}: cast or drop them before building")
        self.ids = np.array(sorted(unique), dtype=object)

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: Iterable[str]) -> np.ndarray:
        """Positions of `ids`, (N,) int64, with -1 for the unknown."""
        return np.fromiter(map(self._position.get, ids, repeat(-1)), dtype=np.int64)

    @cached_property
    def _position(self) -> dict[str, int]:
        return dict(zip(self.ids, range(len(self.ids)), strict=True))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the content, hexadecimal: equal hashes mean equal positions."""
        return hashlib.sha256(json.dumps(self.ids.tolist()).encode()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Write ids and hash as JSON."""
        Path(path).write_text(json.dumps({"hash": self.hash, "ids": self.ids.tolist()}), encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> Vocabulary:
        """Read what `save` wrote.

        Raises:
            CorruptVocabulary: the ids no longer match the stored hash.
        """
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
        vocabulary = cls(stored["ids"])
        if vocabulary.hash != stored["hash"]:
            raise CorruptVocabulary(
                f"{path}: {len(vocabulary)} ids hash to {vocabulary.hash[:12]}, the file says "
                f"{stored['hash'][:12]}; it was edited or cut short, so rebuild it with the models that use it"
            )
        return vocabulary
