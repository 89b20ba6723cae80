"""Of a row, its copies and its corrections one counts, whichever night brings them."""

import datetime as dt

import pytest

from pipelines.clean.replays import Said, judge

DAYS = [dt.date(2026, 3, day) for day in (1, 2, 3)]


def said(identity: str, line: int, day: int = 0, replays: str | None = None) -> Said:
    return Said((identity,), DAYS[day], line, "f", line, 0, replays)


def rules(*rows: Said, said: tuple[str, ...] = (), filled: tuple[str, ...] = ()) -> dict[int, str]:
    """The rule of each row that does not count, by line."""
    return {row.line: rule for row, rule in judge(rows, {(name,) for name in said}, set(filled))}


def test_the_first_correction_of_a_row_counts():
    """A second one does not, in the same night or a later one, though it says something else."""
    assert rules(said("a", 1, 1, "f:9"), said("b", 2, 2, "f:9")) == {2: "replayed_before"}
    assert rules(said("b", 2, 2, "f:9"), filled=("f:9",)) == {2: "replayed_before"}


@pytest.mark.parametrize("lines", [(1, 2), (2, 1)])
def test_a_row_that_counts_after_all_needs_no_correction(lines: tuple[int, int]):
    """The row itself stays, also when its correction came on the same day."""
    row, correction = lines
    assert rules(said("b", correction, 0, f"f:{row}"), said("a", row)) == {correction: "replayed_before"}


def test_a_copy_can_be_corrected_into_another_event():
    """A row whose id was used twice by mistake does not count; with an id of its own it does."""
    assert rules(said("a", 1), said("a", 2), said("b", 3, 1, "f:2")) == {2: "duplicate"}


def test_a_correction_that_is_a_copy_leaves_its_row_open():
    """What it said was there already, so a second correction may say what is new."""
    rows = said("a", 1), said("a", 2, 1, "f:9"), said("b", 3, 2, "f:9")
    assert rules(*rows) == {2: "duplicate"}
    assert rules(rows[2], said=("a",)) == {}


def test_what_a_refused_correction_says_can_still_arrive():
    """Nights one by one and all at once agree, for a decision may hang on another."""
    assert rules(said("a", 1), said("b", 2, 1, "f:1"), said("b", 3, 2)) == {2: "replayed_before"}
