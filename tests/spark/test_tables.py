"""Tables as other engines find them: protocol, statistics, and what DuckDB, delta-rs and Spark read."""

import json
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from logtree import DAY, NEXT_DAY
from running import NastyRun
from stored import TABLES, in_order, log_entries, rows

from flowlog_udfs import parts
from flowlog_udfs.coverage import COVERAGE_TABLE
from flowlog_udfs.errors import UsageError
from flowlog_udfs.ingest import OBJECTS, RECORDS_TABLE, RECORDS_TGW_TABLE, REJECTS
from flowlog_udfs.tables import Table, Warehouse

SKIPPING = {table.name: table.skipping_columns for table in (OBJECTS, RECORDS_TABLE, RECORDS_TGW_TABLE, REJECTS, COVERAGE_TABLE)}
NOW = datetime(2026, 3, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize("name", TABLES)
def test_every_delta_reader_understands_the_tables(nasty: NastyRun, name: str):
    assert log_entries(nasty.warehouse, name, "protocol") == [{"minReaderVersion": 1, "minWriterVersion": 2}]
    [metadata] = log_entries(nasty.warehouse, name, "metaData")
    assert metadata["partitionColumns"] == ["day"]
    assert not any("columnMapping" in key or "deletionVectors" in key for key in metadata["configuration"])
    for file in log_entries(nasty.warehouse, name, "add"):
        assert file["path"].startswith(f"day={DAY}/part-")
        assert file["partitionValues"] == {"day": str(DAY)}
        assert "deletionVector" not in file
        assert file["size"] == (nasty.warehouse / name / file["path"]).stat().st_size


@pytest.mark.parametrize("name", TABLES)
def test_duckdb_reads_the_tables(duck: duckdb.DuckDBPyConnection, nasty: NastyRun, name: str):
    read = duck.sql(f"SELECT * FROM delta_scan('{nasty.warehouse / name}')").to_arrow_table()
    assert in_order(read) == rows(nasty.warehouse, name)


def test_duckdb_skips_by_statistics_and_partition(duck: duckdb.DuckDBPyConnection, nasty: NastyRun):
    scan = f"delta_scan('{nasty.warehouse / 'records'}')"
    found = duck.sql(f"SELECT count(*), sum(bytes) FROM {scan} WHERE day = DATE '{DAY}' AND flow_log_id = 'fl-announced'").fetchone()
    assert found == (2, 5_225_004_877)
    assert duck.sql(f"SELECT count(*) FROM {scan} WHERE day = DATE '{NEXT_DAY}'").fetchone() == (0,)
    assert duck.sql(f"SELECT count(*) FROM {scan} WHERE start_time >= TIMESTAMPTZ '2026-03-10 23:59:00+00'").fetchone() == (1,)


def test_spark_skips_by_statistics_and_finds_the_same(spark, nasty: NastyRun):
    records = spark.read.format("delta").load(f"{nasty.warehouse}/records")
    found = (records.where(condition).count() for condition in ("flow_log_id = 'fl-announced'", "action = 'DROP'", "log_status is null"))
    assert list(found) == [2, 0, 2]


def test_delta_rs_reads_schema_and_files(nasty: NastyRun):
    table = DeltaTable(nasty.warehouse / "records")
    fields = {field.name: field.type for field in pa.schema(table.schema().to_arrow())}
    assert (fields["start_time"], fields["day"], fields["bytes"]) == (pa.timestamp("us", "UTC"), pa.date32(), pa.int64())
    assert [table.version(), len(table.file_uris(partition_filters=[("day", "=", str(DAY))]))] == [0, len(table.file_uris())]
    assert table.file_uris(partition_filters=[("day", "=", str(NEXT_DAY))]) == []


@pytest.mark.parametrize("name", TABLES)
def test_delta_rs_finds_rows_by_columns_with_statistics_and_without(nasty: NastyRun, name: str):
    """Where files lack statistics that readers expect, delta-rs compares with null and finds nothing."""
    dataset = DeltaTable(nasty.warehouse / name).to_pyarrow_dataset()
    held = dataset.to_table()
    for column in (field.name for field in held.schema if not pa.types.is_nested(field.type)):
        for value in held.column(column).unique()[:5]:
            wanted = pc.field(column).is_null() if not value.is_valid else pc.field(column) == value
            counted = held.filter(wanted).num_rows
            assert dataset.count_rows(filter=wanted) == counted > 0, (column, value)


def test_an_older_table_is_told_its_statistics_columns(tmp_path):
    table = Table("words", pa.schema([("word", pa.string()), ("number", pa.int64())]))
    warehouse = Warehouse.open(str(tmp_path))
    rows_ = pa.table([["a", "b"], [1, 2]], schema=table.schema)
    warehouse.replace_day(table, DAY, warehouse.write_rows(table, DAY, rows_), inputs="none", now=NOW)
    more = replace(table, skipping_columns=("word",))
    warehouse.replace_day(more, NEXT_DAY, warehouse.write_rows(more, NEXT_DAY, rows_), inputs="none", now=NOW)
    opened = DeltaTable(tmp_path / "words")
    assert opened.metadata().configuration["delta.dataSkippingStatsColumns"] == "word"
    assert opened.to_pyarrow_dataset().count_rows(filter=pc.field("number") == 2) == 2


def bounded_columns(folder: Path, file: dict, columns: tuple[str, ...]) -> set[str]:
    """The columns with a minimum and maximum, after a check that what a commit says of a file is what the file holds."""
    told = json.loads(file["stats"])
    held = pq.read_table(folder / file["path"], partitioning=None)
    assert told["numRecords"] == held.num_rows
    assert told["nullCount"] == {column: held.column(column).null_count for column in columns if column in held.column_names}
    assert set(told["minValues"]) == set(told["maxValues"])
    for column in told["minValues"]:
        extremes = pc.min_max(held.column(column)).as_py()
        for which, end in (("minValues", "min"), ("maxValues", "max")):
            value = told[which][column]
            value = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(extremes[end], datetime) else value
            assert value == extremes[end], column
    return set(told["minValues"])


@pytest.mark.parametrize("name", TABLES)
def test_statistics_are_those_of_the_file(nasty: NastyRun, name: str):
    files = log_entries(nasty.warehouse, name, "add")
    assert len(files) >= 1
    for file in files:
        bounded = bounded_columns(nasty.warehouse / name, file, SKIPPING[name])
        held = pq.read_table(nasty.warehouse / name / file["path"], partitioning=None)
        own = set(SKIPPING[name]) & set(held.column_names)
        assert bounded == {column for column in own if held.column(column).null_count < held.num_rows}


def test_statistics_over_several_row_groups_and_long_texts(tmp_path, monkeypatch):
    """Smallest and largest may lie in different row groups; bounds of a long text are cut; a column without values has none."""
    monkeypatch.setattr(parts, "ROW_GROUP_BYTES", 1)
    columns = ("number", "short", "long", "moment", "empty")
    types = [pa.int64(), pa.dictionary(pa.int32(), pa.string()), pa.string(), pa.timestamp("us", "UTC"), pa.string()]
    table = Table("shapes", pa.schema(list(zip(columns, types, strict=True))), columns)
    moments = [datetime(2026, 3, 10, 5, tzinfo=timezone.utc) + timedelta(hours=hour) for hour in range(3)]
    chunks = [
        {"number": [5, 7], "short": ["m", None], "long": ["x" * 40, "y"], "moment": moments[:2], "empty": [None, None]},
        {"number": [None, None], "short": ["a", "z"], "long": ["b" * 33, "c"], "moment": [moments[2], None], "empty": [None, None]},
        {"number": [9, -3], "short": [None, None], "long": ["y" * 32 + "z", None], "moment": [None, None], "empty": [None, None]},
    ]
    warehouse = Warehouse.open(str(tmp_path))
    writer = warehouse.writer(table, DAY)
    for chunk in chunks:
        writer.write(pa.table(chunk, schema=table.schema))
    warehouse.replace_day(table, DAY, writer.close(), inputs="none", now=NOW)
    [file] = log_entries(tmp_path, "shapes", "add")
    assert pq.read_metadata(tmp_path / "shapes" / file["path"]).num_row_groups == 3
    told = json.loads(file["stats"])
    assert (told["minValues"].pop("long"), told["maxValues"].pop("long")) == ("b" * 32, "y" * 32 + "\U0010ffff")
    assert told["minValues"] == {"number": -3, "short": "a", "moment": "2026-03-10T05:00:00.000Z"}
    assert bounded_columns(tmp_path / "shapes", {**file, "stats": json.dumps(told)}, columns) == {"number", "short", "moment"}


def test_part_files_are_closed_when_large_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROW_GROUP_BYTES", 1 << 20)
    monkeypatch.setattr(parts, "PART_BYTES", 1 << 20)
    table = Table("numbers", pa.schema([("number", pa.int64())]), ("number",))
    writer = Warehouse.open(str(tmp_path)).writer(table, DAY)
    numbers = pc.multiply(pa.array(range(1 << 17), pa.int64()), 2_654_435_761)
    for _ in range(4):
        writer.write(pa.table([numbers], schema=table.schema))
    written = writer.close()
    assert sum(part.rows for part in written) == 4 << 17
    assert len(written) > 1
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")) == sorted(part.key for part in written)


def test_text_keeps_its_dictionary(tmp_path):
    """One dictionary per row group: where it changed within one, Parquet would fall back to plain text."""
    table = Table("words", pa.schema([("word", pa.dictionary(pa.int32(), pa.string()))]))
    writer = Warehouse.open(str(tmp_path)).writer(table, DAY)
    for word in ("a" * 20, "b" * 20):
        writer.write(pa.table([pa.array([word, "c" * 20] * 5_000).dictionary_encode()], schema=table.schema))
    [part] = writer.close()
    group = pq.read_metadata(tmp_path / part.key).row_group(0)
    assert group.num_rows == 20_000
    # As plain text 480,000 bytes; as two bits a row 5,000.
    assert group.column(0).total_uncompressed_size < 10_000


@pytest.mark.spark_only(why="asks for VACUUM, which Sail has not")
def test_vacuum_refuses_to_cut_the_retention(spark, tmp_path):
    table = Table("words", pa.schema([("word", pa.string())]))
    warehouse = Warehouse.open(str(tmp_path))
    for word in ("former", "latter"):
        parts = warehouse.write_rows(table, DAY, pa.table([[word]], schema=table.schema))
        warehouse.replace_day(table, DAY, parts, inputs=word, now=NOW)
    files = sorted((tmp_path / "words").rglob("*.parquet"))
    assert len(files) == 2
    with pytest.raises(Exception, match="retention"):
        DeltaTable(tmp_path / "words").vacuum(retention_hours=24 * 365, dry_run=False)
    with pytest.raises(Exception, match="retention"):
        spark.sql(f"VACUUM delta.`{tmp_path / 'words'}` RETAIN 0 HOURS")
    DeltaTable(tmp_path / "words").vacuum(dry_run=False)
    spark.sql(f"VACUUM delta.`{tmp_path / 'words'}`")
    assert sorted((tmp_path / "words").rglob("*.parquet")) == files


def test_an_unknown_table_format_is_refused(tmp_path):
    with pytest.raises(UsageError, match="table format 'orc': must be delta or parquet"):
        Warehouse.open(str(tmp_path), "orc")


def test_a_day_that_was_never_written_reads_as_no_rows(spark, nasty: NastyRun):
    empty = Warehouse.open(str(nasty.warehouse)).read(spark, RECORDS_TABLE, date(2020, 1, 1))
    assert empty.count() == 0
    assert dict(empty.dtypes)["day"] == "date"
