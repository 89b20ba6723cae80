{# What people typed next in the same visit, and whether that led to an item where the first query had not. #}
with events as (
    select events.*
    from {{ ref("int_events") }} as events
    anti join {{ ref("int_bots") }} using (visitor_id, is_user)
    where events.query is not null
),

searches as (
    select
        visit_id,
        event_date,
        query,
        lead(query) over (partition by visit_id order by occurred_at, event_id) as next_query
    from events
    where event_type = 'search'
),

answered as (
    select distinct visit_id, query
    from events
    where event_type <> 'search'
),

pairs as (
    select
        searches.query,
        searches.next_query,
        searches.event_date,
        searches.visit_id,
        coalesce(bool_or(later.query is not null and earlier.query is null), false) as is_answered
    from searches
    left join answered as earlier on searches.visit_id = earlier.visit_id and searches.query = earlier.query
    left join answered as later on searches.visit_id = later.visit_id and searches.next_query = later.query
    where searches.next_query <> searches.query
    group by all
),

counted as (
    select
        query,
        next_query,
        event_date,
        count(*) as count_visits,
        count(*) filter (where is_answered) as count_answered
    from pairs
    group by query, next_query, event_date
)

select * from counted
order by query, next_query, event_date
