"""What a search team gets beside the results, on the generated shop's night and in a shop of three items."""

import re
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from pipelines import settings, warehouse
from pipelines.errors import BadSetting
from pipelines.marts import Marts
from pipelines.search import beside, typed
from tests import lake

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[1] / "docs" / "search.md"
STATEMENTS = [one for block in re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL) for one in block.split(";")]
DAY = "2026-02-28"


def act(n: int, session: str, **changes: object) -> dict[str, object]:
    told = {"event_id": f"e{n}", "session_id": session, "occurred_at": f"{DAY} 10:{n:02}:00", "quantity": 1}
    return told | {"event_type": "search"} | changes


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Three items; `couch` is typed and left for `sofa`, `lantren` is a slip, `blue zzzqx` has one known word."""
    home = tmp_path_factory.mktemp("words")
    items = [
        {"item_id": "a", "title": "Blue sofa", "category": "Home > Sofas", "brand": "Fjord", "price_cents": 90000},
        {"item_id": "b", "title": "Green sofa", "category": "Home > Sofas", "brand": "Fjord", "price_cents": 80000},
        {"item_id": "c", "title": "Blue lantern", "category": "Garden", "brand": "Alma", "price_cents": 2000},
    ]
    lake.lay(home, "items", DAY, [{"is_available": True, **item} for item in items])
    told = ["sofa"] * 6 + ["lantern"] * 12 + ["lantren", "blue zzzqx", "qqqqq", "blue"]
    events = [act(n, f"s{n}", query=query) for n, query in enumerate(told)]
    for n in range(3):
        seen = {"event_type": "view", "item_id": "a", "query": "sofa", "user_id": "anna"}
        events += [
            act(30 + n, f"v{n}", query="couch"),
            act(40 + n, f"v{n}", query="sofa"),
            act(50 + n, f"v{n}", **seen),
        ]
    lake.lay(home, "events", DAY, events)
    run = lake.built(home)
    log = typed.learn(run, Marts(run), run.day)
    rows = [
        ("sofa", 1, "a", 2.0),
        ("sofa", 2, "b", 2.0),
        ("lantern", 1, "c", 2.0),
        ("blue", 1, "a", 1.0),
        ("blue zzzqx", 1, "c", 0.0),
        ("qqqqq", 1, "a", 0.0),
        ("qqqqq", 2, "b", 0.0),
        ("lantren", 1, "c", 0.0),
    ]
    results = pd.DataFrame(rows, columns=["query", "rank", "item_id", "lexical_score"]).assign(behaviour_score=0.0)
    with duckdb.connect(str(run.of("build", "marts.duckdb")), read_only=True) as marts:
        preferences = marts.execute("select * from user_preferences").df()
    return beside.tables(run, log, results) | {"user_preferences": preferences}


def test_the_head_is_what_most_searches_are_for(tables: dict[str, pd.DataFrame]):
    """The two most frequent queries make up half of all."""
    told = tables["queries"]
    assert set(told.loc[told["is_head"], "query"]) == {"lantern", "sofa"}
    assert told["traffic_share"].sum() == pytest.approx(1.0)
    assert told.set_index("query").loc["sofa", ["category", "category_share"]].tolist() == ["Home > Sofas", 1.0]


def test_what_has_no_answer_has_a_proposal(tables: dict[str, pd.DataFrame]):
    """The right spelling, else fewer words, else the category of what is near; couch has nothing at all."""
    told = tables["zero_result_queries"].set_index("query")
    assert {query: (row.proposal_kind, row.proposal) for query, row in told.iterrows()} == {
        "lantren": ("correction", "lantern"),
        "blue zzzqx": ("fewer_words", "blue"),
        "qqqqq": ("category", "Home > Sofas"),
        "couch": ("none", None),
    }


def test_suggestions_are_answered_and_rightly_spelt(tables: dict[str, pd.DataFrame]):
    """The slip is corrected, a beginning completed, a query related to what people typed next."""
    rows = tables["query_suggestions"]
    told = {(row.query, row.kind): row.suggestion for row in rows.itertuples()}
    assert told["lantren", "correction"] == "lantern"
    assert told["la", "completion"] == "lantern"
    assert told["couch", "related"] == "sofa"
    assert set(rows["suggestion"]) <= {"sofa", "lantern", "blue"}


def test_facets_count_the_results_of_the_head(tables: dict[str, pd.DataFrame]):
    """Both sofas are of one category and brand."""
    told = tables["query_facets"].set_index(["query", "facet", "value"])["count_items"]
    assert told["sofa", "category", "Home > Sofas"] == told["sofa", "brand", "Fjord"] == 2
    assert set(told.index.get_level_values("query")) == {"lantern", "sofa"}


def test_leanings_are_neutral_where_nothing_is_known(tables: dict[str, pd.DataFrame]):
    """Anna leans to what she looked at; whoever is not listed leans nowhere."""
    lift = tables["user_preferences"].set_index(["user_id", "facet", "value"])["lift"]
    assert lift["*", "brand", "*"] == 1.0
    assert lift["anna", "brand", "Fjord"] == pytest.approx(1.0)  # the shop's only known taste is hers
    assert lift["anna", "brand", "*"] < 1.0


def test_the_shops_verdicts_on_synonyms_are_read(tmp_path: Path):
    """What is only proposed says nothing; a row without a verdict is refused by its line."""
    place = tmp_path / "synonyms.csv"
    place.write_text("term,other_term,status,score\ncouch,sofa,accepted,1\nmug,pot,denied,\ncup,mug,proposed,0.4\n")
    read = settings.load(tmp_path, {}, {}).search
    assert read.synonyms == {"couch = sofa": "accepted", "mug = pot": "denied"}
    told = typed.judged([], read)
    assert told[["term", "other_term", "status"]].values.tolist() == [
        ["couch", "sofa", "accepted"],
        ["mug", "pot", "denied"],
    ]
    place.write_text("term,other_term,status\ncouch,sofa,perhaps\n")
    with pytest.raises(BadSetting, match=r"synonyms\.csv, line 2: .*perhaps"):
        settings.load(tmp_path, {}, {})


def test_the_page_for_search_teams_works_on_a_night(night):
    """Each statement of docs/search.md gives rows, but for the gaps, of which there may be none."""
    with warehouse.connect(night.home) as release:
        empty = [sql for sql in filter(str.strip, STATEMENTS) if not len(release.execute(sql).fetchall())]
    assert [sql for sql in empty if "zero_result_queries" not in sql and "query_synonyms" not in sql] == []


def test_slips_of_the_night_are_put_right_and_what_was_right_stays(night):
    """Against the truth of the shop: four of five slips at least, in a shop so small that many a word is rare in it,
    and nothing that was right is touched."""
    truth = pd.read_parquet(night.home / "truth" / "queries.parquet")
    with warehouse.connect(night.home) as release:
        read = release.execute("select query, meant as read_as from queries").df()
    told = truth.assign(query=truth["query"].str.lower()).merge(read, on="query")
    told["is_right"] = told["read_as"] == told["meant"].str.lower()
    by_kind = told.groupby("is_misspelled")["is_right"].mean()
    assert by_kind[True] >= 0.8
    assert by_kind[False] == 1.0
