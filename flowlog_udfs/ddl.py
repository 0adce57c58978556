"""The statements with which other engines see a warehouse's tables: Athena (through Glue), Trino and DuckDB.

Sources: Athena user guide, "Query Linux Foundation Delta Lake tables" and "Partition projection"; Trino, Delta Lake and Hive connectors;
DuckDB, Delta extension.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa

from flowlog_udfs.catalog import TABLES, Entry, sql_type
from flowlog_udfs.errors import UsageError

FIRST_DAY = "2015-06-10"
"""Before the first flow log there was: VPC Flow Logs were announced that day."""


def statements(
    engine: str, warehouse: str, table_format: str = "delta", *, database: str = "flowlog", tables: Iterable[str] = ()
) -> list[str]:
    """What creates the database, and one statement or two for each table, all of them unless `tables` names some.

    `warehouse` is the URL that the engine itself can open. Raises `UsageError` for an unknown name.
    """
    known = {entry.table.name: entry for entry in TABLES}
    chosen = list(tables) or list(known)
    for name in chosen:
        if name not in known:
            raise UsageError(f"table {name!r}: must be one of {', '.join(known)}")
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r}: must be one of {', '.join(ENGINES)}")
    root = warehouse.rstrip("/")
    first, of_table = ENGINES[engine]
    made = [one for name in chosen for one in of_table(known[name], f"{root}/{name}/", table_format, database)]
    return [first.format(database=database, catalog="delta" if table_format == "delta" else "hive"), *made]


def _athena(entry: Entry, location: str, table_format: str, database: str) -> list[str]:
    name = f"{database}.{entry.table.name}"
    if table_format == "delta":
        # Athena takes the columns from Delta's log, and refuses any that are named here.
        return [f"CREATE EXTERNAL TABLE IF NOT EXISTS {name}\nLOCATION {_hive_text(location)}\nTBLPROPERTIES ('table_type' = 'DELTA');"]
    columns = ",\n".join(f"  `{one.name}` {_hive_type(one.type)} COMMENT {_hive_text(entry.columns[one.name])}" for one in entry.schema)
    projection = {
        "projection.enabled": "true",
        "projection.day.type": "date",
        "projection.day.format": "yyyy-MM-dd",
        "projection.day.range": f"{FIRST_DAY},NOW",
        "storage.location.template": f"{location}day=${{day}}/",
    }
    properties = ",\n".join(f"  '{key}' = {_hive_text(value)}" for key, value in projection.items())
    return [
        f"CREATE EXTERNAL TABLE IF NOT EXISTS {name} (\n{columns}\n)\nPARTITIONED BY (`day` DATE)\nSTORED AS PARQUET\n"
        f"LOCATION {_hive_text(location)}\nTBLPROPERTIES (\n{properties}\n);"
    ]


def _trino(entry: Entry, location: str, table_format: str, database: str) -> list[str]:
    name = entry.table.name
    if table_format == "delta":
        # The catalog needs `delta.register-table-procedure.enabled=true`.
        place = f"table_location => {_sql_text(location)}"
        return [f"CALL delta.system.register_table(schema_name => '{database}', table_name => '{name}', {place});"]
    columns = ",\n".join(f'  "{one.name}" {_trino_type(one.type)} COMMENT {_sql_text(entry.columns[one.name])}' for one in entry.schema)
    created = (
        f'CREATE TABLE IF NOT EXISTS hive.{database}.{name} (\n{columns},\n  "day" DATE\n)\n'
        f"WITH (format = 'PARQUET', external_location = {_sql_text(location)}, partitioned_by = ARRAY['day']);"
    )
    return [created, f"CALL hive.system.sync_partition_metadata('{database}', '{name}', 'FULL');"]


def _duckdb(entry: Entry, location: str, table_format: str, database: str) -> list[str]:
    rows = (
        f"delta_scan({_sql_text(location)})"
        if table_format == "delta"
        else f"read_parquet({_sql_text(location + '*/*.parquet')}, hive_partitioning = true)"
    )
    return [f"CREATE OR REPLACE VIEW {database}.{entry.table.name} AS SELECT * FROM {rows};"]  # noqa: S608 - it is printed


ENGINES: dict[str, tuple[str, Callable[[Entry, str, str, str], list[str]]]] = {
    "athena": ("CREATE DATABASE IF NOT EXISTS {database};", _athena),
    "trino": ("CREATE SCHEMA IF NOT EXISTS {catalog}.{database};", _trino),
    "duckdb": ("CREATE SCHEMA IF NOT EXISTS {database};", _duckdb),
}
"""What comes first, and what makes one table."""


def _hive_type(kind: pa.DataType) -> str:
    return sql_type(kind).replace(": ", ":")


def _trino_type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"MAP({_trino_type(kind.key_type)}, {_trino_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"ARRAY({_trino_type(kind.value_type)})"
    if pa.types.is_struct(kind):
        return f"ROW({', '.join(f'{one.name} {_trino_type(one.type)}' for one in kind)})"
    return {"STRING": "VARCHAR", "INT": "INTEGER"}.get(sql_type(kind), sql_type(kind))


def _sql_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _hive_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
