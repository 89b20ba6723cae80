{# How purchases and returns meet. Both passes read rows of (event_id, is_return, quantity, occurred_at, …) and answer
   with rows of (purchase_id, return_id, quantity). #}

{# Within `key` and in this `order`, the piece bought first comes back first. Pieces count on, as on a tape: purchases
   cover one stretch of it after the other, so do returns; the tape is cut at the end of each, and every stretch belongs
   to the purchase and the return that end next. What comes back beyond all that was bought by then covers nothing. #}
{% macro first_in_first_out(rows, key, order) %}
    with counted as (
        select
            *,
            sum(case when is_return then 0 else quantity end) over past as bought,
            sum(case when is_return then quantity else 0 end) over past as brought
        from {{ rows }}
        window past as (partition by {{ key }} order by {{ order }} rows between unbounded preceding and current row)
    ),

    laid as (
        select
            *,
            case
                when is_return then brought - greatest(0, max(brought - bought) over past)
                else bought
            end as last_piece
        from counted
        window past as (partition by {{ key }} order by {{ order }} rows between unbounded preceding and current row)
    ),

    stretches as (
        select
            first_value(case when not is_return then event_id end ignore nulls) over ahead as purchase_id,
            first_value(case when is_return then event_id end ignore nulls) over ahead as return_id,
            last_piece - lag(last_piece, 1, 0) over (partition by {{ key }} order by last_piece, {{ order }}) as quantity
        from laid
        window ahead as (
            partition by {{ key }} order by last_piece, {{ order }} rows between current row and unbounded following
        )
    )

    select * from stretches
    where quantity > 0 and purchase_id is not null and return_id is not null
{% endmacro %}

{# A return undoes the latest purchase before it of exactly as many pieces. They nest as brackets do: a return closes
   the last purchase that is open, which is the one before it at the same depth. #}
{% macro latest_of_equal_quantity(rows) %}
    {% set key = "user_id, item_id, quantity" %}
    {% set order = "occurred_at, is_return, event_id" %}
    with nested as (
        select
            *,
            sum(case when is_return then -1 else 1 end) over (
                partition by {{ key }} order by {{ order }} rows between unbounded preceding and current row
            ) + case when is_return then 1 else 0 end as depth
        from {{ rows }}
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
