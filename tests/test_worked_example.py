"""The page of the shop of three users: each of its tables, and each decimal of its text, is what the code computes."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from models import als

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "worked_example.md").read_text()
R = np.array([[1.0, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 1]])
ASKED, HISTORY, UNMET = 0, np.array([0, 2]), np.array([1, 3])


def computed() -> dict[str, np.ndarray]:
    """The page's tables by the text of their first cell, and its one number outside of them."""
    model = als.fit(sparse.csr_matrix(R), factors=2, regularization=1.0, alpha=4.0, epochs=200, seed=1)
    Y, c = model.item_factors.astype(float), 1 + 4 * R[ASKED]
    left = Y.T @ np.diag(c) @ Y + np.eye(2)
    shares = model.explain(HISTORY, R[ASKED, HISTORY], UNMET)
    return {
        "R": R,
        "confidence": 1 + 4 * R,
        "V": Y,
        "YᵀY": Y.T @ Y,
        "YᵀCY + λI": np.column_stack([left, Y.T @ (c * R[ASKED])]),
        "U": model.user_factors,
        "x·y": model.user_factors @ Y.T,
        "because of": np.column_stack([shares, shares.sum(axis=1)]),
        "determinant": np.array([[np.linalg.det(left)]]),
    }


def tables() -> dict[str, list[list[str]]]:
    """Cells of each table of the page without its head and first column."""
    found = re.findall(r"^\| ([^|]+?) \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    rows = {name: [line.split("|")[2:-1] for line in body.splitlines()] for name, body in found}
    return {name: [[cell.strip() for cell in row] for row in body] for name, body in rows.items()}


@pytest.mark.parametrize("name", tables())
def test_each_table_is_computed(name: str):
    """To the last digit that is shown, give or take what rounding may turn."""
    shown, expected = tables()[name], computed()[name]
    digits = len(shown[0][0].partition(".")[2])
    np.testing.assert_allclose(np.array(shown, dtype=float), expected, rtol=0, atol=0.6 * 10.0**-digits)


def test_no_table_is_missing():
    """What is computed stands on the page."""
    assert {*tables(), "determinant"} == set(computed())


def test_each_decimal_of_the_text_stands_in_a_table():
    """But the determinant, which is computed."""
    text = re.sub(r"^\|.*$", "", PAGE, flags=re.MULTILINE)
    known = {cell for rows in tables().values() for row in rows for cell in row}
    assert set(re.findall(r"\d+\.\d+", text)) - known == {f"{computed()['determinant'][0, 0]:.3f}"}


def test_the_answer():
    """The item that A does not have and would like best is item 2, and item 1 is the evidence."""
    tables_ = computed()
    assert UNMET[tables_["x·y"][ASKED, UNMET].argmax()] == 1
    assert HISTORY[tables_["because of"][0, :2].argmax()] == 0
    np.testing.assert_allclose(tables_["because of"][:, 2], tables_["x·y"][ASKED, UNMET], atol=1e-6)
