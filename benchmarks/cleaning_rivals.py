"""The rules of cleaning as a knowledgeable user would write them for DuckDB and for Polars, for comparison.

    python benchmarks/cleaning_rivals.py duckdb|polars HOME TARGET

Reads raw/ under HOME; writes accepted and rejected rows by arrival day, and the count of rows by rule, under TARGET.
"""

import json
import sys
from pathlib import Path

import duckdb
import polars as pl

TYPES = {"occurred_at": "timestamp", "quantity": "integer", "price_cents": "bigint"}
ACTS = ("search", "view", "cart", "purchase", "return")
TEXTS = ("event_id", "user_id", "event_type", "item_id", "query", "session_id", "order_id")
RULES_SQL = """
    case
        when event_type is null then 'missing_event_type'
        when event_type not in ('search', 'view', 'cart', 'purchase', 'return') then 'unknown_event_type'
        when raw_occurred_at is not null and occurred_at is null then 'unreadable_occurred_at'
        when occurred_at is null then 'missing_occurred_at'
        when raw_quantity is not null and quantity is null then 'unreadable_quantity'
        when coalesce(quantity, 1) not between 1 and 1000000 then 'quantity_out_of_range'
        when raw_price_cents is not null and price_cents is null then 'unreadable_price_cents'
        when price_cents not between 0 and 100000000 then 'price_cents_out_of_range'
        when event_type <> 'search' and item_id is null then 'missing_item_id'
        when event_type = 'search' and query is null then 'missing_query'
        when occurred_at >= arrived_on + interval 1 day then 'time_in_future'
        when occurred_at < timestamp '2020-01-01' then 'before_shop_opened'
        when date_diff('day', occurred_at::date, arrived_on) > 30 and arrived_on > first_day then 'too_late'
        when item_id is not null and known_on is null then 'unknown_item'
    end
"""


def with_duckdb(home: Path, target: Path) -> dict[str, int]:
    events = home / "raw/events/dt=*"
    is_csv = any((home / "raw/events").glob("*/*.csv"))
    reader = f"read_csv('{events}/*.csv', all_varchar = true" if is_csv else f"read_parquet('{events}/*.parquet'"
    texts = ", ".join(f"nullif(trim({name}), '') as {name}" for name in TEXTS)
    typed = ", ".join(f"{name} as raw_{name}, try_cast({name} as {kind}) as {name}" for name, kind in TYPES.items())
    with duckdb.connect(str(target / "scratch.duckdb"), config={"threads": 2, "preserve_insertion_order": False}) as db:
        db.execute(f"""
            create table judged as
            with typed as (
                select {texts}, {typed}, dt::date as arrived_on, filename, min(dt::date) over () as first_day
                from {reader}, filename = true, hive_partitioning = true, union_by_name = true)
            ),
            known as (
                select item_id as known_item, min(dt::date) as known_on
                from read_parquet('{home}/raw/items/*/*.parquet', hive_partitioning = true) group by all
            ),
            judged as (
                select typed.*, {RULES_SQL} as rule
                from typed left join known on item_id = known_item and known.known_on <= arrived_on
            )
            select * exclude (rule, raw_occurred_at, raw_quantity, raw_price_cents, first_day),
                coalesce(rule, case when row_number() over (
                    partition by event_id, rule is null order by arrived_on, hash(user_id, item_id, occurred_at)
                ) > 1 then 'duplicate' end) as rule
            from judged
        """)
        for verdict, condition in (("accepted", "rule is null"), ("rejected", "rule is not null")):
            db.execute(f"""
                copy (select * from judged where {condition} order by arrived_on, event_id)
                to '{target}/{verdict}' (format parquet, compression zstd, partition_by (arrived_on))
            """)
        return dict(
            db.execute("select coalesce(rule, 'accepted'), count(*) from judged group by 1 order by 1").fetchall()
        )


def with_polars(home: Path, target: Path) -> dict[str, int]:
    events = home / "raw/events"
    is_csv = any(events.glob("*/*.csv"))
    if is_csv:
        rows = pl.concat(
            pl.scan_csv(path, infer_schema=False, include_file_paths="file") for path in sorted(events.glob("*/*.csv"))
        )
    else:
        rows = pl.scan_parquet(str(events / "*/*.parquet"), hive_partitioning=False, include_file_paths="file")
    rows = rows.with_columns(pl.col("file").str.extract(r"dt=(\d{4}-\d{2}-\d{2})").str.to_date().alias("arrived_on"))
    rows = rows.with_columns(pl.col(name).str.strip_chars().replace("", None) for name in TEXTS)
    rows = rows.with_columns(
        pl.col("occurred_at").str.to_datetime(strict=False)
        if is_csv
        else pl.col("occurred_at").cast(pl.Datetime("us")),
        pl.col("quantity").cast(pl.Int32, strict=False).fill_null(1),
        pl.col("price_cents").cast(pl.Int64, strict=False),
        *(pl.col(name).alias(f"raw_{name}") for name in TYPES),
    )
    known = (
        pl.scan_parquet(str(home / "raw/items/*/*.parquet")).select("item_id", pl.lit(True).alias("is_known")).unique()
    )
    kind, when, day = pl.col("event_type"), pl.col("occurred_at"), pl.col("arrived_on")
    first = min(path.parent.name.removeprefix("dt=") for path in events.glob("*/*"))
    broken = {
        "missing_event_type": kind.is_null(),
        "unknown_event_type": ~kind.is_in(ACTS),
        "unreadable_occurred_at": pl.col("raw_occurred_at").is_not_null() & when.is_null(),
        "missing_occurred_at": when.is_null(),
        "quantity_out_of_range": ~pl.col("quantity").is_between(1, 1_000_000),
        "unreadable_price_cents": pl.col("raw_price_cents").is_not_null() & pl.col("price_cents").is_null(),
        "price_cents_out_of_range": ~pl.col("price_cents").is_between(0, 100_000_000),
        "missing_item_id": (kind != "search") & pl.col("item_id").is_null(),
        "missing_query": (kind == "search") & pl.col("query").is_null(),
        "time_in_future": when >= day.cast(pl.Datetime("us")) + pl.duration(days=1),
        "before_shop_opened": when < pl.datetime(2020, 1, 1),
        "too_late": ((day - when.dt.date()).dt.total_days() > 30) & (day > pl.lit(first).str.to_date()),
        "unknown_item": pl.col("item_id").is_not_null() & pl.col("is_known").is_null(),
    }
    rule = pl.coalesce(pl.when(condition).then(pl.lit(name)) for name, condition in broken.items())
    judged = rows.join(known, on="item_id", how="left").with_columns(rule.alias("rule"))
    content = pl.struct("user_id", "item_id", "occurred_at", "price_cents").hash()
    true = judged.filter(pl.col("rule").is_null()).sort("event_id", "arrived_on", content)
    copy = pl.when(~pl.col("event_id").is_first_distinct()).then(pl.lit("duplicate"))
    kept = pl.concat([judged.filter(pl.col("rule").is_not_null()), true.with_columns(copy.alias("rule"))])
    table = kept.drop("is_known", *(f"raw_{name}" for name in TYPES)).collect(engine="streaming")
    for verdict, condition in (("accepted", pl.col("rule").is_null()), ("rejected", pl.col("rule").is_not_null())):
        for (arrived, *_), part in table.filter(condition).partition_by("arrived_on", as_dict=True).items():
            folder = target / verdict / f"arrived_on={arrived}"
            folder.mkdir(parents=True)
            part.sort("event_id").write_parquet(folder / "part.parquet", compression="zstd")
    counts = table.group_by(pl.col("rule").fill_null("accepted")).len().sort("rule")
    return dict(counts.iter_rows())


if __name__ == "__main__":
    engine, home, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    target.mkdir()
    counts = {"duckdb": with_duckdb, "polars": with_polars}[engine](home, target)
    (target / "books.json").write_text(json.dumps(counts))
