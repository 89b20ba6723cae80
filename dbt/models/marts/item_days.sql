{# Anonymous visitors count here: what sells is known without knowing to whom. A ledger, as `interactions` is. #}
with events as (
    select * from {{ ref("int_item_events") }}
),

visitors as (
    select
        item_id,
        event_date,
        coalesce(user_id, session_id, order_id, event_id) as visitor,
        count(*) filter (where event_type = 'view') as count_views,
        {{ all_undone_date() }} as undone_date,
        min(flagged_date) as flagged_date
    from events
    group by all
),

buyers as (
    select
        item_id,
        event_date,
        coalesce(user_id, order_id, session_id, event_id) as buyer,
        {{ all_undone_date() }} as undone_date,
        min(flagged_date) as flagged_date
    from events
    where event_type = 'purchase'
    group by all
),

entries as (
    select
        item_id,
        event_date,
        flagged_date,
        event_date as known_date,
        1 as count_visitors,
        count_views,
        0 as count_buyers
    from visitors
    union all
    select item_id, event_date, flagged_date, undone_date, -1, 0, 0 from visitors
    where undone_date is not null
    union all
    select item_id, event_date, flagged_date, event_date, 0, 0, 1 from buyers
    union all
    select item_id, event_date, flagged_date, undone_date, 0, 0, -1 from buyers
    where undone_date is not null
),

believed as (
    {{ less_bots("entries", "item_id, event_date", ["count_visitors", "count_views", "count_buyers"]) }}
),

daily as (
    select
        item_id,
        event_date,
        known_date,
        cast(sum(count_visitors) as bigint) as count_visitors,
        cast(sum(count_views) as bigint) as count_views,
        cast(sum(count_buyers) as bigint) as count_buyers
    from believed
    group by item_id, event_date, known_date
)

select * from daily
order by item_id, event_date, known_date
