"""`flowlog ddl`: statements with which other engines see the tables."""

from __future__ import annotations

import argparse

from rich.console import Console

from flowlog_udfs.arguments import add_warehouse
from flowlog_udfs.command.output import Output

HELP = "print the statements with which Athena, Trino or DuckDB see the tables"
EXAMPLE = "flowlog ddl --warehouse s3://my-tables/flowlog --engine athena"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which tables, for which engine."""
    add_warehouse(parser)
    parser.add_argument("--engine", required=True, choices=("athena", "trino", "duckdb"))
    parser.add_argument("--database", default="flowlog", help="database or schema that they go into (default: flowlog)")
    parser.add_argument("--table", action="append", default=[], metavar="NAME", help="only this table (repeatable; default: all there are)")


def execute(given: argparse.Namespace, output: Output) -> int:
    """Print the statements; a warehouse that holds tables already gets those of its own only."""
    from flowlog_udfs.catalog import TABLES
    from flowlog_udfs.ddl import statements
    from flowlog_udfs.tables import Warehouse

    warehouse = Warehouse.open(given.warehouse, given.table_format)
    there = set(warehouse.storage.folders(warehouse.prefix)) if not given.table else set()
    names = given.table or [entry.table.name for entry in TABLES if entry.table.name in there]
    made = statements(given.engine, warehouse.storage.url(warehouse.prefix), given.table_format, database=given.database, tables=names)

    def view(console: Console) -> None:
        console.print("\n\n".join(made), markup=False)

    output.show({"engine": given.engine, "statements": made}, view)
    return 0
