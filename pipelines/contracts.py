"""The table contracts, read from the dbt property files: the one place where columns and constraints are declared."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DBT = Path(__file__).resolve().parents[1] / "dbt"
VERSION = 1  # of what is published
TYPES = {"varchar", "integer", "bigint", "double", "boolean", "date", "timestamp"}
LAYERS = ("staging", "marts", "serving")
NAMED_BY = {"item_id": "items", "user_id": "users"}  # ids that people type, and the raw table that names them
SAID_AGAIN = ("duplicate", "replayed_before", "repeated_file")  # rules that only say that the row counts elsewhere


class UnknownConstraint(ValueError):
    """A property file says something that the reader does not understand: a silent rule is no rule."""


@dataclass(frozen=True)
class Column:
    """One column and all that must hold of it."""

    name: str
    data_type: str
    description: str
    is_required: bool = False
    is_unique: bool = False
    accepted_values: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    references: tuple[str, str] | None = None  # table, column
    renamed_from: str | None = None  # published only: the name in the version before, which goes on being readable
    is_optional: bool = False  # input only: the file may lack the column
    is_filled: bool = False  # input only: cleaning adds it
    is_list: bool = False  # input only: several values, which the lake has as one text
    default: Any = None


@dataclass(frozen=True)
class Table:
    """One table: its grain is its key, and the description ends with it."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    may_be_empty: bool = False
    empty_with: str | None = None  # may be empty only when this table of the marts is
    is_optional: bool = False

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]

    def sources(self, mapping: Mapping[str, str], columns: Iterable[str]) -> dict[str, str]:
        """Which of a file's columns brings each one of the input contract: the mapped one, or the one of the contract's
        own name in a file that is older than the mapping and lacks the mapped one."""
        had = set(columns)
        names = [column.name for column in self.columns if not column.is_filled]
        chosen = {name: mapping.get(name, name) for name in names}
        return {name: name if source not in had and name in had else source for name, source in chosen.items()}

    def ddl(self, qualified_name: str | None = None) -> str:
        """`create table` with types and not-null constraints, understood by DuckDB and PostgreSQL alike."""
        rows = [f'  "{c.name}" {_sql_type(c)}{" not null" if c.is_required else ""}' for c in self.columns]
        return f"create table {qualified_name or self.name} (\n" + ",\n".join(rows) + "\n)"


@cache
def tables(layer: str) -> Mapping[str, Table]:
    """The tables of a layer (`staging` = the input, `marts`, `serving` = what is published) by name."""
    if layer not in LAYERS:
        raise KeyError(f"no layer {layer!r}; there are {', '.join(LAYERS)}")
    return {table.name: table for path in sorted((DBT / "models" / layer).glob("*.yml")) for table in _read(path)}


def raw_tables() -> Mapping[str, Table]:
    """The input contract: what a shop delivers, in the order of cleaning (the catalogue before the events)."""
    staging = tables("staging")
    return {name: staging[name] for name in ("items", "users", "events")}


def _read(path: Path) -> Iterator[Table]:
    document = yaml.safe_load(path.read_text())
    for source in document.get("sources", []):
        yield from (_table(table, path) for table in source["tables"])
    yield from (_table(model, path) for model in document.get("models", []) if "columns" in model)


def _table(node: Mapping[str, Any], path: Path) -> Table:
    meta = node.get("config", {}).get("meta", {})
    columns = tuple(_column(column, node["name"], path) for column in node["columns"])
    key = _key(node, path) or tuple(meta.get("key", ())) or tuple(c.name for c in columns if c.is_unique)[:1]
    description = " ".join(node["description"].split())
    return Table(
        name=node["name"],
        description=description,
        columns=columns,
        key=key,
        may_be_empty=bool(meta.get("may_be_empty")),
        empty_with=meta.get("empty_with"),
        is_optional=bool(meta.get("is_optional")),
    )


def _key(node: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    key: tuple[str, ...] = ()
    for name, arguments in map(_split, node.get("data_tests", [])):
        if name != "unique_key":
            raise UnknownConstraint(f"{path.name}: table {node['name']}: constraint {name!r} is not understood.")
        key = tuple(arguments["columns"])
    return key


def _column(node: Mapping[str, Any], table: str, path: Path) -> Column:
    meta = node.get("config", {}).get("meta", {})
    facts: dict[str, Any] = {}
    for name, arguments in map(
        _split, [*node.get("data_tests", []), *(c["type"] for c in node.get("constraints", []))]
    ):
        facts |= _fact(name, arguments, f"{path.name}: {table}.{node['name']}")
    if node.get("data_type") not in TYPES:
        raise UnknownConstraint(
            f"{path.name}: {table}.{node['name']}: data_type {node.get('data_type')!r} is not one of {sorted(TYPES)}."
        )
    return Column(
        name=node["name"],
        data_type=node["data_type"],
        description=" ".join(node.get("description", "").split()),
        is_optional=bool(meta.get("is_optional")),
        is_filled=bool(meta.get("filled")),
        is_list=bool(meta.get("list")),
        default=meta.get("default"),
        renamed_from=_old_name(meta, f"{path.name}: {table}.{node['name']}"),
        **facts,
    )


def _old_name(meta: Mapping[str, Any], place: str) -> str | None:
    """What `renamed_from: { name: …, version: … }` says; raises UnknownConstraint for any version but this one, since
    the old name is promised for one version alone."""
    if not (told := meta.get("renamed_from")):
        return None
    if told["version"] != VERSION:
        raise UnknownConstraint(
            f"{place}: renamed_from is of version {told['version']}, the contract is of version {VERSION}. Take it "
            "away, and tell readers so in CHANGELOG.md."
        )
    return told["name"]


def _fact(name: str, arguments: Mapping[str, Any], place: str) -> dict[str, Any]:
    match name:
        case "not_null":
            return {"is_required": True}
        case "unique":
            return {"is_unique": True}
        case "accepted_values":
            return {"accepted_values": tuple(arguments["values"])}
        case "in_range":
            return {"minimum": arguments.get("minimum"), "maximum": arguments.get("maximum")}
        case "relationships":
            return {"references": (arguments["to"].split("'")[-2], arguments["field"])}
    raise UnknownConstraint(
        f"{place}: constraint {name!r} is not understood. Teach pipelines/contracts.py what it means."
    )


def _split(test: str | Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """A test is a bare name, or a name with arguments."""
    if isinstance(test, str):
        return test, {}
    ((name, body),) = test.items()
    return name, body.get("arguments", {})


def _sql_type(column: Column) -> str:
    return {"double": "double precision"}.get(column.data_type, column.data_type)
