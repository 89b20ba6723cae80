{# The shop's calendar day of a moment in UTC. #}
{% macro shop_date(moment) -%}
    cast(timezone('{{ var("timezone") }}', timezone('UTC', {{ moment }})) as date)
{%- endmacro %}
