import datetime as dt
import json
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from pipelines import icecat, settings
from pipelines.errors import BadInput

DAY = dt.date(2021, 1, 1)
LAPTOP = {
    "id": "7",
    "title": "Acme  Book 13",
    "supplier": "Acme",
    "short_description": "Thin laptop.",
    "price": 129900,
    "attr_t_product_type": "Notebook",
    "attr_t_product_colour": "Silver",
    "attr_t_operating_temperature__t_t_": "0 - 35",
    "attr_t_compatibility": "Dock A\nDock B",
    "attr_t_images_type_map": "\n \n",
    "attr_n_weight": 1300.0,
    "attr_b_wifi": True,
}
TONER = {"id": 8, "title": "Acme toner", "supplier": "", "price": 4995, "attr_t_type": "Original"}


def pack(path: Path, members: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)


@pytest.fixture
def directory(tmp_path) -> Path:
    folder = tmp_path / "icecat"
    folder.mkdir()
    pack(folder / "1.json.zip", {"1.json": json.dumps([LAPTOP])})
    (folder / "2.json").write_text(json.dumps([TONER]))
    (folder / "queries.txt").write_text("laptop\n\ntoner\nlaptop\n")
    return folder


def laid_out(home: Path, table: str) -> pd.DataFrame:
    return pd.read_parquet(home / "raw" / table / f"dt={DAY}" / f"{table}.parquet")


def test_products_become_items(directory, tmp_path):
    """Zipped and plain parts are laid out as one catalogue: cents stay cents, attributes are read as words."""
    counts = icecat.import_icecat(directory, tmp_path, DAY)
    assert counts == {"items": 2, "events": 2}
    assert laid_out(tmp_path, "items").to_dict("records") == [
        {
            "item_id": "7",
            "title": "Acme Book 13",
            "description": "Thin laptop. product type: Notebook. product colour: Silver. "
            "operating temperature: 0 - 35. compatibility: Dock A Dock B",
            "category": "Notebook",
            "brand": "Acme",
            "price_cents": 129900,
            "is_available": True,
        },
        {
            "item_id": "8",
            "title": "Acme toner",
            "description": "type: Original",
            "category": None,
            "brand": None,
            "price_cents": 4995,
            "is_available": True,
        },
    ]


def test_each_query_is_searched_once(directory, tmp_path):
    """Queries become searches from noon on, a second apart, each in its own session."""
    icecat.import_icecat(directory, tmp_path, DAY)
    assert laid_out(tmp_path, "events").to_numpy().tolist() == [
        ["search", "laptop", "2021-01-01T12:00:00Z", "2021-01-01-00000"],
        ["search", "toner", "2021-01-01T12:00:01Z", "2021-01-01-00001"],
    ]


def test_settings_fit_the_shop(directory, tmp_path):
    """The written settings exist, and open the shop on the day of the import."""
    icecat.import_icecat(directory, tmp_path, DAY)
    assert settings.load(tmp_path, environment={}).shop.opened_on == DAY


@pytest.mark.parametrize("name", ["../1.json", "/etc/1.json", "C:\\1.json", "a\\..\\1.json"])
def test_members_outside_the_archive_are_refused(directory, tmp_path, name):
    """A member that points out of the archive condemns the file, and nothing is written."""
    pack(directory / "3.json.zip", {name: "[]"})
    with pytest.raises(BadInput, match="outside the archive"):
        icecat.import_icecat(directory, tmp_path, DAY)
    assert not (tmp_path / "raw").exists()


def test_a_bomb_is_refused(directory, tmp_path, monkeypatch):
    """An archive that unpacks to more than the limit is refused, whatever its header claims."""
    monkeypatch.setattr(icecat, "MAX_BYTES", 2**20)
    pack(directory / "3.json.zip", {"3.json": "[" + " " * 2**21 + "]"})
    with pytest.raises(BadInput, match="more than 1 MiB"):
        icecat.import_icecat(directory, tmp_path, DAY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"id": 1, "title": "a", "price": "9"}]', "product 0 costs '9'"),
        ('[{"id": 1', "cut off or broken"),
        ("{}", "no list of products"),
        ('[{"id": 1}]', "product 0 has no title"),
    ],
)
def test_broken_parts_are_named(directory, tmp_path, text, words):
    """A part that is cut off, no list, or has a product without title is named."""
    (directory / "3.json").write_text(text)
    with pytest.raises(BadInput, match=rf"3\.json.*{words}"):
        icecat.import_icecat(directory, tmp_path, DAY)


def test_a_cut_off_archive_is_named(directory, tmp_path):
    """A zip file without its end is refused by name."""
    whole = (directory / "1.json.zip").read_bytes()
    (directory / "1.json.zip").write_bytes(whole[:-30])
    with pytest.raises(BadInput, match=r"1\.json\.zip is cut off"):
        icecat.import_icecat(directory, tmp_path, DAY)


def test_an_archive_holds_one_part(directory, tmp_path):
    """Two JSON files in one archive are refused: which one is the part?"""
    pack(directory / "3.json.zip", {"a.json": "[]", "b.json": "[]"})
    with pytest.raises(BadInput, match="2 JSON files"):
        icecat.import_icecat(directory, tmp_path, DAY)


def test_what_is_missing_is_named(directory, tmp_path):
    """A folder without parts, and one without queries, each say what belongs there."""
    with pytest.raises(BadInput, match="no \\*\\.json\\.zip"):
        icecat.import_icecat(tmp_path, tmp_path, DAY)
    (directory / "queries.txt").write_text("\n")
    with pytest.raises(BadInput, match=r"queries\.txt is empty"):
        icecat.import_icecat(directory, tmp_path, DAY)
    (directory / "queries.txt").unlink()
    with pytest.raises(BadInput, match=r"queries\.txt does not exist"):
        icecat.import_icecat(directory, tmp_path, DAY)
