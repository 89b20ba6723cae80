"""Histories are laid out from rows in the order of users and days."""

import tracemalloc

import numpy as np
import pandas as pd

from pipelines.marts import gathered

DAY = np.datetime64("2026-03-01")


def acts(count: int) -> pd.DataFrame:
    """One event a day, the last one on `DAY`; of item 0, 1, 2, …; every second one a purchase."""
    number = np.arange(count)
    days = (DAY - (count - 1 - number)).astype("datetime64[ns]")
    return pd.DataFrame({"item": number, "event_date": days, "weight": number + 0.5, "value": number % 2})


def test_the_latest_rows_stand_last():
    """Of four rows the last three; of one row that one, behind padding; of none only padding."""
    found = gathered(acts(5), np.array([0, 4, 5]), np.array([4, 5, 5]), np.full(3, DAY), 3)
    assert found.positions.tolist() == [[1, 2, 3], [-1, -1, 4], [-1, -1, -1]]
    assert found.ages_days.tolist() == [[3, 2, 1], [0, 0, 0], [0, 0, 0]]
    assert found.event_weights.tolist() == [[1.5, 2.5, 3.5], [0, 0, 4.5], [0, 0, 0]]
    assert found.bought.tolist() == [[True, False, True], [False] * 3, [False] * 3]


def test_a_shop_without_events_has_empty_histories():
    """One for each user all the same."""
    found = gathered(acts(0), np.zeros(2, int), np.zeros(2, int), np.full(2, DAY), 3)
    assert (found.positions == -1).all()
    assert found.positions.shape == (2, 3)


def test_many_histories_take_little_more_than_they_keep():
    """While 100,000 of 50 places are laid out, less than half of the memory is needed that all at once take."""
    rows, count, length = acts(1000), 100_000, 50
    ends = np.full(count, len(rows))
    tracemalloc.start()
    found = gathered(rows, np.zeros(count, int), ends, np.full(count, DAY), length)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.positions == np.arange(950, 1000)).all()
    assert peak < 22 * count * length
