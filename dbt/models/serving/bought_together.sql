{# Lift of pairs in baskets that were bought, shrunk towards chance where there is little evidence. #}
with bought as (
    select baskets.*
    from {{ ref("baskets") }} as baskets
    inner join {{ ref("catalogue") }} as catalogue using (item_id)
    where
        baskets.is_purchase
        and baskets.basket_date > cast('{{ var("day") }}' as date) - 180
        and catalogue.is_available
),

sizes as (
    select basket_id from bought group by basket_id having count(*) between 2 and 100
),

small as (
    select bought.* from bought inner join sizes using (basket_id)
),

singles as (
    select item_id, count(*) as count_baskets from small group by item_id
),

pairs as (
    select
        one.item_id,
        other.item_id as other_item_id,
        count(*) as count_baskets
    from small as one
    inner join small as other on one.basket_id = other.basket_id and one.item_id <> other.item_id
    group by all
    having count(*) >= 3
),

scored as (
    select
        pairs.*,
        pairs.count_baskets * (select count(*) from sizes) / (cast(one.count_baskets as double) * other.count_baskets)
        * pairs.count_baskets / (pairs.count_baskets + 10.0) as score
    from pairs
    inner join singles as one on pairs.item_id = one.item_id
    inner join singles as other on pairs.other_item_id = other.item_id
),

ranked as (
    select
        item_id,
        row_number() over (partition by item_id order by score desc, other_item_id) as rank,
        other_item_id,
        cast(score as double) as score,
        count_baskets,
        '{{ var("run_id") }}' as run_id
    from scored
)

select * from ranked
where rank <= {{ var("shelf_length") }}
order by item_id, rank
