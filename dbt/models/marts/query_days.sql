with searches as (
    select events.*
    from {{ ref("int_events") }} as events
    anti join {{ ref("int_bots") }} using (visitor_id, is_user)
    where events.event_type = 'search' and events.query is not null
),

counted as (
    select query, event_date, count(*) as count_searches
    from searches
    group by query, event_date
)

select * from counted
order by query, event_date
