"""Why: the story of one row of a shelf, and the first stage that kept an item off it, read from the release alone."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.text import Text

from pipelines import warehouse
from pipelines.audit import verdicts
from pipelines.errors import BadSetting, NothingPublished
from pipelines.raw.files import shown
from pipelines.reasons import REASONS
from pipelines.settings import PLACEMENTS

READS = (*verdicts.READS, "candidate_audit", "runs")
ROW = """
    select r.*, i.title, e.title as evidence_title
    from user_recommendations as r
    join items as i using (item_id)
    left join items as e on e.item_id = r.evidence_item_id
    where r.placement = $placement and r.user_id = $user_id and r.item_id = $item_id
"""
CANDIDATE = """
    select user_candidates.*, title
    from user_candidates
    join items using (item_id)
    where placement = $placement and user_id = $user_id and item_id = $item_id
"""
BETTER = """
    with candidate as (
        select rank from user_candidates
        where placement = $placement and user_id = $user_id and item_id = $item_id
    )
    select c.item_id, title, dropped_by
    from user_candidates as c
    join items using (item_id)
    where placement = $placement and user_id = $user_id and c.rank < (select rank from candidate)
    order by c.rank
"""
KEPT = """
    select count(*) as count_rows, min(score) as last_score
    from user_candidates
    where placement = $placement and user_id = $user_id
"""
LAST = """
    with candidates as (
        select item_id, rank from user_candidates where placement = $placement and user_id = $user_id
    )
    select shelf.*, title, (
        select count(*) from user_recommendations where placement = $placement and user_id = $user_id
    ) as count_rows
    from user_recommendations as shelf
    join items using (item_id)
    join candidates using (item_id)
    where
        placement = $placement
        and user_id = $user_id
        and fallback is null
        and rule_id is null
        and candidates.rank < (select rank from candidates where item_id = $item_id)
    order by shelf.rank desc
    limit 1
"""
HISTORY = "select * from user_history where user_id = $user_id and item_id = $item_id"
USERS = "(select distinct user_id from user_recommendations union select distinct user_id from user_history)"
PROMISES = {
    "already_bought": "what the user never bought",
    "never_bought": "what the user bought",
    "not_asked_for": "what the settings ask for",
}
CAUSES = {
    "not_available": "not_available: it cannot be bought",
    "variant": "variant: another one of its parent stands there",
    "diversity": "diversity: it is too like what stands above it",
}
ASK = "A row of `audit.csv` has the next night find out."
NAMED = 5  # items that a line names before it only counts


@dataclass(frozen=True)
class Asked:
    """A place on a shelf that somebody asks about."""

    user_id: str
    item_id: str
    placement: str = "for_you"


@dataclass(frozen=True)
class Verdict:
    """The first stage that kept the item off the shelf, empty when it stands there, and what it has to say."""

    stage: str
    told: str


Line = tuple[str, str]  # what it is about, and what is to be said


def why(console: Console, home: Path, asked: Asked) -> None:
    """Print the story of a row; of an item that is not on the shelf, who can tell more; of a user or an item that does
    not exist, the nearest."""
    with _release(home, asked) as release:
        lines = story(release, asked)
        if not lines and (unknown := _unknown_user(release, asked) or _unknown_item(release, asked)):
            lines = [("", unknown.told)]
        elif not lines:
            told = f"{asked.item_id} does not stand on the shelf {asked.placement} of {asked.user_id}."
            lines = [("", told), ("", "`nightshelf why-not`, asked the same, names the stage that dropped it.")]
        _print(console, [*lines, *_source(release, home)])


def why_not(console: Console, home: Path, asked: Asked) -> None:
    """Print which stage kept an item off a shelf, and by how much."""
    with _release(home, asked) as release:
        found = verdict(release, asked)
        _print(console, [(found.stage or "on the shelf", found.told), *_source(release, home)])


def story(release: duckdb.DuckDBPyConnection, asked: Asked) -> list[Line]:
    """What the release tells of a row, from rank back to events; nothing when the item is not on the shelf."""
    row = _one(release, ROW, asked)
    if row is None:
        return []
    lines = [
        ("item", _named(row["item_id"], row["title"])),
        ("shelf", f"{asked.placement} of {asked.user_id}, rank {row['rank']}, score {row['score']:.4f}"),
        *_parts(row),
        ("reason", f"{row['reason']}: {REASONS[row['reason']]}"),
    ]
    if row["evidence_item_id"] is not None:
        evidence = Asked(asked.user_id, row["evidence_item_id"])
        lines += [
            ("evidence", _named(row["evidence_item_id"], row["evidence_title"])),
            ("", f"The user: {did(_one(release, HISTORY, evidence))}."),
        ]
    if row["evidence_query"] is not None:
        days = _setting(release, "fuse", "query_days")
        lines.append(("evidence", f"The user typed “{row['evidence_query']}” in the last {days} days."))
    lines.append(("the item itself", f"The user: {did(_one(release, HISTORY, asked))}."))
    return [*lines, *_rise(release, asked, row)]


def verdict(release: duckdb.DuckDBPyConnection, asked: Asked) -> Verdict:
    """Walk the stages in their order up to the first that dropped the item."""
    return _unknown_user(release, asked) or _unknown_item(release, asked) or _told(release, asked)


def did(history: dict[str, Any] | None) -> str:
    """What a user did with an item, and when."""
    if history is None:
        return "never met it"
    counts = (("viewed", "count_views"), ("put into the cart", "count_carts"), ("bought", "count_purchases"))
    acts = [f"{verb} {history[name]}×" for verb, name in counts if history[name] > 0]
    told = ", ".join(acts) or "brought all of it back"
    first, last, bought = (history[name] for name in ("first_event_date", "last_event_date", "last_purchase_date"))
    when = f"on {first}" if first == last else f"from {first} to {last}"
    return f"{told}, {when}" + (f", last bought on {bought}" if bought else "")


def _parts(row: dict[str, Any]) -> Iterator[Line]:
    """What each part of the score says for the item (+) or against it (-), loudest first."""
    names = [name for name in row if name.endswith("_score")]
    for place, name in enumerate(sorted(names, key=lambda name: -row[name])):
        yield "parts" if not place else "", f"{row[name]:+.4f} {name.removesuffix('_score')}"


def _rise(release: duckdb.DuckDBPyConnection, asked: Asked, row: dict[str, Any]) -> Iterator[Line]:
    """From the place among the candidates to the place on the shelf."""
    candidate = _one(release, CANDIDATE, asked)
    if row["rule_id"] is not None:
        yield "rule", _rule(release, row["rule_id"])
    if row.get("propensity", 1.0) < 1:  # an earlier version of the table had no such column
        yield "drawn", f"by chance among what could stand there, with a probability of {row['propensity']:.4f}"
    if candidate is None:
        if row["fallback"] != "rules":
            yield "candidate", f"none: {row['fallback']} filled what the user's own candidates left of the shelf"
        return
    yield "candidate", f"rank {candidate['rank']} of {_one(release, KEPT, asked)['count_rows']} that the ranking kept"
    gone = [one for one in _all(release, BETTER, asked) if one["dropped_by"] is not None]
    if gone:
        names = "; ".join(f"{_named(one['item_id'], one['title'])}, {one['dropped_by']}" for one in gone[:NAMED])
        more = f"; and {len(gone) - NAMED} more" if len(gone) > NAMED else ""
        yield "", f"{len(gone)} better were dropped: {names}{more}"
    like = _shelves(release)[asked.placement]
    column = "fusion" if like == "for_you" else f"fusion_{like}"
    yield "ranked by", _one(release, f"select {column} from runs")[column]


def _unknown_user(release: duckdb.DuckDBPyConnection, asked: Asked) -> Verdict | None:
    if _all(release, f"select 1 from {USERS} where user_id = $user_id limit 1", asked):
        return None
    near = _nearest(release, f"select user_id as id from {USERS}", asked.user_id)
    return Verdict("clean", f"No true row names the user {asked.user_id}. The nearest: {near}.")


def _unknown_item(release: duckdb.DuckDBPyConnection, asked: Asked) -> Verdict | None:
    if _all(release, "select 1 from items where item_id = $item_id", asked):
        return None
    near = _nearest(release, "select item_id as id from items", asked.item_id)
    return Verdict("clean", f"The catalogue has no item {asked.item_id}. The nearest: {near}.")


def _told(release: duckdb.DuckDBPyConnection, asked: Asked) -> Verdict:
    """The verdict as `candidate_audit` has it, in words."""
    found = verdicts.of_one(release, *_place(release, asked), _setting(release, "fuse", "depth"))
    return Verdict(_stage(found), WORDS[found["verdict"]](release, asked, found))


def _place(release: duckdb.DuckDBPyConnection, asked: Asked) -> tuple[str, str, str, str]:
    return asked.placement, _shelves(release)[asked.placement], asked.user_id, asked.item_id


def _stage(found: dict[str, Any]) -> str:
    if found["verdict"] == "shown":
        return ""
    if found["verdict"] in PROMISES:
        return "placement"
    is_late = found["candidate_rank"] is not None or found["verdict"] in ("not_available", "rule")
    return "shelve" if is_late else "fuse"


def _stands(release: duckdb.DuckDBPyConnection, asked: Asked, found: dict[str, Any]) -> str:
    return f"It does stand there, at rank {found['shelf_rank']}. `nightshelf why`, asked the same, tells how."


def _promised(release: duckdb.DuckDBPyConnection, asked: Asked, found: dict[str, Any]) -> str:
    what = PROMISES[found["verdict"]]
    if found["verdict"] == "not_asked_for":
        return f"{asked.placement} shows {what}: {_asks(release, asked)}."
    return f"{asked.placement} shows {what}. This item: {did(_one(release, HISTORY, asked))}."


def _asks(release: duckdb.DuckDBPyConnection, asked: Asked) -> str:
    return json.dumps(_setting(release, "placements", asked.placement))


def _no_candidate(release: duckdb.DuckDBPyConnection, asked: Asked, found: dict[str, Any]) -> str:
    count = _setting(release, "fuse", "candidates")
    if found["best_source"] is not None:
        best = f"{found['best_source']} ranks it best, at {found['best_rank']}"
        return f"No source proposed it: {best}, and each proposes {count} (`fuse.candidates`)."
    kept = _one(release, KEPT, asked)["count_rows"]
    return (
        f"No source proposed it: the user has {kept} candidates that the ranking kept. `fuse.candidates` lets each "
        "source propose more."
    )


def _not_kept(release: duckdb.DuckDBPyConnection, asked: Asked, found: dict[str, Any]) -> str:
    if asked.placement not in PLACEMENTS:
        asks = _asks(release, asked)
        return f"It is not what `placements.{asked.placement}` asks for, or no candidate: {asks}. {ASK}"
    no_source = "no source proposed it (`fuse.candidates`), or it scored less (`fuse.depth`)"
    return f"{_not_among_the_best(release, asked)}: {no_source}. {ASK}"


def _not_among_the_best(release: duckdb.DuckDBPyConnection, asked: Asked) -> str:
    depth, last = _setting(release, "fuse", "depth"), _one(release, KEPT, asked)["last_score"]
    return f"It is not among the best {depth} of the user, the last of which has score {last:.4f}"


def _outranked(release: duckdb.DuckDBPyConnection, asked: Asked, found: dict[str, Any]) -> str:
    if found["candidate_rank"] is None:
        by = f"{found['best_source']} ranks it {found['best_rank']}" if found["best_source"] else "the user bought it"
        return f"{_not_among_the_best(release, asked)}: it is a candidate ({by}), and scored less (`fuse.depth`)."
    return _below(release, asked, found)


def _dropped(release: duckdb.DuckDBPyConnection, asked: Asked, found: dict[str, Any]) -> str:
    """What the list builder did with an item, and, of a candidate, where that left a place."""
    told = CAUSES.get(found["verdict"]) or f"Rule {_rule(release, found['rule_id'])}"
    if found["other_item_id"] is not None:
        other = _one(release, ROW, replace(asked, item_id=found["other_item_id"]))
        told = f"{told}: {_named(other['item_id'], other['title'])} at rank {other['rank']}"
    if found["candidate_rank"] is None:
        return f"{told}. It is none of the candidates that the ranking kept."
    return (
        f"{told}. Among the candidates it has rank {found['candidate_rank']} and score {found['score']:.4f}; it would "
        f"stand at rank {found['shelf_rank']}."
    )


def _rule(release: duckdb.DuckDBPyConnection, rule_id: str) -> str:
    """A rule as its owner told it."""
    rule = release.execute("select action, owner, reason from rules where rule_id = ?", [rule_id]).fetchone()
    return f"{rule_id} ({rule[0]}, {rule[1]}: {rule[2]})" if rule else rule_id


def _below(release: duckdb.DuckDBPyConnection, asked: Asked, found: dict[str, Any]) -> str:
    candidate, last = _one(release, CANDIDATE, asked), _one(release, LAST, asked)
    if last is None:
        return f"The shelf ends before it (candidate {candidate['rank']}): rules fill all of it."
    return (
        f"The shelf ends before it: it would stand at rank {found['shelf_rank']} (candidate {candidate['rank']}), "
        f"and the shelf has {last['count_rows']}; {found['count_better']} better ones stand or wait. Its score "
        f"{candidate['score']:.4f} is {last['score'] - candidate['score']:.4f} less than the {last['score']:.4f} of "
        f"the last row that the ranking put, {_named(last['item_id'], last['title'])}. {_missing(candidate, last)}"
    )


def _missing(candidate: dict[str, Any], last: dict[str, Any]) -> str:
    """The part of the score that the candidate lacks most beside the last row of the shelf."""
    lead = {name: last[name] - told for name, told in candidate.items() if name.endswith("_score") and told is not None}
    if not lead:
        return "It lies too deep for its parts: they are told of the rows next below a shelf."
    most = max(lead, key=lambda name: lead[name])
    return f"It lacks most in {most.removesuffix('_score')}: {candidate[most]:+.4f} here, {last[most]:+.4f} there."


WORDS: dict[str, Callable[[duckdb.DuckDBPyConnection, Asked, dict[str, Any]], str]] = {
    "shown": _stands,
    **dict.fromkeys(PROMISES, _promised),
    "no_candidate": _no_candidate,
    verdicts.UNDECIDED: _not_kept,
    "outranked": _outranked,
    **dict.fromkeys((*CAUSES, "rule", "cap"), _dropped),
}


def _shelves(release: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """By placement of the release, the one of every shop that it is like."""
    own = json.loads(_one(release, "select settings from runs")["settings"]).get("placements", {})
    return {name: name for name in PLACEMENTS} | {name: told["ranking"] for name, told in own.items()}


def _setting(release: duckdb.DuckDBPyConnection, section: str, name: str) -> Any:
    return json.loads(_one(release, "select settings from runs")["settings"])[section][name]


def _source(release: duckdb.DuckDBPyConnection, home: Path) -> Iterator[Line]:
    made = _one(release, "select run_id, run_date from runs")
    yield "made by", f"{made['run_id']}, which saw the days up to {made['run_date']}"
    yield "release", str(warehouse.current(home))


@contextmanager
def _release(home: Path, asked: Asked) -> Iterator[duckdb.DuckDBPyConnection]:
    """The current release; raises NothingPublished when it is older than what is read, BadSetting for no placement."""
    with warehouse.connect(home) as release:
        there = warehouse.names(release)
        if missing := [name for name in READS if name not in there]:
            raise NothingPublished(
                f"The current release has no {' and no '.join(missing)}: an earlier version made it. Publish a night "
                "first: `nightshelf night`."
            )
        if asked.placement not in (shelves := _shelves(release)):
            raise BadSetting(f"There is no placement {asked.placement!r}. Take one of: {', '.join(shelves)}.")
        yield release


def _nearest(release: duckdb.DuckDBPyConnection, ids: str, wanted: str) -> str:
    near = release.execute(f"select id from ({ids}) order by levenshtein(id, ?), id limit 3", [wanted]).fetchall()
    return ", ".join(one for (one,) in near)


def _all(release: duckdb.DuckDBPyConnection, query: str, asked: Asked | None = None) -> list[dict[str, Any]]:
    values = {name: value for name, value in vars(asked).items() if f"${name}" in query} if asked else {}
    found = release.execute(query, values)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _one(release: duckdb.DuckDBPyConnection, query: str, asked: Asked | None = None) -> Any:
    """The first row by column, or None."""
    return next(iter(_all(release, query, asked)), None)


def _named(item_id: str, title: str) -> str:
    return f"{title} ({item_id})"


def _print(console: Console, lines: list[Line]) -> None:
    """Titles and ids are somebody's, not markup."""
    for about, told in lines:
        console.print(Text.assemble((f"{about:<17}", "bold"), shown(told)), soft_wrap=True)
