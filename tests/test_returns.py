"""What came back was not bought: from the day of the return on, and as far as it came back."""

import datetime as dt

import numpy as np
import pytest

from models.vocabulary import Vocabulary
from pipelines import warehouse
from pipelines.marts import Marts
from pipelines.run import Run
from tests.lake import built, lay

pytestmark = pytest.mark.slow

EARLIER, RETURNED, TODAY = dt.date(2026, 1, 20), dt.date(2026, 2, 1), dt.date(2026, 3, 1)


def act(
    name: str, event_type: str, day: str, quantity: int = 1, item: str = "mug", **more: object
) -> dict[str, object]:
    """An event of the user whom its name begins with."""
    user = name.split("_")[0]
    told = {"event_id": name, "user_id": user, "event_type": event_type, "item_id": item, "quantity": quantity}
    return told | {"occurred_at": f"{day} 10:00:00"} | more


EVENTS = [
    # anna bought and brought it back; bert only looked; cleo still has it; dora kept three of four
    act("anna_view", "view", "2026-01-10", query="mug"),
    act("anna_buy", "purchase", "2026-01-10", query="mug", order_id="o1"),
    act("anna_pot", "purchase", "2026-01-10", item="pot", order_id="o1"),
    act("anna_back", "return", "2026-02-01", order_id="c1"),
    act("bert_view", "view", "2026-01-10", query="mug"),
    act("cleo_view", "view", "2026-01-10", query="mug"),
    act("cleo_buy", "purchase", "2026-01-10", query="mug", order_id="o2"),
    act("dora_buy", "purchase", "2026-01-10", 4, order_id="o3"),
    act("dora_back", "return", "2026-02-01", 1, order_id="o3"),
    # emil returns more than he bought; nobody knows who returned fern's order; gina returns what she bought later
    act("emil_buy", "purchase", "2026-01-10", 2, item="pot", order_id="o4"),
    act("emil_back", "return", "2026-02-01", 5, item="pot"),
    act("fern_buy", "purchase", "2026-01-10", 1, item="pot", order_id="o5"),
    act("fern_back", "return", "2026-02-01", 1, item="pot", order_id="o5", user_id=None),
    act("gina_back", "return", "2026-01-05", 1, item="jug"),
    act("gina_buy", "purchase", "2026-01-10", 1, item="jug", order_id="o6"),
    act("nobody_back", "return", "2026-02-01", 1, item="jug", user_id=None),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("shop")
    lay(home, "items", "2026-01-01", [{"item_id": item, "title": item} for item in ("mug", "pot", "jug")])
    lay(home, "events", "2026-03-01", EVENTS)
    return built(home, **{"fuse.popularity_days": 90})


@pytest.fixture
def marts(run: Run) -> Marts:
    return Marts(run)


def at(vocabulary: Vocabulary, name: str) -> int:
    return int(vocabulary.positions([name])[0])


def row(marts: Marts, matrix, user: str) -> list[float]:
    return matrix[at(marts.users, user)].toarray()[0].tolist()


def bought(marts: Marts, user: str, until: dt.date) -> list[str]:
    return [str(item) for item in marts.items.ids[np.flatnonzero(row(marts, marts.bought(until), user))]]


def test_every_return_finds_its_purchases(marts: Marts):
    """By order, by equal quantity, else first in, first out; what matches nothing stands there without a purchase."""
    columns = "return_event_id, purchase_event_id, user_id, quantity, matched_by"
    assert marts.connection.execute(f"select {columns} from returned_purchases").fetchall() == [
        ("anna_back", "anna_buy", "anna", 1, "quantity"),
        ("dora_back", "dora_buy", "dora", 1, "order"),
        ("emil_back", "emil_buy", "emil", 2, "first_in"),
        ("emil_back", None, "emil", 3, None),
        ("fern_back", "fern_buy", "fern", 1, "order"),
        ("gina_back", None, "gina", 1, None),
        ("nobody_back", None, None, 1, None),
    ]


def test_a_return_changes_nothing_before_its_day(marts: Marts):
    """The day before, who brought it back tomorrow is like one who keeps it: in taste, habit, history and clicks."""
    before = RETURNED - dt.timedelta(days=1)
    mug = at(marts.items, "mug")
    for matrix in (marts.interactions(before), marts.habit(before), marts.bought(before)):
        assert row(marts, matrix, "anna")[mug] == row(marts, matrix, "cleo")[mug] > 0
    assert marts.popularity(before)[mug] > 3
    assert len(marts.item_pairs(before, seed=0)) > 0


def test_after_a_return_the_purchase_is_as_if_it_had_not_been(marts: Marts):
    """From that day on, at the decay of the purchase's day: anna, who bought a mug and looked, is bert, who looked."""
    mug = at(marts.items, "mug")
    for until in (RETURNED, TODAY):
        interactions = marts.interactions(until)
        assert row(marts, interactions, "anna")[mug] == row(marts, interactions, "bert")[mug] > 0
        assert row(marts, interactions, "cleo")[mug] == 6 * row(marts, interactions, "bert")[mug]
        assert bought(marts, "anna", until) == ["pot"]
        assert row(marts, marts.habit(until), "anna")[mug] == 0
        histories = marts.histories(until)
        weights = {user: histories.event_weights[at(marts.users, user)] for user in ("anna", "bert")}
        assert sorted(weights["anna"][weights["anna"] > 0].tolist()) == [1, 5]
        assert weights["bert"][weights["bert"] > 0].tolist() == [1]


def test_a_purchase_that_came_back_in_part_is_one_still(marts: Marts):
    """It counts as bought, with the weight of what was kept."""
    mug = at(marts.items, "mug")
    before, after = marts.interactions(EARLIER), marts.interactions(TODAY)
    decay = 0.5 ** ((TODAY - EARLIER).days / marts.settings.weights.half_life_days)
    assert row(marts, after, "dora")[mug] == pytest.approx(0.75 * decay * row(marts, before, "dora")[mug])
    assert bought(marts, "dora", TODAY) == ["mug"]


def test_an_unmatched_return_says_nothing(marts: Marts):
    """Emil is rid of what he had and no more; gina keeps what she bought after her return."""
    assert bought(marts, "emil", EARLIER) == ["pot"]
    assert bought(marts, "emil", TODAY) == []
    assert marts.interactions(TODAY)[at(marts.users, "emil")].nnz == 0
    assert bought(marts, "gina", TODAY) == ["jug"]


def test_buyers_and_clicks_are_undone_too(marts: Marts):
    """Of three buyers of the mug two are left, its query says less of it, and no basket holds it with the pot."""
    mug, queries = at(marts.items, "mug"), Vocabulary(["mug"])
    assert int(marts.popularity(EARLIER)[mug]) == 3
    assert int(marts.popularity(TODAY)[mug]) == 2
    click = marts.query_clicks(queries, RETURNED)[0, mug] / marts.query_clicks(queries, EARLIER)[0, mug]
    assert click == pytest.approx(8 / 13 * 0.5 ** (12 / marts.settings.search.behaviour_half_life_days))
    assert len(marts.item_pairs(TODAY, seed=0)) == 0
    sold = marts.frame("select item_id, count_buyers from popular_items where segment = 'all' order by item_id")
    assert dict(zip(sold["item_id"], sold["count_buyers"], strict=True)) == {"mug": 2, "pot": 1, "jug": 1}


def test_figures_tell_how_returns_were_matched(run: Run):
    """Rows and pieces by the pass that matched them, and of what no purchase explains."""
    assert warehouse.returns(run) == {
        "matched_by_order": 2,
        "matched_by_order_pieces": 2,
        "matched_by_quantity": 1,
        "matched_by_quantity_pieces": 1,
        "matched_first_in": 1,
        "matched_first_in_pieces": 2,
        "unmatched": 3,
        "unmatched_pieces": 5,
    }
