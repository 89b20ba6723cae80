{# Every version of every item: deliveries that say the same as the one before are one version. An item that a later
   file does not name stays as it is, for a catalogue may come as changes. #}
with versions as (
    select *, row(title, description, category, brand, price_cents, is_available) as said
    from {{ ref("stg_items") }}
),

compared as (
    select
        *,
        said is distinct from lag(said) over (partition by item_id order by arrival_date) as is_change
    from versions
),

changes as (
    select * from compared where is_change
),

spans as (
    select
        item_id,
        arrival_date as valid_from,
        lead(arrival_date) over (partition by item_id order by arrival_date) as valid_to,
        title,
        description,
        category,
        brand,
        price_cents,
        is_available,
        '{{ var("run_id") }}' as run_id
    from changes
)

select * from spans
order by item_id, valid_from
