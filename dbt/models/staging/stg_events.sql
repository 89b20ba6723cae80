with events as (
    select * from {{ source("lake", "events") }}
),

named as (
    select
        event_id,
        user_id,
        event_type,
        item_id,
        nullif(trim(regexp_replace(lower(query), '\s+', ' ', 'g')), '') as query,
        occurred_at,
        {{ shop_date("occurred_at") }} as event_date,
        cast(quantity as bigint) as quantity,
        price_cents,
        session_id,
        order_id,
        arrived_on as arrival_date
    from events
)

select * from named
