{# What more visitors met in the last days than the weeks before let expect, over all, by country, by the users' own
   segment and by category. Each segment is held against itself, so that a busy week lifts nothing; what is newer than
   these days has nothing to be held against. #}
{% set first_day %}cast('{{ var("day") }}' as date) - {{ var("trend_days") }}{% endset %}
with goods as (
    select
        item_id,
        category,
        least({{ var("popularity_days") }}, {{ first_day }} - first_arrival_date + 1) as known_days
    from {{ ref("catalogue") }}
    where is_available and first_arrival_date <= {{ first_day }}
),

visits as (
    select distinct
        item_id,
        event_date,
        user_id,
        coalesce(user_id, session_id, order_id, event_id) as visitor,
        event_date > {{ first_day }} as is_recent
    from {{ ref("int_item_events") }}
    where
        event_type in ('view', 'purchase')
        and undone_date is null
        and flagged_date is null
        and event_date > {{ first_day }} - {{ var("popularity_days") }}
),

segmented as (
    select visits.*, 'all' as segment_kind, 'all' as segment from visits
    union all
    select visits.*, 'country', users.country
    from visits
    inner join {{ ref("users") }} as users using (user_id)
    where users.country is not null
    union all
    select visits.*, 'segment', users.segment
    from visits
    inner join {{ ref("users") }} as users using (user_id)
    where users.segment is not null
    union all
    select visits.*, 'category', goods.category
    from visits
    inner join goods using (item_id)
    where goods.category is not null
),

counted as (
    select
        segment_kind,
        segment,
        item_id,
        count(*) filter (where is_recent) as count_visitors,
        count(*) filter (where not is_recent) as count_before,
        sum(count_visitors) over segments / nullif(sum(count_before) over segments, 0) as pace
    from segmented
    group by segment_kind, segment, item_id
    window segments as (partition by segment_kind, segment)
),

foreseen as (
    select counted.*, count_before * pace * {{ var("popularity_days") }} / known_days as expected_visitors
    from counted
    inner join goods using (item_id)
    where pace is not null
),

scored as (
    select *, {{ least_ratio("count_visitors", "expected_visitors") }} as score
    from foreseen
),

ranked as (
    select
        segment_kind,
        segment,
        row_number() over (partition by segment_kind, segment order by score desc, item_id) as rank,
        item_id,
        cast(score as double) as score,
        count_visitors,
        cast(expected_visitors as double) as expected_visitors,
        '{{ var("run_id") }}' as run_id
    from scored
    where score > 1
)

select * from ranked
where rank <= {{ var("shelf_length") }}
order by segment_kind, segment, rank
