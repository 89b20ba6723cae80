{# What a count is of what was expected, at least: the 5 % quantile of its gamma-Poisson posterior, with one expected and
   one seen beforehand (DuMouchel 1999, EB05), by the cube of Wilson and Hilferty (1931). Below three seen it never exceeds 1. #}
{% macro least_ratio(seen, expected) -%}
    ({{ seen }} + 1) * pow(1 - 1 / (9.0 * ({{ seen }} + 1)) - 1.6449 / (3 * sqrt({{ seen }} + 1)), 3) / ({{ expected }} + 1)
{%- endmacro %}
