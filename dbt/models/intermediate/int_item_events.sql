{# What people did with items, each act with what it says about taste. `undone_date` is the day on which the last piece
   of a purchase had come back; `flagged_date` that from which on its visitor is known as a bot. #}
with undone as (
    select purchase_id as event_id, max(undone_date) as undone_date
    from {{ ref("int_undone_purchases") }}
    where is_whole
    group by purchase_id
),

events as (
    select events.*, undone.undone_date, bots.flagged_date
    from {{ ref("int_events") }} as events
    left join undone using (event_id)
    left join {{ ref("int_bots") }} as bots using (visitor_id, is_user)
    where events.item_id is not null and events.event_type <> 'return'
),

weighted as (
    select
        *,
        case event_type
            when 'view' then {{ var("weight_view") }}
            when 'cart' then {{ var("weight_cart") }}
            when 'purchase' then {{ var("weight_purchase") }}
            else 0
        end as weight
    from events
)

select * from weighted
