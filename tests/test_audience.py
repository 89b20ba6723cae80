"""Who is for an item, a brand, a category, who lapsed and who is due, told by a release that was written by hand."""

import csv
from io import StringIO
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

from pipelines import audience, contracts
from pipelines.__main__ import app
from pipelines.audience import Wanted
from pipelines.errors import BadSetting, NothingPublished
from pipelines.settings import Audiences

RUN = {"run_id": "r", "run_date": "2026-03-01", "label": "nightly", "opened_at": "2026-03-02", "code_version": "test"}
RUN |= {
    "models_of": "r",
    "proof_of": "r",
    "proved_on": "2026-03-01",
    "settings": "{}",
    "packages": "{}",
    "fusion": "rrf",
    "fusion_discover": "rrf",
    "fusion_buy_again": "rrf",
}
FORMULA = "=cmd|' /C calc'!A0"


def knows(user_id: str, has_consent: bool | None, status: str | None = None, **changes: object) -> dict[str, object]:
    row = {"user_id": user_id, "has_consent": has_consent, "status": status, "count_purchase_days": 3, "run_id": "r"}
    return row | changes


def due(user_id: str, item_id: str, date: str, status: str = "due") -> dict[str, object]:
    row = {"user_id": user_id, "item_id": item_id, "count_purchase_days": 2, "last_purchase_date": "2026-01-01"}
    return row | {"usual_pause_days": 30.0, "due_date": date, "status": status, "run_id": "r"}


def leans(user_id: str, facet: str, value: str, lift: float) -> dict[str, object]:
    row = {"user_id": user_id, "facet": facet, "value": value, "lift": lift, "count_items": 2, "weight": 1.0}
    return row | {"run_id": "r"}


TABLES: dict[str, list[dict[str, object]]] = {
    "runs": [RUN],
    "items": [
        {"item_id": "mug", "title": "Mug", "brand": "Alto", "category": "Mugs", "is_available": True, "run_id": "r"},
        {"item_id": "pot", "title": "Pot", "brand": "O'Hara", "is_available": False, "run_id": "r"},
    ],
    "user_rhythms": [
        knows("agrees", True, "lapsed", country=FORMULA),
        knows("asked", True, "lapsed", last_contact_date="2026-02-25"),
        knows("refuses", False, "lapsed"),
        knows("silent", None, "lapsed", count_purchase_days=9),
        knows("waits", True, "early", last_contact_date="2026-02-22"),
    ],
    "user_candidates": [
        {"placement": placement, "user_id": user, "rank": rank, "item_id": "mug", "score": 1.0, "run_id": "r"}
        for placement, user, rank in (
            ("for_you", "waits", 3),
            ("for_you", "agrees", 40),
            ("for_you", "bot", 1),
            ("buy_again", "agrees", 1),
        )
    ],
    "user_preferences": [
        leans("agrees", "brand", "Alto", 1.5),
        leans("waits", "brand", "Alto", 4.0),
        leans("waits", "category", "Mugs", 0.5),
        leans("agrees", "category", "Mugs", 2.0),
        leans("*", "brand", "*", 1.0),
    ],
    "replenishments": [
        due("agrees", "mug", "2026-03-05"),
        due("agrees", "pot", "2026-03-01"),
        due("waits", "mug", "2026-05-01", "early"),
    ],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("shop")
    (home / "warehouse").mkdir()
    with duckdb.connect(str(home / "warehouse" / "current.duckdb")) as release:
        for name, rows in TABLES.items():
            release.execute(contracts.tables("serving")[name].ddl())
            for row in rows:
                marks = ", ".join("?" * len(row))
                release.execute(f"insert into {name} ({', '.join(row)}) values ({marks})", list(row.values()))
    return home


def users(home: Path, kind: str, value: str | None = None, **policy: object) -> list[str]:
    return audience.read(home, Wanted(kind, value), Audiences.model_validate(policy)).users["user_id"].tolist()


def test_an_item_has_the_users_who_rank_it_best_first(home: Path):
    """Of the placement for everything; a bot has no rhythm and is in no audience."""
    assert users(home, "item", "mug") == ["waits", "agrees"]


def test_a_brand_and_a_category_have_who_leans_to_them(home: Path):
    """Beyond the shop's own share, the most first."""
    assert users(home, "brand", "Alto") == ["waits", "agrees"]
    assert users(home, "category", "Mugs") == ["agrees"]
    assert users(home, "brand", "O'Hara") == []


def test_nobody_is_written_to_who_did_not_agree_or_was_just_written_to(home: Path):
    """Who said nothing counts only when the shop's settings say so, who refused never; both are counted."""
    assert users(home, "win_back") == ["agrees"]
    assert users(home, "win_back", without_consent=True) == ["silent", "agrees"]
    assert users(home, "win_back", contact_pause_days=4) == ["agrees", "asked"]
    found = audience.read(home, Wanted("win_back"), Audiences())
    assert (found.count_without_consent, found.count_just_asked) == (2, 1)


def test_what_is_due_can_be_bought(home: Path):
    """The pot was due before the mug and is sold out."""
    told = audience.read(home, Wanted("due"), Audiences()).users
    assert told[["user_id", "item_id", "count_items"]].values.tolist() == [["agrees", "mug", 1]]


def test_what_the_catalogue_lacks_is_refused_with_the_nearest(home: Path):
    """A slip gives no empty audience."""
    with pytest.raises(BadSetting, match=r"no brand 'Altoo'. The nearest: Alto, O'Hara"):
        users(home, "brand", "Altoo")


def test_a_table_is_written_without_formulas(home: Path, tmp_path: Path):
    """A country that a spreadsheet would run becomes text; numbers stay numbers, Parquet keeps what is there."""
    found = audience.read(home, Wanted("win_back"), Audiences())
    audience.write(found.users, tmp_path / "people.csv")
    rows = list(csv.DictReader((tmp_path / "people.csv").open(newline="")))
    assert [(row["user_id"], row["country"], row["count_purchase_days"]) for row in rows] == [
        ("agrees", f"'{FORMULA}", "3")
    ]
    audience.write(found.users, tmp_path / "people.parquet")
    assert pd.read_parquet(tmp_path / "people.parquet")["country"].tolist() == [FORMULA]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["people.csv", "people.parquet"]
    with pytest.raises(BadSetting, match=r"write an audience as \.csv or \.parquet"):
        audience.write(found.users, tmp_path / "people.xlsx")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_each_beginning_of_a_formula_is_defused(start: str):
    """And what merely contains one is left as it is."""
    told = audience._harmless(pd.Series([f"{start}1", f"a{start}", None], dtype=object))
    assert told.tolist() == [f"'{start}1", f"a{start}", None]


def test_the_verb_takes_one_kind(home: Path, monkeypatch: pytest.MonkeyPatch):
    """Two kinds, or none, are refused; what is printed says how many were left out, and a day without its midnight."""
    monkeypatch.setenv("NIGHTSHELF_HOME", str(home))
    for asked in ([], ["--due", "--item", "mug"]):
        assert isinstance(CliRunner().invoke(app, ["audience", *asked]).exception, BadSetting)
    assert audience._word(pd.Timestamp("2026-02-20")) == "2026-02-20"
    out = StringIO()
    audience.tell(Console(file=out, width=100), audience.read(home, Wanted("win_back"), Audiences()), None)
    assert "1 users; left out: 2 did not agree, 1 were written to just before." in out.getvalue()


def test_a_release_of_an_earlier_version_is_refused(tmp_path: Path):
    """It lacks the rhythms."""
    (tmp_path / "warehouse").mkdir()
    duckdb.connect(str(tmp_path / "warehouse" / "current.duckdb")).execute(
        "create table items (item_id varchar)"
    ).close()
    with pytest.raises(NothingPublished, match="no replenishments and no runs"):
        users(tmp_path, "due")
