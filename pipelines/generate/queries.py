"""What people type in the generated shop: a finite table of queries, each with the items that it means."""

import numpy as np
import pandas as pd

from pipelines.generate import themes as words
from pipelines.generate.catalogue import Catalogue, Ints

FORMS = ("kind", "style", "brand", "variant", "word")  # what stands beside the kind of product
FORM_SHARES = (0.42, 0.12, 0.2, 0.16, 0.1)
DETAILS = len(words.PALETTE)  # most values that one form's detail takes
SLIP_SHARE = 0.05  # queries that are typed wrong
COUNT = len(words.KINDS) * len(FORMS) * DETAILS * 2


def codes(rng: np.random.Generator, catalogue: Catalogue, items: Ints) -> Ints:
    """The number of a query that somebody types who wants each of the items."""
    form = rng.choice(len(FORMS), size=len(items), p=FORM_SHARES)
    details = [
        np.zeros(len(items), dtype=np.int64),
        catalogue.style[items] * 3 + catalogue.style_word[items],
        catalogue.brand[items] % 3,
        catalogue.variant[items],
        catalogue.words[items, 0],
    ]
    detail = np.choose(form, details)
    own_brand = catalogue.brand[items] // 3 == catalogue.theme[items]
    is_foreign = (form == FORMS.index("brand")) & ~own_brand  # a brand of another theme is not thought of here
    form, detail = np.where(is_foreign, 0, form), np.where(is_foreign, 0, detail)
    is_slip = rng.random(len(items)) < SLIP_SHARE
    return ((catalogue.kind[items] * len(FORMS) + form) * DETAILS + detail) * 2 + is_slip


def table() -> pd.DataFrame:
    """All queries by number: `query`, `meant` (rightly typed), `theme`, `kind`, `form`, `detail`, `is_misspelled`."""
    rows = [_row(kind, form, detail) for kind in range(len(words.KINDS)) for form in FORMS for detail in range(DETAILS)]
    right = pd.DataFrame(rows, columns=["meant", "theme", "kind", "form", "detail"])
    both = right.loc[right.index.repeat(2)].reset_index(drop=True)
    both["is_misspelled"] = both.index % 2 == 1
    both.insert(
        0, "query", [slip(q) if wrong else q for q, wrong in zip(both["meant"], both["is_misspelled"], strict=True)]
    )
    return both


def slip(query: str) -> str:
    """The query with two neighbouring letters of its longest word changed over, always the same two."""
    word = max(query.split(), key=len)
    at = next((i for i in range(len(word) // 2, len(word) - 1) if word[i] != word[i + 1]), 0)
    return query.replace(word, word[:at] + word[at + 1] + word[at] + word[at + 2 :], 1)


def _row(kind: int, form: str, detail: int) -> tuple[str, str, str, str, str]:
    theme, name = words.THEMES[kind // words.KINDS_PER_THEME], words.KINDS[kind].name
    looks = [look for style in words.STYLES for look in style]
    values = {"kind": [""], "style": looks, "brand": theme.brands, "variant": words.PALETTE, "word": theme.words}[form]
    value = values[detail] if detail < len(values) else ""
    return f"{value} {name}".strip().lower(), theme.name, name, form, value
