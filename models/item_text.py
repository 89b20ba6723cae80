"""What the text of an item or of a query becomes: tokens, each with the field it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FIELDS = ("query", "title", "category", "brand", "price_band", "description")
ITEM_FIELDS = FIELDS[1:]  # in the order of their tokens: the description comes last, so it is cut first
PADDING = "[PAD]"  # always id 0
COUNT_BYTES = 256
ENOUGH = 12  # characters per token: most texts have so many tokens in so many characters


@dataclass(frozen=True)
class Tokens:
    """Texts as integers, one row per item or query.

    Attributes:
        ids: (N, T) int32 token ids, 0 is padding and stands only at the end of a row.
        fields: (N, T) int8 indexes into `FIELDS`, 0 at padding.
    """

    ids: np.ndarray
    fields: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens in each row."""
        return np.count_nonzero(self.ids, axis=1)

    @property
    def contents(self) -> np.ndarray:
        """(N,) uint64 hash of what each row says, whatever the padding: equal rows, equal numbers."""
        texts = zip(self.ids, self.fields, self.lengths, strict=True)
        return _hashes(ids[:n].tobytes() + fields[:n].tobytes() for ids, fields, n in texts)

    def take(self, rows: np.ndarray) -> Tokens:
        """These rows, no wider than the longest of them (one column at least)."""
        ids = self.ids[rows]
        width = max(int(np.count_nonzero(ids, axis=1).max(initial=0)), 1)
        return Tokens(ids[:, :width], self.fields[rows, :width])


def item_contents(fields: Mapping[str, Sequence[str | None]]) -> np.ndarray:
    """(N,) uint64 hash of what each item says, before it is cut into tokens: equal texts, equal numbers."""
    rows = zip(*(fields[name] for name in ITEM_FIELDS if name in fields), strict=True)
    return _hashes(repr(row).encode() for row in rows)


class TextTokenizer:
    """Byte-pair encoding over bytes, trained on the shop's own words: no string is out of vocabulary.

    Another tokenizer may stand in its place; unless its id 0 is padding, its ids are counted from 1.
    """

    def __init__(self, tokenizer: Tokenizer):
        tokenizer.encode_special_tokens = True  # a text that says "[PAD]" is a text
        self._tokenizer = tokenizer
        self.shift = int(tokenizer.id_to_token(0) != PADDING)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids, padding and the 256 bytes included; may be less than asked for."""
        return self._tokenizer.get_vocab_size() + self.shift

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary_size: int = 8192) -> TextTokenizer:
        """Learn the merges from `texts`; equal texts in equal order give an equal tokenizer.

        Raises:
            ValueError: vocabulary_size leaves no room for padding and the 256 bytes.
        """
        if vocabulary_size <= COUNT_BYTES:
            raise ValueError(f"vocabulary_size is {vocabulary_size}: padding and bytes alone take {COUNT_BYTES + 1}")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = _normalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            min_frequency=2,
            special_tokens=[PADDING],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer)

    def encode_items(self, fields: Mapping[str, Sequence[str | None]], max_tokens: int = 48) -> Tokens:
        """Items as tokens: title, category, brand, price band, description, cut at `max_tokens`.

        Args:
            fields: for each field of `ITEM_FIELDS` that the shop has, N texts; None where an item has none.
        Raises:
            ValueError: a field is unknown, or the fields differ in length.
        """
        unknown = sorted(set(fields) - set(ITEM_FIELDS))
        if unknown:
            raise ValueError(f"unknown item fields {unknown}: choose from {list(ITEM_FIELDS)}")
        counts = {name: len(texts) for name, texts in fields.items()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"the fields differ in length, {counts}: give one text or None per item")
        return self._encode({name: fields[name] for name in ITEM_FIELDS if name in fields}, max_tokens)

    def encode_queries(self, texts: Sequence[str], max_tokens: int = 48) -> Tokens:
        """Queries as tokens, cut at `max_tokens`."""
        return self._encode({"query": texts}, max_tokens)

    def decode(self, ids: Sequence[int]) -> str:
        """The normalised text behind token ids, padding left out."""
        return self._tokenizer.decode([int(one) - self.shift for one in ids if one]).strip()

    def _encode(self, fields: Mapping[str, Sequence[str | None]], max_tokens: int) -> Tokens:
        """Lay the fields of each row one after the other; brands and categories, which repeat, are read once."""
        count = max(map(len, fields.values()), default=0)
        tokens = Tokens(np.zeros((count, max_tokens), np.int32), np.zeros((count, max_tokens), np.int8))
        filled = [0] * count
        for name, texts in fields.items():
            ids = self._ids({text or "" for text in texts}, max_tokens)
            for row, text in enumerate(texts):
                read, start = ids[text or ""], filled[row]
                stop = min(start + len(read), max_tokens)
                tokens.ids[row, start:stop] = np.array(read[: stop - start], dtype=np.int32) + self.shift
                tokens.fields[row, start:stop] = FIELDS.index(name)
                filled[row] = stop
        return tokens

    def _ids(self, texts: Iterable[str], max_tokens: int) -> dict[str, list[int]]:
        """The first ids of each text, at most so many; the end of a long one is read only where its start has fewer."""
        found = self._read({text: _start(text, ENOUGH * max_tokens) for text in texts}, max_tokens)
        short = {text: text for text, ids in found.items() if len(ids) < max_tokens and len(text) > ENOUGH * max_tokens}
        return found | self._read(short, max_tokens)

    def _read(self, texts: Mapping[str, str], max_tokens: int) -> dict[str, list[int]]:
        encodings = self._tokenizer.encode_batch_fast(list(texts.values()), add_special_tokens=False)
        return {name: encoding.ids[:max_tokens] for name, encoding in zip(texts, encodings, strict=True)}

    def save(self, folder: Path | str) -> None:
        """Write tokenizer.json."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(Path(folder) / "tokenizer.json"))

    @classmethod
    def load(cls, folder: Path | str) -> TextTokenizer:
        """Read what `save` wrote."""
        return cls(Tokenizer.from_file(str(Path(folder) / "tokenizer.json")))


def _start(text: str, characters: int) -> str:
    """The whole words of the first characters: no token reaches over a space."""
    return text if len(text) <= characters else text[:characters].rpartition(" ")[0]


def _hashes(contents: Iterable[bytes]) -> np.ndarray:
    """(N,) uint64"""
    digests = (hashlib.blake2b(one, digest_size=8).digest() for one in contents)
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _normalizer() -> normalizers.Normalizer:
    """NFKC, lower case, single spaces, and no accents on Latin, Greek and Cyrillic letters.

    Only the block U+0300-036F is dropped: the voicing marks of kana and the vowel signs of Indic scripts carry meaning.
    """
    accents = normalizers.Replace(Regex("[\u0300-\u036f]"), "")
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    steps = [normalizers.NFKD(), normalizers.Lowercase(), accents, normalizers.NFC(), spaces, normalizers.Strip()]
    return normalizers.Sequence(steps)
