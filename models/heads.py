"""Heads: the word that says what a thing is, in what people type and in what a shop writes."""

import re

from models.wishes import COLOURS, PATH, SIZE
from models.words import tokens, words

LINKS = {  # what stands behind one of these goes with the thing; these are the languages that put the head last
    "english": {"for", "with"},
    "german": {"für", "mit"},
    "dutch": {"voor", "met"},
    "danish": {"til", "med"},
    "swedish": {"till", "för", "med"},
    "norwegian": {"til", "for", "med"},
}
AND = re.compile(r"\s*[/&+,;]\s*|\s+(?:and|und|en|og|och)\s+")  # `Mice & keyboards` are both


def wanted(query: str, language: str) -> str | None:
    """What a normalised query asks for: its last word before any of LINKS that is no number, size or colour.

    None where there is no such word, and in a language that puts the head elsewhere.
    """
    if language not in LINKS:
        return None
    found = (tokens(word, language)[0] for word in reversed(_thing(words(query), language)))
    return next(filter(_is_name, found), None)


def beside(title: str, category: str, language: str) -> set[str]:
    """What an item's title or category names though the item is another thing, as tokens.

    `Cover for a keyboard` has the keyboard behind a link; what is of the category `Keyboard covers` is no keyboard.
    """
    if language not in LINKS:
        return set()
    written = words(title.casefold())
    thing = _thing(written, language)
    behind = set(tokens(" ".join(written[len(thing) :]), language)) - set(tokens(" ".join(thing), language))
    named = [tokens(one, language) for one in AND.split(PATH.split(category)[-1].casefold())]
    return behind | ({word for one in named for word in one} - {one[-1] for one in named if one})


def kind(category: str, language: str) -> str:
    """The last step of a category as one word: a query that says no less and no more means all of it."""
    return whole(tokens(PATH.split(category)[-1], language))


def whole(found: list[str] | tuple[str, ...]) -> str:
    """Tokens as one word that is none of them: it has a space; nothing for nothing."""
    return " ".join(["any", *found]) if found else ""


def _thing(written: list[str], language: str) -> list[str]:
    """The words before the first link; all of them where none stands behind another word."""
    places = (place for place, word in enumerate(written) if place and word in LINKS[language])
    return written[: next(places, len(written))]


def _is_name(word: str) -> bool:
    return word.isalpha() and word not in COLOURS and not SIZE.fullmatch(word)
