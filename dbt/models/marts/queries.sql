with searches as (
    select events.*
    from {{ ref("int_events") }} as events
    anti join {{ ref("int_bots") }} using (visitor_id, is_user)
    where events.event_type = 'search' and events.query is not null
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
