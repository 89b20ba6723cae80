"""The generated shop's items: traits as arrays, and the texts and prices in which those traits can be read."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.generate import themes as words

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LATE_SHARE = 0.10  # items whose catalogue row arrives after the first day, half of them in the last LAST_DAYS
LAST_DAYS = 5
GONE_SHARE = 0.04  # items that can no longer be bought from some day on
REPRICED_SHARE = 0.05
CARRIED_SHARE = 0.75  # of all items in one market of several
CONSUMABLES = np.array([kind.rhythm > 0 for kind in words.KINDS])
RHYTHMS = np.array([kind.rhythm for kind in words.KINDS])


@dataclass(frozen=True)
class Catalogue:
    """I items; arrays have shape (I,). Days count from 0, and one that equals `days` means never: `first_day` too."""

    days: int
    kind: Ints
    style: Ints
    style_word: Ints
    band: Ints
    brand: Ints  # theme of the brand × 3 + its band: brands lean to their own theme
    parent: Ints  # the first item of the same kind, style and brand: the others are the same thing in other colours
    variant: Ints
    line: Ints
    words: Ints  # (I, 2) of the theme's words
    popularity: Floats
    growth: Floats
    old_price: Ints
    new_price: Ints
    first_day: Ints
    gone_day: Ints
    repriced_day: Ints

    def __len__(self) -> int:
        return len(self.kind)

    @cached_property
    def theme(self) -> Ints:
        return self.kind // words.KINDS_PER_THEME

    @cached_property
    def cell(self) -> Ints:
        """What one taste wants: theme, style and price band."""
        return cell(self.theme, self.style, self.band)

    def price(self, items: Ints, day: Ints) -> Ints:
        """Price in cents of each item on each day."""
        return np.where(day < self.repriced_day[items], self.old_price[items], self.new_price[items])

    def is_on_sale(self, items: Ints, day: Ints) -> NDArray[np.bool_]:
        return (self.first_day[items] <= day) & (day < self.gone_day[items])

    def appeal(self, items: Ints, day: Ints, season: Floats) -> Floats:
        """Probability (0 to 1) that whoever thinks of an item on a day wants it: season, trend, on sale.

        `season`: (themes, days). Items of the last days are hardly known yet.
        """
        trend = 1 / (1 + np.exp(-self.growth[items] * 4 * (day / self.days - 0.5)))
        fame = np.where(self.first_day[items] >= self.days - LAST_DAYS, 0.1, 1.0)
        return self.is_on_sale(items, day) * fame * trend * season[self.theme[items], day]


class Choice:
    """Draws items of wanted groups by popularity; groups without any item draw from all."""

    def __init__(self, items: Ints, group: Ints, groups: int, popularity: Floats) -> None:
        order = np.argsort(group, kind="stable")
        self.items = items[order]
        self.cumulative = np.concatenate([[0.0], np.cumsum(popularity[order])])
        bounds = np.searchsorted(group[order], np.arange(groups + 1))
        is_empty = bounds[:-1] == bounds[1:]
        self.low = self.cumulative[np.where(is_empty, 0, bounds[:-1])]
        self.high = self.cumulative[np.where(is_empty, len(group), bounds[1:])]

    def draw(self, rng: np.random.Generator, group: Ints) -> Ints:
        """One item per wanted group."""
        mass = self.low[group] + rng.random(len(group)) * (self.high - self.low)[group]
        position = np.searchsorted(self.cumulative, mass, side="right") - 1
        return self.items[np.minimum(position, len(self.items) - 1)]


def cell(theme: Ints, style: Ints, band: Ints) -> Ints:
    return (theme * len(words.STYLES) + style) * len(words.BANDS) + band


def make(rng: np.random.Generator, items: int, days: int) -> Catalogue:
    """Items with Zipf popularity, spread over all themes; every kind comes round before one repeats."""
    kind = rng.permutation(np.arange(items) % len(words.KINDS))
    style, band = rng.integers(3, size=items), rng.choice(3, size=items, p=(0.35, 0.45, 0.2))
    own_theme = rng.random(items) < 0.85
    brand_theme = np.where(own_theme, kind // words.KINDS_PER_THEME, rng.integers(len(words.THEMES), size=items))
    own_colour = rng.random(items) < 0.7
    colour = np.where(own_colour, style, rng.integers(3, size=items)) * 3 + rng.integers(3, size=items)
    price = prices(rng, kind, band)
    brand = brand_theme * 3 + band
    parent = parents(kind, style, brand)
    return Catalogue(
        days=days,
        kind=kind,
        style=style,
        style_word=rng.integers(3, size=items)[parent],
        band=band,
        brand=brand,
        parent=parent,
        variant=np.where(CONSUMABLES[kind], len(words.PALETTE) - 3 + rng.integers(3, size=items), colour),
        line=rng.integers(len(words.LINES), size=items)[parent],
        words=np.argsort(rng.random((items, 6)), axis=1)[parent, :2],
        popularity=1 / (rng.permutation(items) + 5.0) ** 0.9,
        growth=rng.normal(size=items),
        old_price=price,
        new_price=_rounded(price * rng.choice([0.8, 0.9, 1.15], size=items)),
        first_day=_first_days(rng, items, days),
        gone_day=_some_day(rng, items, days, GONE_SHARE),
        repriced_day=_some_day(rng, items, days, REPRICED_SHARE),
    )


def of_market(rng: np.random.Generator, catalogue: Catalogue) -> Catalogue:
    """The catalogue as one market of several has it: part of the range, which is there from its own days on, sold out
    on its own, at its own prices. What an item is stays."""
    items, days = len(catalogue), catalogue.days
    level = rng.lognormal(0, 0.2) * rng.lognormal(0, 0.1, items)
    first_day = _first_days(rng, items, days)
    return replace(
        catalogue,
        popularity=rng.permutation(catalogue.popularity),
        old_price=_rounded(catalogue.old_price * level),
        new_price=_rounded(catalogue.new_price * level),
        first_day=np.where(rng.random(items) < CARRIED_SHARE, first_day, days),
        gone_day=_some_day(rng, items, days, GONE_SHARE),
        repriced_day=_some_day(rng, items, days, REPRICED_SHARE),
    )


def parents(kind: Ints, style: Ints, brand: Ints) -> Ints:
    """(I,) the first item that each is a variant of, which may be itself."""
    _, first, same = np.unique(np.stack([kind, style, brand]), axis=1, return_index=True, return_inverse=True)
    return first[same.ravel()]


def prices(rng: np.random.Generator, kind: Ints, band: Ints) -> Ints:
    """Cents: the kind's usual price, times the band's factor, with some spread."""
    usual = np.array([kind.price_cents for kind in words.KINDS])[kind]
    return _rounded(usual * np.array([factor for _, factor in words.BANDS])[band] * rng.lognormal(0, 0.12, len(kind)))


def deliveries(catalogue: Catalogue) -> Iterator[tuple[int, Ints]]:
    """(day, items) in order: all known ones on day 0, then those that are new or changed."""
    for day in range(catalogue.days):
        changed = (catalogue.gone_day == day) | (catalogue.repriced_day == day)
        items = np.flatnonzero((catalogue.first_day == day) | (changed & (catalogue.first_day < day)))
        if len(items):
            yield day, items


def texts(catalogue: Catalogue, items: Ints, day: int) -> pd.DataFrame:
    """Contract columns of the catalogue as delivered on a day."""
    written = [_text(catalogue, int(item)) for item in items]
    columns = pd.DataFrame(written, columns=["title", "description", "category", "brand"])
    columns.insert(0, "item_id", item_ids(items))
    columns["parent_id"] = [f"p{parent:06d}" for parent in catalogue.parent[items].tolist()]
    columns["tags"] = _tags(catalogue, items)
    columns["seller"] = np.array(words.SELLERS)[catalogue.parent[items] % len(words.SELLERS)]
    columns["price_cents"] = catalogue.price(items, np.full(len(items), day))
    columns["is_available"] = catalogue.gone_day[items] > day
    return columns


def truth(catalogue: Catalogue, items: Ints, companion: Ints) -> pd.DataFrame:
    """What is true of items that no raw file says: theme, style, band, popularity, and what they are bought with."""
    first, gone = catalogue.first_day[items], catalogue.gone_day[items]
    return pd.DataFrame(
        {
            "item_id": item_ids(items),
            "theme": np.array([theme.name for theme in words.THEMES])[catalogue.theme[items]],
            "kind": np.array([kind.name for kind in words.KINDS])[catalogue.kind[items]],
            "style": np.array([style[0] for style in words.STYLES])[catalogue.style[items]],
            "style_word": np.array(words.STYLES)[catalogue.style[items], catalogue.style_word[items]],
            "band": np.array([name for name, _ in words.BANDS])[catalogue.band[items]],
            "brand": np.array(brands())[catalogue.brand[items]],
            "variant": np.array(words.PALETTE)[catalogue.variant[items]],
            "popularity": catalogue.popularity[items],
            "first_day": first,
            "gone_day": np.where(gone < catalogue.days, gone, -1),
            "is_cold": first > 0,
            "companion_item_id": item_ids(companion[items]),
        }
    )


def companions(rng: np.random.Generator, catalogue: Catalogue) -> Ints:
    """(I,) what goes into the basket with each item: another one of its theme."""
    everything = np.arange(len(catalogue))
    return Choice(everything, catalogue.theme, len(words.THEMES), catalogue.popularity).draw(rng, catalogue.theme)


def item_ids(items: Ints) -> list[str]:
    return [f"i{item:06d}" for item in items.tolist()]


def brands() -> list[str]:
    return [brand for theme in words.THEMES for brand in theme.brands]


def _text(catalogue: Catalogue, item: int) -> tuple[str, str, str, str]:
    """Title, description, category and brand."""
    kind, theme = words.KINDS[catalogue.kind[item]], words.THEMES[catalogue.kind[item] // words.KINDS_PER_THEME]
    style, band, variant = catalogue.style[item], catalogue.band[item], words.PALETTE[catalogue.variant[item]]
    brand = words.THEMES[catalogue.brand[item] // 3].brands[catalogue.brand[item] % 3]
    look, line = words.STYLES[style][catalogue.style_word[item]], words.LINES[catalogue.line[item]]
    first, second = (theme.words[word] for word in catalogue.words[item])
    within = "" if kind.rhythm else f" of {theme.material}"
    description = (
        f"{look.capitalize()} {kind.name}{within} by {brand}, {variant}, for {first} and {second}. "
        f"{words.STYLE_SENTENCES[style]} {words.BAND_SENTENCES[band]}"
    )
    return f"{brand} {line} {look} {kind.name}, {variant}", description, kind.category, brand


def _tags(catalogue: Catalogue, items: Ints) -> list[str | None]:
    """What the shop labels by style, use and price band."""
    natural, luxury = len(words.STYLES) - 1, len(words.BANDS) - 1
    labels = {
        "eco": catalogue.style[items] == natural,
        "gift": catalogue.band[items] == luxury,
        "refill": CONSUMABLES[catalogue.kind[items]],
    }
    return ["|".join(label for label in labels if labels[label][n]) or None for n in range(len(items))]


def _first_days(rng: np.random.Generator, items: int, days: int) -> Ints:
    is_late, is_last = rng.random(items) < LATE_SHARE, rng.random(items) < 0.5
    last = max(days - LAST_DAYS, 1)
    late = np.where(is_last, rng.integers(last, days, size=items), rng.integers(1, last + 1, size=items))
    return np.where(is_late, late, 0)


def _some_day(rng: np.random.Generator, items: int, days: int, share: float) -> Ints:
    return np.where(rng.random(items) < share, rng.integers(days // 2, days, size=items), days)


def _rounded(cents: Floats) -> Ints:
    """To tens of cents, less one: 12.89."""
    return np.maximum(np.round(cents / 10).astype(np.int64) * 10 - 1, 99)
