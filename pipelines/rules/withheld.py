"""Withheld: the tables of lists that are not a user's, without what the rules take off them."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipelines import contracts
from pipelines.marts import Marts
from pipelines.rules.rule import BARS, BY_PEOPLE, ITEM_TABLES
from pipelines.rules.scope import Goods, People, barring
from pipelines.run import Run

ANSWERED = "search_results"  # the search stage never finds what is withheld
OF_PEOPLE = "segment_kind in ('country', 'segment')"  # lists that not everybody reads; all others are of `all`
ON = "barred.item_id = listed.{item} and barred.kind = {kind} and barred.segment = {segment}"
KEPT = """
    copy (
        select * replace (row_number() over (partition by {group} order by rank) as rank)
        from {source} as listed
        anti join barred on {on}
        order by {group}, rank
    ) to '{path}' (format parquet, compression zstd)
"""
TAKEN = """
    select '{name}' as placement, barred.rule, count(*) as count_rows
    from {source} as listed
    join barred on {on}
    group by all
    order by all
"""


def withhold(run: Run, marts: Marts, folder: Path) -> pd.DataFrame:
    """Write the tables of lists anew where rules take something off them, the rows below moved up; placement, rule (its
    number in the run) and count_rows of what these took."""
    nothing = pd.DataFrame({"placement": [], "rule": [], "count_rows": []}, dtype=object)
    if not any(rule.action in BARS for rule in run.rules):
        return nothing
    return pd.concat([nothing, *(_without(run, marts, name, folder) for name in ITEM_TABLES if name != ANSWERED)])


def _without(run: Run, marts: Marts, name: str, folder: Path) -> pd.DataFrame:
    """Write one table, read from the folder of the stage or the marts; what each rule took."""
    table, path = contracts.tables("serving")[name], folder / f"{name}.parquet"
    partial = path.with_suffix(".kept")
    told = {
        "name": name,
        "source": f"read_parquet('{_quoted(path)}')" if path.exists() else name,
        "item": "other_item_id" if "other_item_id" in table.names else "item_id",
        "group": ", ".join(column for column in table.key if column != "rank"),
        "kind": f"if({OF_PEOPLE}, segment_kind, 'all')" if name in BY_PEOPLE else "'all'",
        "segment": f"if({OF_PEOPLE}, listed.segment, 'all')" if name in BY_PEOPLE else "'all'",
        "path": _quoted(partial),
    }
    told["on"] = ON.format(**told)
    readers = marts.frame("select distinct {kind} as kind, {segment} as segment from {source} as listed".format(**told))
    marts.connection.register("barred", _barred(run, marts, name, readers))
    marts.connection.execute(KEPT.format(**told))
    taken = marts.frame(TAKEN.format(**told))
    marts.connection.unregister("barred")
    partial.replace(path)
    return taken


def _barred(run: Run, marts: Marts, name: str, readers: pd.DataFrame) -> pd.DataFrame:
    """kind, segment, item_id and rule of what is withheld from the lists of each country, of each segment of users, and
    of everybody; `readers` are kind and segment of each."""
    goods, everything = Goods.of(marts), np.arange(len(marts.items))
    parts = [pd.DataFrame({"kind": ["-"], "segment": ["-"], "item_id": ["-"], "rule": [-1]}).head(0)]
    for kind, segment in readers.itertuples(index=False):
        rule = barring(run.rules, goods, name, everything, _people(kind, segment, len(everything)))
        found = {"kind": kind, "segment": segment, "item_id": marts.items.ids, "rule": rule}
        parts.append(pd.DataFrame(found)[rule >= 0])
    return pd.concat(parts)


def _people(kind: str, segment: str, count: int) -> People | None:
    """Who reads the lists of one kind and segment, so many times; None for everybody."""
    told = {"country": (segment, None), "segment": (None, segment)}
    return People.alike(count, *told[kind]) if kind in told else None


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
