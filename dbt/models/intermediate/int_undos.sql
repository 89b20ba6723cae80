{# Which return undoes how much of which purchase: one row per pair. Three passes, each on what is left: the same order;
   the latest purchase of exactly as many pieces; first in, first out. Returns up to each cut of the held-out days go
   through all three before the later ones begin: what is learnt as of that day does not depend on what came back after it. #}
{{ config(materialized="table") }}

with undone_0 as (
    select
        cast(null as varchar) as purchase_id,
        cast(null as varchar) as return_id,
        cast(null as bigint) as quantity,
        cast(null as varchar) as matched_by
    where false
),

{% set passes = ["order", "quantity", "first_in"] %}
{% set periods = var("holdout_cuts") | length + 1 %}
{% for period in range(periods) %}
{% for matched_by in passes %}
{% set step = period * passes | length + loop.index %}
left_{{ step }} as (
    select *, coalesce(owner_id, '') as owner
    from ({{ left_over(ref("int_pieces"), "undone_" ~ (step - 1)) }}) as pieces
    where period <= {{ period }} and {{ "order_id" if matched_by == "order" else "user_id" }} is not null
),

matched_{{ step }} as (
    {% if matched_by == "order" %}
    {{ first_in_first_out("left_" ~ step, "order_id, item_id, owner", "is_return, occurred_at, event_id") }}
    {% elif matched_by == "quantity" %}
    {{ latest_of_equal_quantity("left_" ~ step) }}
    {% else %}
    {{ first_in_first_out("left_" ~ step, "user_id, item_id", "occurred_at, is_return, event_id") }}
    {% endif %}
),

undone_{{ step }} as (
    select * from undone_{{ step - 1 }}
    union all
    select purchase_id, return_id, cast(quantity as bigint) as quantity, '{{ matched_by }}' as matched_by
    from matched_{{ step }}
),

{% endfor %}
{% endfor %}
undos as (
    select * from undone_{{ periods * passes | length }}
)

select * from undos
