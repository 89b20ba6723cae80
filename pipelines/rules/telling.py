"""Telling: rules for a person at a terminal: whether they are right, which there are, what a draft would change."""

import datetime as dt
import zoneinfo
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipelines import settings, warehouse
from pipelines.raw.files import shown
from pipelines.rules import Rule, read
from pipelines.rules.preview import Answers, Preview, preview
from pipelines.rules.scope import unknown
from pipelines.run import Run

LISTED = 10  # items that leave and enter, at most
EFFECTS = "select rule, sum(count_rows)::bigint, sum(count_moved)::bigint from rule_effects group by rule"


def check(console: Console, home: Path, now: dt.datetime) -> None:
    """Read all rule files and say how many rules hold today; warn of names that the current release does not have."""
    rules = read(home)
    states = [state(rule, today(home, now)) for rule in rules]
    counts = ", ".join(f"{states.count(one)} {one}" for one in ("in force", "to come", "expired"))
    console.print(Text.assemble((f"{len(rules)} rules are right: ", "green"), counts), soft_wrap=True)
    if warehouse.current(home) is not None:
        with warehouse.connect(home) as release:
            items = release.execute("select * from items").df()
        _warn(console, unknown(rules, items))


def list_(console: Console, home: Path, now: dt.datetime) -> None:
    """Print every rule with its state, and what it did in the current release."""
    table = Table("rule", "what it does", "days", "state", "why")
    effects = _effects(home)
    for rule in read(home):
        days = f"{rule.starts_on or '…'} to {rule.ends_on or '…'}"
        states = ". ".join(filter(None, (state(rule, today(home, now)), effects.get(rule.rule_id))))
        cells = rule.rule_id, _what(rule), days, states, f"{rule.owner}: {rule.reason}"
        table.add_row(*(Text(shown(cell)) for cell in cells))
    console.print(table)


def foretell(console: Console, run: Run, draft: Path) -> None:
    """Print what a draft would change in the lists and answers of a run."""
    found = preview(run, draft)
    console.print(Text(f"The draft beside the lists of {run.run_id}, as if it held; nothing is published."))
    console.print(_table(found.touched.reset_index(), "placement", "users touched", "leave", "enter", "move"))
    console.print(_table(found.told, "placement", "rule", "rows removed", "rows put", "users"))
    for title, items in (("what leaves", found.leaving), ("what enters", found.entering)):
        console.print(_table(items.head(LISTED), title, "", "rows"))
    _tell_answers(console, found.answers)
    console.print(_losses(found))
    _warn(console, found.warnings)


def _tell_answers(console: Console, found: Answers) -> None:
    """Nothing more where no answer changes."""
    console.print(_table(found.touched, "answers", "queries touched", "users touched", "leave", "enter", "move"))
    if not len(found.queries):
        return
    console.print(Text(f"{found.queries['traffic_share'].sum():.1%} of all searches are for the queries touched."))
    queries = found.queries.head(LISTED).drop(columns="traffic_share")
    console.print(_table(queries, "query", "searches", "leave", "enter", "move"))
    for title, items in (("what leaves answers", found.leaving), ("what enters answers", found.entering)):
        console.print(_table(items.head(LISTED), title, "", "answers", "searches"))


def state(rule: Rule, day: dt.date) -> str:
    """Whether people see a rule's effect on a day."""
    if rule.holds_on(day):
        return "in force"
    return "to come" if rule.starts_on and day < rule.starts_on else "expired"


def today(home: Path, now: dt.datetime) -> dt.date:
    """The shop's day."""
    return now.astimezone(zoneinfo.ZoneInfo(settings.load(home).shop.timezone)).date()


def _what(rule: Rule) -> str:
    """cap 2 per brand: category Kitchen; for_you, Austria; priority 5"""
    does = " ".join(str(one) for one in (rule.action, rule.value, rule.per and f"per {rule.per}") if one)
    query = rule.query and f"“{rule.query}”"
    where = ", ".join(filter(None, (rule.placement, rule.country, rule.segment, query))) or "everywhere"
    return f"{does}: {rule.scope}; {where}" + (f"; priority {rule.priority}" if rule.priority else "")


def _effects(home: Path) -> Mapping[str, str]:
    """By rule, what it did in the current release; nothing where none tells."""
    if warehouse.current(home) is None:
        return {}
    with warehouse.connect(home) as release:
        if "rules" not in warehouse.names(release):
            return {}
        rows = release.execute(EFFECTS).fetchall()
    return {rule: f"{removed} rows removed, {moved} put" for rule, removed, moved in rows}


def _losses(found: Preview) -> Table:
    table = Table("held-out NDCG@10", "now", "would lose", "95 % interval")
    for one in found.losses:
        bounds = f"{one['low']:+.4f} to {one['high']:+.4f}"
        table.add_row(one["metric"], f"{one['before']:.4f}", f"{one['value']:+.4f}", bounds)
    return table


def _table(rows: pd.DataFrame, *head: str) -> Table:
    table = Table(*head)
    for row in rows.itertuples(index=False):
        table.add_row(*(Text("" if pd.isna(cell) else shown(str(cell))) for cell in row))
    return table


def _warn(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(Text.assemble(("warning: ", "yellow"), shown(line)), soft_wrap=True)
