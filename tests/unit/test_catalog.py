"""Every column has a meaning, the documentation is made of them, and other engines take the statements."""

import re
import subprocess
import sys
from datetime import date, datetime, timezone
from pathlib import Path

import pyarrow as pa
import pytest
import sqlglot
from sqlglot import expressions

from flowlog_udfs.catalog import TABLES
from flowlog_udfs.ddl import ENGINES, statements
from flowlog_udfs.errors import UsageError
from flowlog_udfs.tables import Warehouse, spark_schema

ROOT = Path(__file__).parents[2]
DAY = date(2026, 3, 10)


@pytest.mark.parametrize("entry", TABLES, ids=lambda entry: entry.table.name)
def test_every_column_has_its_meaning_and_no_other(entry):
    assert set(entry.schema.names) == set(entry.columns)
    assert all(meaning and len(meaning) < 140 and not meaning.endswith(".") for meaning in entry.columns.values())


def test_every_table_of_the_library_is_in_the_catalog():
    source = "\n".join(path.read_text() for path in (ROOT / "flowlog_udfs").rglob("*.py"))
    made = set(re.findall(r'_?[A-Z]\w* = Table\(\s*"(\w+)"', source))
    assert {entry.table.name for entry in TABLES} == made


def test_the_documentation_is_that_of_the_code():
    checked = subprocess.run([sys.executable, ".ci/make_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_statements_parse_and_name_every_column(engine: str, table_format: str):
    created = {}
    for statement in statements(engine, "s3://it's/flowlog", table_format, database="net"):
        (parsed,) = sqlglot.parse(statement, read=engine)
        if isinstance(parsed, expressions.Create) and parsed.kind in ("TABLE", "VIEW"):
            created[parsed.find(expressions.Table).name] = [one.name for one in parsed.find_all(expressions.ColumnDef)]
    if engine == "trino" and table_format == "delta":
        assert created == {}  # registered by a procedure
        return
    assert set(created) == {entry.table.name for entry in TABLES}
    if table_format == "parquet" and engine != "duckdb":
        for entry in TABLES:
            assert set(entry.schema.names) <= set(created[entry.table.name])


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_duckdb_sees_the_tables(duck, tmp_path, table_format: str):
    warehouse = Warehouse.open(str(tmp_path), table_format)
    for entry in TABLES:
        rows = pa.Table.from_pylist([{}], entry.table.schema)
        parts = warehouse.write_rows(entry.table, DAY, rows)
        warehouse.replace_day(entry.table, DAY, parts, inputs="none", now=datetime(2026, 3, 11, tzinfo=timezone.utc))
    for statement in statements("duckdb", str(tmp_path), table_format):
        duck.execute(statement)
    for entry in TABLES:
        (row,) = duck.execute(f"SELECT * FROM flowlog.{entry.table.name}").to_arrow_table().to_pylist()
        assert row.pop("day") == DAY
        assert set(row) == set(spark_schema(entry.table.schema).names)
        assert set(row.values()) <= {None}


def test_unknown_names_are_refused():
    with pytest.raises(UsageError, match="table 'flows': must be one of objects"):
        statements("duckdb", "tables", tables=["flows"])
    with pytest.raises(UsageError, match="engine 'mysql': must be one of athena"):
        statements("mysql", "tables")
