{# A ledger: what is undone stays, and an entry of the day on which it came back takes it off. #}
with events as (
    select * from {{ ref("int_item_events") }}
    where user_id is not null
),

orders as (
    select
        user_id,
        item_id,
        event_date,
        coalesce(order_id, event_id) as order_id,
        {{ all_undone_date() }} as undone_date
    from events
    where event_type = 'purchase'
    group by all
),

taken_back as (
    select events.*, undone.undone_date as known_date, undone.share
    from events
    inner join {{ ref("int_undone_purchases") }} as undone on events.event_id = undone.purchase_id
),

entries as (
    select
        user_id,
        item_id,
        event_date,
        event_date as known_date,
        sum(weight) as weight,
        count(*) filter (where event_type = 'view') as count_views,
        count(*) filter (where event_type = 'cart') as count_carts,
        0 as count_purchases
    from events
    group by user_id, item_id, event_date
    union all
    select user_id, item_id, event_date, event_date, 0, 0, 0, 1 from orders
    union all
    select user_id, item_id, event_date, undone_date, 0, 0, 0, -1 from orders
    where undone_date is not null
    union all
    select user_id, item_id, event_date, known_date, -weight * share, 0, 0, 0 from taken_back
),

daily as (
    select
        user_id,
        item_id,
        event_date,
        known_date,
        cast(sum(weight) as double) as weight,
        cast(sum(count_views) as bigint) as count_views,
        cast(sum(count_carts) as bigint) as count_carts,
        cast(sum(count_purchases) as bigint) as count_purchases
    from entries
    group by user_id, item_id, event_date, known_date
)

select * from daily
order by user_id, item_id, event_date, known_date
