{# What the night knew of a user and an item: the ledger's entries known by the run's day, each weight as ALS reads it. Sums
   are taken in order, so that equal nights have equal bits. #}
with entries as (
    select interactions.*
    from {{ ref("interactions") }} as interactions
    inner join {{ ref("catalogue") }} as catalogue using (item_id)
    where interactions.known_date <= cast('{{ var("day") }}' as date)
),

people as (
    select interactions.count_purchases
    from {{ ref("interactions") }} as interactions
    inner join {{ ref("users") }} as users using (user_id)
    where users.flagged_date is null
),

daily as (
    select
        user_id,
        item_id,
        event_date,
        sum(weight order by known_date) * pow(0.5, (cast('{{ var("day") }}' as date) - event_date) / {{ var("weight_half_life_days") }}) as weight,
        sum(count_views) as count_views,
        sum(count_carts) as count_carts,
        sum(count_purchases) as count_purchases
    from entries
    group by user_id, item_id, event_date
),

history as (
    select
        user_id,
        item_id,
        min(event_date) as first_event_date,
        max(event_date) as last_event_date,
        max(event_date) filter (where count_purchases > 0) as last_purchase_date,
        cast(sum(count_views) as bigint) as count_views,
        cast(sum(count_carts) as bigint) as count_carts,
        cast(sum(count_purchases) as bigint) as count_purchases,
        cast(sum(weight order by event_date) as double) as weight
    from daily
    group by user_id, item_id
),

told as (
    select
        *,
        {# As the stages count a success: a shop where nobody buys is read by what people met. #}
        case
            when (select coalesce(max(count_purchases), 0) > 0 from people) then count_purchases > 0
            else count_views + count_carts > 0
        end as is_bought,
        '{{ var("run_id") }}' as run_id
    from history
)

select * from told
order by user_id, item_id
