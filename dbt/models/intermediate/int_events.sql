{# Every event within its visit: who did it, and which query led to it. What the shop told stays as it is; what it left
   empty is filled from the same visit. A visit ends at each cut of the held-out days, whatever the pause: what is learnt
   as of that day knows nobody, and no click, by what came after it. #}
{{ config(materialized="table") }}

with events as (
    select
        * exclude (price_cents, arrival_date),
        case
            when session_id is not null then 'session ' || session_id
            when user_id is not null then 'user ' || user_id
            else 'event ' || event_id
        end as thread,
        {{ held_out_period("event_date") }} as period,
        array_position(['search', 'view', 'cart', 'purchase', 'return'], event_type) as step
    from {{ ref("stg_events") }}
),

{# Where the clock is coarse, what people do first comes first. #}
placed as (
    select
        *,
        row_number() over past as place,
        coalesce(
            occurred_at - lag(occurred_at) over past > interval '{{ var("sessions_gap_minutes") }} minutes'
            or period > lag(period) over past,
            true
        ) as is_first
    from events
    window past as (partition by thread order by occurred_at, step, event_id)
),

visits as (
    select
        *,
        thread || ' ' || sum(cast(is_first as integer)) over (
            partition by thread order by place rows between unbounded preceding and current row
        ) as visit_id
    from placed
),

{# `arg_max` carries a value along in one pass; to look back for one that is not null would take a pass per row. #}
surrounded as (
    select
        *,
        arg_max(user_id, place) over past as user_before,
        arg_min(user_id, place) over ahead as user_after,
        arg_max(case when event_type = 'search' then query end, place) over past as last_search
    from visits
    window
        past as (partition by visit_id order by place rows between unbounded preceding and current row),
        ahead as (partition by visit_id order by place rows between current row and unbounded following)
),

telling as (
    select min(event_date) as first_told_date
    from events
    where event_type = 'view' and query is not null
),

clicked as (
    select
        surrounded.*,
        coalesce(
            query,
            case
                when event_type = 'view' and {{ {
                    "always": "true",
                    "never": "false",
                    "auto": "coalesce(event_date < telling.first_told_date, true)",
                }[var("sessions_infer_clicks")] }} then last_search
            end
        ) as click_query
    from surrounded
    cross join telling
),

led as (
    select
        *,
        case
            when event_type in ('cart', 'purchase') then coalesce(query, arg_max(
                case when event_type in ('view', 'cart') then click_query end, place
            ) over (partition by visit_id, item_id order by place rows between unbounded preceding and current row))
            else click_query
        end as leading_query
    from clicked
),

{# Between two users nobody can tell whose an act was. #}
owned as (
    select
        *,
        coalesce(user_id, case
            when coalesce(user_before, user_after) = coalesce(user_after, user_before)
            then coalesce(user_before, user_after)
        end) as owner_id
    from led
),

named as (
    select
        event_id,
        owner_id as user_id,
        event_type,
        item_id,
        leading_query as query,
        occurred_at,
        event_date,
        quantity,
        session_id,
        visit_id,
        coalesce(owner_id, session_id) as visitor_id,
        owner_id is not null as is_user,
        order_id
    from owned
)

select * from named
