{# What followed from a query, whoever typed it; what is undone is taken off again on the day on which it came back. #}
with events as (
    select * from {{ ref("int_item_events") }}
    where query is not null
),

entries as (
    select
        user_id,
        query,
        item_id,
        event_date,
        flagged_date,
        event_date as known_date,
        weight,
        case when event_type = 'view' then 1 else 0 end as count_views,
        case when event_type = 'purchase' then 1 else 0 end as count_purchases
    from events
    union all
    select user_id, query, item_id, event_date, flagged_date, undone_date, 0, 0, -1 from events
    where undone_date is not null
    union all
    select
        events.user_id,
        events.query,
        events.item_id,
        events.event_date,
        events.flagged_date,
        undone.undone_date,
        -events.weight * undone.share,
        0,
        0
    from events
    inner join {{ ref("int_undone_purchases") }} as undone on events.event_id = undone.purchase_id
)

select * from entries
