{# How purchases and returns meet. Both passes read rows of (event_id, is_return, quantity, occurred_at, …) and answer
   with rows of (purchase_id, return_id, quantity). #}

{# Within `key` and in this `order`, the piece bought first comes back first. Pieces count on, as on a tape: purchases
   cover one stretch of it after the other, so do returns, and stretches that overlap are one and the same pieces. What
   comes back beyond all that was bought by then covers nothing. #}
{% macro first_in_first_out(rows, key, order) %}
    with counted as (
        select
            *,
            sum(case when is_return then 0 else quantity end) over past as bought,
            sum(case when is_return then quantity else 0 end) over past as brought
        from {{ rows }}
        window past as (partition by {{ key }} order by {{ order }} rows between unbounded preceding and current row)
    ),

    undone as (
        select *, brought - greatest(0, max(brought - bought) over past) as undone
        from counted
        window past as (partition by {{ key }} order by {{ order }} rows between unbounded preceding and current row)
    ),

    returns as (
        select *, lag(undone, 1, 0) over (partition by {{ key }} order by {{ order }}) as undone_before
        from undone
    )

    select
        purchases.event_id as purchase_id,
        returns.event_id as return_id,
        least(purchases.bought, returns.undone)
        - greatest(purchases.bought - purchases.quantity, returns.undone_before) as quantity
    from counted as purchases
    inner join returns using ({{ key }})
    where
        not purchases.is_return
        and returns.is_return
        and purchases.bought - purchases.quantity < returns.undone
        and returns.undone_before < purchases.bought
{% endmacro %}

{# A return undoes the latest purchase before it of exactly as many pieces. They nest as brackets do: a return closes
   the last purchase that is open, which is the one before it at the same depth. #}
{% macro latest_of_equal_quantity(rows) %}
    {% set key = "user_id, item_id, quantity" %}
    {% set order = "occurred_at, is_return, event_id" %}
    with balanced as (
        select *, sum(case when is_return then -1 else 1 end) over past as balance
        from {{ rows }}
        window past as (partition by {{ key }} order by {{ order }} rows between unbounded preceding and current row)
    ),

    nested as (
        select *, balance - least(0, min(balance) over past) + case when is_return then 1 else 0 end as depth
        from balanced
        window past as (partition by {{ key }} order by {{ order }} rows between unbounded preceding and current row)
    ),

    paired as (
        select
            *,
            lag(event_id) over past as event_id_before,
            lag(is_return) over past as is_return_before
        from nested
        window past as (partition by {{ key }}, depth order by {{ order }})
    )

    select event_id_before as purchase_id, event_id as return_id, quantity
    from paired
    where is_return and not is_return_before
{% endmacro %}

{# The pieces of `rows` that the pairs of `undone` have left. #}
{% macro left_over(rows, undone) %}
    with used as (
        select event_id, sum(quantity) as quantity
        from (
            select purchase_id as event_id, quantity from {{ undone }}
            union all
            select return_id as event_id, quantity from {{ undone }}
        ) as pairs
        group by event_id
    )

    select pieces.* replace (pieces.quantity - coalesce(used.quantity, 0) as quantity)
    from {{ rows }} as pieces
    left join used using (event_id)
    where pieces.quantity > coalesce(used.quantity, 0)
{% endmacro %}

{# Of a group of events: the day on which the last of them was undone, null while one still stands. #}
{% macro all_undone_date() -%}
    case when count(undone_date) = count(*) then max(undone_date) end
{%- endmacro %}
