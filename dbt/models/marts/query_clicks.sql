{# A ledger, as `interactions` is. #}
with believed as (
    {{ less_bots(ref("int_query_acts"), "query, item_id, event_date", ["weight", "count_views", "count_purchases"]) }}
),

daily as (
    select
        query,
        item_id,
        event_date,
        known_date,
        cast(sum(weight) as double) as weight,
        cast(sum(count_views) as bigint) as count_views,
        cast(sum(count_purchases) as bigint) as count_purchases
    from believed
    group by query, item_id, event_date, known_date
)

select * from daily
order by query, item_id, event_date, known_date
