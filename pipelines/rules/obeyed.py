"""Obeyed: the published rows that break a rule or a promise, counted by SQL that shares nothing with what made them."""

from collections.abc import Mapping

import duckdb

from pipelines.rules.rule import BY_PEOPLE, ITEM_TABLES

OTHERS = ("similar_items", "bought_together")  # what they show is the other item
PERSONAL = "user_search_results"  # what search_results shows, in a user's order
ANSWERS = ("search_results", PERSONAL)
READERS = "if(segment_kind = '{}', listed.segment, null)"  # of a list that not everybody reads
SHOWN = """
    select placement, user_id, country, segment, item_id, cast(null as varchar) as query
    from {user_recommendations} as shelves
    left join {users} as people using (user_id)
"""
NOBODY = "cast(null as varchar)"
LISTED = """
    select '{name}' as placement, cast(null as varchar) as user_id, {country} as country,
        {segment} as segment, {item} as item_id, {query} as query
    from {source} as listed
"""
COVERED = """
    (rules.placement is null or rules.placement = shown.placement)
    and (rules.country is null or rules.country = shown.country)
    and (rules.segment is null or rules.segment = shown.segment)
    and (rules.query is null or rules.query = shown.query)
"""
IN_SCOPE = """
    (rules.item_id is null or rules.item_id = goods.item_id)
    and (rules.parent_id is null or rules.parent_id = goods.parent_id)
    and (rules.category is null or rules.category = goods.category)
    and (rules.brand is null or rules.brand = goods.brand)
    and (rules.tag is null or list_contains(string_split(goods.tags, '|'), rules.tag))
    and (rules.seller is null or rules.seller = goods.seller)
    and (rules.min_price_cents is null or goods.price_cents >= rules.min_price_cents)
    and (rules.max_price_cents is null or goods.price_cents <= rules.max_price_cents)
    and (rules.min_age_days is null or goods.age_days >= rules.min_age_days)
    and (rules.max_age_days is null or goods.age_days <= rules.max_age_days)
"""
ROWS = """
    with shown as ({shown}),
    goods as (
        select *, greatest(date_diff('day', first_arrival_date, cast($day as date)), 0) as age_days from {catalogue}
    ),
    rules as (from {rules})
"""
BROKEN = {
    "denied_items": f"""
        select count(*) from shown join goods using (item_id)
        join rules on rules.action = 'deny' and {COVERED} and {IN_SCOPE}
    """,
    "other_than_allowed_items": f"""
        select count(*) from shown join goods using (item_id)
        where exists (from rules where rules.action = 'allow_only' and {COVERED})
            and not exists (from rules where rules.action = 'allow_only' and {COVERED} and {IN_SCOPE})
    """,
    "unavailable_items": "select count(*) from shown join goods using (item_id) where not is_available",
    "bought_items_to_discover": """
        select count(*) from shown join {user_history} as history using (user_id, item_id)
        where list_contains($never_bought, placement) and is_bought
    """,
    "repeated_items": """
        select coalesce(sum(count_rows - 1), 0)::bigint from (
            select count(*) as count_rows from shown join goods using (item_id)
            where list_contains($shelves, placement)
            group by
                placement,
                user_id,
                if(list_contains($bought, placement) or parent_id is null, 'item ' || item_id, 'parent ' || parent_id)
        )
    """,
}


def broken(
    connection: duckdb.DuckDBPyConnection, sources: Mapping[str, str], shelves: Mapping[str, str], day: str
) -> dict[str, int]:
    """Rows that break each promise of BROKEN; `sources` are the relations of the published tables, and of users and
    catalogue, as the SQL of the connection names them; `shelves` are the placements, each with the one whose promise it
    shares."""
    lists = [
        LISTED.format(
            name="search_results" if name == PERSONAL else name,
            country=READERS.format("country") if name in BY_PEOPLE else NOBODY,
            segment=READERS.format("segment") if name in BY_PEOPLE else NOBODY,
            item="other_item_id" if name in OTHERS else "item_id",
            query="query" if name in ANSWERS else NOBODY,
            source=sources[name],
        )
        for name in (*ITEM_TABLES, PERSONAL)
    ]
    head = ROWS.format(shown=" union all ".join([SHOWN.format(**sources), *lists]), **sources)
    values = {
        "day": day,
        "shelves": list(shelves),
        "never_bought": [name for name, like in shelves.items() if like == "discover"],
        "bought": [name for name, like in shelves.items() if like == "buy_again"],
    }
    counts = {}
    for name, query in BROKEN.items():
        used = {key: value for key, value in values.items() if f"${key}" in head + query}
        row = connection.execute(head + query.format(**sources), used).fetchone()
        counts[name] = row[0] if row else 0
    return counts
