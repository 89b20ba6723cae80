"""The rules by which a raw row is true or not; the first one that a row breaks names its rejection.

Most come from the contract: `unreadable_<column>`, `oversized_<column>`, `missing_<column>`, `unknown_<column>`,
`<column>_out_of_range`. Each of the others is a function below that gives the condition under which a row breaks it.
"""

import datetime as dt
from collections.abc import Iterable, Iterator

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegralType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from pipelines import contracts
from pipelines.contracts import Column, Table
from pipelines.settings import Settings

Broken = tuple[str, SparkColumn]  # a rule's name, and when a row breaks it
NUMBER_BITS = {"integer": "int", "bigint": "bigint"}
UNIT = {"s": 1, "ms": 1000, "us": 1_000_000}  # of times written as a number: how many make a second
LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z


def typed(frame: DataFrame, table: Table, settings: Settings) -> DataFrame:
    """Contract columns by their types, null where they cannot be read, beside `rule`: the first rule that the row
    breaks by itself, null for a row that keeps all. Other columns stay."""
    columns = [column for column in table.columns if not column.is_filled]
    kept = [name for name in frame.columns if name not in table.names or name == "arrival_date"]
    values = frame.select(
        *kept,
        *[_comparable(_written(frame, c, settings), _kind(frame, c)).alias(f"_{c.name}") for c in columns],
        *[value(frame, c, settings).alias(c.name) for c in columns],
    )
    broken = [rule for c in columns for rule in contract_rules(c, settings)]
    if table.name == "events":
        broken += event_rules(settings)
    return values.select(*kept, *[c.name for c in columns], first_broken(F.col("problem"), broken).alias("rule"))


def value(frame: DataFrame, column: Column, settings: Settings) -> SparkColumn:
    """A column of `frame` by its contract type, null where it cannot be read."""
    if column.is_filled:
        return F.col(column.name)
    return _typed(_written(frame, column, settings), _kind(frame, column), column, settings)


def first_broken(before: SparkColumn, broken: Iterable[Broken]) -> SparkColumn:
    return F.coalesce(before, *[F.when(condition, F.lit(rule)) for rule, condition in broken])


def contract_rules(column: Column, settings: Settings) -> Iterator[Broken]:
    """What the contract says of one column; `_<column>` is the value as it was written."""
    name, value, written = column.name, F.col(column.name), F.col(f"_{column.name}")
    if column.data_type == "varchar":
        yield f"oversized_{name}", F.length(value) > settings.clean.max_field_chars
    else:
        yield f"unreadable_{name}", written.isNotNull() & value.isNull()
    if column.is_required:
        yield f"missing_{name}", value.isNull()
    if column.accepted_values:
        yield f"unknown_{name}", ~value.isin(*column.accepted_values)
    if column.minimum is not None or column.maximum is not None:
        yield f"{name}_out_of_range", ~_in_range(value, column)


def event_rules(settings: Settings) -> Iterator[Broken]:
    """The rules that only events have and that need nothing but the row."""
    is_search = F.col("event_type") == "search"
    yield "missing_item_id", ~is_search & F.col("item_id").isNull()
    yield "missing_query", is_search & F.col("query").isNull()
    yield "time_unit_mixup", time_unit_mixup(settings)
    yield "time_in_future", time_in_future()
    yield "before_shop_opened", before_shop_opened(settings.shop.opened_on)


def time_in_future() -> SparkColumn:
    """Nothing happened after the end of the day on which it arrived."""
    return F.col("occurred_at") >= F.col("day_end")


def before_shop_opened(opened_on: dt.date) -> SparkColumn:
    """Nothing happened before the shop existed."""
    return F.col("occurred_at") < F.lit(opened_on).cast("timestamp_ntz")


def time_unit_mixup(settings: Settings) -> SparkColumn:
    """A time outside the shop's life that lies inside it when it is read in another unit."""
    opened, number = F.lit(settings.shop.opened_on).cast("timestamp_ntz"), F.col("_occurred_at")
    told = number.try_cast("double") / UNIT[settings.clean.epoch_unit]
    seconds = F.coalesce(told, _seconds(F.col("occurred_at")))
    begin, end = _seconds(opened), _seconds(F.col("day_end"))
    fits = F.lit(False)
    for factor in (1e-3, 1e3, 1e-6, 1e6):
        fits = fits | (seconds * factor).between(begin, end)
    is_outside = before_shop_opened(settings.shop.opened_on) | time_in_future()
    return is_outside & fits


def too_late(first_arrival: dt.date) -> SparkColumn:
    """The event arrived longer after it happened than the look-back; what the first delivery brings is history."""
    is_late = (F.col("occurred_at") < F.col("look_back_start")) & (F.col("arrival_date") > F.lit(first_arrival))
    return is_late & F.col("replays").isNull()


def unknown_item() -> SparkColumn:
    """No catalogue that had arrived by then names the item; `known_on` is the day on which one did."""
    is_unknown = F.col("known_on").isNull() | (F.col("known_on") > F.col("arrival_date"))
    return F.col("item_id").isNotNull() & is_unknown


def folded(column: str | SparkColumn) -> SparkColumn:
    """An id without what only differs in writing: case, and how much space stands between its parts."""
    return F.lower(F.regexp_replace(column, r"\s+", " "))


def _written(frame: DataFrame, column: Column, settings: Settings) -> SparkColumn:
    """A value as it was written; of ids the folded spelling, where spellings do not count."""
    is_id = column.name in contracts.NAMED_BY and isinstance(_kind(frame, column), StringType)
    return folded(column.name) if is_id and settings.clean.ids == "merge" else F.col(column.name)


def _comparable(value: SparkColumn, kind: DataType) -> SparkColumn:
    """Times as seconds since 1970, so that the rules may compare what was written with numbers."""
    return _seconds(value) if isinstance(kind, TimestampType | TimestampNTZType) else value


def _kind(frame: DataFrame, column: Column) -> DataType:
    return frame.schema[column.name].dataType


def _typed(value: SparkColumn, kind: DataType, column: Column, settings: Settings) -> SparkColumn:
    """A written value as the contract's type, null when it cannot be read; a missing one takes the default."""
    match column.data_type:
        case "varchar":
            text = _words(_text(value, kind), column, settings)
            read = _listed(text) if column.is_list else text
        case "integer" | "bigint":
            read = _whole(value, kind, NUMBER_BITS[column.data_type])
        case "boolean":
            read = value if isinstance(kind, BooleanType) else _truth(F.lower(_text(value, kind)))
        case "timestamp":
            read = _moment(value, kind, settings)
        case _:
            raise contracts.UnknownConstraint(f"{column.name}: cleaning cannot read the type {column.data_type!r}.")
    return read if column.default is None else F.when(value.isNull(), F.lit(column.default)).otherwise(read)


def _words(text: SparkColumn, column: Column, settings: Settings) -> SparkColumn:
    """The shop's own words for what users do, in ours; case does not matter."""
    if column.name != "event_type":
        return text
    word = chosen = F.lower(text)
    for told, meaning in settings.event_types.items():
        chosen = F.when(word == told.lower(), F.lit(meaning)).otherwise(chosen)
    return chosen


def _listed(text: SparkColumn) -> SparkColumn:
    """Several values as one text, each once and in order, `|` between them; from that, or from a list in JSON, which is
    what lists of JSON lines and of Parquet have become."""
    parted = F.split(text, r"\|")
    listed = F.when(text.startswith("["), F.from_json(text, "array<string>"))
    values = F.transform(F.coalesce(listed, parted), lambda value: F.trim(value))
    kept = F.array_sort(F.array_distinct(F.filter(values, lambda value: value != "")))
    return F.when(F.size(kept) > 0, F.array_join(kept, "|"))


def _text(value: SparkColumn, kind: DataType) -> SparkColumn:
    """Typed Parquet columns as a shop would have written them; a float that is whole loses its point."""
    if isinstance(kind, DoubleType | FloatType):
        return F.when(value == F.floor(value), F.floor(value).cast("string")).otherwise(value.cast("string"))
    return value if isinstance(kind, StringType) else value.cast("string")


def _whole(value: SparkColumn, kind: DataType, bits: str) -> SparkColumn:
    """Whole numbers, also those written as `2.0` or `2e3`."""
    if isinstance(kind, IntegralType):
        return value.try_cast(bits)
    number = value if isinstance(kind, DoubleType | FloatType) else value.try_cast("decimal(38,6)")
    slow = F.when(number == F.floor(number), number.try_cast(bits))
    return slow if isinstance(kind, DoubleType | FloatType) else F.coalesce(value.try_cast(bits), slow)


def _truth(word: SparkColumn) -> SparkColumn:
    return F.when(word.isin("true", "t", "yes", "y", "1"), True).when(word.isin("false", "f", "no", "n", "0"), False)


def _moment(value: SparkColumn, kind: DataType, settings: Settings) -> SparkColumn:
    """UTC without a zone, from ISO 8601 or from seconds since 1970; what has no zone is the shop's local time."""
    zone, per_second = settings.shop.timezone, UNIT[settings.clean.epoch_unit]
    if isinstance(kind, TimestampType):
        return value.cast("timestamp_ntz")
    if isinstance(kind, TimestampNTZType):
        return _from_local(value.cast("timestamp"), zone)
    if isinstance(kind, IntegralType | DoubleType):
        return _since_1970(value.cast("double") / per_second)
    if not isinstance(kind, StringType):
        return F.lit(None).cast("timestamp_ntz")
    looks_right = (F.length(value) >= 16) & (F.substring(value, 5, 1) == "-") & (F.substring(value, 14, 1) == ":")
    has_zone = F.endswith(value, F.lit("Z")) | value.rlike(r"[+-]\d{2}:?\d{2}$")
    moment = value.try_cast("timestamp")
    told = F.when(has_zone, moment.cast("timestamp_ntz")).otherwise(_from_local(moment, zone))
    is_number = value.rlike(r"^\d{9,19}(\.\d+)?$")
    return F.when(looks_right, told).when(is_number, _since_1970(value.try_cast("double") / per_second))


def _since_1970(seconds: SparkColumn) -> SparkColumn:
    """What lies beyond the calendar stays at its end, where the rules find it in the future."""
    inside = F.when(F.isnan(seconds), None).otherwise(F.greatest(F.least(seconds, F.lit(LAST_SECOND)), F.lit(0)))
    return F.timestamp_micros((inside * 1_000_000).cast("bigint")).cast("timestamp_ntz")


def _from_local(moment: SparkColumn, timezone: str) -> SparkColumn:
    return (moment if timezone == "UTC" else F.to_utc_timestamp(moment, timezone)).cast("timestamp_ntz")


def _seconds(moment: SparkColumn) -> SparkColumn:
    return F.unix_micros(moment.cast("timestamp")) / 1e6


def _in_range(value: SparkColumn, column: Column) -> SparkColumn:
    inside = F.lit(True)
    if column.minimum is not None:
        inside = inside & (value >= column.minimum)
    if column.maximum is not None:
        inside = inside & (value <= column.maximum)
    return inside
