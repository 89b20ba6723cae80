with events as (
    select * from {{ ref("int_item_events") }}
    where query is not null
),

daily as (
    select
        query,
        item_id,
        event_date,
        cast(sum(weight) as double) as weight,
        count(*) filter (where event_type = 'view') as count_views,
        count(*) filter (where event_type = 'purchase') as count_purchases
    from events
    group by query, item_id, event_date
)

select * from daily
order by query, item_id, event_date
