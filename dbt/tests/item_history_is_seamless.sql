{# Versions of an item follow each other without gap or overlap, and the last one is open. #}
with followed as (
    select *, lead(valid_from) over (partition by item_id order by valid_from) as next_from
    from {{ ref("item_history") }}
)

select * from followed
where valid_to is distinct from next_from or valid_to <= valid_from
