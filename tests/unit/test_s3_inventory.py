"""S3 Inventory files as AWS documents them: the objects of a few dates, whatever else lies in the bucket."""

from datetime import date, datetime, timezone

import boto3
import pytest
from aws_inventory import CSV_FIELDS, TAKEN_AT, Row, csv_file, parquet_file, publish

from flowlog_udfs import s3_inventory
from flowlog_udfs.errors import StorageError, UsageError
from flowlog_udfs.s3_inventory import Manifest
from flowlog_udfs.storage import StoredObject

DAYS = (date(2026, 3, 10), date(2026, 3, 11))
PLAIN = "a team+1/AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/{:02}/"
HIVE = "AWSLogs/aws-account-id=1/aws-service=vpcflowlogs/aws-region=r/year=2026/month=03/day={:02}/hour=01/"
MODIFIED = datetime(2026, 3, 10, 0, 6, 11, tzinfo=timezone.utc)
ROWS = [
    *(Row(folder.format(day) + "ö (1).log.gz", 10 + day, MODIFIED, f"tag-{day}") for folder in (PLAIN, HIVE) for day in (9, 10, 11, 12)),
    # Of a key with versions only the newest is an object, and a delete marker is none: size and tag are empty there.
    Row(PLAIN.format(10) + "replaced", 1, MODIFIED, "old", is_latest=False),
    Row(PLAIN.format(10) + "replaced", 2, MODIFIED, "new"),
    Row(PLAIN.format(10) + "deleted", 1, MODIFIED, "old", is_latest=False),
    Row(PLAIN.format(10) + "deleted", None, MODIFIED, None, is_marker=True),
    Row("AWSLogs/123456789012/CloudTrail/us-east-1/2026/04/10/x.json.gz"),
]
WANTED = [
    *(StoredObject(folder.format(day) + "ö (1).log.gz", f"tag-{day}", 10 + day, MODIFIED) for folder in (PLAIN, HIVE) for day in (10, 11)),
    StoredObject(PLAIN.format(10) + "replaced", "new", 2, MODIFIED),
]
MAKE = {"CSV": csv_file, "Parquet": parquet_file}


@pytest.mark.parametrize("file_format", sorted(MAKE))
def test_the_current_objects_of_the_dates_and_no_others(s3, monkeypatch, file_format):
    logs, kept = s3(), s3()
    monkeypatch.setattr(s3_inventory, "BLOCK_ROWS", 3)
    manifest = Manifest.load(publish(logs, kept, [MAKE[file_format](logs, half) for half in (ROWS[:5], ROWS[5:])], file_format))
    assert (manifest.bucket, manifest.taken_at) == (logs, TAKEN_AT)
    assert list(manifest.objects(DAYS)) == WANTED
    assert list(manifest.objects([date(2026, 5, 1)])) == []


def test_an_inventory_of_current_versions_only(s3):
    logs, kept = s3(), s3()
    current = [row for row in ROWS if row.is_latest and not row.is_marker]
    fields = [name for name in CSV_FIELDS if name not in ("VersionId", "IsLatest", "IsDeleteMarker", "StorageClass")]
    url = publish(logs, kept, [csv_file(logs, current, fields)], "CSV", fileSchema=", ".join(fields))
    assert list(Manifest.load(url).objects(DAYS)) == WANTED
    url = publish(logs, kept, [parquet_file(logs, current, ["is_latest", "is_delete_marker"])], "Parquet")
    assert list(Manifest.load(url).objects(DAYS)) == WANTED


def test_blocks_of_a_large_csv_file(s3, monkeypatch):
    logs = s3()
    monkeypatch.setattr(s3_inventory, "BLOCK_BYTES", 4_096)
    rows = [Row(PLAIN.format(number % 28 + 1) + f"{number}") for number in range(2_800)]
    found = list(Manifest.load(publish(logs, logs, [csv_file(logs, rows)], "CSV")).objects(DAYS))
    assert [one.key for one in found] == [row.key for row in rows if "/2026/03/10/" in row.key or "/2026/03/11/" in row.key]


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"fileFormat": "ORC"}, "fileFormat 'ORC': must be CSV or Parquet"),
        ({"fileSchema": "Bucket, Key, Size"}, "has no field LastModifiedDate, ETag; add it to the inventory's configuration"),
        ({"files": "none"}, "is no manifest of an S3 Inventory; give its manifest.json"),
        ({"creationTimestamp": "yesterday"}, "is no manifest of an S3 Inventory; give its manifest.json"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_with_file_field_and_remedy(s3, changed, message):
    logs = s3()
    url = publish(logs, logs, [csv_file(logs, ROWS)], "CSV", **changed)
    with pytest.raises(UsageError) as raised:
        Manifest.load(url)
    assert str(raised.value).startswith(f"{url}: {message}")


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00", '{"sourceBucket": "x"}', '{"sourceBucket": "x", "destinationBucket": 1}'])
def test_what_is_no_manifest(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UsageError, match="is no manifest of an S3 Inventory"):
        Manifest.load(str(tmp_path / "manifest.json"))


def test_data_files_that_lack_a_field_are_gone_or_damaged(s3):
    logs = s3()
    url = publish(logs, logs, [parquet_file(logs, ROWS, ["e_tag"])], "Parquet")
    with pytest.raises(UsageError, match=r"\.parquet: has no field ETag; add it"):
        list(Manifest.load(url).objects(DAYS))
    misnamed = parquet_file(logs, ROWS).replace(b"last_modified_date", b"last\xeemodified_date")
    for file_format, content in (
        ("CSV", csv_file(logs, ROWS)[:-9]),
        ("CSV", b"plain"),
        ("Parquet", parquet_file(logs, ROWS)[:-9]),
        ("Parquet", misnamed),
    ):
        with pytest.raises(StorageError, match=r"inventory/.*: damaged: "):
            list(Manifest.load(publish(logs, logs, [content], file_format)).objects(DAYS))
    wrong = [Row(PLAIN.format(10) + "no-size", None)]
    with pytest.raises(UsageError, match=r"size, date or ETag of .*no-size is not one"):
        list(Manifest.load(publish(logs, logs, [csv_file(logs, wrong)], "CSV")).objects(DAYS))
    manifest = Manifest.load(publish(logs, logs, [csv_file(logs, ROWS)], "CSV"))
    boto3.client("s3").delete_object(Bucket=logs, Key=manifest.files[0].removeprefix(f"s3://{logs}/"))
    with pytest.raises(UsageError, match="there is no such file"):
        list(manifest.objects(DAYS))


def test_a_bucket_that_is_not_there_is_an_error_of_the_storage(s3):
    s3()
    with pytest.raises(StorageError, match="NoSuchBucket"):
        Manifest.load("s3://no-such-bucket/manifest.json")
