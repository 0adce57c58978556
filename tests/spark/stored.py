"""What the tables hold, read without Spark: by delta-rs's list of files, or by the folders of Parquet tables."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable

DAY_FOLDERS = ds.partitioning(pa.schema([("day", pa.date32())]), flavor="hive")
TABLES = ("objects", "records", "records_tgw", "rejects", "coverage")


def rows(warehouse: object, name: str, where: ds.Expression | None = None) -> list[dict[str, Any]]:
    """The rows of a table, all or those for which something holds, in an order of their own values."""
    return in_order(arrow(warehouse, name, where))


def counted(warehouse: object, name: str, where: ds.Expression | None = None) -> dict[date, tuple[int, int]]:
    """By day the number of rows and the sum of their hashes, whatever their order: for large tables, whose rows take minutes to sort."""
    table = arrow(warehouse, name, where)
    with duckdb.connect() as connection:
        connection.register("stored", table)
        found = connection.execute("SELECT day, count(*), sum(hash(stored)) FROM stored GROUP BY day").fetchall()
    return {day: (count, int(hashes)) for day, count, hashes in found}


def arrow(warehouse: object, name: str, where: ds.Expression | None = None) -> pa.Table:
    """The rows of a table, all or those for which something holds, as they lie."""
    folder = Path(str(warehouse), name)
    if (folder / "_delta_log").exists():
        table = DeltaTable(folder)
        files, schema = table.file_uris(), pa.schema(table.schema().to_arrow())
    else:
        files, schema = [str(path) for path in folder.glob("day=*/*.parquet")], None
    return ds.dataset(files, schema=schema, partitioning=DAY_FOLDERS, partition_base_dir=str(folder)).to_table(filter=where)


def in_order(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=repr)


def all_rows(warehouse: object) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table of a day's ingest."""
    return {name: rows(warehouse, name) for name in TABLES}


def log_entries(warehouse: object, name: str, kind: str) -> list[dict[str, Any]]:
    """The actions of one kind in a Delta table's log, oldest first."""
    logs = sorted(Path(str(warehouse), name, "_delta_log").glob("*.json"))
    actions = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    return [action[kind] for action in actions if kind in action]


def part_files(warehouse: object) -> set[str]:
    """Every file below a warehouse that is not part of a Delta log."""
    root = Path(str(warehouse))
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and "_delta_log" not in path.parts}


def visible_files(warehouse: object) -> set[str]:
    """The part files that readers of the Delta tables see."""
    root = Path(str(warehouse)).resolve()
    found = (uri for name in TABLES for uri in DeltaTable(root / name).file_uris())
    return {str(Path(uri.removeprefix("file://")).relative_to(root)) for uri in found}
