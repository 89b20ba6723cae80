"""The rules by which a raw row is true or not; the first one that a row breaks names its rejection.

Most come from the contract: `missing_<column>`, `unreadable_<column>`, `unknown_<column>`, `<column>_out_of_range`.
The others are written out below.
"""

from collections.abc import Callable
from functools import reduce

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from pipelines import contracts
from pipelines.contracts import Column, Table
from pipelines.settings import Settings

Transform = Callable[[DataFrame], DataFrame]
NUMBER_BITS = {"integer": "int", "bigint": "bigint"}


def apply(raw: DataFrame, table: Table, settings: Settings) -> DataFrame:
    """Typed contract columns beside `original`, `file`, `arrival_date` and `rule`, null for a row that keeps all."""
    frame = raw.withColumn("rule", F.when(F.col("is_broken"), "unparsable_row"))
    if table.name == "events":
        frame = frame.transform(translate_event_types(settings.event_types))
    for column in table.columns:
        if not column.is_filled:
            frame = frame.transform(keep_contract(column, settings.shop.timezone))
    return frame.drop("is_broken")


def keep_contract(column: Column, timezone: str) -> Transform:
    """Type one column and hold it against its constraints."""
    name = column.name
    text, value = F.col(f"_{name}"), F.col(name)

    def transform(frame: DataFrame) -> DataFrame:
        frame = frame.withColumnRenamed(name, f"_{name}").withColumn(name, typed(text, column, timezone))
        frame = frame.transform(reject(f"unreadable_{name}", text.isNotNull() & value.isNull()))
        if column.is_required:
            frame = frame.transform(reject(f"missing_{name}", value.isNull()))
        if column.accepted_values:
            frame = frame.transform(reject(f"unknown_{name}", ~value.isin(*column.accepted_values)))
        if column.minimum is not None or column.maximum is not None:
            frame = frame.transform(reject(f"{name}_out_of_range", ~_in_range(value, column)))
        return frame.drop(f"_{name}")

    return transform


def typed(text: SparkColumn, column: Column, timezone: str) -> SparkColumn:
    """A text as the contract's type, null when it cannot be read; a missing text takes the contract's default."""
    match column.data_type:
        case "varchar":
            value = text
        case "integer" | "bigint":
            number = text.try_cast("decimal(38,6)")
            value = F.when(number == F.floor(number), number.try_cast(NUMBER_BITS[column.data_type]))
        case "boolean":
            word = F.lower(text)
            value = F.when(word.isin("true", "t", "yes", "y", "1"), True).when(
                word.isin("false", "f", "no", "n", "0"), False
            )
        case "timestamp":
            value = _utc(text, timezone)
        case _:
            raise contracts.UnknownConstraint(f"{column.name}: cleaning cannot read the type {column.data_type!r}.")
    return value if column.default is None else F.when(text.isNull(), F.lit(column.default)).otherwise(value)


def reject(rule: str, is_broken: SparkColumn) -> Transform:
    """Name the rule on rows that break it, unless an earlier one did."""
    return lambda frame: frame.withColumn("rule", F.coalesce("rule", F.when(is_broken, rule)))


def translate_event_types(words: dict[str, str]) -> Transform:
    """The shop's own words for what users do, in ours; case does not matter."""
    pairs = {word.lower(): meaning for word, meaning in words.items()}

    def transform(frame: DataFrame) -> DataFrame:
        word = F.lower("event_type")
        chosen = reduce(
            lambda other, pair: other.when(word == pair[0], pair[1]), pairs.items(), F.when(F.lit(False), "")
        )
        return frame.withColumn("event_type", chosen.otherwise(word))

    return transform


def need_item(frame: DataFrame) -> DataFrame:
    """Every event but a search is about an item."""
    return frame.transform(reject("missing_item_id", (F.col("event_type") != "search") & F.col("item_id").isNull()))


def need_query(frame: DataFrame) -> DataFrame:
    """A search without words says nothing."""
    return frame.transform(reject("missing_query", (F.col("event_type") == "search") & F.col("query").isNull()))


def not_from_the_future(timezone: str) -> Transform:
    """Nothing happened after the end of the day on which it arrived."""
    day_end = F.to_utc_timestamp(F.date_add("arrival_date", 1).cast("timestamp"), timezone).cast("timestamp_ntz")
    return reject("time_in_future", F.col("occurred_at") >= day_end)


def not_before_opening(settings: Settings) -> Transform:
    """Nothing happened before the shop existed."""
    return reject("before_shop_opened", F.col("occurred_at") < F.lit(settings.shop.opened_on).cast("timestamp_ntz"))


def know_item(first_seen: DataFrame) -> Transform:
    """The item stands in a catalogue that had arrived by then; `first_seen` has item_id and first_arrival."""

    def transform(frame: DataFrame) -> DataFrame:
        joined = frame.join(F.broadcast(first_seen), "item_id", "left")
        is_unknown = F.col("first_arrival").isNull() | (F.col("first_arrival") > F.col("arrival_date"))
        return joined.transform(reject("unknown_item", F.col("item_id").isNotNull() & is_unknown)).drop("first_arrival")

    return transform


def identify(frame: DataFrame) -> DataFrame:
    """An event without an id is identified by all that it says."""
    said = [name for name in contracts.raw_tables()["events"].names if name not in ("event_id", "arrival_date")]
    content = F.concat_ws("\x1f", *[F.coalesce(F.col(name).cast("string"), F.lit("\x00")) for name in said])
    return frame.withColumn("event_id", F.coalesce("event_id", F.sha2(content, 256)))


def keep_first(keys: list[str]) -> Transform:
    """Of true rows with the same key, the one that arrived first stays; ties go by content, never by reading order."""
    is_true = F.col("rule").isNull()
    same = Window.partitionBy(*keys, is_true).orderBy("arrival_date", F.xxhash64("original"), "original", "file")

    def transform(frame: DataFrame) -> DataFrame:
        numbered = frame.withColumn("_copy", F.row_number().over(same))
        return numbered.transform(reject("duplicate", F.col("_copy") > 1)).drop("_copy")

    return transform


def keep_unseen(seen: DataFrame) -> Transform:
    """An event that an earlier day brought is not counted again; `seen` has event_id."""

    def transform(frame: DataFrame) -> DataFrame:
        flagged = frame.join(seen.select("event_id").withColumn("_seen", F.lit(True)), "event_id", "left")
        return flagged.transform(reject("duplicate", F.col("_seen"))).drop("_seen")

    return transform


def _utc(text: SparkColumn, timezone: str) -> SparkColumn:
    """ISO 8601 in UTC without a zone; a text without a zone is the shop's local time."""
    looks_right = text.rlike(r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")
    has_zone = text.rlike(r"(Z|[+-]\d{2}:?\d{2})$")
    moment = text.try_cast("timestamp")
    return F.when(looks_right, F.when(has_zone, moment).otherwise(F.to_utc_timestamp(moment, timezone))).cast(
        "timestamp_ntz"
    )


def _in_range(value: SparkColumn, column: Column) -> SparkColumn:
    inside = F.lit(True)
    if column.minimum is not None:
        inside = inside & (value >= column.minimum)
    if column.maximum is not None:
        inside = inside & (value <= column.maximum)
    return inside
