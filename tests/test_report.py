"""The report page tells the night in the order in which somebody reads it."""

from pipelines import report


def figure(metric: str, value: float, **interval: float) -> dict:
    return {"metric": metric, "value": value, "low": value - 0.01, "high": value + 0.01} | interval


FIGURES = [
    figure("for_you/habit/ndcg_at_10", 0.2),
    figure("for_you/blend/ndcg_at_10", 0.3),
    figure("for_you/blend/coverage_at_10", 0.7),
    figure("for_you/fused/ndcg_at_10", 0.3),
    figure("discover/habit/ndcg_at_10", 0.9),
    figure("for_you/fused/ndcg_at_10/new_users", 0.4),
    figure("for_you/habit/ndcg_at_10/new_users", 0.1),
    figure("for_you/loss_without_als/ndcg_at_10", -0.1),
    figure("for_you/loss_without_habit/ndcg_at_10", 0.1),
]


def test_rankings_stand_best_first_and_once():
    """The one that is published is marked; `fused`, which is the same, is not another row."""
    rows = report._quality(FIGURES, "for_you", "blend")
    assert [(name, is_published) for name, is_published, _ in rows] == [("blend", True), ("habit", False)]
    assert [one and one["value"] for one in rows[0][2]] == [0.3, None, 0.7]


def test_parts_of_the_shop_beside_what_is_compared():
    """Each placement on its own."""
    (found,) = report._slices(FIGURES, "for_you").items()
    assert (found[0], [one["value"] for one in found[1].values()]) == ("new users", [0.4, 0.1])
    assert report._slices(FIGURES, "discover") == {}


def test_the_largest_loss_comes_first():
    """Of the placement that is asked."""
    assert [(part, one["value"]) for part, one in report._losses(FIGURES, "for_you")] == [("habit", 0.1), ("als", -0.1)]
    assert report._losses(FIGURES, "discover") == []


def test_built_lists_stand_beside_the_ranking_alone():
    """Measure by measure; the loss beside the figure that it is of."""
    built = [figure("for_you/shelf/ndcg_at_10", 0.29), figure("for_you/loss_by_shelf/ndcg_at_10", 0.01)]
    found = report._shelves(FIGURES, [*built, figure("for_you/fused/gini_at_10", 0.5)])
    gained = {"fused": 0.3, "shelf": 0.29, "loss_by_shelf": 0.01}
    assert found == {"for_you": {"ndcg_at_10": gained, "gini_at_10": {"fused": 0.5}}}


def test_each_part_of_the_list_builder_tells_what_it_changes():
    """By placement and measure; what it does to all of them together is told elsewhere."""
    built = [figure("for_you/change_by_diversity/ndcg_at_10", -0.02), figure("for_you/loss_by_shelf/ndcg_at_10", 0.01)]
    assert report._changes(built) == {"for_you": {"diversity": {"ndcg_at_10": built[0]}}}


def test_every_table_has_its_place():
    """With the checks of its contract, and those that it breaks; gates and input have their own."""
    told = [("items", True), ("items", False), ("arrivals", True), ("night", True), ("input", False)]
    checks = [{"table_name": name, "is_ok": is_ok} for name, is_ok in told]
    assert report._tables(checks) == {"arrivals": (1, 0), "items": (2, 1)}


def test_a_measure_of_the_input_is_one_line():
    """With both bounds, where it has both; it holds when every level does."""
    seen = {"check_name": "events/volume", "observed": "0.5"}
    checks = [
        seen | {"level": "warn", "expected": "at least 0.6", "is_ok": False},
        seen | {"level": "stop", "expected": "at least 0.2", "is_ok": True},
        {"check_name": "items/drift", "observed": "0", "level": "warn", "expected": "at most 0", "is_ok": True},
    ]
    volume, drift = report._input(checks)
    assert volume == seen | {"warn": "at least 0.6", "stop": "at least 0.2", "is_ok": False}
    assert (drift["is_ok"], "stop" in drift) == (True, False)
