with days as (
    select * from {{ ref("query_days") }}
),

counted as (
    select
        query,
        cast(sum(count_searches) as bigint) as count_searches,
        max(event_date) as last_searched_date
    from days
    group by query
)

select * from counted
order by query
