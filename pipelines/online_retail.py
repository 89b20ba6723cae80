"""Lay the UCI table *Online Retail* out as raw day files: events row for row, items and users as they became known.

Source: Chen, D. (2015). Online Retail. UCI Machine Learning Repository, DOI 10.24432/C5BW33.
"""

import bisect
import datetime as dt
import difflib
import functools
import itertools
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import ArrowInvalid

from pipelines.deliver import Delivery, settle_shop, write_parquet
from pipelines.errors import BadInput

COLUMNS = {
    "order_id": ("InvoiceNo", "Invoice"),
    "item_id": ("StockCode",),
    "title": ("Description",),
    "quantity": ("Quantity",),
    "occurred_at": ("InvoiceDate",),
    "price": ("UnitPrice", "Price"),
    "user_id": ("CustomerID", "Customer ID"),
    "country": ("Country",),
}
PRODUCT = r"^\d{5}[A-Z]*$"  # other stock codes are postage, fees, vouchers and corrections
PRICE_STEP = 0.25  # share by which the median price must move before an item is delivered again
SETTINGS = """\
[shop]
name = "Online Retail"
timezone = "Europe/London"
currency = "GBP"
opened_on = {opened_on}

[clean]
# Fees, vouchers and stock corrections are no events of products; on the quietest days they are a fifth of the rows.
max_rejected_share = 0.4

[holdout]
days = 28  # customers are wholesalers who order about once a month
"""


def import_online_retail(file: Path, home: Path) -> dict[str, int]:
    """Lay `file` (Parquet, CSV or XLSX) out under `home/raw`; returns how many rows of each table, and days, there are.

    Every row of the file becomes one event row, in the file's order; what is wrong with a row is for cleaning to say.
    Raises BadInput for a file that is missing, of no known format, or lacks a column.
    """
    table = events(read(file))
    if table["day"].isna().all():
        raise BadInput(f"{file}: no InvoiceDate can be read as a time. Write them as YYYY-MM-DD HH:MM:SS.")
    with Delivery(home, is_whole_shop=True) as delivery:
        counts = {
            "events": _deliver_events(delivery, table),
            "items": _deliver_items(delivery, table),
            "users": _deliver_users(delivery, table),
        }
    settle_shop(home, SETTINGS.format(opened_on=table["day"].min()))
    return {**counts, "days": table["day"].nunique()}


def read(file: Path) -> pd.DataFrame:
    """The file with its columns under our names (COLUMNS), values as they came; raises BadInput."""
    readers: dict[str, Callable[..., pd.DataFrame]] = {
        ".parquet": pd.read_parquet,
        ".csv": _read_csv,
        ".xlsx": _read_xlsx,
    }
    if not file.is_file():
        raise BadInput(f"{file} does not exist. Give the path of the Online Retail table (.parquet, .csv or .xlsx).")
    if file.suffix.lower() not in readers:
        raise BadInput(
            f"{file}: {file.suffix or 'no suffix'} is none of {', '.join(readers)}. Convert it, or rename it."
        )
    try:
        frame = readers[file.suffix.lower()](file)
    except (ArrowInvalid, UnicodeDecodeError, ValueError, zipfile.BadZipFile, KeyError) as error:
        raise BadInput(f"{file} is cut off or broken ({error}). Fetch it again.") from None
    if frame.empty:
        raise BadInput(f"{file} has no rows. Fetch it again.")
    return frame.rename(columns={_find(names, frame, file): ours for ours, names in COLUMNS.items()})


def events(raw: pd.DataFrame) -> pd.DataFrame:
    """Contract columns as text (missing: None), and `title`, `country`, `day`, `price` in pounds, `is_product`."""
    quantity, price = _number(raw["quantity"]), _number(raw["price"])
    moment = pd.to_datetime(raw["occurred_at"], errors="coerce", format="mixed")
    order, user = _text(raw["order_id"]), _id(raw["user_id"])
    item = _text(raw["item_id"]).str.upper()
    event_type = _event_type(order.str.startswith("C", na=False), quantity, price, user.notna())
    return pd.DataFrame(
        {
            "user_id": user,
            "event_type": event_type,
            "item_id": item,
            "occurred_at": moment.dt.strftime("%Y-%m-%dT%H:%M:%S").where(
                moment.notna(), raw["occurred_at"].astype(str)
            ),
            "quantity": _whole(quantity.abs().where(event_type == "return", quantity), raw["quantity"]),
            "price_cents": _whole((price * 100).round(), raw["price"]),
            "order_id": order,
            "title": _text(raw["title"]),
            "country": _text(raw["country"]),
            "day": moment.ffill().bfill().dt.date,  # an unreadable time arrives with its neighbours
            "price": price,
            "is_product": item.str.match(PRODUCT, na=False),
        }
    )


def catalogue(trades: pd.DataFrame) -> Iterator[tuple[dt.date, str, str, int]]:
    """(day, item_id, title, price_cents) whenever what is known of an item changed; nothing looks ahead.

    `trades`: day, item_id, title, price in pounds, of real sales and returns, in the order of time.
    The title is the one most used so far, and one in capitals goes before a note (`damaged`); the price is the median.
    """
    titles: dict[str, Counter[str]] = defaultdict(Counter)
    prices: dict[str, list[float]] = defaultdict(list)
    told: dict[str, tuple[str, int]] = {}
    ordered = trades.sort_values(["day", "item_id"], kind="stable")[["day", "item_id", "title", "price"]]
    rows = zip(*(ordered[name].array for name in ordered), strict=True)
    for (day, item), sold in itertools.groupby(rows, key=itemgetter(0, 1)):
        for _, _, title, price in sold:
            titles[item].update([title] if title else [])
            bisect.insort(prices[item], price)
        known = best_title(titles[item]), round(100 * prices[item][len(prices[item]) // 2])
        if known[0] and _is_news(known, told.get(item)):
            told[item] = known
            yield day, item, *known


def best_title(counts: Counter[str]) -> str:
    """Of the texts that sellers typed: names before notes, then the most used, then the first in the alphabet."""
    ranked = sorted(counts, key=lambda title: (not _is_name(title), -counts[title], title))
    return ranked[0] if ranked else ""


def _event_type(is_credit: pd.Series, quantity: pd.Series, price: pd.Series, has_user: pd.Series) -> pd.Series:
    """Rows at no price, and pieces gone without a customer, are stock corrections (`adjustment`): nobody bought."""
    is_return = is_credit | ((quantity < 0) & has_user)
    is_adjustment = (price == 0) | ((quantity < 0) & ~is_return)
    chosen = np.select([is_adjustment, is_return], ["adjustment", "return"], "purchase")
    return pd.Series(chosen, index=price.index)


@functools.cache
def _is_name(title: str) -> bool:
    """Product names stand in capitals, with a unit or a slip between; notes do not."""
    letters = [letter for letter in title if letter.isalpha()]
    return len(letters) > 2 and sum(letter.isupper() for letter in letters) > len(letters) / 2


def _is_news(known: tuple[str, int], told: tuple[str, int] | None) -> bool:
    return told is None or known[0] != told[0] or abs(known[1] - told[1]) > PRICE_STEP * told[1]


def _deliver_events(delivery: Delivery, table: pd.DataFrame) -> int:
    columns = ["user_id", "event_type", "item_id", "occurred_at", "quantity", "price_cents", "order_id"]
    return _deliver(delivery, "events", table[["day", *columns]])


def _deliver_items(delivery: Delivery, table: pd.DataFrame) -> int:
    is_trade = table["is_product"] & (table["price"] > 0) & table["event_type"].isin(["purchase", "return"])
    rows = list(catalogue(table[is_trade]))
    return _deliver(delivery, "items", pd.DataFrame(rows, columns=["day", "item_id", "title", "price_cents"]))


def _deliver_users(delivery: Delivery, table: pd.DataFrame) -> int:
    known = table[table["user_id"].notna()].sort_values("day", kind="stable")
    return _deliver(delivery, "users", known.drop_duplicates("user_id")[["day", "user_id", "country"]])


def _deliver(delivery: Delivery, table: str, rows: pd.DataFrame) -> int:
    for day, group in rows.groupby("day"):
        columns = {name: group[name].array for name in rows.columns if name != "day"}
        write_parquet(delivery.path(table, dt.date.fromisoformat(str(day)), f"{table}.parquet"), columns)
    return len(rows)


def _find(names: tuple[str, ...], frame: pd.DataFrame, file: Path) -> str:
    for name in names:
        if name in frame.columns:
            return name
    near = difflib.get_close_matches(names[0].lower(), [str(c).lower() for c in frame.columns], n=1, cutoff=0.4)
    meant = next((f" Did you mean to rename {c!r}?" for c in frame.columns if near and str(c).lower() == near[0]), "")
    raise BadInput(
        f"{file}: no column {' or '.join(map(repr, names))}.{meant} It has: {', '.join(map(str, frame.columns))}."
    )


def _read_csv(file: Path) -> pd.DataFrame:
    """As text; the copy that UCI hands out is Latin-1, others are UTF-8."""
    try:
        return pd.read_csv(file, dtype=str, encoding="utf-8-sig", keep_default_na=False)
    except UnicodeDecodeError:
        return pd.read_csv(file, dtype=str, encoding="latin-1", keep_default_na=False)


def _read_xlsx(file: Path) -> pd.DataFrame:
    """All sheets one below the other: the larger edition has a sheet per year."""
    sheets = pd.read_excel(file, sheet_name=None, dtype=object, engine="openpyxl")
    return pd.concat(sheets.values(), ignore_index=True)


def _number(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce").astype("float64")


def _text(column: pd.Series) -> pd.Series:
    """Trimmed text; empty is missing."""
    text = column.where(column.notna(), "").astype(str).str.strip()
    return text.where(text != "", None)


def _id(column: pd.Series) -> pd.Series:
    """17850.0 is user 17850, as is 17850; anything that is no number stays as it came."""
    number = _number(column)
    return _whole(number, _text(column))


def _whole(number: pd.Series, original: pd.Series) -> pd.Series:
    """Whole numbers as text; what is none stays as it came, for cleaning to reject."""
    is_whole = number.notna() & (number == number.round())
    return number.fillna(0).astype("int64").astype(str).where(is_whole, _text(original))
