with events as (
    select *, coalesce(order_id, session_id) as basket_id
    from {{ ref("int_item_events") }}
    where event_type <> 'return'
),

contents as (
    select
        basket_id,
        item_id,
        min(event_date) as basket_date,
        bool_or(event_type = 'purchase') as is_purchase
    from events
    where basket_id is not null
    group by basket_id, item_id
)

select * from contents
order by basket_id, item_id
