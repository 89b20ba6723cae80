{# Flagged visitors, and the day from which on nothing is learnt from them. #}
with flags as (
    select * from {{ ref("int_bot_flags") }}
),

bots as (
    select visitor_id, is_user, min(flagged_date) as flagged_date
    from flags
    group by visitor_id, is_user
)

select * from bots
