{# Anonymous visitors count here: what sells is known without knowing to whom. #}
with events as (
    select * from {{ ref("int_item_events") }}
),

daily as (
    select
        item_id,
        event_date,
        count(distinct coalesce(user_id, session_id, order_id, event_id)) as count_visitors,
        count(*) filter (where event_type = 'view') as count_views,
        count(distinct coalesce(user_id, order_id, session_id, event_id)) filter (where event_type = 'purchase') as count_buyers
    from events
    group by item_id, event_date
)

select * from daily
order by item_id, event_date
