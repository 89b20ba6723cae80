with catalogue as (
    select * from {{ ref("catalogue") }}
),

shown as (
    select
        item_id,
        title,
        category,
        brand,
        parent_id,
        tags,
        seller,
        price_cents,
        is_available,
        '{{ var("run_id") }}' as run_id
    from catalogue
)

select * from shown
order by item_id
