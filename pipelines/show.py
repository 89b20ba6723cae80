"""Show: answers from the current release for a person at a terminal, each beside the SQL that gives it."""

import datetime as dt
import json
import textwrap
from itertools import groupby
from pathlib import Path

import duckdb
import pandas as pd
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from pipelines import profiles, settings, warehouse
from pipelines.errors import NightshelfError
from pipelines.night import STAGES
from pipelines.raw.files import shown
from pipelines.run import Run
from pipelines.warehouse import mirror

SHELF = """
    select r.placement, r.rank, i.title, round(r.score, 2) as score, r.reason,
           coalesce(e.title, '“' || r.evidence_query || '”') as evidence
    from user_recommendations as r
    join items as i using (item_id)
    left join items as e on e.item_id = r.evidence_item_id
    where r.user_id = {user} and r.rank <= {rows}
    order by case r.placement when 'for_you' then 1 when 'discover' then 2 when 'buy_again' then 3 else 4 end,
             r.placement, r.rank
"""
HISTORY = """
    select max(n.event_date) as last_day, c.title, sum(n.count_views) as views, sum(n.count_purchases) as purchases
    from marts.interactions as n
    join marts.catalogue as c using (item_id)
    where n.user_id = {user}
    group by c.title
    order by purchases desc, last_day desc, c.title
    limit 12
"""
RESULTS = """
    select s.rank, i.title, i.brand, round(s.score, 3) as score, round(s.lexical_score, 2) as lexical,
           round(s.semantic_score, 2) as semantic, round(s.behaviour_score, 2) as behaviour
    from search_results as s
    join items as i using (item_id)
    where s.query = {query} and s.rank <= {rows}
    order by s.rank
"""
FOLDED = r"select trim(regexp_replace(lower({query}), '\s+', ' ', 'g'))"  # as staging does
FIGURES = """
    pivot (
        select split_part(metric, '/', 1) as placement, split_part(metric, '/', 2) as ranked_by,
               split_part(metric, '/', 3) as measure, round(value, 4) as value
        from metrics
        where kind = 'quality' and measure in ('recall_at_10', 'ndcg_at_10', 'coverage_at_10')
              and split_part(metric, '/', 4) = '' and ranked_by not like 'loss_%'
    ) on measure using first(value)
    order by placement, ndcg_at_10
"""
REJECTED = """
    select table_name, rule, sum(count_rows)::bigint as count_rows, left(any_value(example), 70) as example
    from rejected_rows
    group by all
    order by table_name, count_rows desc
"""
TELLING_USER = """
    select user_id
    from user_recommendations
    where placement = 'for_you' and rank <= 10 and fallback is null
    group by user_id
    order by count(distinct reason) desc, count(distinct evidence_item_id) desc, user_id
    limit 1
"""
TELLING_QUERY = """
    select query
    from search_results
    where rank <= 10
    group by query
    order by count(*) filter (behaviour_score > 0) desc, count(*) desc, query
    limit 1
"""

EXAMPLE_CHARS = 60


def user(console: Console, home: Path, user_id: str, rows: int = 20) -> None:
    """One user's shelves; raises NightshelfError for a user without any."""
    with warehouse.connect(home) as release:
        found = _ask(console, release, SHELF.format(user=_quoted(user_id), rows=rows), f"The shelves of {user_id}")
        if not len(found):
            near = release.execute(
                "select distinct user_id from user_recommendations order by levenshtein(user_id, ?), user_id limit 3",
                [user_id],
            ).fetchall()
            raise NightshelfError(
                f"No user {user_id!r} in the current release. The nearest: {', '.join(n for (n,) in near)}."
            )


def query(console: Console, home: Path, text: str, rows: int = 20) -> None:
    """The results of one query; raises NightshelfError for a query that nobody typed."""
    with warehouse.connect(home) as release:
        asked = _first(release, FOLDED.format(query=_quoted(text))) or ""
        found = _ask(console, release, RESULTS.format(query=_quoted(asked), rows=rows), f"Results of “{asked}”")
        if not len(found):
            near = release.execute(
                "select distinct query from search_results order by levenshtein(query, ?), query limit 3", [asked]
            ).fetchall()
            raise NightshelfError(
                f"No results for {asked!r} in the current release. The nearest: {', '.join(n for (n,) in near)}."
            )


def demo(console: Console, home: Path) -> None:
    """What a night gives, in five looks."""
    current = warehouse.current(home)
    with warehouse.connect(home) as release:
        run_id = _first(release, "select run_id from runs")
        someone, something = _first(release, TELLING_USER), _first(release, TELLING_QUERY)
        marts = home / "runs" / str(run_id) / "build" / "marts.duckdb"
        if someone and marts.exists():
            place = str(marts).replace("'", "''")
            release.execute(f"attach '{place}' as marts (read_only)")
            _ask(console, release, HISTORY.format(user=_quoted(someone)), f"What {someone} did")
            _ask(console, release, SHELF.format(user=_quoted(someone), rows=6), f"What {someone} is shown, and why")
        if something:
            _ask(console, release, RESULTS.format(query=_quoted(something), rows=8), f"Results of “{something}”")
        _ask(console, release, FIGURES, "Tonight on held-out days: `fused` is published, `popularity` is the baseline")
        _ask(console, release, REJECTED, "Raw rows that were not let in, and why")
    console.rule()
    places = [
        f"Release: {current}",
        f"Readers open: {warehouse.of(home).where}",
        f"Report: {home / 'runs' / str(run_id) / 'report' / 'report.html'}",
    ]
    if someone and marts.exists():
        places.append(f"The history is read from the run's marts: attach '{marts}' as marts (read_only)")
    console.print(*map(_text, places), sep="\n", soft_wrap=True)


def status(console: Console, home: Path) -> None:
    """Runs with their finished stages, and the releases."""
    table = Table("run", "opened", "stages done", "working", title="Runs")
    for path in sorted((home / "runs").glob("*/run.json")):
        done = [stage for stage in STAGES if (path.parent / stage).is_dir()]
        lease = path.parent.with_name(f"{path.parent.name}.lease")
        owner = json.loads(lease.read_text())["owner"] if lease.exists() else ""
        opened = json.loads(path.read_text())["opened_at"][:16]
        far = f"{len(done)} of {len(STAGES)}, last {done[-1] if done else 'none'}"
        table.add_row(*map(_text, (path.parent.name, opened, far, owner)))
    console.print(table)
    releases(console, home)


def releases(console: Console, home: Path) -> None:
    """Everything that was published or gone back to, and what readers see."""
    current, book = warehouse.current(home), warehouse.history(home)
    shown_last = max((n for n, record in enumerate(book) if record["release"] == current), default=None)
    table = Table("when", "what", "release", "replaced", "who", "why", title="Releases")
    for n, record in enumerate(book):
        told = [str(record["at"])[:16], record["action"], record["release"]]
        told += [record.get(name) or "" for name in ("replaced", "who", "why")]
        table.add_row(*map(_text, told), style="green" if n == shown_last else "")
    console.print(table)
    console.print(_text(f"Readers see: {current or 'nothing yet'}"))
    if (resolved := settings.load(home)).store.releases:
        house = mirror.of(home, resolved)
        console.print(_text(f"Readers of {house.pointer} see: {house.pointed().get('release', 'nothing yet')}"))


def books(console: Console, run: Run, arrived: dt.date | None = None) -> None:
    """Where every delivered row went, by table and rule; raises NightshelfError for a day without rows."""
    records = pd.DataFrame(json.loads(run.of("clean", "books.json").read_text()))
    records = records if arrived is None else records[records["arrival_date"] == str(arrived)]
    if not len(records):
        raise NightshelfError(f"{run.run_id} has nothing that arrived on {arrived}. `nightshelf status` lists runs.")
    table = Table("table", "rule", "rows", "example", title=f"Every row that {run.run_id} has read")
    for name, rows in records.groupby("table_name", sort=False):
        rules = rows.groupby("rule").agg(count=("count_rows", "sum"), example=("example", "first"))
        for rule, count, example in rules.sort_values("count", ascending=False).itertuples():
            table.add_row(str(name), str(rule), f"{count:,}", _text((example or "")[:EXAMPLE_CHARS]))
        table.add_row(str(name), "all", f"{rules['count'].sum():,}", "", style="bold", end_section=True)
    console.print(table)


def late(console: Console, run: Run, arrived: dt.date | None = None) -> None:
    """Events that came too late to be let in, by the day on which they happened, and what would let them in."""
    told = [row for row in profiles.arrivals(profiles.of(run, "events")) if row["count_too_late"]]
    told = [row for row in told if arrived in (None, row["arrival_date"])]
    if not told:
        console.print(_text(f"Nothing came too late, as {run.run_id} found."), soft_wrap=True)
        return
    table = Table("event day", "arrived", "events too late", title=f"Too late, as {run.run_id} found")
    for row in sorted(told, key=lambda row: (row["event_date"], row["arrival_date"])):
        table.add_row(str(row["event_date"]), str(row["arrival_date"]), f"{row['count_too_late']:,}")
    console.print(table)
    for day in sorted({row["arrival_date"] for row in told}):
        console.print(f"nightshelf quarantine replay --table events --rule too_late --arrived {day}", soft_wrap=True)


def _ask(console: Console, connection: duckdb.DuckDBPyConnection, sql: str, title: str) -> pd.DataFrame:
    """Run and print a query: title, SQL, rows."""
    found = connection.execute(sql).df()
    console.rule(_text(title, style="bold"), align="left")
    console.print(Syntax(textwrap.dedent(sql).strip(), "sql", background_color="default", word_wrap=True))
    table = Table(*found.columns, header_style="bold", box=None, pad_edge=False)
    for row in found.itertuples(index=False):
        table.add_row(*[_text("" if pd.isna(value) else _word(value)) for value in row])
    console.print(table)
    console.print()
    return found


def _text(value: object, style: str = "") -> Text:
    """What somebody chose, a title or a reason, without markup, and without what acts on a terminal."""
    return Text(shown(value), style=style)


def _word(value: object) -> str:
    if isinstance(value, pd.Timestamp):
        return str(value.date())
    if isinstance(value, float) and value.is_integer() and abs(value) >= 1:
        return str(int(value))
    return str(value)


def _first(connection: duckdb.DuckDBPyConnection, sql: str) -> str | None:
    row = connection.execute(sql).fetchone()
    return row[0] if row else None


def _quoted(text: str) -> str:
    """Text as SQL; characters that would act on a terminal by their numbers, so that what is printed is what ran."""
    parts: list[str] = []
    for is_plain, run in groupby(text, str.isprintable):
        told = "".join(run).replace("'", "''")
        parts += [f"'{told}'"] if is_plain else [f"chr({ord(c)})" for c in told]
    return " || ".join(parts) or "''"
