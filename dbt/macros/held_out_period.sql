{# How many of the cuts of the held-out days lie before a day: what is learnt as of cut n may see the periods below n. #}
{% macro held_out_period(day) -%}
    {% for cut in var("holdout_cuts") %}cast({{ day }} > cast('{{ cut }}' as date) as integer) + {% endfor %}0
{%- endmacro %}
