import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from pipelines import settings
from pipelines.errors import BadInput
from pipelines.online_retail import import_online_retail

UCI = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"]
ROWS = [
    ("536365", "85123A", "WHITE HEART", 6, "2010-12-01 08:26:00", 2.55, 17850.0, "United Kingdom"),
    ("536365", "85123A", "WHITE HEART", 6, "2010-12-01 08:26:00", 2.55, 17850.0, "United Kingdom"),
    ("536366", " 85123a ", "damaged", 1, "2010-12-01 09:00:00", 2.55, None, "France"),
    ("536367", "POST", "POSTAGE", 1, "2010-12-01 09:01:00", 18.0, 12583.0, "France"),
    ("536368", "22139", None, 56, "2010-12-02 11:52:00", 0.0, None, "United Kingdom"),
    ("536369", "22139", "?", -10, "2010-12-02 11:53:00", 0.0, None, "United Kingdom"),
    ("C536370", "85123A", "WHITE HEART", -2, "2010-12-02 12:00:00", 2.55, 17850.0, "United Kingdom"),
    ("536371", "85123A", "WHITE HANGING HEART", 1, "2010-12-03 10:00:00", 2.95, 12583.0, "Spain"),
    ("536372", "85123A", "WHITE HANGING HEART", 1, "2010-12-03 10:01:00", 2.95, 12583.0, "Spain"),
    ("536373", "85123A", "WHITE HANGING HEART", 1, "2010-12-03 10:02:00", 2.95, 12583.0, "Spain"),
    ("536374", "85123A", "WHITE HANGING HEART", 1, "2010-12-03 10:03:00", 2.95, 12583.0, "Spain"),
    ("A53637", "B", "Adjust bad debt", 1, "2010-12-03 10:04:00", -11062.06, None, "United Kingdom"),
]


def uci(rows: list[tuple] = ROWS) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=UCI)


def laid_out(home: Path, table: str) -> pd.DataFrame:
    files = sorted((home / "raw" / table).glob("dt=*/*.parquet"))
    frames = [pd.read_parquet(file).assign(day=file.parent.name.removeprefix("dt=")) for file in files]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def home(tmp_path) -> Path:
    uci().to_parquet(tmp_path / "retail.parquet")
    import_online_retail(tmp_path / "retail.parquet", tmp_path)
    return tmp_path


def test_every_row_becomes_an_event(home):
    """Rows are laid out one for one on the day of their invoice, duplicates and all."""
    events = laid_out(home, "events")
    assert len(events) == len(ROWS)
    assert events.groupby("day").size().to_dict() == {"2010-12-01": 4, "2010-12-02": 3, "2010-12-03": 5}


def test_a_sale_is_a_purchase(home):
    """User 17850.0 is 17850, pounds become pence, the time stays the shop's own."""
    first = laid_out(home, "events").iloc[0].to_dict()
    assert first == {
        "user_id": "17850",
        "event_type": "purchase",
        "item_id": "85123A",
        "occurred_at": "2010-12-01T08:26:00",
        "quantity": "6",
        "price_cents": "255",
        "order_id": "536365",
        "day": "2010-12-01",
    }


def test_a_visitor_has_no_user(home):
    """A row without customer keeps an empty user, and its code is trimmed and in capitals."""
    third = laid_out(home, "events").iloc[2]
    assert third["user_id"] is None
    assert third["item_id"] == "85123A"


def test_credits_are_returns_of_positive_pieces(home):
    """An invoice that starts with C gives back as many pieces as it took away."""
    returned = laid_out(home, "events").query("event_type == 'return'")
    assert returned[["order_id", "quantity"]].to_numpy().tolist() == [["C536370", "2"]]


def test_stock_corrections_are_adjustments(home):
    """Rows at no price are no sales; a negative price stays as it came, for cleaning to reject."""
    events = laid_out(home, "events")
    assert events.query("event_type == 'adjustment'")["order_id"].tolist() == ["536368", "536369"]
    assert events.iloc[-1][["event_type", "price_cents"]].tolist() == ["purchase", "-1106206"]


def test_negative_pieces_are_returned_or_corrected(tmp_path):
    """Pieces that vanish at a price are returned by a known customer or on a credit note, else corrected."""
    said = [("1", 17850.0), ("2", None), ("C3", None)]
    rows = [(order, "22139", "CUP", -1, "2011-01-04 10:00:00", 1.0, user, "France") for order, user in said]
    uci(rows).to_csv(tmp_path / "retail.csv", index=False)
    import_online_retail(tmp_path / "retail.csv", tmp_path)
    assert laid_out(tmp_path, "events")["event_type"].tolist() == ["return", "adjustment", "return"]


def test_catalogue_knows_no_future(home):
    """The best title of each day is delivered when it changes; postage and unsold codes are no items."""
    items = laid_out(home, "items")
    assert items[["day", "item_id", "title", "price_cents"]].to_numpy().tolist() == [
        ["2010-12-01", "85123A", "WHITE HEART", 255],
        ["2010-12-03", "85123A", "WHITE HANGING HEART", 295],
    ]


def test_notes_are_no_titles(tmp_path):
    """A name in capitals goes before a note that was typed more often."""
    said = ["damaged", "damaged", "check", "RED CUP 30cm"]
    rows = [(str(i), "22139", text, 1, "2011-01-04 10:00:00", 1.0, None, "France") for i, text in enumerate(said)]
    uci(rows).to_csv(tmp_path / "retail.csv", index=False)
    import_online_retail(tmp_path / "retail.csv", tmp_path)
    assert laid_out(tmp_path, "items")["title"].tolist() == ["RED CUP 30cm"]


def test_a_new_price_is_delivered_when_it_is_far_off(tmp_path):
    """The median of all prices so far is delivered again when it moved by more than a quarter."""
    prices = [1.0, 1.1, 2.0, 2.0]
    rows = [(str(i), "22139", "CUP", 1, f"2011-01-0{i + 3} 10:00:00", p, None, "France") for i, p in enumerate(prices)]
    uci(rows).to_csv(tmp_path / "retail.csv", index=False)
    import_online_retail(tmp_path / "retail.csv", tmp_path)
    assert laid_out(tmp_path, "items")[["day", "price_cents"]].to_numpy().tolist() == [
        ["2011-01-03", 100],
        ["2011-01-06", 200],
    ]


def test_users_arrive_when_first_seen(home):
    """A user is delivered once, with the country of the first row."""
    assert laid_out(home, "users")[["day", "user_id", "country"]].to_numpy().tolist() == [
        ["2010-12-01", "17850", "United Kingdom"],
        ["2010-12-01", "12583", "France"],
    ]


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
def test_every_format_gives_the_same(home, tmp_path, suffix):
    """CSV and Excel copies are laid out as the Parquet one, also under the column names of the later edition."""
    other = uci().rename(columns={"InvoiceNo": "Invoice", "UnitPrice": "Price", "CustomerID": "Customer ID"})
    file, copy = tmp_path / f"retail.{suffix}", tmp_path / "copy"
    other.to_csv(file, index=False) if suffix == "csv" else other.to_excel(file, index=False)
    import_online_retail(file, copy)
    for table in ("events", "items", "users"):
        pd.testing.assert_frame_equal(laid_out(copy, table), laid_out(home, table))


def test_what_is_no_number_stays(tmp_path):
    """A quantity, price or time that cannot be read is laid out as it came, with its neighbours' day."""
    rows = [
        ("1", "22139", "CUP", "1", "2011-01-04 10:00:00", "1.0", "17850", "France"),
        ("2", "22139", "CUP", "many", "soon", "free", "17850", "France"),
    ]
    uci(rows).to_csv(tmp_path / "retail.csv", index=False)
    import_online_retail(tmp_path / "retail.csv", tmp_path)
    last = laid_out(tmp_path, "events").iloc[1]
    assert last[["quantity", "price_cents", "occurred_at", "day"]].tolist() == ["many", "free", "soon", "2011-01-04"]


def test_settings_fit_the_shop(home):
    """The written settings exist: London time, pounds, open since the first invoice, four weeks held out."""
    written = settings.load(home, environment={})
    assert (written.shop.timezone, written.shop.currency) == ("Europe/London", "GBP")
    assert written.shop.opened_on == dt.date(2010, 12, 1)
    assert written.holdout.days == 28


def test_importing_again_changes_nothing(home):
    """A second import of the same file gives the same files, and leaves settings that a person changed."""
    (home / "nightshelf.toml").write_text("seed = 3\n")
    before = {path: path.read_bytes() for path in home.rglob("*.*") if path.is_file()}
    import_online_retail(home / "retail.parquet", home)
    assert {path: path.read_bytes() for path in home.rglob("*.*") if path.is_file()} == before


def test_a_missing_file_is_named(tmp_path):
    """A path that leads nowhere ends with that path."""
    with pytest.raises(BadInput, match=r"gone\.parquet does not exist"):
        import_online_retail(tmp_path / "gone.parquet", tmp_path)


def test_a_missing_column_names_the_nearest(tmp_path):
    """A column under another name is named with the one that looks like it, and nothing is written."""
    uci().rename(columns={"StockCode": "Stock_Code"}).to_csv(tmp_path / "retail.csv", index=False)
    with pytest.raises(BadInput, match=r"no column 'StockCode'.*'Stock_Code'"):
        import_online_retail(tmp_path / "retail.csv", tmp_path)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("retail.doc", "none of"), ("retail.parquet", "broken"), ("retail.xlsx", "broken")]
)
def test_an_unreadable_file_is_refused(tmp_path, name, words):
    """An unknown suffix and a broken file each end with one message."""
    (tmp_path / name).write_bytes(b"PAR1 nothing whole")
    with pytest.raises(BadInput, match=words):
        import_online_retail(tmp_path / name, tmp_path)


def test_an_empty_table_is_refused(tmp_path):
    """A file with a header alone, or without any readable time, is no shop."""
    uci([]).to_csv(tmp_path / "empty.csv", index=False)
    uci([("1", "22139", "CUP", 1, "soon", 1.0, None, "France")]).to_csv(tmp_path / "timeless.csv", index=False)
    with pytest.raises(BadInput, match="no rows"):
        import_online_retail(tmp_path / "empty.csv", tmp_path)
    with pytest.raises(BadInput, match="InvoiceDate"):
        import_online_retail(tmp_path / "timeless.csv", tmp_path)
