"""Lexicons: the words that the shop knows, as a file of the release."""

import json
from pathlib import Path

from models.spelling import Speller
from models.understanding import Lexicon
from pipelines.run import write_json


def save(lexicon: Lexicon, path: Path) -> None:
    """Write what the speller counted, the phrases and the synonyms."""
    speller = lexicon.speller
    counts = {word: speller.counts[plain] - speller.typed[plain] for plain, word in speller.written.items()}
    told = {
        "language": lexicon.language,
        "catalogue": counts,
        "queries": dict(speller.asked),
        "phrases": [[list(words), meant] for words, meant in lexicon.phrases.items()],
        "synonyms": [[list(words), others] for words, others in lexicon.synonyms.items()],
    }
    write_json(path, told)


def load(path: Path) -> Lexicon:
    """Read what `save` wrote."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return Lexicon(
        Speller(told["catalogue"], told["queries"], told["language"]),
        {tuple(words): tuple((field, value, sure) for field, value, sure in meant) for words, meant in told["phrases"]},
        {tuple(words): [tuple(other) for other in others] for words, others in told["synonyms"]},
        told["language"],
    )
