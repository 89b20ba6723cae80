{# Bots stand in it, for their own shelves. #}
with searches as (
    select user_id, query, event_date
    from {{ ref("int_events") }}
    where event_type = 'search' and user_id is not null and query is not null
),

daily as (
    select user_id, query, event_date, count(*) as count_searches
    from searches
    group by user_id, query, event_date
)

select * from daily
order by user_id, query, event_date
