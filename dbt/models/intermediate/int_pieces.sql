{# Returns, and the purchases that one of them may undo: those of the same item and order or user. #}
{{ config(materialized="table") }}

with events as (
    select
        event_id,
        event_type = 'return' as is_return,
        user_id,
        item_id,
        order_id,
        occurred_at,
        event_date,
        quantity
    from {{ ref("int_events") }}
    where event_type in ('purchase', 'return') and item_id is not null
),

returns as (
    select * from events where is_return
),

of_the_order as (
    select events.*
    from events
    semi join returns using (order_id, item_id)
),

of_the_user as (
    select events.*
    from events
    semi join returns using (user_id, item_id)
),

pieces as (
    select * from returns
    union
    select * from of_the_order
    union
    select * from of_the_user
),

{# Who returns without a name is the one who ordered, and the other way round. #}
owned as (
    select
        *,
        case
            when user_id is null and order_id is not null then min(user_id) over (partition by order_id, item_id)
            else user_id
        end as owner_id,
        {{ held_out_period("event_date") }} as period
    from pieces
)

select * from owned
