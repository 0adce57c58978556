"""A day looked at without Spark: what lies there, in which formats, and which hours are empty."""

from datetime import date, datetime, timezone
from pathlib import Path

import boto3
import pyarrow as pa
import pytest
from moto import mock_aws

from flowlog_udfs.errors import UsageError
from flowlog_udfs.formats import DEFAULT_FORMAT
from flowlog_udfs.inspection import Inspection, inspect_day
from flowlog_udfs.sample import SampleRequest, make_sample
from tests.unit.reading import parquet

DAY = date(2026, 3, 10)
LATER = datetime(2026, 4, 1, tzinfo=timezone.utc)


def inspect(source: object, *, now: datetime = LATER) -> Inspection:
    return inspect_day(str(source), DAY, late_hours=2, now=now)


def put(root: Path, time: str, content: str, *, name: str = "fl-0123456789abcdef0", ending: str = ".log") -> Path:
    """An object published at `time`, as `10T0105`, in the folder of its date."""
    key = (
        f"AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/{time[:2]}/123456789012_vpcflowlogs_us-east-1_{name}_202603{time}Z_ab{ending}"
    )
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_hours_late_objects_and_strangers(tmp_path):
    for time in ("10T0005", "10T0055", "10T1200", "11T0105"):
        put(tmp_path, time, DEFAULT_FORMAT.header() + "\n")
    put(tmp_path, "11T0205", "too late for the day's run\n")
    (tmp_path / "AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/10/notes.txt").write_text("mine")
    found = inspect(tmp_path)
    (log,) = found.flow_logs
    assert (log.account_id, log.region, log.flow_log_id, log.layouts) == ("123456789012", "us-east-1", "fl-0123456789abcdef0", ("plain",))
    assert (found.objects, log.late, found.skipped, log.log_format) == (4, 1, 1, DEFAULT_FORMAT)
    assert (log.hours[0], log.hours[12], log.hours[23], sum(log.hours)) == (2, 1, 1, 4)
    assert log.empty_hours == tuple(hour for hour in range(24) if hour not in (0, 12, 23))
    assert log.size_bytes == 4 * len(DEFAULT_FORMAT.header() + "\n")


def test_hours_to_come_are_not_empty(tmp_path):
    put(tmp_path, "10T0105", DEFAULT_FORMAT.header() + "\n")
    (log,) = inspect(tmp_path, now=datetime(2026, 3, 10, 3, 30, tzinfo=timezone.utc)).flow_logs
    assert log.empty_hours == (0, 2)


def test_an_object_without_a_header_has_no_known_format(tmp_path):
    put(tmp_path, "10T0105", "2 123456789012 eni-1 - - - - - - - 1 2 - NODATA\n")
    put(tmp_path, "10T0105", "not parquet", name="fl-2", ending=".log.parquet")
    misnamed = parquet({"log_status": pa.array(["OK"])}).replace(b"log_status", b"log\xeestatus")
    put(tmp_path, "10T0105", "", name="fl-3", ending=".log.parquet").write_bytes(misnamed)
    assert [log.log_format for log in inspect(tmp_path).flow_logs] == [None, None, None]


def test_a_sample_in_every_layout_in_a_folder_and_on_s3(tmp_path, monkeypatch):
    make_sample(SampleRequest(str(tmp_path), DAY, connections=200, file_format="mixed", streams=False))
    local = inspect(tmp_path)
    assert {layout for log in local.flow_logs for layout in log.layouts} == {"plain", "hourly", "hive", "hive-hourly"}
    assert all(log.log_format for log in local.flow_logs)
    assert {len(log.log_format.names) for log in local.flow_logs} == {14, 21, 29, 54}
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="flow-logs")
        for path in sorted((tmp_path / "AWSLogs").rglob("*.*")):
            if path.is_file():
                s3.upload_file(str(path), "flow-logs", f"team/{path.relative_to(tmp_path)}")
        remote = inspect("s3://flow-logs/team")
    assert remote.flow_logs == local.flow_logs


def test_a_source_of_another_kind_is_refused():
    with pytest.raises(UsageError, match="unknown kind of storage"):
        inspect("ftp://host/logs")
