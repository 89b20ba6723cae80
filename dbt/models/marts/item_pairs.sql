{# Which items people look at in one visit, and which they take in one basket, and how much more often than chance has it. #}
with viewed as (
    select 'viewed' as kind, visit_id as basket_id, item_id
    from {{ ref("int_item_events") }}
    where
        event_type = 'view'
        and event_date > cast('{{ var("day") }}' as date) - {{ var("pair_days") }}
        and (flagged_date is null or flagged_date > event_date)
    group by all
),

bought as (
    select 'bought' as kind, basket_id, item_id
    from {{ ref("baskets") }}
    where is_purchase and basket_date > cast('{{ var("day") }}' as date) - {{ var("pair_days") }}
),

met as (
    select * from viewed
    union all
    select * from bought
),

{# Larger ones are stock orders or bots and say little about what belongs together. #}
told as (
    select met.*
    from met
    inner join {{ ref("catalogue") }} as catalogue using (item_id)
    qualify count(*) over (partition by kind, basket_id) between 2 and 100
),

singles as (
    select kind, item_id, count(*) as count_baskets from told group by kind, item_id
),

sizes as (
    select kind, count(distinct basket_id) as count_all from told group by kind
),

pairs as (
    select
        one.kind,
        one.item_id,
        other.item_id as other_item_id,
        count(*) as count_both
    from told as one
    inner join told as other on one.kind = other.kind and one.basket_id = other.basket_id and one.item_id <> other.item_id
    group by all
    having count(*) >= 3
),

counted as (
    select
        pairs.*,
        one.count_baskets as count_one,
        other.count_baskets as count_other,
        cast(one.count_baskets as double) * other.count_baskets / sizes.count_all as expected
    from pairs
    inner join sizes using (kind)
    inner join singles as one on pairs.kind = one.kind and pairs.item_id = one.item_id
    inner join singles as other on pairs.kind = other.kind and pairs.other_item_id = other.item_id
),

scored as (
    select
        kind,
        item_id,
        other_item_id,
        count_both,
        count_one,
        count_other,
        count_both / expected as lift,
        {{ least_ratio("count_both", "expected") }} as least_lift
    from counted
)

select * from scored
order by kind, item_id, other_item_id
