"""Placements: which items may stand on the shelves that the shop's settings declare."""

import difflib

import duckdb
import numpy as np
import pandas as pd

from pipelines.errors import BadSetting
from pipelines.marts import Marts
from pipelines.run import Run
from pipelines.settings import Placement, Settings

BELOW = " > "  # between a category and what is below it


def items(run: Run, marts: Marts) -> dict[str, np.ndarray]:
    """By declared placement, (I,) bool: the items that may stand there."""
    ages = marts.ages_days(run.day)
    return {name: _fitting(one, marts.catalogue, ages) for name, one in run.settings.placements.items()}


def refuse_unknown(catalogue: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Raise BadSetting for a category or brand that no item of the `catalogue` has."""
    for column in ("category", "brand"):
        found = catalogue.execute(f"select distinct {column} from catalogue where {column} is not null").fetchall()
        known = {above for (value,) in found for above in _above(value)}
        for name, placement in settings.placements.items():
            for value in getattr(placement, column):
                if value not in known:
                    near = difflib.get_close_matches(value, sorted(known), n=3, cutoff=0.0)
                    raise BadSetting(
                        f"placements.{name}.{column}: no item of the catalogue has {value!r}. "
                        f"The nearest: {', '.join(near) or 'none, for no item has any'}."
                    )


def _fitting(placement: Placement, catalogue: pd.DataFrame, ages_days: np.ndarray) -> np.ndarray:
    """(I,) bool: the items of a catalogue that meet all that the placement asks; what it leaves empty asks nothing."""
    fits = np.ones(len(catalogue), dtype=bool)
    if placement.category:
        paths = catalogue["category"].map(_above, na_action="ignore")
        fits &= paths.map(lambda path: not path.isdisjoint(placement.category), na_action="ignore").eq(True).to_numpy()
    if placement.brand:
        fits &= catalogue["brand"].isin(placement.brand).to_numpy()
    price = catalogue["price_cents"].to_numpy(dtype=float, na_value=np.nan)
    if placement.price_from_cents is not None:
        fits &= price >= placement.price_from_cents
    if placement.price_to_cents is not None:
        fits &= price <= placement.price_to_cents
    if placement.new_days is not None:
        fits &= ages_days < placement.new_days
    return fits


def _above(value: str) -> set[str]:
    """A category and all that it is below: `A > B` is below `A`."""
    parts = value.split(BELOW)
    return {BELOW.join(parts[:depth]) for depth in range(1, len(parts) + 1)}
