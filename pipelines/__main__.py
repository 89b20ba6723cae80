"""The command line: every stage is a verb on a run, and the night is all of them in order."""

import datetime as dt
import functools
import getpass
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.table import Table
from rich.text import Text

from pipelines import markets, shortages
from pipelines import night as whole_night
from pipelines.errors import BadInput, BadSetting, NightshelfError
from pipelines.open import open_run
from pipelines.publish import let_out
from pipelines.raw.files import shown
from pipelines.run import Override, Run, home, release_lease, take_lease

CONSOLE = Console()
MARKET = "NIGHTSHELF_MARKET"
STAGE_HELP = {
    "clean": "Decide which raw rows are true; quarantine the others with their rule.",
    "admit": "Hold what arrived against the days before.",
    "build": "Turn the lake into marts with dbt, under contracts and tests.",
    "train_als": "Train collaborative filtering.",
    "train_neighbours": "Learn which items stand beside each other in histories.",
    "train_profile": "Train the Transformer item profile and the attention over histories.",
    "fuse": "Propose candidates from every source and rank them by what earlier windows teach.",
    "shelve": "Build the finished lists.",
    "search": "Answer the queries that people typed.",
    "validate": "Hold tonight's tables against their contract and the gates.",
    "report": "Write the page about the night.",
}

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="""Every night, a shop's raw events become search and recommendation tables, each row with its reason.

Everything lies under `NIGHTSHELF_HOME` (default: `data/` in the project): `raw/` what the shop delivers, `lake/` what
is true of it, `runs/` the nights, `warehouse/current.duckdb` what readers see. Settings come from `nightshelf.toml`
there, then `NIGHTSHELF_<SECTION>__<NAME>`, then `--set section.name=value`. Markets are homes under `markets/`.

**A first night:** `nightshelf generate`, `nightshelf night --day 2026-03-01`, `nightshelf show demo`.""",
)
warehouser = typer.Typer(no_args_is_help=True, help="The database that readers read.")
storer = typer.Typer(no_args_is_help=True, help="Object stores that follow this home: releases, lake.")
importer = typer.Typer(no_args_is_help=True, help="Lay a known data set out as raw files.")
shower = typer.Typer(no_args_is_help=True, help="Look into the current release; prints the SQL it runs.")
ruler = typer.Typer(no_args_is_help=True, help="What merchandisers ask of the lists: the files under `rules/`.")
quarantiner = typer.Typer(no_args_is_help=True, help="Look at rejected rows, correct them, and let them in.")
app.add_typer(importer, name="import", rich_help_panel="Input")
app.add_typer(quarantiner, name="quarantine", rich_help_panel="Input")
app.add_typer(ruler, name="rules", rich_help_panel="Input")
app.add_typer(warehouser, name="warehouse", rich_help_panel="The night")
app.add_typer(storer, name="store", rich_help_panel="The night")
app.add_typer(shower, name="show", rich_help_panel="Reading")

Day = Annotated[str | None, typer.Option(help="Last day of data the run may see, YYYY-MM-DD. Default: yesterday.")]
Label = Annotated[str, typer.Option(help="What the run is for; part of its id.")]
UserId = Annotated[str, typer.Argument(help="A user, as the tables have it or as the shop does.")]
ItemId = Annotated[str, typer.Argument(help="An item, as the tables have it.")]
Placement = Annotated[str, typer.Option(help="Shelf: for_you, discover, buy_again, or one of the settings.")]
RunId = Annotated[str | None, typer.Option("--run", help="A run. Default: the newest that was cleaned.")]
RawTable = Annotated[str | None, typer.Option("--table", help="events, items or users.")]
Rule = Annotated[str | None, typer.Option(help="The rule that rejected the rows; docs/input.md lists them.")]
Arrived = Annotated[str | None, typer.Option(help="Day on which the rows arrived, YYYY-MM-DD.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Rows at most. Default: 20 on the screen, all into a file.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="A setting for this run: section.name=value. Repeatable.")]
AdmitAnyway = Annotated[str | None, typer.Option(help="Reason to go on past a stop of `admit`; kept with the night.")]
StartAnyway = Annotated[
    str | None, typer.Option(help="Reason to start where there seems to be no room; kept with the night.")
]


@app.callback()
def _in_market(
    context: typer.Context,
    market: Annotated[
        str | None,
        typer.Option(
            envvar=MARKET, help="One of the folders under `markets/`. Default where there are some: all, or an error."
        ),
    ] = None,
) -> None:
    if market:
        context.with_resource(_chosen(market))


@contextmanager
def _chosen(market: str) -> Iterator[None]:
    """Have everything that is done meanwhile be of a market, also by processes that are started."""
    before = os.environ.get(MARKET, "")
    os.environ[MARKET] = market
    try:
        yield
    finally:
        os.environ[MARKET] = before


def in_each_market(verb: Callable[..., None]) -> Callable[..., None]:
    """Where there are markets and none is chosen, have the verb done in each of them, as it was asked for."""

    @functools.wraps(verb)
    def perform(**asked: Any) -> None:
        root = markets.root()
        if markets.names(root) and not os.environ.get(MARKET):
            markets.each(root, sys.argv[1:])
        else:
            verb(**asked)

    return perform


@app.command(rich_help_panel="The night")
@in_each_market
def night(
    day: Day = None,
    label: Label = "nightly",
    set_: Set = None,
    publish: Annotated[bool, typer.Option(help="Move the current release at the end.")] = True,
    admit_anyway: AdmitAnyway = None,
    start_anyway: StartAnyway = None,
) -> None:
    """Run the whole night: open, every stage, report."""
    run = whole_night.run(
        day=_day(day),
        label=label,
        overrides=_overrides(set_),
        publish=publish,
        admit_anyway=_leave(admit_anyway),
        start_anyway=_leave(start_anyway),
    )
    _print(f"{run.run_id} is done.", f"Report: {run.folder / 'report' / 'report.html'}")


@app.command(rich_help_panel="The night")
@in_each_market
def plan(day: Day = None, label: Label = "nightly", set_: Set = None) -> None:
    """Foretell what a night takes of time, memory and disk, beside the last one, and whether it has room here."""
    from pipelines import settings
    from pipelines.open import described
    from pipelines.plan import telling

    root = home()
    told, last = settings.load(root, _overrides(set_)), _day(day) or _last_delivered(root)
    telling.tell(CONSOLE, described(root, told, last, label, dt.datetime.now(dt.UTC)))


@app.command(rich_help_panel="The night")
@in_each_market
def backfill(
    days: Annotated[list[str], typer.Argument(help="Days, YYYY-MM-DD, or spans of them, YYYY-MM-DD..YYYY-MM-DD.")],
    promote: Annotated[bool, typer.Option("--promote", help="Publish days that readers may see.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done, and open no run.")] = False,
    set_: Set = None,
    admit_anyway: AdmitAnyway = None,
    start_anyway: StartAnyway = None,
) -> None:
    """Build days again, each in a run of its own that sees nothing later; days that are done are passed over."""
    from pipelines import backfill as filling

    overrides = _overrides(set_)
    planned = filling.plan(filling.days(days), overrides, promote)
    table = Table("day", "done", "published")
    for one in planned:
        table.add_row(str(one.day), "yes" if one.is_done else "", "yes" if one.publishes else "")
    CONSOLE.print(table)
    if not dry_run:
        filling.perform_all(planned, overrides, admit_anyway=_leave(admit_anyway), start_anyway=_leave(start_anyway))
        _print("Built:", ", ".join(str(one.day) for one in planned if not one.is_done) or "nothing, all was done.")


@app.command(rich_help_panel="The night")
@in_each_market
def rescore(
    run_id: Annotated[
        str | None, typer.Option("--run", help="Run whose models serve. Default: the one behind the current release.")
    ] = None,
    label: Label = "rescore",
    set_: Set = None,
    publish: Annotated[bool, typer.Option(help="Move the current release at the end.")] = True,
) -> None:
    """Make the lists anew from today's stock and rules, by models that are there: nothing is trained."""
    from pipelines import rescore as scoring

    run = scoring.perform(run_id=run_id, label=label, overrides=_overrides(set_), publish=publish)
    _print(f"{run.run_id} is done", f"by the models of {run.models_of}.")


@app.command("open", rich_help_panel="The night")
def open_(
    day: Day = None,
    label: Label = "nightly",
    set_: Set = None,
    admit_anyway: AdmitAnyway = None,
    start_anyway: StartAnyway = None,
) -> None:
    """Open a run and print its id; then perform its stages one by one."""
    owner = _owner()
    run = open_run(
        owner=owner,
        day=_day(day),
        label=label,
        overrides=_overrides(set_),
        fired_at=dt.datetime.now(dt.UTC),
        admit_anyway=_leave(admit_anyway),
        start_anyway=_leave(start_anyway),
    )
    release_lease(run.home, run.run_id, owner)
    print(run.run_id)


def _stage_command(stage: str):
    def perform(run_id: Annotated[str, typer.Argument(help="A run, as `nightshelf open` printed it.")]) -> None:
        _perform(stage, run_id)

    perform.__doc__ = STAGE_HELP[stage]
    return perform


for _stage in whole_night.STAGES:
    if _stage not in ("publish", "search"):  # verbs that people use too, see below
        app.command(_stage, rich_help_panel="Stages of a run")(_stage_command(_stage))


@app.command(rich_help_panel="Stages of a run")
def publish(
    run_id: Annotated[str, typer.Argument(help="A run that the gate let through.")],
    why: Annotated[
        str | None, typer.Option(help="Reason to publish what a gate asks about, or readers were taken back from.")
    ] = None,
) -> None:
    """Bring the release in and move the pointer to it."""
    if leave := _leave(why):
        let_out(Run.load(run_id), leave)
    _perform("publish", run_id)


@app.command(rich_help_panel="The night")
def compare(
    run_id: Annotated[str, typer.Argument(help="A run that has been fused.")],
    other: Annotated[str | None, typer.Argument(help="Another. Default: the one behind the current release.")] = None,
) -> None:
    """Hold the lists of two runs against each other, on the same held-out days and users."""
    from pipelines import compare as comparing

    run = Run.load(run_id)
    beside = Run.load(other) if other else comparing.current(home())
    CONSOLE.print(comparing.table(comparing.compare(run, beside), run, beside))


@app.command(rich_help_panel="The night")
def tune(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to search.")] = 10.0,
    run_id: Annotated[str | None, typer.Option("--run", help="A run. Default: the newest that was built.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print what was found, and write nothing.")] = False,
) -> None:
    """Search ALS settings on earlier days; what is better beyond chance goes into `nightshelf.toml`."""
    from pipelines import tune as tuning

    run = Run.load(run_id) if run_id else Run.newest(home(), "build")
    found = tuning.tune(run, minutes)
    CONSOLE.print(tuning.table(found))
    if not found.is_better:
        _print("Nothing is written:", "what was found is not better beyond chance on days outside the search.")
    elif dry_run:
        _print("Nothing is written:", "a dry run.")
    else:
        _print("Written into", f"{tuning.write(found.found, run.home)}. The next night reads it.")


@app.command(rich_help_panel="Input")
def generate(
    users: Annotated[int, typer.Option(min=100, help="Users.")] = 2000,
    items: Annotated[int, typer.Option(min=20, help="Items.")] = 600,
    days: Annotated[int, typer.Option(min=7, help="Days of history.")] = 90,
    last_day: Annotated[str, typer.Option(help="Last day, YYYY-MM-DD.")] = "2026-03-01",
    seed: Annotated[int, typer.Option(help="Same seed, same shop.")] = 17,
    currency: Annotated[str, typer.Option(help="ISO 4217 code of its prices.")] = "EUR",
) -> None:
    """Make a shop whose truth is known: tastes, habits, searches, and planted dirt."""
    from pipelines.generate import generate as make

    size = {"users": users, "items": items, "days": days}
    made = make(home(is_new=True), **size, last_day=_date(last_day), seed=seed, currency=currency)
    _print_counts("generated", made)


@importer.command("online-retail")
def import_online_retail(
    file: Annotated[Path, typer.Argument(help="The UCI table as .parquet, .csv or .xlsx.")],
) -> None:
    """UCI *Online Retail*: purchases, returns, and a catalogue from the descriptions."""
    from pipelines.online_retail import import_online_retail as lay_out

    _print_counts("imported", lay_out(file, home(is_new=True)))


@importer.command("icecat")
def import_icecat(
    directory: Annotated[Path, typer.Argument(help="Folder with the zipped JSON parts and queries.txt.")],
    day: Annotated[str, typer.Option(help="Day on which each query is searched once, YYYY-MM-DD.")] = "2026-03-01",
) -> None:
    """The Icecat electronics catalogue with its list of queries."""
    from pipelines.icecat import import_icecat as lay_out

    _print_counts("imported", lay_out(directory, home(is_new=True), _date(day)))


@app.command(rich_help_panel="Input")
@in_each_market
def check(day: Day = None) -> None:
    """Say what is missing or wrong in the raw files, before anything is written."""
    from pipelines import check as checks
    from pipelines import gaps, raw, rules, settings
    from pipelines.contracts import raw_tables

    root = home()
    last = _day(day) or _last_delivered(root)
    told = settings.load(root)
    files = checks.inputs(root, told, last)
    rules.read(root, told.shelves)
    if wrong := checks.unreadable(root, told, files):
        raise BadInput("\n".join(map(str, wrong)))
    counts = {name: sum(file.count_rows for file in files if file.table == name) for name in raw_tables()}
    _print_counts(f"ready for a night of {last}", counts)
    if missing := gaps.recent(raw.days(root, "events"), last):
        CONSOLE.print(f"[yellow]expected and not delivered:[/] {', '.join(map(str, missing))}", soft_wrap=True)


@app.command(rich_help_panel="Input")
def late(
    day: Annotated[str | None, typer.Option(help="Only what arrived on this day, YYYY-MM-DD.")] = None,
) -> None:
    """List the events that came too late to be let in, by the day on which they happened."""
    from pipelines import show

    show.late(CONSOLE, Run.newest(home(), "clean"), _day(day))


@app.command(rich_help_panel="Reading")
@in_each_market
def status() -> None:
    """Which runs there are, how far they came, and what readers see."""
    from pipelines import show

    show.status(CONSOLE, home())


@app.command(rich_help_panel="Reading")
def books(run: RunId = None, arrived: Arrived = None) -> None:
    """Say where every delivered row went: let in, or which rule it broke."""
    from pipelines import show

    show.books(CONSOLE, _cleaned(run), _day(arrived))


@app.command(rich_help_panel="Reading")
def why(user: UserId, item: ItemId, placement: Placement = "for_you") -> None:
    """Tell the whole story of a recommended item, from the user's events to its rank."""
    from pipelines import why as reading

    reading.why(CONSOLE, home(), reading.Asked(_named(user), item, placement))


@app.command(rich_help_panel="Reading")
def pseudonym(users: Annotated[list[str], typer.Argument(help="Users, as the shop has them.")]) -> None:
    """Say by which names the tables have users, where `clean.pseudonym_key` hides their ids."""
    for user in users:
        _print(user, _named(user))


@app.command("why-not", rich_help_panel="Reading")
def why_not(user: UserId, item: ItemId, placement: Placement = "for_you") -> None:
    """Name the first stage that kept an item off a user's shelf, and by how much."""
    from pipelines import why as reading

    reading.why_not(CONSOLE, home(), reading.Asked(_named(user), item, placement))


@app.command(rich_help_panel="Reading")
def audience(
    item: Annotated[str | None, typer.Option(help="Users among whose best candidates it is.")] = None,
    brand: Annotated[str | None, typer.Option(help="Users who lean to it.")] = None,
    category: Annotated[str | None, typer.Option(help="Users who lean to it.")] = None,
    win_back: Annotated[
        bool, typer.Option("--win-back", help="Users who stayed away twice their usual pause.")
    ] = False,
    due: Annotated[bool, typer.Option("--due", help="Users who need again what they usually buy.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write all of them there, as .csv or .parquet.")] = None,
) -> None:
    """List the users whom something is for and who may be written to, all of them."""
    from pipelines import audience as reading
    from pipelines import settings

    asked = {"item": item, "brand": brand, "category": category, "win_back": win_back, "due": due}
    chosen = [(kind, value) for kind, value in asked.items() if value]
    if len(chosen) != 1:
        raise BadSetting("Name one of --item, --brand, --category, --win-back and --due.")
    ((kind, value),) = chosen
    wanted = reading.Wanted(kind, value if isinstance(value, str) else None)
    reading.tell(CONSOLE, reading.read(home(), wanted, settings.load(home()).audiences), out)


@app.command(rich_help_panel="Reading")
def search(
    text: Annotated[str, typer.Argument(help="What somebody types; the id of a run performs its stage `search`.")],
    rows: Annotated[int, typer.Option(min=1, max=1000, help="Results at most.")] = 20,
    user: Annotated[str | None, typer.Option(help="In the order of this user.")] = None,
    explain: Annotated[bool, typer.Option(help="Say why the first ones were found.")] = False,
) -> None:
    """Answer any query from the current release: what its words, its meaning and earlier visitors find."""
    if (home() / "runs" / text / "run.json").is_file():
        _perform("search", text)
        return
    from pipelines.search.ask import ask

    ask(CONSOLE, home(), text, rows, explain, _named(user) if user else None)


@app.command(rich_help_panel="The night")
def answer(
    queries: Annotated[list[str], typer.Argument(help="Queries that nobody may have typed yet, each quoted.")],
) -> None:
    """Publish answers to further queries at once, and from now on every night."""
    from pipelines import asked, warehouse

    run, new = asked.answer(home(), queries, _owner())
    _print(f"{len(new)} answered:", ", ".join(new))
    _print("Readers see", f"{warehouse.current(home())}; each night answers them too (queries.csv). Run: {run.run_id}")


@app.command(rich_help_panel="Reading")
def settings() -> None:
    """Every setting with its default and what it means."""
    from pipelines.settings import names

    table = Table("setting", "default", "meaning")
    for name, (default, meaning) in names().items():
        table.add_row(name, json.dumps(default, default=str), meaning)
    CONSOLE.print(table)


@app.command(rich_help_panel="The night")
@in_each_market
def releases() -> None:
    """What was published and gone back to: when, what, who, why, and what it replaced."""
    from pipelines import show

    show.releases(CONSOLE, home())


@app.command(rich_help_panel="The night")
def rollback(
    why: Annotated[str, typer.Option(help="Reason, kept with the releases.")],
    to: Annotated[str | None, typer.Option(help="Release to show again. Default: the one before.")] = None,
) -> None:
    """Show readers an earlier release again, and bar the one that they leave."""
    from pipelines import warehouse

    _print(f"Readers see {warehouse.rollback(home(), to, why, getpass.getuser())} now.")


@app.command("hotfix-exclude", rich_help_panel="The night")
def hotfix_exclude(
    item: ItemId,
    why: Annotated[str, typer.Option(help="Reason, kept with the rule.")],
) -> None:
    """Take a recalled item out of every list that readers see, within minutes, and keep it out."""
    from pipelines import hotfix

    root = markets.root()
    if markets.names(root) and not os.environ.get(MARKET):
        markets.each(root, sys.argv[1:], hotfix.everywhere(root, item, why, getpass.getuser()))
        return
    run = hotfix.exclude(home(), item, why, getpass.getuser(), _owner(), dt.datetime.now(dt.UTC))
    _print(f"{item} is out of every list.", f"Run: {run.run_id}. The rule stays in {home() / 'rules' / hotfix.FILE}.")


@app.command(rich_help_panel="The night")
@in_each_market
def forget(
    users: Annotated[list[str], typer.Argument(help="Users, as the tables have them or as the shop does.")],
    why: Annotated[str, typer.Option(help="Reason, kept with the proof; without the users' names.")],
) -> None:
    """Take users out of everything that is kept, and keep them out of what is delivered later."""
    from pipelines import forget as forgetting

    proof = forgetting.forget(users, why, getpass.getuser())
    if proof is None:
        _print("Nothing to forget:", "there is nothing left of them.")
    else:
        _print_counts(f"forgot {proof['count_users']} users", proof["counts"])


@warehouser.command("init")
@in_each_market
def warehouse_init() -> None:
    """Make what a warehouse in PostgreSQL needs once, and grant the three roles their rights."""
    from pipelines import settings
    from pipelines.warehouse.postgres import Postgres

    house = Postgres(settings.load(home()).warehouse, markets.name(home()))
    house.init()
    house.ready()
    _print("Ready:", f"readers will find {house.where}.")


@storer.command("follow")
@in_each_market
def store_follow() -> None:
    """Have the object stores follow this home, after they could not."""
    from pipelines import offsite, settings
    from pipelines.warehouse import mirror

    root = home()
    told = settings.load(root)
    if told.store.releases:
        house = mirror.of(root, told)
        with house.locked():
            _print("Readers here see", house.current() or "nothing yet.")
        _print(f"Readers of {house.pointer} see", house.pointed().get("release", "nothing yet."))
    if told.store.lake:
        _print(f"{offsite.follow(root, told)} files of the lake are copied.")


@storer.command("restore")
@in_each_market
def store_restore() -> None:
    """Bring releases and lake of a home that has none back from the object stores."""
    from pipelines import offsite, settings
    from pipelines.warehouse import mirror

    root = home(is_new=True)
    told = settings.load(root)
    if told.store.lake:
        _print(f"{offsite.restore(root, told)} files of the lake are back.")
    if told.store.releases:
        house = mirror.of(root, told)
        _print(f"Readers see {house.restore()}.", f"Kept: {', '.join(house.kept())}")


@shower.command("user")
def show_user(user_id: str) -> None:
    """One user's shelves with their reasons."""
    from pipelines import show

    show.user(CONSOLE, home(), _named(user_id))


@shower.command("query")
def show_query(query: str) -> None:
    """The published results of one query."""
    from pipelines import show

    show.query(CONSOLE, home(), query)


@shower.command("demo")
def show_demo() -> None:
    """A tour of the current release: a shelf, a search, the figures, what was rejected."""
    from pipelines import show

    show.demo(CONSOLE, home())


@ruler.command("check")
@in_each_market
def rules_check() -> None:
    """Read all rules, say every mistake with its place, and warn of names that no item has."""
    from pipelines.rules import telling

    telling.check(CONSOLE, home(), dt.datetime.now(dt.UTC))


@ruler.command("list")
@in_each_market
def rules_list() -> None:
    """Every rule: whether it is in force today, and what it did in the current release."""
    from pipelines.rules import telling

    telling.list_(CONSOLE, home(), dt.datetime.now(dt.UTC))


@ruler.command("preview")
def rules_preview(
    file: Annotated[Path, typer.Argument(help="A draft, in the form of the rule files.", exists=True, dir_okay=False)],
    run_id: Annotated[str | None, typer.Option("--run", help="A run. Default: the newest with finished lists.")] = None,
) -> None:
    """Say what a draft would change, and what it would cost on held-out days; publishes nothing."""
    from pipelines.rules import telling

    telling.foretell(CONSOLE, Run.load(run_id) if run_id else Run.newest(home(), "shelve", "search"), file)


@quarantiner.command("list")
def quarantine_list(table: RawTable = None, rule: Rule = None, arrived: Arrived = None, run: RunId = None) -> None:
    """Count rejected rows by table, arrival day, rule and file, with an example."""
    from pipelines import quarantine

    quarantine.counts(CONSOLE, _cleaned(run), quarantine.Wanted(table, rule, _day(arrived)))


@quarantiner.command("show")
def quarantine_show(
    table: RawTable = None,
    rule: Rule = None,
    arrived: Arrived = None,
    run: RunId = None,
    limit: Limit = None,
    to: Annotated[Path | None, typer.Option(help="Write JSON lines there, to be corrected and replayed.")] = None,
) -> None:
    """Show rejected rows as they came, or write those that do not count yet for correction."""
    from pipelines import quarantine

    wanted = quarantine.Wanted(table, rule, _day(arrived))
    if to is None:
        quarantine.show(CONSOLE, _cleaned(run), wanted, limit)
        return
    count = quarantine.write(_cleaned(run), wanted, limit, to)
    _print(f"{count} rows written.", f"Correct them, then: nightshelf quarantine replay {to}")


@quarantiner.command("replay")
def quarantine_replay(
    file: Annotated[Path | None, typer.Argument(help="Corrected JSON lines, from `show --to`.")] = None,
    table: RawTable = None,
    rule: Rule = None,
    arrived: Arrived = None,
    run: RunId = None,
    day: Annotated[str | None, typer.Option(help="Arrival day. Default: the latest that the table has.")] = None,
) -> None:
    """Deliver corrected rows, or with --table and --rule rejected rows as they are; each counts once."""
    from pipelines import quarantine, raw, replay

    if (file is None) == (table is None or rule is None):
        raise BadSetting("Name a file of corrected rows, or --table and --rule of rows to replay as they are.")
    wanted = quarantine.Wanted(table, rule, _day(arrived))
    chosen = _cleaned(run)
    done = replay.corrected(chosen, file, _day(day)) if file else replay.as_they_are(chosen, wanted, _day(day))
    for one in done:
        _print(f"{one.count_rows} rows", f"{'are delivered' if one.is_new else 'were delivered before'} as {one.path}.")
    if done:
        last = max([*raw.days(chosen.home, "events"), *(one.day for one in done)])
        _print("Next:", f"nightshelf night --day {last}")
    else:
        _print("Nothing to replay:", "all such rows count already, or wait for the next night.")


def main() -> None:
    """Run the command line; what a person can act on is told in one message, without a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[RichHandler(show_path=False)])
    logging.getLogger("nightshelf").setLevel(logging.INFO)
    try:
        with shortages.of_verb(" ".join(["nightshelf", *sys.argv[1:2]]), markets.root()):
            app()
    except NightshelfError as error:
        lines = "\n".join(map(shown, str(error).split("\n")))  # the text may quote what files say
        told = Text.assemble((f"{type(error).__name__}: ", "red"), lines)
        Console(stderr=True, soft_wrap=True).print(told)
        sys.exit(1)


def _owner() -> str:
    return f"cli:{os.uname().nodename}:{os.getpid()}"


def _perform(stage: str, run_id: str) -> None:
    """One stage, while nobody else works on the run."""
    take_lease(home(), run_id, _owner(), dt.datetime.now(dt.UTC))
    try:
        whole_night.perform(stage, run_id)
    finally:
        release_lease(home(), run_id, _owner())


def _day(text: str | None) -> dt.date | None:
    return _date(text) if text else None


def _date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise BadSetting(f"{text!r} is no day. Write it as YYYY-MM-DD.") from None


def _last_delivered(root: Path) -> dt.date:
    """The last day of which events arrived; raises NightshelfError where there is none."""
    from pipelines import raw

    if days := raw.days(root, "events"):
        return max(days)
    raise NightshelfError(f"No raw/events/dt=YYYY-MM-DD folders under {root}. `nightshelf generate` makes a shop.")


def _cleaned(run_id: str | None) -> Run:
    return Run.load(run_id) if run_id else Run.newest(home(), "clean")


def _named(user: str) -> str:
    """The user as the tables have it."""
    from pipelines import pseudonyms, settings

    return pseudonyms.of(settings.load(home()).clean, user)


def _overrides(pairs: list[str] | None) -> dict[str, Any]:
    overrides = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals:
            raise BadSetting(f"--set {pair}: write it as section.name=value.")
        overrides[name] = value
    return overrides


def _leave(reason: str | None) -> Override | None:
    return None if reason is None else Override(reason, getpass.getuser())


def _print(done: str, more: str = "") -> None:
    """A line about what was done; the names in it are somebody's, not markup."""
    CONSOLE.print(Text.assemble((shown(done), "green"), " " * bool(more), shown(more)), soft_wrap=True)


def _print_counts(what: str, counts: dict[str, Any]) -> None:
    _print(f"{what}:", ", ".join(f"{value:,} {name}" for name, value in counts.items()))


if __name__ == "__main__":
    main()
