"""What people and catalogues write, as words: one spelling for one thing, and the forms under which it is found."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache

import Stemmer
from bm25s import stopwords
from icu4py.breakers import WordBreaker

LONGEST_QUERY = 256  # characters of a query that are read; nobody means what stands behind
SHORTEST_PART = 3  # letters of a part of a compound word
LINKS = ("", "s", "n", "en", "es")  # what may stand between the parts: German `Arbeit-s-lampe`
UNITS = {
    "mm": "mm|millimet(?:er|re)s?",
    "cm": "cm|centimet(?:er|re)s?|zentimeter",
    "km": "km|kilomet(?:er|re)s?",
    "m": "m|met(?:er|re)s?",
    "in": r"in(?![\s-]*\d)|inch(?:es)?|zoll|''|\"",
    "ft": "ft|foot|feet|'",
    "ml": "ml|millilit(?:er|re)s?",
    "cl": "cl",
    "l": "l|lit(?:er|re)s?",
    "mg": "mg",
    "kg": "kg|kilo(?:gram)?s?",
    "g": "g|gramm?s?",
    "oz": "oz|ounces?",
    "lb": "lbs?",
    "mah": "mah",
    "ah": "ah",
    "kw": "kw|kilowatts?",
    "wh": "wh",
    "w": "w|watts?",
    "v": "v|volts?",
    "mb": "mb",
    "gb": "gb|gigabytes?",
    "tb": "tb|terabytes?",
    "khz": "khz",
    "mhz": "mhz",
    "ghz": "ghz",
    "hz": "hz|hertz",
    "mp": "mp|megapixels?",
}
NUMBER = r"\d+(?:[.,]\d+)*(?:/\d+)?"
SIZE = re.compile(rf"({NUMBER}(?:x{NUMBER})*)[\s-]?(?:" + "|".join(
    f"(?P<{name}>{forms})" for name, forms in UNITS.items()) + r")(?![\w'\"])")  # fmt: skip
TIMES = re.compile(r"(\d)\s*x\s*(?=\d)")
THOUSANDS = re.compile(r"([1-9]),(?=\d{3}(?!\d))")
QUOTED = re.compile(r'(?<!\d)"([^"]*)"')
LOOSE_QUOTES = re.compile(r"(?<!\w)'|'(?!\w)")
OWNER_MARKS = re.compile("[™®©℠]")
VULGAR_FRACTION = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")
ACCENTS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0652\u0670]")
QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "″": '"', "‘": "'", "’": "'", "′": "'",
                        "`": "'", "´": "'", "⁄": "/", "×": "x", "‐": "-", "‑": "-", "–": "-", "—": "-"})  # fmt: skip
RUNS = re.compile("[\u0000-\u052f]+|[^\u0000-\u052f]+")  # Latin, Greek and Cyrillic, which put spaces; all the others
LETTERS = r"(?:[^\W_\u0530-\U0010ffff][\u0300-\u036f]*)+"
WORD = re.compile(rf"{LETTERS}(?:[-_./'&+,]{LETTERS})*")
PIECES = re.compile(r"\d+(?:\.\d+)*|[^\W\d_]+")
WITHIN_NUMBER = re.compile(r"(?<=\d)[./](?=\d)")
ELISION = re.compile(r"^(?:l|d|j|m|n|s|t|c|qu)'")
IRREGULAR = {
    "lens": "lens", "lenses": "lens", "men": "man", "women": "woman", "children": "child", "mice": "mouse",
    "feet": "foot", "teeth": "tooth", "knives": "knife", "shelves": "shelf", "scarves": "scarf", "wolves": "wolf",
    "loaves": "loaf", "buses": "bus", "gas": "gas", "canvas": "canvas", "series": "series", "news": "news",
}  # fmt: skip
STOP_WORDS = {"english": "EN"}  # bm25s names the other lists as Snowball does


def normalise(query: str) -> str:
    """The one spelling of a query: what differs only by case, space, quotes or the way of writing a size is equal.

    Control characters are spaces, invisible ones nothing; `20 CM` is `20cm`, `1/2"` is `1/2in`. Only the first
    `LONGEST_QUERY` characters are read. What has no letter and no digit has no words, but stays what it is.
    """
    return spelled(query[:LONGEST_QUERY])


def spelled(text: str) -> str:
    """A text of any length as `normalise` writes a query."""
    text = _plain(text)
    if '"' in text:
        text = QUOTED.sub(r" \1 ", text)
    text = SIZE.sub(_size, TIMES.sub(r"\1x", THOUSANDS.sub(r"\1", text))).replace('"', " ")
    if "'" in text:
        text = LOOSE_QUOTES.sub(" ", text)
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """The words of a text as they are written, in order: by spaces where the script has them, else by dictionary.

    Chinese, Japanese, Thai, Khmer, Lao and Burmese are cut by the dictionaries of ICU; a model number stays whole.
    """
    found: list[str] = []
    for run in RUNS.findall(text):
        if run[0] < "\u0530":
            found += WORD.findall(run)
        else:
            found += [part for part in WordBreaker(run, "en") if any(map(str.isalnum, part))]
    return found


def tokens(text: str, language: str = "english", keep_stop_words: bool = False) -> list[str]:
    """The forms under which a text is found, in order; a query and an item that say the same share them.

    Plurals are folded, accents dropped, and what is written with hyphens or digits counts whole and in its pieces:
    `HS-300` gives `hs300`, `hs` and `300`. Stop words go, unless there is nothing else.

    Args:
        language: of the plurals and stop words, an English name that Snowball knows.
        keep_stop_words: for catalogues, so that a query of stop words alone finds something.
    Raises:
        ValueError: the language is unknown.
    """
    found = [form for word in words(spelled(text)) for form in _forms(word, language)]
    if keep_stop_words:
        return found
    stop = _stop_words(language)
    return [form for form in found if form not in stop] or found


def parts(word: str, counts: Mapping[str, int]) -> tuple[str, ...]:
    """The known words that a compound is made of, or the word alone: `gartenlampe` is `garten` and `lampe`.

    It is taken apart where the geometric mean of its parts' counts is above its own (Koehn and Knight, 2003,
    *Empirical Methods for Compound Splitting*).
    """
    best: tuple[str, ...] = (word,)
    most = float(counts.get(word, 0))
    if not word.isalpha():
        return best
    for at in range(SHORTEST_PART, len(word) - SHORTEST_PART + 1):
        tail = word[at:]
        if tail not in counts:
            continue
        for link in LINKS:
            head = word[:at].removesuffix(link) if link else word[:at]
            if len(head) < SHORTEST_PART or (link and not word[:at].endswith(link)):
                continue
            if (mean := (counts.get(head, 0) * counts[tail]) ** 0.5) > most:
                best, most = (head, tail), mean
    return best


def singular(word: str, language: str = "english") -> str:
    """The word without its plural ending; in English by the ending alone, elsewhere by Snowball's stem."""
    if language != "english":
        return _stemmer(language).stemWord(word)
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y" if len(word) > 4 else word[:-1]
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "zzes")) else word[:-1]


def without_accents(word: str) -> str:
    """The word without accents on Latin, Greek and Cyrillic letters, and without the vowel points of Hebrew and Arabic.

    The voicing marks of kana and the vowel signs of Indic scripts stay: they carry meaning.
    """
    if word.isascii():
        return word
    return unicodedata.normalize("NFC", ACCENTS.sub("", unicodedata.normalize("NFD", word)))


def _size(found: re.Match[str]) -> str:
    """`20 cm` in one way; a number within a word or a longer number is no size."""
    before = found.string[: found.start()][-1:]
    if before.isalnum() or before in ("_", ".", ",", "/"):
        return found[0]
    return found[1].replace(",", ".") + (found.lastgroup or "")


def _plain(text: str) -> str:
    """Compatibility forms unified, case folded, one kind of quote, nothing that cannot be seen."""
    text = VULGAR_FRACTION.sub(" ", OWNER_MARKS.sub(" ", text)).translate(QUOTES)
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).translate(QUOTES)
    text = text.replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")  # Thai and Lao am is one letter
    if text.isprintable():
        return text
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    kind = unicodedata.category(character)
    if kind in ("Cf", "Cs", "Co", "Cn"):
        return ""
    return " " if kind in ("Cc", "Zs", "Zl", "Zp") else character


@lru_cache(maxsize=500_000)
def _forms(word: str, language: str) -> tuple[str, ...]:
    """A written word as tokens: whole, then its pieces where it has any."""
    word = ELISION.sub("", without_accents(word).removesuffix("'s"))
    if word >= "\u0530":
        return (word,)
    whole = _whole(word)
    pieces = PIECES.findall(word)
    if len(pieces) < 2 or (len(pieces) == 2 and "'" in word):
        return (singular(whole, language),)
    return tuple(dict.fromkeys(_pieces(whole, pieces, language)))


def _pieces(whole: str, pieces: list[str], language: str) -> Iterator[str]:
    yield whole if any(map(str.isdigit, whole)) else singular(whole, language)
    for piece in pieces:
        if len(piece) > 1 or piece.isdigit():  # one letter of a model number says nothing
            yield singular(piece, language)


def _whole(word: str) -> str:
    """Without what separates, but for the point and the slash of a number."""
    kept = {match.start() for match in WITHIN_NUMBER.finditer(word)}
    return "".join(c for n, c in enumerate(word) if c.isalnum() or n in kept or unicodedata.combining(c))


@lru_cache
def _stemmer(language: str) -> Stemmer.Stemmer:
    if language not in Stemmer.algorithms():
        raise ValueError(f"{language!r} is no language of Snowball: choose from {', '.join(Stemmer.algorithms())}")
    return Stemmer.Stemmer(language)


@lru_cache
def _stop_words(language: str) -> frozenset[str]:
    _stemmer(language)
    listed = getattr(stopwords, f"STOPWORDS_{STOP_WORDS.get(language, language.upper())}", ())
    return frozenset(form for word in listed for form in _forms(word, language))
