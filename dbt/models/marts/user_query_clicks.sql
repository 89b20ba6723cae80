{# A ledger, as `interactions` is; bots stand in it. #}
with daily as (
    select
        user_id,
        query,
        item_id,
        event_date,
        known_date,
        cast(sum(weight) as double) as weight
    from {{ ref("int_query_acts") }}
    where user_id is not null
    group by user_id, query, item_id, event_date, known_date
)

select * from daily
order by user_id, query, item_id, event_date, known_date
