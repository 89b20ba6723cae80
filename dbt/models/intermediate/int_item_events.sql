{# Events about items, each with what it says about taste. #}
with events as (
    select * from {{ ref("stg_events") }}
    where item_id is not null
),

weighted as (
    select
        *,
        case event_type
            when 'view' then {{ var("weight_view") }}
            when 'cart' then {{ var("weight_cart") }}
            when 'purchase' then {{ var("weight_purchase") }}
            when 'return' then {{ var("weight_returned") }}
            else 0
        end as weight
    from events
)

select * from weighted
