"""The main job on a small day that holds one of every trouble: what it prints, and what is in which table."""

import hashlib
import json
import re
from datetime import datetime, timezone

import pytest
from logtree import ACCOUNT, COUNTS, DAY, RECORDS, LogTree, at, nasty_day
from pyspark.sql import functions as F
from running import NastyRun, RunDay, submit
from stored import TABLES, all_rows, in_order, rows

from flowlog_udfs import engines, read_flow_logs
from flowlog_udfs.fields import FIELDS, TGW_FIELDS
from flowlog_udfs.ingest import RECORDS_TABLE
from flowlog_udfs.tables import Warehouse

OBJECTS = [
    "key",
    "etag",
    "sha256",
    "size_bytes",
    "last_modified",
    "account_id",
    "region",
    "flow_log_id",
    "published_at",
    "layout",
    "file_format",
    "log_format",
    "lines",
    "headers",
    "blank",
    "records",
    "rejects",
    "other_day",
    "status",
    "error",
]
DERIVED = ["start_time", "end_time", "flow_log_id", "object_key", "extra_fields"]
COVERED = ["objects", "failed_objects", "size_bytes", "lines", "rejects", "records", "accepted", "rejected", "nodata", "skipdata"]
FIRST_COLUMNS = {
    "objects": OBJECTS,
    "records": [*(field.column for field in FIELDS), *DERIVED],
    "records_tgw": [*(field.column for field in TGW_FIELDS), *DERIVED],
    "rejects": ["object_key", "line_number", "line", "reason"],
    "coverage": ["account_id", "region", "flow_log_id", "hour", *COVERED],
}
INTEGERS = {"version", "srcport", "dstport", "protocol", "tcp_flags", "traffic_path", "encryption_status"}
TYPES = (
    dict.fromkeys(["packets", "bytes", "start", "end", "size_bytes", "line_number", *OBJECTS[12:18]], "bigint")
    | dict.fromkeys([field.column for field in TGW_FIELDS if field.column.startswith("packets_lost")], "bigint")
    | dict.fromkeys(["start_time", "end_time", "last_modified", "published_at"], "timestamp")
    | dict.fromkeys(INTEGERS, "int")
    | dict.fromkeys([*COVERED, "rejects"], "bigint")
    | {"hour": "timestamp"}
    | {"extra_fields": "map<string,string>", "day": "date"}
)


def test_status_and_summary(nasty: NastyRun):
    assert nasty.status == 0
    lines = sum(counts[0] for counts in COUNTS.values())
    assert re.search(r"^objects +9 read, 0 failed, 1 skipped", nasty.printed, re.M)
    assert re.search(rf"^lines +{lines} = 8 headers \+ 1 blank \+ 523 records \+ 4 rejects \+ 2 of other days$", nasty.printed, re.M)
    assert re.search(r"^rejects +bad_address 1, bad_encoding 1, bad_number 1, token_count 1$", nasty.printed, re.M)
    assert re.search(r"^seconds +\d+\.\d, [\d,]+ records per second$", nasty.printed, re.M)


@pytest.mark.parametrize("name", TABLES)
def test_columns_and_types(spark, nasty: NastyRun, name: str):
    frame = spark.read.format("delta").load(f"{nasty.warehouse}/{name}")
    assert frame.columns[: len(FIRST_COLUMNS[name])] == FIRST_COLUMNS[name]
    fixed = dict(frame.dtypes[: len(FIRST_COLUMNS[name])])
    assert fixed == {column: TYPES.get(column, "string") for column in FIRST_COLUMNS[name]}
    assert frame.dtypes[-1] == ("day", "date")
    assert in_order(frame.toArrow()) == rows(nasty.warehouse, name)


def test_coverage_adds_up_to_the_objects(nasty: NastyRun):
    covered, read = rows(nasty.warehouse, "coverage"), rows(nasty.warehouse, "objects")
    for name in ("size_bytes", "lines", "rejects", "records"):
        assert sum(row[name] for row in covered) == sum(row[name] for row in read), name
    assert sum(row["objects"] for row in covered) == len(read)
    assert sum(row["skipped_objects"] for row in covered) == 1
    flow_logs = {(row["account_id"], row["region"], row["flow_log_id"]) for row in read}
    assert len(covered) == 24 * len(flow_logs) + 1


def test_every_line_of_every_object_is_accounted_for(nasty: NastyRun):
    objects = {row["key"]: row for row in rows(nasty.warehouse, "objects")}
    assert sorted(objects) == sorted(nasty.keys.values())
    for name, key in nasty.keys.items():
        found = objects[key]
        lines, *parts = (found[count] for count in ("lines", "headers", "blank", "records", "rejects", "other_day"))
        assert (lines, *parts) == COUNTS[name], name
        assert lines == sum(parts)
        assert (found["status"], found["error"], found["day"]) == ("read", None, DAY)
        content = (nasty.source / key).read_bytes()
        assert (found["sha256"], found["size_bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
    hive = objects[nasty.keys["hive"]]
    assert (hive["account_id"], hive["region"], hive["flow_log_id"]) == ("210987654321", "eu-west-1", "fl-hive")
    assert (hive["layout"], hive["log_format"]) == ("hive-hourly", "${account-id} ${start} ${end} ${bytes} ${hop-speed}")
    assert hive["published_at"] == datetime(2026, 3, 10, 1, tzinfo=timezone.utc)
    assert objects[nasty.keys["parquet"]]["file_format"] == "parquet"


def test_records_hold_what_was_logged(nasty: NastyRun):
    records = rows(nasty.warehouse, "records")
    assert len(records) == RECORDS
    by_name = {name: [row for row in records if row["object_key"] == key] for name, key in nasty.keys.items()}
    assert {name: len(found) for name, found in by_name.items()} == {
        name: 0 if name == "transit" else counts[3] for name, counts in COUNTS.items()
    }
    request, answer = sorted(by_name["announced"], key=lambda row: row["bytes"])
    assert (answer["bytes"], answer["account_id"], answer["tcp_flags"]) == (5_225_000_000, "048xxxxxx93", 18)
    assert (answer["pkt_dstaddr"], answer["start_time"]) == ("90.90.0.200", datetime(2026, 3, 10, 0, 11, tzinfo=timezone.utc))
    assert (request["srcport"], request["dstport"], request["action"], request["traffic_path"]) == (62897, 22, "ACCEPT", None)
    nodata = next(row for row in by_name["parquet"] if row["log_status"] == "NODATA")
    assert (nodata["srcaddr"], nodata["bytes"], nodata["protocol"], nodata["interface_id"]) == (None, None, None, "eni-0f2")
    assert sorted(row["extra_fields"] for row in by_name["hive"]) == [[], [("hop-speed", "quick")]]
    assert {row["srcaddr"] for row in by_name["faulty"]} == {"10.0.1.5", "2001:db8::1"}
    assert sorted(row["start"] for row in by_name["head"]) == [at("10T23:58:00"), at("10T23:59:59")]


def test_transit_gateway_rows_have_their_own_table(nasty: NastyRun):
    found = [(row["tgw_id"], row["bytes"], row["packets_lost_no_route"], row["object_key"]) for row in rows(nasty.warehouse, "records_tgw")]
    assert found == [("tgw-01", 640, 0, nasty.keys["transit"])] * 2


def test_rejects_tell_line_and_reason(nasty: NastyRun):
    rejects = sorted(rows(nasty.warehouse, "rejects"), key=lambda row: row["line_number"])
    assert {row["object_key"] for row in rejects} == {nasty.keys["faulty"]}
    reasons = [(row["line_number"], row["reason"]) for row in rejects]
    assert reasons == [(2, "bad_number"), (4, "bad_address"), (5, "token_count"), (7, "bad_encoding")]
    assert rejects[2]["line"] == f"2 {ACCOUNT} eni-0f1"


def test_parquet_tables_hold_the_same_rows(spark, nasty: NastyRun, run: RunDay, tmp_path):
    assert run(nasty.source, tmp_path, "--table-format", "parquet") == 0
    assert all_rows(tmp_path) == all_rows(nasty.warehouse)
    for name in TABLES:
        frame = spark.read.parquet(f"{tmp_path}/{name}")
        # Sail takes the names of folders for what they are, text.
        day_type = "string" if engines.slots(spark) else "date"
        assert (frame.dtypes[-1], frame.count()) == (("day", day_type), len(rows(nasty.warehouse, name)))


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_a_table_without_rows_is_readable(spark, run: RunDay, tmp_path, table_format: str):
    LogTree.in_folder(tmp_path / "logs").text("10T0005", [])
    assert run(tmp_path / "logs", tmp_path / "tables", "--table-format", table_format) == 0
    for name in ("records", "records_tgw", "rejects"):
        frame = spark.read.format(table_format).load(f"{tmp_path}/tables/{name}")
        assert (frame.count(), frame.columns) == (0, [*FIRST_COLUMNS[name], "day"])


def test_accounts_and_regions_are_chosen(nasty: NastyRun, run: RunDay, tmp_path):
    assert run(nasty.source, tmp_path / "a", "--account", "210987654321") == 0
    assert [row["key"] for row in rows(tmp_path / "a", "objects")] == [nasty.keys["hive"]]
    assert run(nasty.source, tmp_path / "b", "--region", "eu-west-1", "--region", "us-east-1") == 0
    assert rows(tmp_path / "b", "records") == rows(nasty.warehouse, "records")


def test_read_flow_logs_gives_the_records_without_a_table(spark, nasty: NastyRun):
    stored = Warehouse.open(str(nasty.warehouse)).read(spark, RECORDS_TABLE, DAY)
    read = read_flow_logs(spark, str(nasty.source), DAY)
    assert read.schema == stored.drop("day").schema
    assert in_order(read.withColumn("day", F.lit(DAY)).toArrow()) == in_order(stored.toArrow()) == rows(nasty.warehouse, "records")


@pytest.mark.spark_only(why="is about spark-submit")
def test_spark_submit_does_the_same(nasty: NastyRun, tmp_path):
    nasty_day(LogTree.in_folder(tmp_path / "logs"))
    words = ("--source", tmp_path / "logs", "--warehouse", tmp_path / "tables", "--day", DAY, "--until", "ingest_records")
    done = submit(*words, "--log-format", "json")
    assert done.returncode == 0, done.stderr
    # spark-submit joins the two streams of a job; in this form all of it is for programs.
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["event"] for one in (told[0], told[-1])] == ["run_started", "run_done"]
    assert any(one["event"] == "summary" and "523 records" in one["message"] for one in told)
    for name in ("records", "records_tgw", "rejects"):
        assert rows(tmp_path / "tables", name) == rows(nasty.warehouse, name)


@pytest.mark.spark_only(why="is about spark-submit")
def test_spark_submit_ends_wrong_use_with_status_1_and_one_line(tmp_path):
    done = submit("--source", tmp_path, "--warehouse", tmp_path, "--day", "yesterday")
    assert done.returncode == 1
    assert done.stdout == "flowlog: argument --day: 'yesterday' is not a day; write YYYY-MM-DD; see --help\n"
    assert "Traceback" not in done.stderr
