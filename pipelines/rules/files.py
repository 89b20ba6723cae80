"""Rule files: `rules/*.csv`, `*.yaml` in the home, read whole, judged whole, each mistake with its place and cure."""

import csv
import datetime as dt
import difflib
import io
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError

from pipelines import markets, settings
from pipelines.errors import BadRules
from pipelines.rules.rule import ITEM_TABLES, Rule

COLUMNS = tuple(Rule.model_fields)
SUFFIXES = (".csv", ".yaml", ".yml")


class Row(NamedTuple):
    """A rule as somebody wrote it, and where."""

    file: Path
    line: int
    told: Mapping[str, Any]


def read(home: Path, shelves: Collection[str] | None = None) -> list[Rule]:
    """All rules of a home in their order of precedence, of a market also those of the home that it lies in; raises
    BadRules with every mistake that is in them.

    `shelves` are the placements that there are, by default those of the home's settings.
    """
    folders = dict.fromkeys((markets.house(home) / "rules", home / "rules"))
    files = [path for folder in folders for path in sorted(folder.glob("*")) if path.suffix in SUFFIXES]
    return judged([row for path in files for row in rows(path)], shelves or settings.load(home).shelves)


def in_force(home: Path, day: dt.date, shelves: Collection[str] | None = None) -> tuple[Rule, ...]:
    """Those whose effect people shall see on a day of the shop."""
    return tuple(rule for rule in read(home, shelves) if rule.holds_on(day))


def judged(written: list[Row], shelves: Collection[str]) -> list[Rule]:
    """Rules in their order of precedence; raises BadRules with every mistake, when two have one name, and when one is
    about a placement that is neither one of `shelves` nor a table of lists."""
    places = (*shelves, *ITEM_TABLES)
    rules: dict[str, Rule] = {}
    place_of: dict[str, str] = {}
    mistakes: list[str] = []
    for row in written:
        try:
            rule = Rule.model_validate(row.told)
        except ValidationError as error:
            mistakes += [_told(row, problem) for problem in error.errors()]
            continue
        if rule.placement not in (None, *places):
            mistakes.append(f"{_place(row)}, placement: {rule.placement!r} is none of {', '.join(places)}.")
        if taken := place_of.get(rule.rule_id):
            mistakes.append(f"{_place(row)}, rule_id: {rule.rule_id!r} is taken by another row: {taken}. Rename one.")
        rules[rule.rule_id], place_of[rule.rule_id] = rule, _place(row)
    if mistakes:
        raise BadRules("\n".join(mistakes))
    return sorted(rules.values(), key=lambda rule: rule.precedence)


def rows(path: Path) -> list[Row]:
    """The rows of one file, empty cells left out; raises BadRules when it is not readable as a whole."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return list(_from_csv(path, text) if path.suffix == ".csv" else _from_yaml(path, text))
    except (UnicodeDecodeError, csv.Error, yaml.YAMLError) as error:
        raise BadRules(f"{path} is no readable {path.suffix[1:]} in UTF-8: {error}. Correct it.") from None


def _from_csv(path: Path, text: str) -> Iterator[Row]:
    lines = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    for cells in lines:
        if "" in cells:
            raise BadRules(f"{path}, line {lines.line_num}: more cells than columns. Quote the cell that has a comma.")
        told = {name.strip(): cell.strip() for name, cell in cells.items() if cell and cell.strip()}
        if told:
            yield Row(path, lines.line_num, told)


def _from_yaml(path: Path, text: str) -> Iterator[Row]:
    node, told = yaml.compose(text, Loader=yaml.BaseLoader), yaml.load(text, Loader=yaml.BaseLoader)  # all is text
    if node is None:
        return
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise BadRules(f"{path} is no list of rules. Begin each with `- rule_id: …`.")
    for place, one in zip(node.value, told, strict=True):
        yield Row(path, place.start_mark.line + 1, {name: value for name, value in one.items() if value != ""})


def _told(row: Row, problem: Any) -> str:
    """One mistake: where, which column, what, and what to write instead."""
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:  # of the rule as a whole; the message begins with its column
        return f"{_place(row)}, {message}."
    column = str(problem["loc"][0])
    if problem["type"] == "missing":
        return f"{_place(row)}, {column}: is empty. Each rule needs one."
    known = COLUMNS
    if problem["type"] == "literal_error":
        known = tuple(problem["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
    wrong = column if problem["type"] == "extra_forbidden" else str(problem["input"])
    message = "is no column" if problem["type"] == "extra_forbidden" else f"{wrong!r}: {message}"
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"{_place(row)}, {column}: {message}." + (f" Did you mean {near[0]}?" if near else "")


def _place(row: Row) -> str:
    return f"{row.file}, line {row.line}"
