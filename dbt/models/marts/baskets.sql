with events as (
    select * replace (least(undone_date, flagged_date) as undone_date), coalesce(order_id, visit_id) as basket_id
    from {{ ref("int_item_events") }}
    where
        (order_id is not null or visitor_id is not null)
        and (flagged_date is null or flagged_date > event_date)
),

contents as (
    select
        basket_id,
        item_id,
        min(event_date) as basket_date,
        bool_or(event_type = 'purchase' and undone_date is null) as is_purchase,
        {{ all_undone_date() }} as undone_date
    from events
    group by basket_id, item_id
)

select * from contents
order by basket_id, item_id
