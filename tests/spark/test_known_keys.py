"""Days whose objects are known by S3's own events or an inventory: the same tables as listed days, and no listing of the logs."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import boto3
import pytest
from aws_inventory import csv_file, parquet_file, publish, rows_of
from deltalake import DeltaTable
from logtree import DAY, NEXT_DAY, LogTree, at, nasty_day, row
from running import RunDay
from stored import TABLES, all_rows, log_entries, rows

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS, remaining
from flowlog_udfs.notifications import SqsQueue, collect
from flowlog_udfs.storage import open_storage

ALL_TABLES = (*TABLES, "connections", "nat_mappings", "subnet_bytes", "reconciliation", "interfaces", "findings", "assessments")


def tree_in(bucket: str) -> LogTree:
    client = boto3.client("s3")
    return LogTree(lambda key, content: client.put_object(Bucket=bucket, Key=f"logs/{key}", Body=content))


def collected(url: str, folder: str) -> int:
    return collect(SqsQueue(url), *open_storage(folder), clock=lambda: 0.0).messages


def without_times(tables: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """Rows without the time of an object's last change, of which a listing and an event tell different ones."""
    return {name: [{k: v for k, v in found.items() if k != "last_modified"} for found in of_table] for name, of_table in tables.items()}


def listings(caplog: pytest.LogCaptureFixture, bucket: str) -> list[str]:
    return [line for line in (record.getMessage() for record in caplog.records) if re.search(rf"GET /{bucket}/?\?\S*list-type", line)]


@pytest.fixture
def eventful(bucket: str, queue) -> tuple[str, str]:
    """A bucket with the nasty day, of which an object was replaced and one deleted again, and the queue that was told of it all."""
    url = queue(bucket)
    tree = tree_in(bucket)
    tree.text("10T0005", [row(at("10T00:01:00"))] * 3)
    nasty_day(tree)
    gone = tree.text("10T0700", [row(at("10T07:00:00"))])
    boto3.client("s3").delete_object(Bucket=bucket, Key=f"logs/{gone}")
    return bucket, url


@pytest.mark.parametrize("kind", ["events", "CSV", "Parquet"])
def test_a_day_of_known_keys_is_the_day_as_listed(eventful, s3, run: RunDay, tmp_path: Path, caplog, kind):
    caplog.set_level(logging.INFO, logger="werkzeug")
    (bucket, url), kept = eventful, s3()
    for day in (NEXT_DAY, DAY):  # The next day's run tells which of its objects hold late rows of the day.
        assert run(f"s3://{bucket}/logs", tmp_path / "listed", day=day) == 0
    keys = f"s3://{kept}/keys"
    if kind == "events":
        assert collected(url, keys) > 10
    elif kind == "CSV":
        keys = publish(bucket, kept, [csv_file(bucket, rows_of(bucket))], kind)
    else:
        keys = publish(bucket, kept, [parquet_file(bucket, rows_of(bucket))], kind)
    caplog.clear()
    for day in (NEXT_DAY, DAY):
        assert run(f"s3://{bucket}/logs", tmp_path / "known", "--keys", keys, day=day) == 0
    assert listings(caplog, bucket) == []
    listed, known = all_rows(tmp_path / "listed"), all_rows(tmp_path / "known")
    assert without_times(known) == without_times(listed)
    assert any(found["object_key"].endswith("T0305Z_00000009.log.gz") and found["day"] == DAY for found in known["records"])
    assert run(f"s3://{bucket}/logs", tmp_path / "known", "--keys", keys) == 0
    assert all_rows(tmp_path / "known") == known
    digests = [
        [entry["flowlog.inputs"] for entry in log_entries(tmp_path / folder, "records", "commitInfo")] for folder in ("listed", "known")
    ]
    assert digests[0] == digests[1][:2]


def test_every_table_and_the_report_are_those_of_a_listed_day(eventful, spark, tmp_path: Path, capsys):
    bucket, url = eventful
    collected(url, str(tmp_path / "keys"))
    known = ["--keys", str(tmp_path / "keys")]
    for folder, options in (("listed", []), ("known", known)):
        arguments = ["--source", f"s3://{bucket}/logs", "--warehouse", str(tmp_path / folder), *options]
        assert run_steps("test", STEPS, lambda: spark, [*arguments, "--day", str(DAY)], remaining=remaining) == 0
    for name in ALL_TABLES:
        found = [without_times({name: rows(tmp_path / folder, name)}) for folder in ("known", "listed")]
        assert found[0] == found[1], name
    reports = [json.loads((tmp_path / folder / f"reports/day={DAY}/report.json").read_text()) for folder in ("known", "listed")]
    assert reports[0]["digest"] == reports[1]["digest"]
    # A day once run is passed over for as long as no event tells of a change, and run again when one does.
    several = [*arguments, "--from", str(DAY), "--to", str(NEXT_DAY), "--until", "attribute_initiators"]
    tree_in(bucket).text("10T0800", [row(at("10T08:00:00"))])
    capsys.readouterr()
    assert run_steps("test", STEPS, lambda: spark, several, remaining=remaining) == 0
    assert f"attribute_initiators: {DAY} …" not in capsys.readouterr().err
    collected(url, str(tmp_path / "keys"))
    assert run_steps("test", STEPS, lambda: spark, several, remaining=remaining) == 0
    assert f"attribute_initiators: {DAY} …" in capsys.readouterr().err


def test_a_key_that_is_gone_or_replaced_without_an_event_is_a_failed_object(bucket: str, queue, run: RunDay, tmp_path: Path):
    url = queue(bucket)
    tree = tree_in(bucket)
    keys = [tree.text(f"10T00{minute}", [row(at("10T00:01:00"))]) for minute in (10, 15, 20)]
    collected(url, str(tmp_path / "keys"))
    boto3.client("s3").put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
    boto3.client("s3").delete_object(Bucket=bucket, Key=f"logs/{keys[1]}")
    tree.text("10T0020", [row(at("10T00:01:00"))] * 2)
    (tmp_path / "flowlog.toml").write_text("[ingest]\nmax_failed_share = 0.9\n")
    options = ["--keys", str(tmp_path / "keys"), "--config", str(tmp_path / "flowlog.toml")]
    assert run(f"s3://{bucket}/logs", tmp_path / "tables", *options) == 0
    assert [found["error"] and found["error"].split(":")[0] for found in rows(tmp_path / "tables", "objects")] == [None, "gone", "replaced"]


def test_lists_without_the_day_replace_nothing_and_wrong_ones_are_wrong_use(eventful, run: RunDay, tmp_path: Path, capsys):
    bucket, _ = eventful
    source, tables, keys = f"s3://{bucket}/logs", tmp_path / "tables", tmp_path / "keys"
    keys.mkdir()
    assert run(source, tables, "--keys", str(keys)) == 2
    assert f"flowlog: {keys}: no flow log objects for {DAY}; nothing was replaced." in capsys.readouterr().err
    assert run(source, tables, "--keys", str(tmp_path / "nowhere")) == 1
    assert run(tmp_path, tables, "--keys", str(keys)) == 1
    (keys / "keys.jsonl").write_text("{}\n")
    capsys.readouterr()
    assert run(source, tables, "--keys", str(keys / "keys.jsonl")) == 1
    assert "keys.jsonl line 1: has no 'key'" in capsys.readouterr().err.splitlines()[-1]
    assert run(source, tables, "--keys", "s3://no-such-bucket/keys") == 3
    assert not tables.exists()
    # An inventory from before the day was whole is read, and said to be early.
    early = publish(bucket, bucket, [csv_file(bucket, rows_of(bucket))], "CSV", creationTimestamp="1773176400000")
    capsys.readouterr()
    assert run(source, tables, "--keys", early) == 0
    assert "warning    the inventory is of 2026-03-10T21:00Z: what came later is missing" in capsys.readouterr().out
    assert DeltaTable(tables / "records").version() >= 0
