with items as (
    select * from {{ source("lake", "items") }}
),

named as (
    select
        item_id,
        title,
        description,
        category,
        brand,
        parent_id,
        tags,
        seller,
        price_cents,
        is_available,
        arrived_on as arrival_date
    from items
)

select * from named
