"""One whole night, timed, and its quality beside the baselines that a shop has in one line of SQL.

    python benchmarks/night.py --users 2000 --items 600 --days 90     # a generated shop
    python benchmarks/night.py --online-retail FILE --day 2011-11-11   # the UCI table
    python benchmarks/night.py --users 20000 --items 5000 --bot 1000000  # the same shop without and with one bot
    python benchmarks/night.py --rescore                               # then new stock and rules, without training
    python benchmarks/night.py --sizes 1000 10000 --plot night.svg    # how a night grows, and one day more
    python benchmarks/night.py --one-more-day --set holdout.keep_days=7  # the day after, by the proof of the night

Everything is printed in one run, from fresh homes in a temporary folder.
"""

import argparse
import datetime as dt
import tempfile
import time
from pathlib import Path

import duckdb
import growth
from rich.console import Console
from rich.table import Table

from pipelines import night, rescore, warehouse
from pipelines.costs import costs
from pipelines.generate import generate
from pipelines.run import Override, Run

QUALITY = """
    select split_part(metric, '/', 1) as placement, split_part(metric, '/', 2) as ranked_by, value, low, high
    from metrics
    where metric like '%/ndcg_at_10' and metric not like '%/loss_%'
    order by placement, value
"""
LOSSES = """
    select split_part(metric, '/', 1) as placement, split_part(metric, '/', 2) as ranked_by, value, low, high
    from metrics
    where metric like '%/loss_%'
    order by placement, value desc
"""

BOT = "the-bot"
FLAGGED = f"select rule, observed, bound from beset.bot_flags where visitor_id = '{BOT}' order by rule"
OVERLAP = f"""
    select placement, round(count(b.item_id) / count(*), 4) as share
    from alone.user_recommendations as a
    left join beset.user_recommendations as b using (placement, user_id, item_id)
    where user_id <> '{BOT}'
    group by placement
    order by placement
"""
WIDEST = 240  # characters of a line, for a file takes what a window would cut
COSTS = {"wall_seconds": 1, "cpu_seconds": 1, "peak_memory_mb": 0}  # and digits that mean something


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--users", type=int, default=2000)
    ask.add_argument("--items", type=int, default=600)
    ask.add_argument("--days", type=int, default=90)
    ask.add_argument("--online-retail", type=Path)
    ask.add_argument("--bot", type=int, metavar="EVENTS", help="views of one user on the last day, beside the others'")
    ask.add_argument("--rescore", action="store_true", help="rescore after the night, timed")
    ask.add_argument("--sizes", type=int, nargs="+", metavar="USERS", help="two shops or more, and one day more")
    ask.add_argument("--plot", type=Path, metavar="SVG", help="of --sizes: where each stage's CPU seconds are drawn")
    ask.add_argument("--one-more-day", action="store_true", help="a night and that of the day after, side by side")
    ask.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="of these two: settings of each night")
    ask.add_argument("--day", type=dt.date.fromisoformat, default=dt.date(2026, 3, 1))
    told = ask.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if told.sizes:
            print_growth(told, Path(folder))
            return
        if told.one_more_day:
            print_one_more_day(told, Path(folder))
            return
        home = Path(folder) / "shop"
        run = timed_night(told, home)
        print_quality(home)
        if told.rescore:
            timed_rescore(run)
        if told.bot:
            beset = timed_night(told, Path(folder) / "beset", told.bot)
            print_difference(run, beset)


def print_growth(told: argparse.Namespace, folder: Path) -> None:
    """All sizes in one table, and the next day's night on the largest shop."""
    found, next_day = [], told.day + dt.timedelta(days=1)
    for users in sorted(told.sizes):
        home = folder / str(users)
        generate(home, users=users, items=told.items, days=told.days + 1, last_day=next_day, seed=17)
        found.append(growth.performed(home, told.day, told.set))
    more = growth.performed(home, next_day, told.set)
    Console(width=WIDEST).print(growth.table(found, more))
    if told.plot:
        told.plot.write_text(growth.plot(found))


def print_one_more_day(told: argparse.Namespace, folder: Path) -> None:
    """Both nights of a generated shop, stage by stage."""
    next_day = told.day + dt.timedelta(days=1)
    generate(folder, users=told.users, items=told.items, days=told.days + 1, last_day=next_day, seed=17)
    Console(width=WIDEST).print(
        growth.beside(*(growth.performed(folder, day, told.set) for day in (told.day, next_day)))
    )


def timed_night(told: argparse.Namespace, home: Path, bot: int = 0) -> Run:
    lay_out(told, home)
    if bot:
        release_bot(home, told.day, bot)
    started = time.monotonic()
    run = night.run(day=told.day, home=home, admit_anyway=Override("the bot is meant", "benchmark") if bot else None)
    print_costs(run, time.monotonic() - started)
    return run


def timed_rescore(run: Run) -> None:
    """The same day once more by the same models, and what share of the night that is."""
    started = time.monotonic()
    again = rescore.perform(home=run.home)
    print_costs(again, time.monotonic() - started)
    for name in ("wall_seconds", "cpu_seconds"):
        less, more = (sum(cost[name] for cost in costs(one.folder).values()) for one in (again, run))
        print(f"{name} of the rescore over those of the night: {less:.1f} / {more:.1f} = {less / more:.2f}")


def lay_out(told: argparse.Namespace, home: Path) -> None:
    if told.online_retail:
        from pipelines.online_retail import import_online_retail

        print(import_online_retail(told.online_retail, home))
    else:
        print(generate(home, users=told.users, items=told.items, days=told.days, last_day=told.day, seed=17))


def release_bot(home: Path, day: dt.date, events: int) -> None:
    """One user who looks at every item in turn, from midnight to midnight."""
    with duckdb.connect() as connection:
        connection.execute(f"""
            copy (
                with items as (
                    select list(distinct item_id order by item_id) as ids from '{home}/raw/items/*/*.parquet'
                )
                select
                    'bot-' || range as event_id,
                    '{BOT}' as user_id,
                    'view' as event_type,
                    ids[range % len(ids) + 1] as item_id,
                    null::varchar as query,
                    1 as quantity,
                    null::bigint as price_cents,
                    null::varchar as session_id,
                    null::varchar as order_id,
                    timestamp '{day} 00:00:00' + to_microseconds(range * 79_200_000_000 // {events}) as occurred_at
                from items, range({events})
            ) to '{home}/raw/events/dt={day}/bot.parquet'
        """)


def print_difference(run: Run, beset: Run) -> None:
    """What the bot cost, and what it changed for everybody else."""
    alone, together = (sum(cost["cpu_seconds"] for cost in costs(one.folder).values()) for one in (run, beset))
    print(f"CPU seconds with the bot over those without: {together:.0f} / {alone:.0f} = {together / alone:.2f}")
    with duckdb.connect() as connection:
        for name, one in (("alone", run), ("beset", beset)):
            connection.execute(f"attach '{warehouse.of(one.home).where}' as {name} (read_only)")
        print("Flagged:", connection.execute(FLAGGED).fetchall())
        Console().print("Rows of the others' shelves that stand on both:", connection.execute(OVERLAP).fetchall())


def print_costs(run: Run, wall_seconds: float) -> None:
    """By stage; of cleaning, the peak is that of Spark's Java where that is the larger process."""
    table = Table("stage", "wall s", "CPU s", "peak MiB", title=f"{run.run_id}: {wall_seconds:.0f} s")
    spent = costs(run.folder)
    for stage in night.STAGES:
        table.add_row(stage, *(f"{spent[stage][name]:.{digits}f}" for name, digits in COSTS.items()))
    Console().print(table)


def print_quality(home: Path) -> None:
    with warehouse.connect(home) as release:
        print("for_you is ranked by", release.execute("select fusion from runs").fetchall()[0][0])
        for title, query in (
            ("Held-out days; fused is published", QUALITY),
            ("Lost without each part, and by the list builder", LOSSES),
        ):
            table = Table("placement", "ranked by", "NDCG@10", "95 % interval", title=title)
            for placement, ranked_by, value, low, high in release.execute(query).fetchall():
                table.add_row(placement, ranked_by, f"{value:.4f}", f"{low:.4f} to {high:.4f}")
            Console().print(table)


if __name__ == "__main__":
    main()
