"""Verdicts: the first thing that kept an item off a shelf, and by how much, in SQL over the published tables."""

from collections.abc import Mapping
from typing import Any

import duckdb

READS = ("user_recommendations", "user_candidates", "user_history", "items", "rules")
UNDECIDED = "not_kept"  # of a pair that no night was asked about: not proposed, or scored less
SOUGHT = """
    select
        placement,
        user_id,
        item_id,
        verdict <> 'not_asked_for' as is_asked_for,
        if(verdict = 'rule', rule_id, null) as barred_by,
        is_proposed,
        best_source,
        best_rank
    from candidate_audit
"""
ONE = "select $placement as placement, $promise as promise, $user_id as user_id, $item_id as item_id"
VERDICTS = """
with asked as ({pairs}),

candidates as (
    select
        placement,
        user_id,
        item_id,
        rank,
        score,
        dropped_by,
        dropped_by is null as stands,
        coalesce(dropped_by = 'length', true) as is_rival,
        count(*) filter (where dropped_by is null) over before as count_standing,
        count(*) filter (where coalesce(dropped_by = 'length', true)) over before as count_better
    from {user_candidates}
    where user_id in (select user_id from asked)
    window before as (
        partition by placement, user_id order by rank rows between unbounded preceding and 1 preceding
    )
),

kept as (
    select placement, user_id, count(*) as count_rows, count(*) filter (where is_rival) as count_rivals
    from candidates
    group by placement, user_id
),

shelves as (
    select shelf.placement, shelf.user_id, shelf.item_id, rank, score, fallback, rule_id, parent_id
    from {user_recommendations} as shelf
    inner join {items} as goods using (item_id)
    where user_id in (select user_id from asked)
),

ranked as (
    select placement, user_id, shelves.item_id, shelves.rank, shelves.score, candidates.rank as candidate_rank
    from shelves
    inner join candidates using (placement, user_id, item_id)
    where fallback is null and rule_id is null
),

ends as (  -- the last row that the ranking puts before the item: chance or a share may have put a worse one below it
    select asked.placement, asked.user_id, asked.item_id, arg_max(ranked.score, ranked.rank) as last_score
    from asked
    inner join ranked on ranked.placement = asked.placement and ranked.user_id = asked.user_id
    left join candidates as sought
        on sought.placement = asked.placement and sought.user_id = asked.user_id and sought.item_id = asked.item_id
    where sought.rank is null or ranked.candidate_rank < sought.rank
    group by all
),

variants as (
    select shelves.placement, shelves.user_id, asked.item_id, arg_min(shelves.item_id, rank) as other_item_id
    from asked
    inner join {items} as goods using (item_id)
    inner join shelves using (placement, user_id, parent_id)
    group by all
),

found as (
    select
        asked.placement,
        promise,
        asked.user_id,
        asked.item_id,
        shelves.rank as stands_at,
        shelves.rule_id as put_by,
        coalesce(is_bought, false) as is_bought,
        coalesce(is_asked_for, true) as is_asked_for,
        candidates.rank as candidate_rank,
        candidates.score,
        last_score,
        coalesce(candidates.dropped_by, barred_by, if(is_available, null, 'not_available')) as dropped_by,
        count_standing,
        coalesce(candidates.count_better, count_rivals, 0) as count_better,
        coalesce(count_rows, 0) as count_kept,
        candidates.rank is not null or coalesce(is_proposed, false) as is_proposed,
        is_proposed is not null as is_sought,
        best_source,
        best_rank,
        other_item_id
    from asked
    inner join {items} as goods using (item_id)
    left join shelves using (placement, user_id, item_id)
    left join {user_history} as history using (user_id, item_id)
    left join ({sought}) as sought using (placement, user_id, item_id)
    left join candidates using (placement, user_id, item_id)
    left join kept using (placement, user_id)
    left join ends using (placement, user_id, item_id)
    left join variants using (placement, user_id, item_id)
),

judged as (
    select
        found.*,
        case
            when stands_at is not null then 'shown'
            when promise = 'discover' and is_bought then 'already_bought'
            when promise = 'buy_again' and not is_bought then 'never_bought'
            when not is_asked_for then 'not_asked_for'
            when dropped_by = 'length' then 'outranked'
            when rules.action = 'cap' then 'cap'
            when rules.action is not null then 'rule'
            when dropped_by is not null then dropped_by
            when is_proposed then 'outranked'
            when is_sought or (placement = promise and count_kept < $depth) then 'no_candidate'
            else '{undecided}'
        end as verdict
    from found
    left join (select rule_id, action from {rules}) as rules on rules.rule_id = dropped_by
)

select
    placement,
    user_id,
    item_id,
    verdict,
    case when verdict = 'shown' then put_by when verdict in ('rule', 'cap') then dropped_by end as rule_id,
    if(verdict = 'variant', other_item_id, null) as other_item_id,
    coalesce(stands_at, count_standing + 1) as shelf_rank,
    candidate_rank,
    score,
    last_score,
    if(verdict = 'outranked', count_better, null) as count_better,
    is_proposed,
    best_source,
    best_rank
from judged
"""


def query(pairs: str, sought: str, sources: Mapping[str, str]) -> str:
    """SQL that gives each of `pairs` its verdict, for a $depth of `fuse.depth`.

    Args:
        pairs: SQL of placement, promise (the placement of every shop that it is like), user_id and item_id.
        sought: SQL of what only a night can find out of pairs: is_asked_for, barred_by, is_proposed, best_source and
            best_rank; a pair that it lacks may be UNDECIDED.
        sources: the relations of the tables that it READS.
    """
    return VERDICTS.format(pairs=pairs, sought=sought, undecided=UNDECIDED, **sources)


def of_one(
    release: duckdb.DuckDBPyConnection, placement: str, promise: str, user_id: str, item_id: str, depth: int
) -> dict[str, Any]:
    """The verdict of a release on one pair whose item it has; what a night found out of it is taken from
    `candidate_audit`."""
    own = {name: f"(from {name} where user_id = $user_id)" for name in READS if name.startswith("user_")}
    told = query(ONE, SOUGHT, {name: own.get(name, name) for name in READS})
    values = {"placement": placement, "promise": promise, "user_id": user_id, "item_id": item_id, "depth": depth}
    found = release.execute(told, values)
    names = [column[0] for column in found.description]
    row = found.fetchone()
    assert row is not None
    return dict(zip(names, row, strict=True))
