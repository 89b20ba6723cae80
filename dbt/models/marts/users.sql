with profiles as (
    select
        user_id,
        arg_max(country, arrival_date) as country,
        arg_max(segment, arrival_date) as segment,
        arg_max_null(has_consent, arrival_date) as has_consent,
        max(contact_date) as last_contact_date,
        min(arrival_date) as first_seen_date
    from {{ ref("stg_users") }}
    group by user_id
),

active as (
    select
        user_id,
        min(event_date) as first_event_date,
        max(event_date) as last_event_date,
        count(*) as count_events
    from {{ ref("int_events") }}
    where user_id is not null
    group by user_id
),

bots as (
    select visitor_id as user_id, flagged_date from {{ ref("int_bots") }}
    where is_user
),

joined as (
    select
        user_id,
        profiles.country,
        profiles.segment,
        profiles.has_consent,
        profiles.last_contact_date,
        least(profiles.first_seen_date, active.first_event_date) as first_seen_date,
        active.last_event_date,
        coalesce(active.count_events, 0) as count_events,
        bots.flagged_date
    from profiles
    full join active using (user_id)
    left join bots using (user_id)
)

select * from joined
order by user_id
