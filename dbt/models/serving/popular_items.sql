{# What most visitors bought (or, in a shop without purchases, viewed) in the last days, over all, by country and by
   the users' own segment. #}
with events as (
    select * from {{ ref("int_item_events") }}
    where
        event_type in ('view', 'purchase')
        and undone_date is null
        and flagged_date is null
        and event_date > cast('{{ var("day") }}' as date) - {{ var("popularity_days") }}
),

segmented as (
    select events.*, 'all' as segment_kind, 'all' as segment from events
    union all
    select events.*, 'country', users.country
    from events
    inner join {{ ref("users") }} as users using (user_id)
    where users.country is not null
    union all
    select events.*, 'segment', users.segment
    from events
    inner join {{ ref("users") }} as users using (user_id)
    where users.segment is not null
),

counted as (
    select
        segment_kind,
        segment,
        item_id,
        count(distinct coalesce(user_id, order_id, session_id, event_id)) filter (where event_type = 'purchase') as count_buyers,
        count(distinct coalesce(user_id, session_id, event_id)) as count_visitors
    from segmented
    inner join {{ ref("catalogue") }} as catalogue using (item_id)
    where catalogue.is_available
    group by segment_kind, segment, item_id
),

scored as (
    select *, count_buyers + count_visitors / (1.0 + max(count_visitors) over segments) as score
    from counted
    window segments as (partition by segment_kind, segment)
),

ranked as (
    select
        segment_kind,
        segment,
        row_number() over (partition by segment_kind, segment order by score desc, item_id) as rank,
        item_id,
        cast(score as double) as score,
        count_buyers,
        '{{ var("run_id") }}' as run_id
    from scored
)

select * from ranked
where rank <= {{ var("popular_length") }}
order by segment_kind, segment, rank
