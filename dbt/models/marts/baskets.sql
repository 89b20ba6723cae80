with events as (
    select *, coalesce(order_id, session_id) as basket_id
    from {{ ref("int_item_events") }}
),

contents as (
    select
        basket_id,
        item_id,
        min(event_date) as basket_date,
        bool_or(event_type = 'purchase' and undone_date is null) as is_purchase,
        {{ all_undone_date() }} as undone_date
    from events
    where basket_id is not null
    group by basket_id, item_id
)

select * from contents
order by basket_id, item_id
