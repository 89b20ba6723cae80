{# Which visitor broke which rule on which day, as no human does. An act is what takes one decision: a search or a view;
   an order, however many lines it has; all that came into the cart at one moment. #}
{{ config(materialized="table") }}
{% set visitor_day = "visitor_id, is_user, event_date" %}

with events as (
    select
        {{ visitor_day }},
        item_id,
        event_type,
        occurred_at,
        case event_type
            when 'purchase' then coalesce(order_id, cast(occurred_at as varchar))
            when 'cart' then cast(occurred_at as varchar)
            else event_id
        end as act_id
    from {{ ref("int_events") }}
    where
        visitor_id is not null
        and event_type <> 'return'
        {% for visitor in var("bots_allow") %}
        and visitor_id <> '{{ visitor | replace("'", "''") }}'
        {% endfor %}
),

{# Most visitors do less than any rule could mind. #}
busy as (
    select {{ visitor_day }}
    from events
    group by {{ visitor_day }}
    having count(*) >= least(
        {{ var("bots_max_acts_per_day") }},
        {{ var("bots_max_acts_per_minute") }},
        {{ var("bots_max_items_per_day") }},
        {{ var("bots_regular_acts") }}
    )
),

suspects as (
    select events.* from events semi join busy using ({{ visitor_day }})
),

acts as (
    select {{ visitor_day }}, event_type, act_id, min(occurred_at) as occurred_at
    from suspects
    group by all
),

{# Acts of one moment are one entry of a coarse clock, or of a batch: they have no pace unless others are near. #}
paced as (
    select
        *,
        count(*) over minute as count_within_minute,
        min(occurred_at) over minute < occurred_at as has_pace,
        epoch(occurred_at - lag(occurred_at) over day) as pause
    from acts
    window
        day as (partition by {{ visitor_day }} order by occurred_at),
        minute as (
            partition by {{ visitor_day }}
            order by occurred_at
            range between interval '59.999999 seconds' preceding and current row
        )
),

days as (
    select
        {{ visitor_day }},
        count(*) as count_acts,
        max(count_within_minute) filter (where has_pace) as fastest,
        (quantile_cont(pause, 0.75) - quantile_cont(pause, 0.25)) / nullif(median(pause), 0) as variation
    from paced
    group by {{ visitor_day }}
),

{# What is bought is paid for: only what is looked at or put aside counts as breadth. #}
breadths as (
    select {{ visitor_day }}, count(distinct item_id) filter (where event_type <> 'purchase') as count_items
    from suspects
    group by {{ visitor_day }}
),

judged as (
    select *, 'volume' as rule, count_acts as observed, {{ var("bots_max_acts_per_day") }} as bound from days
    union all by name
    select *, 'speed' as rule, fastest as observed, {{ var("bots_max_acts_per_minute") }} as bound from days
    union all by name
    select days.*, 'breadth' as rule, count_items as observed, {{ var("bots_max_items_per_day") }} as bound
    from days
    inner join breadths using ({{ visitor_day }})
    union all by name
    select *, 'regularity' as rule, variation as observed, {{ var("bots_min_gap_variation") }} as bound
    from days
    where count_acts >= {{ var("bots_regular_acts") }}
),

flags as (
    select
        visitor_id,
        is_user,
        event_date as flagged_date,
        rule,
        cast(observed as double) as observed,
        cast(bound as double) as bound,
        count_acts
    from judged
    where case when rule = 'regularity' then observed < bound else observed > bound end
)

select * from flags
