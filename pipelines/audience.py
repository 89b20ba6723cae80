"""Audience: whom an item, a brand or a category is for, who lapsed, or for whom something is due; of these, who may be
written to. Read from the release alone."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines import warehouse
from pipelines.errors import BadSetting, NothingPublished
from pipelines.raw.files import shown
from pipelines.settings import Audiences

READS = ("items", "replenishments", "runs", "user_candidates", "user_preferences", "user_rhythms")
FOUND = {
    "item": """
        select user_id, rank from user_candidates where placement = 'for_you' and item_id = $value
    """,
    "brand": """
        select user_id, lift, count_items from user_preferences where facet = 'brand' and value = $value and lift > 1
    """,
    "category": """
        select user_id, lift, count_items from user_preferences where facet = 'category' and value = $value and lift > 1
    """,
    "win_back": """
        select user_id, last_purchase_date, usual_pause_days, count_purchase_days
        from user_rhythms
        where status = 'lapsed'
    """,
    "due": """
        select
            user_id,
            arg_min(item_id, (due_date, item_id)) as item_id,
            min(due_date) as due_date,
            count(*) as count_items
        from replenishments
        join items using (item_id)
        where status = 'due' and is_available
        group by user_id
    """,
}
ORDER = {
    "item": "rank",
    "brand": "lift desc",
    "category": "lift desc",
    "win_back": "count_purchase_days desc",
    "due": "due_date",
}
VALUES = {"item": "item_id", "brand": "brand", "category": "category"}  # the column of `items` that names a value
REACHED = """
    with found as ({found}),
    judged as (
        select
            user_id,
            country,
            last_contact_date,
            coalesce(has_consent, $without_consent) as may_be_asked,
            coalesce(last_contact_date > run_date - $contact_pause_days, false) as was_just_asked
        from user_rhythms, runs
    ),
    told as (select judged.*, found.* exclude (user_id) from found join judged using (user_id))
"""
SHOWN = 20  # users on a screen
FORMULA = r"^[=+\-@\t\r\n]"  # how a cell begins that a spreadsheet would compute


@dataclass(frozen=True)
class Wanted:
    """A kind of audience, one of FOUND, and the item, brand or category that it is for."""

    kind: str
    value: str | None = None


@dataclass(frozen=True)
class Audience:
    """Who may be written to, best first, and how many were left out."""

    users: pd.DataFrame
    count_without_consent: int
    count_just_asked: int


def of(release: duckdb.DuckDBPyConnection, wanted: Wanted, policy: Audiences) -> Audience:
    """The audience in a release; raises BadSetting for a value that the catalogue lacks."""
    _check(release, wanted)
    values: dict[str, Any] = policy.model_dump() | ({"value": wanted.value} if wanted.kind in VALUES else {})
    told = release.execute(
        REACHED.format(found=FOUND[wanted.kind]) + f"select * from told order by {ORDER[wanted.kind]}, user_id", values
    ).df()
    may_be_asked, was_just_asked = told.pop("may_be_asked"), told.pop("was_just_asked")
    kept = told[may_be_asked & ~was_just_asked].reset_index(drop=True)
    return Audience(kept, int((~may_be_asked).sum()), int((may_be_asked & was_just_asked).sum()))


def read(home: Path, wanted: Wanted, policy: Audiences) -> Audience:
    """The audience in the current release; raises NothingPublished when it is older than what is read."""
    with warehouse.connect(home) as release:
        there = warehouse.names(release)
        if missing := [name for name in READS if name not in there]:
            raise NothingPublished(
                f"The current release has no {' and no '.join(missing)}: an earlier version made it. Publish a night "
                "first: `nightshelf night`."
            )
        return of(release, wanted, policy)


def tell(console: Console, found: Audience, out: Path | None) -> None:
    """Print the first users, or write all into a file, and say how many were left out."""
    if out is not None:
        write(found.users, out)
    else:
        table = Table(*found.users.columns, header_style="bold", box=None, pad_edge=False)
        for row in found.users.head(SHOWN).itertuples(index=False):
            table.add_row(*[Text(_word(value)) for value in row])
        console.print(table)
    left_out = f"{found.count_without_consent} did not agree, {found.count_just_asked} were written to just before"
    where = f" in {shown(out)}" if out else ""
    console.print(Text(f"{len(found.users)} users{where}; left out: {left_out}."), soft_wrap=True)


def _word(value: Any) -> str:
    """A cell as a person reads it: a day without its midnight."""
    if pd.isna(value):
        return ""
    return shown(value.date() if isinstance(value, pd.Timestamp) else value)


def write(users: pd.DataFrame, path: Path) -> None:
    """Users as `.csv` or `.parquet`, whole or not at all; no cell of a CSV is read as a formula."""
    if path.suffix not in (".csv", ".parquet"):
        raise BadSetting(f"{path}: write an audience as .csv or .parquet.")
    partial = path.with_name(f"{path.name}.partial")
    if path.suffix == ".csv":
        users.apply(_harmless).to_csv(partial, index=False, lineterminator="\n")
    else:
        users.to_parquet(partial, index=False)
    os.replace(partial, path)


def _harmless(column: pd.Series) -> pd.Series:
    """Text that begins like a formula begins with an apostrophe, as OWASP advises; numbers and dates stay."""
    if column.dtype != object:
        return column
    return column.mask(column.astype(str).str.contains(FORMULA), "'" + column.astype(str))


def _check(release: duckdb.DuckDBPyConnection, wanted: Wanted) -> None:
    if wanted.kind not in VALUES:
        return
    column = VALUES[wanted.kind]
    if release.execute(f"select 1 from items where {column} = ? limit 1", [wanted.value]).fetchone():
        return
    near = release.execute(
        f"select distinct {column} as one from items where {column} is not null"
        " order by levenshtein(one, ?), one limit 3",
        [wanted.value],
    ).fetchall()
    nearest = ", ".join(one for (one,) in near) or "none has any"
    raise BadSetting(f"The catalogue has no {wanted.kind} {wanted.value!r}. The nearest: {nearest}.")
