"""Who a visitor is, what led where, and that bots teach nothing: marts of a shop whose visitors are known."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models import als
from pipelines.marts import Marts
from pipelines.run import Run
from tests.lake import DAY, built, lay

pytestmark = pytest.mark.slow

CUT = dt.date(2026, 2, 15)  # the last day before the held-out ones of a run of DAY
BOT_DAY = dt.date(2026, 2, 20)
LEARNT = ("item_days", "baskets", "queries", "query_clicks", "item_pairs", "popular_items")
AS_OF_CUT = [
    f"select {key}, {figures} from {table} where known_date <= '{CUT}' group by all order by all"
    for table, key, figures in (
        ("interactions", "user_id, item_id", "sum(weight), sum(count_views)"),
        ("query_clicks", "query, item_id", "sum(weight), sum(count_views)"),
        ("item_days", "item_id", "sum(count_visitors), sum(count_views)"),
    )
]


def act(name: str, event_type: str, moment: str, item: str | None = "i1", **more: object) -> dict[str, object]:
    return {"event_id": name, "event_type": event_type, "occurred_at": moment, "item_id": item} | more


def shoppers() -> Iterator[dict[str, object]]:
    """Twelve people who search, look and buy on four days each, new things too; the odd ones sign in only to buy."""
    for n, visit in np.ndindex(12, 4):
        session, day, user = f"s{n}-{visit}", 10 + 4 * visit + n % 4, f"u{n:02}"
        for step, item in enumerate(((n + visit) % 12, (n + visit + 1) % 12)):
            at, name = f"2026-02-{day} {9 + n:02}:{10 * step + visit:02}", f"{session}-{step}"
            shown = {"user_id": None if n % 2 else user, "session_id": session}
            yield act(f"{name}-search", "search", f"{at}:00", None, query=f"item {item}", **shown)
            yield act(f"{name}-view", "view", f"{at}:20", f"i{item}", **shown)
            bought = {"user_id": user, "session_id": session, "order_id": f"o-{session}"}
            yield act(f"{name}-buy", "purchase", f"{at}:50", f"i{item}", **bought)


def bot(acts: int, **who: object) -> Iterator[dict[str, object]]:
    """On one day, a search, a view or a purchase every three seconds."""
    start = dt.datetime.combine(BOT_DAY, dt.time())
    for n in range(acts):
        kind, item = ("search", "view", "purchase")[n % 3], f"i{n // 3 % 12}"
        moment = str(start + dt.timedelta(seconds=3 * n))
        told = {"item": None, "query": item} if kind == "search" else {"item": item}
        yield act(f"{who}-{n}", kind, moment, **told, **who)


LATER = [  # nobody is known on the evening of the cut in `a`, one user in `b`; past midnight another signs in
    act("a-open", "view", "2026-02-15 23:50:00", session_id="a"),
    act("a-known", "view", "2026-02-16 00:05:00", session_id="a", user_id="u01"),
    act("b-open", "view", "2026-02-15 23:45:00", session_id="b"),
    act("b-known", "view", "2026-02-15 23:50:00", session_id="b", user_id="u00"),
    act("b-left", "view", "2026-02-15 23:55:00", session_id="b"),
    act("b-other", "view", "2026-02-16 00:10:00", session_id="b", user_id="u01"),
    act("told", "view", "2026-02-17 10:00:00", session_id="c", query="told"),  # from this day on views name their query
    *bot(300, user_id="u02"),
]


def shop(home: Path, others: list[dict[str, object]], day: dt.date = DAY) -> Run:
    """The shoppers and others, each act arriving on its day."""
    lay(home, "items", "2026-02-01", [{"item_id": f"i{n}", "title": f"Item {n}"} for n in range(12)])
    rows = [*shoppers(), *others]
    for date in sorted({str(row["occurred_at"])[:10] for row in rows}):
        lay(home, "events", date, [row for row in rows if str(row["occurred_at"]).startswith(date)])
    return built(home, day)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Marts:
    return Marts(shop(tmp_path_factory.mktemp("shop"), []))


@pytest.fixture(scope="module")
def later(tmp_path_factory: pytest.TempPathFactory) -> Marts:
    return Marts(shop(tmp_path_factory.mktemp("shop"), LATER))


def rows(marts: Marts, query: str) -> list[tuple]:
    return marts.connection.execute(query).fetchall()


def item_factors(marts: Marts) -> np.ndarray:
    return als.fit(marts.interactions(DAY), factors=4, teachers=marts.people(DAY)).item_factors


def test_a_user_owns_what_led_to_signing_in(alone: Marts):
    """Who signs in only to buy has looked as often as who was signed in all along, and both found it by searching."""
    views = rows(alone, "select user_id, sum(count_views) from interactions group by all order by all")
    assert views == [(f"u{n:02}", 8) for n in range(12)]
    clicks = "select query, item_id, sum(count_views), sum(count_purchases) from query_clicks group by all order by all"
    assert rows(alone, clicks) == sorted((f"item {n}", f"i{n}", 8, 8) for n in range(12))


def test_the_measured_models_see_what_a_run_of_that_day_saw(later: Marts, tmp_path: Path):
    """Who signs in after the cut, who turns out a bot, and what views tell later changes nothing as of the cut."""
    then = Marts(shop(tmp_path, LATER, CUT))
    for query in AS_OF_CUT:
        assert rows(later, query) == rows(then, query)
    assert later.people(CUT).all()
    evening = "select event_id, user_id from int_events where event_id in ('a-open', 'b-open', 'b-left') order by all"
    assert rows(later, evening) == rows(then, evening) == [("a-open", None), ("b-left", "u00"), ("b-open", "u00")]


def test_nothing_is_learnt_from_a_bot_from_its_flag_on(later: Marts):
    """Its one example of the day before is gone when two others have two more; it keeps its own history."""
    before, (position,) = BOT_DAY - dt.timedelta(days=1), later.users.positions(["u02"])
    assert np.flatnonzero(~later.people(BOT_DAY)).tolist() == [position]
    assert later.people(before).all()
    assert [len(later.history_examples(until)[1]) for until in (before, BOT_DAY)] == [18, 18 - 1 + 2]
    assert later.histories(DAY).event_weights[position].any()


def test_no_more_examples_are_laid_out_than_are_asked_for(later: Marts):
    """Five of nineteen, each a history beside the item that was bought after it."""
    drawn, every = (
        [(*history, item) for history, item in zip(histories.positions.tolist(), targets, strict=True)]
        for histories, targets in (later.history_examples(BOT_DAY, most) for most in (5, None))
    )
    assert (len(drawn), len(every)) == (5, 19)
    assert set(drawn) <= set(every)


def test_what_a_bot_does_changes_nothing_for_others(alone: Marts, tmp_path: Path):
    """20,000 acts of a user, and as many of a session that nobody signed: what is learnt is equal without them."""
    beside = Marts(shop(tmp_path, [*bot(20_000, user_id="u05x"), *bot(20_000, session_id="s")]))
    flagged = rows(beside, "select distinct visitor_id, is_user, flagged_date from bot_flags order by 1")
    assert flagged == [("s", False, BOT_DAY), ("u05x", True, BOT_DAY)]
    for table in LEARNT:
        assert rows(beside, f"from {table} order by all") == rows(alone, f"from {table} order by all")
    np.testing.assert_array_equal(item_factors(beside), item_factors(alone))
    np.testing.assert_array_equal(beside.history_examples(DAY)[1], alone.history_examples(DAY)[1])
    assert beside.interactions(DAY)[beside.users.positions(["u05x"])].nnz == 12
