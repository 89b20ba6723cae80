"""Lexicons: the words that the shop knows at the end of a day, and how they are kept with a release."""

import datetime as dt
import json
from pathlib import Path

from models.spelling import Speller
from models.understanding import Lexicon
from pipelines.marts import Marts
from pipelines.run import write_json


def learn(marts: Marts, until: dt.date) -> Lexicon:
    """From the catalogue and what was typed by then."""
    rows = marts.frame(
        "select query, sum(count_searches)::bigint as n from query_days where event_date <= ? group by query", until
    )
    items = {name: list(marts.catalogue[name].fillna("")) for name in ("title", "description", "brand", "category")}
    return Lexicon.learn(
        items, dict(zip(rows["query"], rows["n"].tolist(), strict=True)), language=marts.settings.search.language
    )


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
