with users as (
    select * from {{ source("lake", "users") }}
),

named as (
    select
        user_id,
        country,
        segment,
        has_consent,
        {{ shop_date("contacted_at") }} as contact_date,
        arrived_on as arrival_date
    from users
)

select * from named
