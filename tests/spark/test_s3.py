"""The same job against a real S3 API: source and tables in a bucket, the requests it makes, and tables read back through S3A."""

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import pyarrow as pa
import pytest
from logtree import COUNTS, DAY, NEXT_DAY, RECORDS, LogTree, at, nasty_day, row
from running import NastyRun, RunDay, submit
from stored import TABLES, all_rows, rows

from flowlog_udfs import engines, selection
from flowlog_udfs.formats import plan_formats
from flowlog_udfs.ingest import RECORDS_TABLE, REJECTS
from flowlog_udfs.tables import Warehouse

NOW = datetime(2026, 3, 12, tzinfo=timezone.utc)


def tree_in(bucket: str) -> LogTree:
    client = boto3.client("s3")
    return LogTree(lambda key, content: client.put_object(Bucket=bucket, Key=f"logs/{key}", Body=content))


def mirrored(bucket: str, prefix: str, folder: Path) -> Path:
    """A copy of a prefix in a fresh folder."""
    target = folder / f"copy-{len(list(folder.iterdir()))}"
    storage = boto3.resource("s3").Bucket(bucket)
    for entry in storage.objects.filter(Prefix=prefix):
        path = target / entry.key.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.download_file(entry.key, str(path))
    return target


def without_storage_facts(tables: dict[str, list[dict]], prefix: str = "") -> dict[str, list[str]]:
    """Rows that do not tell where the objects lay: for comparing a bucket with a folder."""
    apart = {"etag": None, "last_modified": None}

    def plain(found: dict) -> str:
        keys = {name: found[name].removeprefix(prefix) for name in ("key", "object_key") if name in found}
        return repr(found | keys | (dict.fromkeys(apart) if "etag" in found else {}))

    return {name: sorted(map(plain, found)) for name, found in tables.items()}


def requests_of(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, str], int]]:
    """Method, key (or bucket), query and status of each request that the server answered."""
    found = []
    for record in caplog.records:
        plain = re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage())
        line = re.search(r'"([A-Z]+) (\S+) HTTP/1\.\d" (\d+)', plain)
        if line:
            url = urlsplit(line[2])
            query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
            found.append((line[1], unquote(url.path), query, int(line[3])))
    return found


def test_a_day_from_bucket_to_bucket(bucket: str, nasty: NastyRun, run: RunDay, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="werkzeug")
    keys = nasty_day(tree_in(bucket))
    caplog.clear()
    assert run(f"s3://{bucket}/logs", f"s3://{bucket}/tables") == 0
    made = requests_of(caplog)
    first = all_rows(mirrored(bucket, "tables/", tmp_path))
    assert without_storage_facts(first, "logs/") == without_storage_facts(all_rows(nasty.warehouse))

    # One GET for each object, and one of the first bytes for each flow log that delivers text.
    read = [(path, status) for method, path, _, status in made if method == "GET" and path.startswith(f"/{bucket}/logs/")]
    whole = Counter(path for path, status in read if status == 200)
    assert whole == Counter(f"/{bucket}/logs/{key}" for key in keys.values())
    heads = Counter(path for path, status in read if status == 206)
    flow_logs = [re.search(r"_(fl-[^_]+)_", path)[1] for path in heads]
    assert sorted(flow_logs) == ["fl-0a1b2c3d", "fl-announced", "fl-cloudwatch", "fl-hive", "fl-transit"]
    assert set(heads.values()) == {1}
    # Folders are looked through one level at a time down to the day; what is listed whole is a day, of this date or the next.
    listings = [query for method, path, query, _ in made if method == "GET" and path in (f"/{bucket}", f"/{bucket}/")]
    deep = [query["prefix"] for query in listings if "delimiter" not in query and query["prefix"].startswith("logs/")]
    days = r"(2026/03/(10|11)|year=2026/month=03/day=(10|11))/$"
    assert deep
    assert all(re.search(days, prefix) for prefix in deep)
    assert not any("CloudTrail/" in query["prefix"] for query in listings)

    assert run(f"s3://{bucket}/logs", f"s3://{bucket}/tables") == 0
    assert all_rows(mirrored(bucket, "tables/", tmp_path)) == first


def test_parquet_tables_in_a_bucket(bucket: str, nasty: NastyRun, run: RunDay, tmp_path):
    nasty_day(tree_in(bucket))
    for _ in range(2):
        assert run(f"s3://{bucket}/logs", f"s3://{bucket}/tables", "--table-format", "parquet") == 0
        copy = mirrored(bucket, "tables/", tmp_path)
        assert without_storage_facts(all_rows(copy), "logs/") == without_storage_facts(all_rows(nasty.warehouse))
        # Neither staged files nor those of the former run are left.
        assert all(path.parent.name == f"day={DAY}" for path in copy.rglob("*.parquet"))
        assert len(list(copy.rglob("*.parquet"))) == len(TABLES)
    assert run(f"s3://{bucket}/logs", f"s3://{bucket}/tables", "--table-format", "parquet", day=NEXT_DAY) == 0
    both = rows(mirrored(bucket, "tables/", tmp_path), "records")
    assert Counter(row["day"] for row in both) == {DAY: RECORDS, NEXT_DAY: 1}


def test_objects_that_vanish_or_change_after_the_listing(bucket: str, run: RunDay, tmp_path, monkeypatch):
    tree = tree_in(bucket)
    tree.text("10T0005", [row(at("10T00:01:00"))])
    gone = tree.text("10T0010", [row(at("10T00:06:00"))])
    replaced = tree.text("10T0015", [row(at("10T00:11:00"))])

    def disturbed_plan(*arguments):
        boto3.client("s3").delete_object(Bucket=bucket, Key=f"logs/{gone}")
        tree.text("10T0015", [row(at("10T00:11:00"))] * 2)
        return plan_formats(*arguments)

    monkeypatch.setattr(selection, "plan_formats", disturbed_plan)
    (tmp_path / "flowlog.toml").write_text("[ingest]\nmax_failed_share = 0.9\n")
    assert run(f"s3://{bucket}/logs", tmp_path / "tables", "--config", str(tmp_path / "flowlog.toml")) == 0
    failed = {row["key"]: row["error"] for row in rows(tmp_path / "tables", "objects") if row["error"]}
    assert failed == {
        f"logs/{gone}": "gone: the object vanished between listing and reading",
        f"logs/{replaced}": "replaced: the object changed between listing and reading",
    }


def test_runs_of_several_days_at_once_all_land(bucket: str):
    """A commit is a conditional put: one that lost the race is made again from the new snapshot."""
    days = [date(2026, 3, number) for number in range(1, 5)]
    warehouse = Warehouse.open(f"s3://{bucket}/tables")
    failures = []

    def one_day(day: date) -> None:
        try:
            parts = warehouse.write_rows(RECORDS_TABLE, day, RECORDS_TABLE.schema.empty_table())
            warehouse.replace_day(RECORDS_TABLE, day, parts, inputs=f"of {day}", now=NOW)
        except Exception as error:
            failures.append(error)

    runs = [threading.Thread(target=one_day, args=(day,)) for day in days]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert failures == []
    assert sorted(day for day, _ in warehouse.part_keys(RECORDS_TABLE)) == days


@pytest.mark.parametrize("source, warehouse", [("s3://no-such-bucket/logs", "{tmp_path}"), ("{tmp_path}", "s3://no-such-bucket/tables")])
def test_a_bucket_that_is_not_there_is_status_3(bucket: str, run: RunDay, tmp_path, capsys, source: str, warehouse: str):
    LogTree.in_folder(tmp_path).text("10T0005", [row(at("10T00:01:00"))])
    assert run(source.format(tmp_path=tmp_path), warehouse.format(tmp_path=tmp_path)) == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"flowlog: s3://no-such-bucket/\S* ", last)


READ_BACK = """
import sys
from datetime import date

from pyspark.sql import SparkSession

from flowlog_udfs.ingest import RECORDS_TABLE
from flowlog_udfs.tables import Warehouse

spark = SparkSession.builder.getOrCreate()
bucket = sys.argv[1]
warehouse = Warehouse.open(f"s3://{bucket}/tables")
read = warehouse.read(spark, RECORDS_TABLE, date(2026, 3, 10))
print("library", read.count(), read.where("bytes is not null").selectExpr("sum(bytes)").first()[0])
options = warehouse.storage.endpoint.s3a_options()
for name in ("objects", "records", "rejects"):
    print(name, spark.read.format("delta").options(**options).load(f"s3a://{bucket}/tables/{name}").count())
spark.stop()
"""


@pytest.mark.slow
@pytest.mark.spark_only(why="is about S3A, a file system of Hadoop's")
def test_spark_reads_the_tables_through_s3a(bucket: str, nasty: NastyRun, tmp_path, s3_server: str):
    """Needs the JARs of `make setup-s3`."""
    nasty_day(tree_in(bucket))
    variables = {
        "AWS_ENDPOINT_URL_S3": s3_server,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }
    arguments = ["--source", f"s3://{bucket}/logs", "--warehouse", f"s3://{bucket}/tables", "--day", DAY, "--until", "ingest_records"]
    done = submit(*arguments, environment=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    job = tmp_path / "read_back.py"
    job.write_text(READ_BACK)
    done = submit(bucket, job=job, environment=variables)
    assert done.returncode == 0, done.stdout + done.stderr
    total = sum(row["bytes"] or 0 for row in rows(nasty.warehouse, "records"))
    assert done.stdout.splitlines() == [f"library {RECORDS} {total}", f"objects {len(COUNTS)}", f"records {RECORDS}", "rejects 4"]


@pytest.mark.sail_only
def test_sail_reads_tables_from_the_bucket(s3: Callable[[], str]):
    """A session of its own, which is told of the endpoint when it starts."""
    warehouse = Warehouse.open(f"s3://{s3()}/tables")
    held = pa.table({"object_key": ["a"], "line_number": [7], "line": ["x"], "reason": ["bad_value"]}).cast(REJECTS.schema)
    warehouse.replace_day(REJECTS, DAY, warehouse.write_rows(REJECTS, DAY, held), inputs="none", now=NOW)
    with engines.sail_session() as spark:
        assert [(row["line_number"], row["day"]) for row in warehouse.read(spark, REJECTS, DAY).collect()] == [(7, DAY)]
