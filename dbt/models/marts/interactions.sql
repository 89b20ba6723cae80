with events as (
    select * from {{ ref("int_item_events") }}
),

daily as (
    select
        user_id,
        item_id,
        event_date,
        cast(sum(weight) as double) as weight,
        count(*) filter (where event_type = 'view') as count_views,
        count(*) filter (where event_type = 'cart') as count_carts,
        count(distinct coalesce(order_id, event_id)) filter (where event_type = 'purchase') as count_purchases,
        count(distinct coalesce(order_id, event_id)) filter (where event_type = 'return') as count_returns
    from events
    where user_id is not null
    group by user_id, item_id, event_date
)

select * from daily
order by user_id, item_id, event_date
