"""What one would search with instead: bm25s and tantivy for words, sentence-transformers for meaning.

Each contender reads the catalogue once and then answers queries with the first so many items; only answering is timed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import bm25s
import pandas as pd
import tantivy
from sentence_transformers import SentenceTransformer, util
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from models.profile import ProfileConfig

TEXTS = ("title", "description", "category", "brand")
SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}


class Rival(Protocol):
    """Answers queries with the first `count` items of each."""

    def answer(self, queries: Sequence[str], count: int) -> None: ...


class Bm25s:
    """Words alone, all texts of an item as one."""

    def __init__(self, goods: pd.DataFrame):
        self.index = bm25s.BM25()
        self.index.index(bm25s.tokenize(_texts(goods), show_progress=False), show_progress=False)

    def answer(self, queries: Sequence[str], count: int) -> None:
        tokens = bm25s.tokenize(list(queries), show_progress=False)
        self.index.retrieve(tokens, k=count, show_progress=False, n_threads=1)


class Tantivy:
    """Words alone, field by field; the items behind its addresses are not fetched."""

    def __init__(self, goods: pd.DataFrame):
        schema = tantivy.SchemaBuilder()
        for name in TEXTS:
            schema.add_text_field(name, tokenizer_name="en_stem")
        self.index = tantivy.Index(schema.build())
        writer = self.index.writer(num_threads=1)
        for row in goods[list(TEXTS)].to_dict("records"):
            writer.add_document(tantivy.Document(**row))
        writer.commit()
        writer.wait_merging_threads()
        self.index.reload()

    def answer(self, queries: Sequence[str], count: int) -> None:
        searcher = self.index.searcher()
        for query in queries:
            read, _ = self.index.parse_query_lenient(query, list(TEXTS))
            searcher.search(read, count)


class SentenceTransformers:
    """Meaning alone, by a BERT of the size of the shop's own encoder; it has learnt nothing, which costs the same."""

    def __init__(self, goods: pd.DataFrame):
        with TemporaryDirectory() as folder:
            self.model = bert(Path(folder), goods["title"])
        self.items = self.model.encode(_texts(goods), batch_size=256, convert_to_tensor=True, show_progress_bar=False)

    def answer(self, queries: Sequence[str], count: int) -> None:
        read = self.model.encode(list(queries), batch_size=256, convert_to_tensor=True, show_progress_bar=False)
        util.semantic_search(read, self.items, top_k=count)


RIVALS: dict[str, Callable[[pd.DataFrame], Rival]] = {
    "bm25s, words": Bm25s,
    "tantivy, words": Tantivy,
    "sentence-transformers": SentenceTransformers,
}


def _texts(goods: pd.DataFrame) -> list[str]:
    return goods[list(TEXTS)].agg(" ".join, axis=1).tolist()


def bert(folder: Path, titles: pd.Series) -> SentenceTransformer:
    """Untrained, of the size of the shop's own encoder."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    learn = trainers.WordPieceTrainer(vocab_size=8000, special_tokens=list(SPECIAL.values()), show_progress=False)
    tokenizer.train_from_iterator(titles, learn)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL).save_pretrained(folder)
    size = ProfileConfig(tokenizer.get_vocab_size())
    shape = BertConfig(
        vocab_size=size.vocabulary_size,
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.hidden_size,
        max_position_embeddings=size.max_tokens,
    )
    BertModel(shape).save_pretrained(folder)
    network = Transformer(str(folder), max_seq_length=size.max_tokens)
    return SentenceTransformer(modules=[network, Pooling(size.hidden_size)], device="cpu")
