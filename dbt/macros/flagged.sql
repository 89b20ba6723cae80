{# A ledger's entries as they stand once bots are known: those of a bot count up to the day of its flag, which takes
   them off again, and never from then on. #}
{% macro less_bots(entries, key, figures) %}
    select {{ key }}, known_date, {{ figures | join(", ") }}
    from {{ entries }}
    where flagged_date is null or known_date < flagged_date
    union all
    select {{ key }}, flagged_date as known_date, -{{ figures | join(", -") }}
    from {{ entries }}
    where known_date < flagged_date
{% endmacro %}
