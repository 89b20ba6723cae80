"""The reference pages, written from the contract and the settings, so that they cannot tell anything else."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines import contracts, forgotten, settings
from pipelines.contracts import Column, Table
from pipelines.reasons import REASONS

DOCS = Path(__file__).resolve().parents[1] / "docs"
MADE = "<!-- Written by `make docs` from the dbt property files and the settings; change those, not this page. -->\n"
FILE_RULES = {
    "unparsable_row": "The line could not be split into fields, or is no JSON object.",
    "invalid_encoding": "The row has bytes that are no text in the file's encoding.",
    "nul_byte": "The row contains a NUL.",
    "oversized_row": "The row is longer than `clean.max_row_kb`.",
}
EVENT_RULES = {
    "missing_item_id": "An event that is no search names no item.",
    "missing_query": "A search has no words.",
    "time_unit_mixup": "The time lies outside the shop's life, and inside it if its seconds were milliseconds, say.",
    "time_in_future": "The event happened after the end of the day on which it arrived.",
    "before_shop_opened": "The event happened before `shop.opened_on`.",
}
TWIN = 'Written with other case or inner space than where `{}` named it first; only under `clean.ids = "reject"`.'
HISTORY_RULES = {
    "too_late": "The event arrived more than `clean.look_back_days` after it happened, not with the first delivery.",
    "unknown_item": 'No catalogue that had arrived by then names the item; `clean.unknown_items = "keep"` lets it in.',
}
FORGOTTEN = {forgotten.RULE: "The row is of a user who is to be forgotten; nothing of it is kept but the count."}
LAST_RULES = {
    "replayed_before": "The row that it replays counts already, as it stood or by an earlier correction.",
    "duplicate": "The event was there already, in this file or an earlier one; for items and users, twice on one day.",
    "repeated_file": "The file has the same bytes as another one, whatever its name; its rows count once.",
}
OWN_RULES = {**FILE_RULES, **FORGOTTEN, **EVENT_RULES, **HISTORY_RULES, **LAST_RULES}


def pages() -> dict[Path, str]:
    """The text of every reference page by its place."""
    return {DOCS / "tables.md": _tables(), DOCS / "input.md": _input(), DOCS / "settings.md": _settings()}


def write() -> None:
    for path, text in pages().items():
        path.write_text(text)


def rejection_rules(table: Table) -> Iterator[tuple[str, str]]:
    """Every rule that can reject a row of a raw table, in the order in which they are tried, with what it means."""
    yield from FILE_RULES.items()
    if "user_id" in table.names:
        yield from FORGOTTEN.items()
    for column in table.columns:
        if not column.is_filled:
            yield from _column_rules(column)
    if table.name == "events":
        yield from EVENT_RULES.items()
    for name, owner in contracts.NAMED_BY.items():
        if name in table.names:
            yield f"{name}_twin", TWIN.format(owner)
    if table.name == "events":
        yield from HISTORY_RULES.items()
    yield from LAST_RULES.items()


def _column_rules(column: Column) -> Iterator[tuple[str, str]]:
    if column.data_type == "varchar":
        yield f"oversized_{column.name}", f"`{column.name}` is longer than `clean.max_field_chars`."
    else:
        yield f"unreadable_{column.name}", f"`{column.name}` is no {column.data_type}."
    if column.is_required:
        yield f"missing_{column.name}", f"`{column.name}` is empty."
    if column.accepted_values:
        yield f"unknown_{column.name}", f"`{column.name}` is none of {_words(column.accepted_values)}."
    if column.minimum is not None or column.maximum is not None:
        yield f"{column.name}_out_of_range", f"`{column.name}` is not {_range(column)}."


def _tables() -> str:
    tables = contracts.tables("serving").values()
    parts = [
        MADE,
        "# The published tables\n",
        f"Contract version {contracts.VERSION}. Every release is one DuckDB file, and `warehouse/current.duckdb` leads"
        " to the valid one; or one schema of PostgreSQL, or Parquet files that Spark SQL reads, and the views of the"
        " schema `nightshelf` lead to it.\n",
        *(_section(table, _constraints) for table in tables),
        "## Reasons\n\n" + _rows(("reason", "meaning"), ((f"`{code}`", text) for code, text in REASONS.items())),
    ]
    return "\n".join(parts)


def _input() -> str:
    parts = [
        MADE,
        "# The input contract\n",
        "Raw files lie under `raw/<table>/dt=YYYY-MM-DD/`, the day being that of arrival: `.csv`, `.jsonl` or"
        " `.parquet`, plain, gzip or zstd, any number a day, also in folders below. How a text file is written is seen"
        " in it or told in `[files.<table>]`; [cleaning.md](cleaning.md) tells what becomes of a row. Catalogue and"
        " users come whole or as changes: the latest row is valid. `[columns.<table>]` in `nightshelf.toml` maps other"
        " column names (a file without the mapped column is read by the contract's name), `[event_types]` other words"
        " for what users do.\n",
    ]
    for table in contracts.raw_tables().values():
        parts.append(_section(table, _delivery))
        parts.append("Rules, in the order in which they are tried; the first that a row breaks names its rejection.\n")
        parts.append(_rows(("rule", "rejects a row when"), ((f"`{r}`", text) for r, text in rejection_rules(table))))
    return "\n".join(parts)


def _settings() -> str:
    rows = ((f"`{n}`", f"`{json.dumps(d, default=str)}`", text) for n, (d, text) in settings.names().items())
    head = (
        "Read from `nightshelf.toml` in the home (or the file that `NIGHTSHELF_CONFIG` names), then, of a market, from"
        " its own ([markets.md](markets.md)), then from the environment (`NIGHTSHELF_ALS__FACTORS=32`), then from the"
        " run's parameters (`--set als.factors=32`).\n"
    )
    return "\n".join([MADE, "# Settings\n", head, _rows(("setting", "default", "meaning"), rows)])


def _section(table: Table, tell) -> str:
    rows = (
        (f"`{c.name}`", c.data_type, f"{c.description} {tell(c)}".strip()) for c in table.columns if not c.is_filled
    )
    key = ", ".join(f"`{name}`" for name in table.key)
    return f"## {table.name}\n\n{table.description} Key: {key}.\n\n" + _rows(("column", "type", "meaning"), rows)


def _constraints(column: Column) -> str:
    told = [] if column.is_required else ["May be empty."]
    if column.renamed_from:
        told.append(f"Was `{column.renamed_from}`, and can be read by that name until the next version.")
    if column.references:
        told.append(f"Refers to `{'.'.join(column.references)}`.")
    return " ".join([*told, *_bounds(column)])


def _delivery(column: Column) -> str:
    told = "The column may be missing." if column.is_optional else "**Required.**"
    return " ".join([told, *_bounds(column)])


def _bounds(column: Column) -> Iterator[str]:
    if column.accepted_values:
        yield f"One of {_words(column.accepted_values)}."
    if column.minimum is not None or column.maximum is not None:
        yield f"Is {_range(column)}."


def _range(column: Column) -> str:
    low = f"at least {column.minimum:,}" if column.minimum is not None else ""
    high = f"at most {column.maximum:,}" if column.maximum is not None else ""
    return " and ".join(part for part in (low, high) if part)


def _words(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    write()
