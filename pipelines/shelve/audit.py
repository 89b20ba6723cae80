"""The published audit: what became of the items that were asked for, and of a sample, on the shelves of a night."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from pipelines import contracts, pseudonyms, warehouse
from pipelines.audit import asked, verdicts
from pipelines.audit.asked import Pair
from pipelines.audit.proposals import proposals
from pipelines.audit.sample import chosen
from pipelines.errors import BadSetting
from pipelines.fuse.sources import Sources
from pipelines.marts import Marts
from pipelines.run import LOG, Run
from pipelines.shelve import effects
from pipelines.shelve.placing import Placing

TABLES = (*verdicts.READS, "popular_items")
ROWS = """
    select told.*, chosen_as, $run_id as run_id
    from ({told}) as told
    inner join pairs using (placement, user_id, item_id)
    order by placement, user_id, item_id
"""


def write(run: Run, marts: Marts, made: Sequence[Placing], folder: Path) -> None:
    """Write candidate_audit, once the tables that it reads lie in `folder`."""
    placings = {one.placement: one for one in made}
    sources = {name: _typed(name, warehouse.relation(run, name, folder)) for name in TABLES} | {"users": "users"}
    audit = run.settings.audit
    limits = {"seed": run.settings.seed, "users": audit.users, "items": audit.items}
    pairs = chosen(marts.connection, sources, list(placings), wanted(run), limits)
    promises = pairs["placement"].map(run.settings.shelves).astype("string")
    marts.connection.register("pairs", pairs.assign(promise=promises))
    marts.connection.register("sought", sought(run, marts, placings, pairs))
    told = verdicts.query("from pairs", "from sought", sources)
    values = {"run_id": run.run_id, "depth": run.settings.fuse.depth}
    rows = marts.connection.execute(ROWS.format(told=told), values).to_arrow_table()
    pq.write_table(rows, folder / "candidate_audit.parquet")


def _typed(name: str, source: str) -> str:
    """A table with the types of its contract: where nobody is known, files hold columns without rows, and no types."""
    columns = contracts.tables("serving")[name].columns
    return f"(select {', '.join(f'cast({c.name} as {c.data_type}) as {c.name}' for c in columns)} from {source})"


def wanted(run: Run) -> Sequence[Pair]:
    """The pairs of `audit.csv`, none where it has become wrong since the night began: a question keeps no list back."""
    try:
        pairs = asked.read(run.home, run.settings.shelves)
        return [pair._replace(user_id=pseudonyms.of(run.settings.clean, pair.user_id)) for pair in pairs]
    except BadSetting as error:
        LOG.warning("%s audit: %s The lists are built, and none of its pairs is told of.", run.run_id, error)
        return []


def sought(run: Run, marts: Marts, placings: Mapping[str, Placing], pairs: pd.DataFrame) -> pd.DataFrame:
    """What no table tells of pairs (placement, user_id, item_id): whether the placement asks for the item, what bars it
    there whoever proposes it, and what the sources say of it."""
    sources = Sources.load(run, marts, "final")
    parts = [_sought(sources, marts, one, pairs[pairs["placement"] == name]) for name, one in placings.items()]
    return pd.concat(parts, ignore_index=True)


def _sought(sources: Sources, marts: Marts, placing: Placing, pairs: pd.DataFrame) -> pd.DataFrame:
    users, items = marts.users.positions(pairs["user_id"]), marts.items.positions(pairs["item_id"])
    found = proposals(sources, users, items, placing.fits)
    told = {
        "is_asked_for": placing.fits[items],
        "barred_by": pd.array(effects.named(placing, placing.barred(users, items)), "string"),
        "is_proposed": found.is_proposed,
        "best_source": pd.array(found.best_source, "string"),
        "best_rank": pd.Series(found.best_rank, pairs.index, "Int64").where(found.best_rank > 0),
    }
    return pairs[["placement", "user_id", "item_id"]].assign(**told)
