with versions as (
    select
        *,
        row_number() over (partition by item_id order by arrival_date desc) as age,
        min(arrival_date) over (partition by item_id) as first_arrival_date
    from {{ ref("stg_items") }}
),

latest as (
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
        first_arrival_date
    from versions
    where age = 1
),

banded as (
    select
        *,
        cast(ntile(5) over (order by price_cents nulls first, item_id) as bigint) as price_band
    from latest
)

select * from banded
order by item_id
