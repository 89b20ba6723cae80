"""The sample: of which users and items a night tells; the same for the same seed, and no more than is asked for."""

from collections.abc import Mapping, Sequence

import duckdb
import pandas as pd

from pipelines.audit.asked import Pair
from pipelines.run import LOG

SAMPLE = """
with people as (
    select user_id from {users} order by md5($seed::varchar || ' ' || user_id), user_id limit $users
),

wanted as (
    select shelf_names.placement, user_id, item_id, 1 as precedence, 'asked' as chosen_as
    from pairs_asked
    inner join shelf_names on shelf_names.placement = pairs_asked.placement or pairs_asked.placement is null
),

met as (
    select placement, user_id, item_id, 2 as precedence, 'history' as chosen_as
    from {user_history}
    inner join people using (user_id)
    cross join shelf_names
    qualify row_number() over (partition by placement, user_id order by weight desc, item_id) <= $items
),

popular as (
    select placement, user_id, item_id, 3 as precedence, 'popular' as chosen_as
    from {popular_items}
    cross join people
    cross join shelf_names
    where segment_kind = 'all' and rank <= $items
),

dropped as (
    select placement, user_id, item_id, 4 as precedence, 'dropped' as chosen_as
    from {user_candidates}
    inner join people using (user_id)
    where dropped_by is not null
    qualify row_number() over (partition by placement, user_id, dropped_by order by rank) <= $items
),

chosen as (
    from wanted union all from met union all from popular union all from dropped
)

select placement, user_id, item_id, arg_min(chosen_as, precedence) as chosen_as
from chosen
inner join {users} using (user_id)
inner join {items} using (item_id)
group by placement, user_id, item_id
order by all
"""
STRANGE = """
    select distinct user_id, item_id
    from pairs_asked
    where user_id not in (select user_id from {users}) or item_id not in (select item_id from {items})
    order by all
"""
NAMED = 5  # pairs that the log names


def chosen(
    connection: duckdb.DuckDBPyConnection,
    sources: Mapping[str, str],
    shelves: Sequence[str],
    asked: Sequence[Pair],
    limits: Mapping[str, int],
) -> pd.DataFrame:
    """placement, user_id, item_id and chosen_as, by these three: the pairs that were asked for, and of a sample of
    users what they met most, what the shop sells most, and the best of what was dropped for each cause, on each of
    `shelves`.

    `sources` are relations by table; `limits` are seed, users and items. Pairs of whom or what nobody knows are logged.
    """
    connection.register("pairs_asked", pd.DataFrame(asked, columns=Pair._fields, dtype="string"))
    connection.register("shelf_names", pd.DataFrame({"placement": list(shelves)}, dtype="string"))
    if strange := connection.execute(STRANGE.format(**sources)).fetchall():
        named = ", ".join(f"{user} and {item}" for user, item in strange[:NAMED])
        LOG.warning("audit.csv: the night knows no user or no item of %d pairs, such as %s", len(strange), named)
    return connection.execute(SAMPLE.format(**sources), dict(limits)).df().astype("string")
