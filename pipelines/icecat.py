"""Lay the Icecat electronics catalogue and its list of queries out as raw files of one day."""

import datetime as dt
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pipelines.deliver import Delivery, settle_shop, write_parquet
from pipelines.errors import BadInput

MAX_BYTES = 512 * 2**20  # of one part, unpacked; the real parts have 8 MiB
REQUIRED = ("id", "title")
CATEGORY_KEYS = (
    "attr_t_product_type",
    "attr_t_type",
)  # the only two that say what a product is; most products have none
NO_CATEGORY = {"original", "compatible"}  # who made a cartridge, not what it is
SETTINGS = """\
[shop]
name = "Icecat electronics"
timezone = "UTC"
currency = "USD"
opened_on = {opened_on}

[gates]
# Nobody has bought anything here yet: nobody is served, and there is no held-out purchase to compare.
min_users_served = 0.0
min_against_popularity = 0.0
"""


def import_icecat(directory: Path, home: Path, day: dt.date) -> dict[str, int]:
    """Lay the parts (`*.json.zip`, `*.json`) and `queries.txt` of `directory` out as the files of `day`.

    Each query is searched once, by a visitor without a name. Returns how many items and events there are.
    Raises BadInput for a missing folder or part, a broken or unsafe archive, or a product without id or title.
    """
    products = [product for part in _parts(directory) for product in read_part(part)]
    queries = read_queries(directory / "queries.txt")
    with Delivery(home) as delivery:
        write_parquet(delivery.path("items", day, "items.parquet"), items(products))
        write_parquet(delivery.path("events", day, "events.parquet"), searches(queries, day))
    settle_shop(home, SETTINGS.format(opened_on=day))
    return {"items": len(products), "events": len(queries)}


def read_part(path: Path) -> list[dict[str, Any]]:
    """Products of one part: a list of JSON objects, zipped or not; raises BadInput."""
    try:
        products = json.loads(_unpack(path) if path.suffix == ".zip" else path.read_bytes())
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:  # the last: a password
        raise BadInput(f"{path} is cut off or broken ({error}). Fetch it again.") from None
    if not isinstance(products, list) or not all(isinstance(product, dict) for product in products):
        raise BadInput(f"{path} is no list of products. Each part is a JSON list of objects.")
    for position, product in enumerate(products):
        if missing := [key for key in REQUIRED if not product.get(key)]:
            raise BadInput(f"{path}: product {position} has no {missing[0]}. Correct or remove it.")
        if not isinstance(product.get("price"), int | None):
            raise BadInput(f"{path}: product {position} costs {product['price']!r}. Give whole cents, or no price.")
    return products


def read_queries(path: Path) -> list[str]:
    """One query per line, empty lines and repetitions left out; raises BadInput when there are none."""
    if not path.is_file():
        raise BadInput(f"{path} does not exist. Put the queries there, one per line.")
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    queries = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not queries:
        raise BadInput(f"{path} is empty. Put the queries there, one per line.")
    return queries


def items(products: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Contract columns of the catalogue; prices are whole cents already."""
    return {
        "item_id": [str(product["id"]) for product in products],
        "title": [_line(product["title"]) for product in products],
        "description": [describe(product) for product in products],
        "category": [category(product) for product in products],
        "brand": [_line(product.get("supplier") or "") or None for product in products],
        "price_cents": [product.get("price") for product in products],
        "is_available": [True] * len(products),
    }


def searches(queries: list[str], day: dt.date) -> dict[str, list[str]]:
    """One search per query from noon on, a second apart, each a visit of its own."""
    noon = dt.datetime.combine(day, dt.time(12))
    return {
        "event_type": ["search"] * len(queries),
        "query": queries,
        "occurred_at": [(noon + dt.timedelta(seconds=second)).isoformat() + "Z" for second in range(len(queries))],
        "session_id": [f"{day}-{position:05d}" for position in range(len(queries))],
    }


def describe(product: Mapping[str, Any]) -> str:
    """The short description, then each attribute in words that people search for; numbers and flags stay out.

    Package weights and pallet sizes are most of the numbers: they say nothing about taste and drown the words.
    """
    words = {_name(key): _line(value) for key, value in product.items() if key.startswith("attr_t_")}
    sentences = [
        _line(product.get("short_description") or ""),
        *(f"{name}: {text}" for name, text in words.items() if text),
    ]
    return ". ".join(sentence.rstrip(".") for sentence in sentences if sentence)


def category(product: Mapping[str, Any]) -> str | None:
    """What the product says it is, where it does."""
    for key in CATEGORY_KEYS:
        text = _line(product.get(key) or "")
        if sum(letter.isalpha() for letter in text) > 1 and text.lower() not in NO_CATEGORY:
            return text
    return None


def _parts(directory: Path) -> list[Path]:
    parts = sorted([*directory.glob("*.json.zip"), *directory.glob("*.json")])
    if not parts:
        raise BadInput(f"{directory} has no *.json.zip and no *.json. Give the folder with the parts of the catalogue.")
    return parts


def _unpack(path: Path) -> bytes:
    """The archive's one JSON member, in memory; refuses names that leave the archive and contents that do not fit."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            _refuse_escape(path, name)
        members = [member for member in archive.infolist() if member.filename.endswith(".json")]
        if len(members) != 1:
            raise BadInput(f"{path} holds {len(members)} JSON files instead of one. Pack each part alone.")
        with archive.open(members[0]) as stream:
            content = b"".join(_bounded(stream, path))
    return content


def _refuse_escape(path: Path, name: str) -> None:
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise BadInput(f"{path}: the member {name!r} points outside the archive. Do not trust this file.")


def _bounded(stream: Any, path: Path) -> Iterator[bytes]:
    """Chunks of a stream, counted as they come: what the archive claims about its size is not believed."""
    count_bytes = 0
    while chunk := stream.read(2**20):
        count_bytes += len(chunk)
        if count_bytes > MAX_BYTES:
            raise BadInput(f"{path} unpacks to more than {MAX_BYTES >> 20} MiB. Split it into smaller parts.")
        yield chunk


def _name(key: str) -> str:
    """`attr_t_connector_gender` → `connector gender`; doubled underscores held units and brackets."""
    return " ".join(word for word in key.removeprefix("attr_t_").split("_") if len(word) > 1 or word.isdigit())


def _line(value: Any) -> str:
    """Any text on one line."""
    return " ".join(str(value).replace("\\n", " ").split())
