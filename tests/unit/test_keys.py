"""The key grammar, and listing one day from folders and from a real S3 API."""

from datetime import date, datetime, timezone
from pathlib import Path

import boto3
import pytest

from flowlog_udfs.errors import UsageError
from flowlog_udfs.keys import DayScope, list_day, parse_key, select_day
from flowlog_udfs.storage import open_storage

DAY = date(2026, 3, 10)
PLAIN = "AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/10/"
HIVE = "AWSLogs/aws-account-id=123456789012/aws-service=vpcflowlogs/aws-region=us-east-1/year=2026/month=03/day=10/"


def name(published="20260310T1620", flow_log="fl-1234abcd", account="123456789012", region="us-east-1", end="log.gz"):
    return f"{account}_vpcflowlogs_{region}_{flow_log}_{published}Z_fe123456.{end}"


@pytest.mark.parametrize(
    ("folder", "layout"),
    [
        (PLAIN, "plain"),
        (PLAIN + "16/", "hourly"),
        (HIVE, "hive"),
        (HIVE + "hour=16/", "hive-hourly"),
        (HIVE.replace("aws-service", "service"), "hive"),
        (PLAIN.replace("AWSLogs/", "AWSLogs/o-abc123/"), "plain"),
        ("team/" + PLAIN, "plain"),
        ("a/b/" + HIVE, "hive"),
    ],
)
@pytest.mark.parametrize("end", ["log.gz", "log.parquet", "log"])
def test_key_shapes(folder, layout, end):
    key = parse_key(folder + name(end=end))
    assert (key.account_id, key.region, key.flow_log_id, key.layout) == ("123456789012", "us-east-1", "fl-1234abcd", layout)
    assert key.published_at == datetime(2026, 3, 10, 16, 20, tzinfo=timezone.utc)


def test_accounts_are_text():
    assert parse_key("AWSLogs/48xxxxxx93/vpcflowlogs/us-east-1/2026/03/10/" + name(account="48xxxxxx93")).account_id == "48xxxxxx93"


@pytest.mark.parametrize(
    "key",
    [
        "AWSLogs/123456789012/CloudTrail/us-east-1/2026/03/10/trail.json.gz",
        PLAIN + "_SUCCESS",
        PLAIN + name(end="log.gz.tmp"),
        PLAIN + name(published="20261310T1620"),
        PLAIN + name(flow_log="1234"),
        PLAIN + "deeper/" + name(),
        "myAWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/10/" + name(),
    ],
)
def test_other_objects_are_not_flow_logs(key):
    assert parse_key(key) is None


def tree(root: Path, *keys: str) -> str:
    for key in keys:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return str(root)


def listed(url, **options):
    storage, prefix = open_storage(url)
    return list_day(storage, DayScope(prefix, **{"day": DAY, "late_hours": 2} | options))


NEXT = PLAIN.replace("/10/", "/11/")
KEYS = (
    PLAIN + name(),
    PLAIN + "03/" + name("20260310T0300"),
    HIVE + name(flow_log="fl-hive"),
    "AWSLogs/o-abc/210987654321/vpcflowlogs/eu-west-1/2026/03/10/" + name(account="210987654321", region="eu-west-1", end="log.parquet"),
    "team/" + PLAIN + name(flow_log="fl-team"),
    PLAIN + "notes.txt",
    NEXT + "notes.txt",
    NEXT + name("20260311T0000"),
    NEXT + name("20260311T0155"),
    NEXT + name("20260311T0200"),
    PLAIN.replace("/10/", "/09/") + name("20260309T2355"),
)


@pytest.fixture(params=["folder", "s3"])
def source(request, tmp_path):
    if request.param == "folder":
        return tree(tmp_path, *KEYS)
    bucket = request.getfixturevalue("s3")()
    for key in KEYS:
        boto3.client("s3").put_object(Bucket=bucket, Key=f"logs/{key}", Body=b"x")
    return f"s3://{bucket}/logs"


def keys_of(listing):
    return [one.stored.key.removeprefix("logs/") for one in listing.objects]


def test_a_day_is_its_prefixes_and_the_head_of_the_next(source):
    listing = listed(source)
    assert keys_of(listing) == sorted([*KEYS[:5], *KEYS[7:9]])
    assert listing.skipped == 1


@pytest.mark.parametrize(("late_hours", "count"), [(0, 5), (1, 6), (3, 8)])
def test_late_hours_say_how_far_to_look(source, late_hours, count):
    assert len(listed(source, late_hours=late_hours).objects) == count


def test_accounts_and_regions_narrow_the_listing(source):
    assert keys_of(listed(source, accounts=frozenset({"210987654321"}))) == [KEYS[3]]
    assert keys_of(listed(source, regions=frozenset({"eu-west-1"}))) == [KEYS[3]]
    assert listed(source, accounts=frozenset({"1"})).objects == ()


def test_objects_known_to_hold_rows_of_the_day_are_taken_from_other_days(source):
    prefix = "logs/" if source.startswith("s3") else ""
    extra = frozenset(prefix + key for key in (KEYS[9], KEYS[10], "AWSLogs/gone/" + name("20260315T0000")))
    assert keys_of(listed(source, also=extra)) == sorted([*KEYS[:5], *KEYS[7:11]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"late_hours": 0},
        {"day": date(2026, 3, 11)},
        {"accounts": frozenset({"210987654321"})},
        {"regions": frozenset({"us-east-1"}), "late_hours": 3},
        {"also": frozenset({KEYS[9], KEYS[10], "logs/" + KEYS[9], "logs/" + KEYS[10]})},
    ],
)
def test_a_day_among_all_keys_of_a_bucket_is_the_day_as_listed(source, options):
    storage, prefix = open_storage(source)
    # What lies beside the source, deeper than a listing looks, and below a date without being a flow log.
    for key in (
        "beside/" + KEYS[0],
        prefix + "a/b/c/" + KEYS[0],
        prefix + PLAIN + "deeper/" + name(),
        prefix + HIVE + "hour=25/x/" + name(),
    ):
        local = storage.scratch / "object"
        local.write_bytes(b"x")
        storage.put(local, key)
    scope = DayScope(prefix, **{"day": DAY, "late_hours": 2} | options)
    everything = list(storage.objects(""))
    assert select_day([*everything[::-1], *everything], scope) == list_day(storage, scope)


def test_nothing_there(tmp_path):
    assert listed(str(tmp_path / "nowhere")).objects == ()


def test_more_keys_than_a_page_and_only_below_day_prefixes(s3, monkeypatch):
    bucket = s3()
    client = boto3.client("s3")
    for number in range(1005):
        client.put_object(Bucket=bucket, Key=PLAIN + name(flow_log=f"fl-{number:04d}"), Body=b"")
    client.put_object(Bucket=bucket, Key="AWSLogs/123456789012/CloudTrail/us-east-1/2026/03/10/x.json.gz", Body=b"")
    asked = []
    storage, prefix = open_storage(f"s3://{bucket}")
    real = type(storage)._pages

    def spy(self, **request):
        asked.append(request)
        return real(self, **request)

    monkeypatch.setattr(type(storage), "_pages", spy)
    assert len(list_day(storage, DayScope(prefix, DAY, 2)).objects) == 1005
    # Whole listings go below a date; above it only folder names are asked for.
    assert sorted(request["Prefix"] for request in asked if "Delimiter" not in request) == [PLAIN, NEXT]


@pytest.mark.parametrize("url", ["gs://bucket/logs", "s3://", "s3:///x"])
def test_other_kinds_of_storage_are_refused(url):
    with pytest.raises(UsageError):
        open_storage(url)
