{# What each user leans to, held against the shop: for whoever did little, or nothing with a value, all is as usual. Every
   facet of every user ends with `*`, what holds of the values that are not listed; the user `*` is whoever is not listed. #}
with goods as (
    select item_id, category, brand, cast(price_band as varchar) as price_band
    from {{ ref("catalogue") }}
),

history as (
    select user_history.user_id, user_history.weight, goods.*
    from {{ ref("user_history") }} as user_history
    inner join goods using (item_id)
    where user_history.weight > 0
),

told as (
    unpivot history on category, brand, price_band into name facet value "value"
),

people as (
    select told.*
    from told
    anti join (select user_id from {{ ref("users") }} where flagged_date is not null) using (user_id)
),

usual as (
    select facet, "value", sum(weight order by user_id, item_id) as weight
    from people
    group by facet, "value"
),

shares as (
    select *, weight / sum(weight order by "value") over (partition by facet) as shop_share
    from usual
),

sums as (
    select user_id, facet, "value", sum(weight order by item_id) as weight, count(*) as count_items
    from told
    group by user_id, facet, "value"
),

{# A window over so many small groups would take ten times as long. #}
totals as (
    select user_id, facet, sum(weight order by "value") as weight
    from sums
    group by user_id, facet
),

weighed as (
    select sums.*, totals.weight as user_weight
    from sums
    inner join totals using (user_id, facet)
),

leanings as (
    select
        weighed.user_id,
        weighed.facet,
        weighed.value,
        weighed.count_items,
        weighed.weight,
        (weighed.weight + {{ var("preference_weight") }} * shares.shop_share) / (weighed.user_weight + {{ var("preference_weight") }}) as affinity,
        shares.shop_share
    from weighed
    inner join shares using (facet, "value")
),

others as (
    select user_id, facet, '*' as "value", 0 as count_items, 0 as weight, null as affinity, {{ var("preference_weight") }} / (user_weight + {{ var("preference_weight") }}) as lift
    from weighed
    group by all
),

everybody as (
    select '*' as user_id, facet, '*' as "value", 0 as count_items, 0 as weight, null as affinity, 1 as lift
    from (values ('category'), ('brand'), ('price_band')) as facets (facet)
),

joined as (
    select user_id, facet, "value", count_items, weight, affinity, affinity / shop_share as lift from leanings
    union all
    select * from others
    union all
    select * from everybody
),

typed as (
    select
        user_id,
        facet,
        "value",
        cast(count_items as bigint) as count_items,
        cast(weight as double) as weight,
        cast(affinity as double) as affinity,
        cast(lift as double) as lift,
        '{{ var("run_id") }}' as run_id
    from joined
)

select * from typed
order by user_id, facet, "value"
