with flags as (
    select * from {{ ref("int_bot_flags") }}
),

told as (
    select
        visitor_id,
        is_user,
        flagged_date,
        rule,
        observed,
        bound,
        count_acts,
        '{{ var("run_id") }}' as run_id
    from flags
)

select * from told
order by visitor_id, is_user, flagged_date, rule
