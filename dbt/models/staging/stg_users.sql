with users as (
    select * from {{ source("lake", "users") }}
),

named as (
    select user_id, country, arrived_on as arrival_date
    from users
)

select * from named
