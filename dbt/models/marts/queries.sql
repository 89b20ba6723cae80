with searches as (
    select * from {{ ref("stg_events") }}
    where event_type = 'search' and query is not null
),

counted as (
    select
        query,
        count(*) as count_searches,
        max(event_date) as last_searched_date
    from searches
    group by query
)

select * from counted
order by query
