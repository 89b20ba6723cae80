{# What returns took from each purchase, and the day from which on that is so; one row per purchase and return. #}
with pieces as (
    select * from {{ ref("int_pieces") }}
),

undone as (
    select
        undos.*,
        undos.quantity / cast(purchases.quantity as double) as share,
        greatest(purchases.event_date, returns.event_date) as undone_date,
        sum(undos.quantity) over (partition by undos.purchase_id) = purchases.quantity as is_whole
    from {{ ref("int_undos") }} as undos
    inner join pieces as purchases on undos.purchase_id = purchases.event_id
    inner join pieces as returns on undos.return_id = returns.event_id
)

select * from undone
