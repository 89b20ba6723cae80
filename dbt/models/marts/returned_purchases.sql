with pieces as (
    select * from {{ ref("int_pieces") }}
),

undos as (
    select * from {{ ref("int_undos") }}
),

matched as (
    select return_id, sum(quantity) as quantity from undos group by return_id
),

unmatched as (
    select
        null as purchase_id,
        pieces.event_id as return_id,
        pieces.quantity - coalesce(matched.quantity, 0) as quantity,
        null as matched_by
    from pieces
    left join matched on pieces.event_id = matched.return_id
    where pieces.is_return and pieces.quantity > coalesce(matched.quantity, 0)
),

every as (
    select * from undos
    union all
    select * from unmatched
),

told as (
    select
        returns.event_id as return_event_id,
        purchases.event_id as purchase_event_id,
        returns.owner_id as user_id,
        returns.item_id,
        purchases.event_date as purchase_date,
        returns.event_date as return_date,
        cast(every.quantity as bigint) as quantity,
        cast(every.matched_by as varchar) as matched_by
    from every
    inner join pieces as returns on every.return_id = returns.event_id
    left join pieces as purchases on every.purchase_id = purchases.event_id
)

select * from told
order by return_event_id, purchase_event_id
