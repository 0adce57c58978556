"""Formats from strings, headers, footers and the EC2 API, and the plan of a day."""

import gzip

import boto3
import pyarrow as pa
import pytest
from moto import mock_aws

from flowlog_udfs.errors import ObjectError, UsageError
from flowlog_udfs.fields import BY_NAME, FIELDS, TGW_FIELDS, TGW_ONLY
from flowlog_udfs.formats import DEFAULT_FORMAT, LogFormat, describe_formats, plan_formats, read_format
from flowlog_udfs.keys import ListedObject, parse_key
from flowlog_udfs.storage import StoredObject
from tests.unit.reading import ANNOUNCED, SSH_REPLY

# The default Transit Gateway header, as AWS prints it.
TGW_HEADER = (
    "version resource-type account-id tgw-id tgw-attachment-id tgw-src-vpc-account-id tgw-dst-vpc-account-id tgw-src-vpc-id "
    "tgw-dst-vpc-id tgw-src-subnet-id tgw-dst-subnet-id tgw-src-eni tgw-dst-eni tgw-src-az-id tgw-dst-az-id tgw-pair-attachment-id "
    "srcaddr dstaddr srcport dstport protocol packets bytes start end log-status type packets-lost-no-route packets-lost-blackhole "
    "packets-lost-mtu-exceeded packets-lost-ttl-expired tcp-flags region flow-direction pkt-src-aws-service pkt-dst-aws-service"
)


def test_the_fields_of_each_version():
    counts = {version: sum(field.version == version for field in FIELDS) for version in range(2, 12)}
    assert counts == {2: 14, 3: 7, 4: 4, 5: 4, 6: 0, 7: 10, 8: 1, 9: 1, 10: 1, 11: 12}
    assert len({field.column for field in FIELDS}) == 54


def test_the_transit_gateway_fields():
    assert " ".join(field.name for field in TGW_FIELDS) == TGW_HEADER
    assert LogFormat.from_header(TGW_HEADER).is_tgw and not ANNOUNCED.is_tgw
    assert TGW_ONLY and all(name in BY_NAME for name in TGW_ONLY)


def test_a_format_string_and_back():
    assert len(ANNOUNCED.names) == 21
    assert LogFormat.parse(str(ANNOUNCED)) == ANNOUNCED
    assert LogFormat.from_header(ANNOUNCED.header()) == ANNOUNCED


@pytest.mark.parametrize("text", ["", "version", "${version} account-id", "${version}${account-id}", "${Version}", "${version} ${version}"])
def test_a_wrong_format_string(text):
    with pytest.raises(UsageError):
        LogFormat.parse(text)


@pytest.mark.parametrize(
    "line",
    [
        *("", SSH_REPLY, "hello world again", "version version", "VERSION", "2 version", "version of the truth here now"),
        *(f"version{sign}account-id action" for sign in "\x1c\x1f\x85\xa0\u2028"),
    ],
)
def test_lines_that_are_no_header(line):
    assert LogFormat.from_header(line) is None


def test_a_header_with_names_newer_than_this_release():
    found = LogFormat.from_header("aaa-new version account-id")
    assert found.unknown == ("aaa-new",)


def test_parquet_columns():
    schema = pa.schema([("instance_tag_2", pa.string()), ("end", pa.int64()), ("new_thing", pa.string())])
    assert LogFormat.from_parquet(schema).names == ("instance-tag-2", "end", "new-thing")
    assert LogFormat.from_parquet(pa.schema([("colour", pa.string())])) is None


@pytest.mark.parametrize("wrap", [gzip.compress, bytes])
def test_the_head_of_an_object(wrap):
    content = (ANNOUNCED.header() + "\n" + SSH_REPLY).encode()
    assert read_format(wrap(content)) == ANNOUNCED
    assert read_format(wrap(b"nothing here")) is None


def test_a_damaged_head():
    assert read_format(b"\x1f\x8bnot gzip at all") is None


class Heads:
    """A storage that counts the heads read from it."""

    def __init__(self, heads):
        self.heads, self.read = heads, []

    def head(self, key, size):
        self.read.append(key)
        if self.heads[key] is None:
            raise ObjectError("gone")
        return self.heads[key]


def listed(flow_log, number, end="log.gz"):
    key = f"AWSLogs/1/vpcflowlogs/us-east-1/2026/03/10/1_vpcflowlogs_us-east-1_{flow_log}_20260310T{number:04d}Z_ab.{end}"
    return ListedObject(StoredObject(key, "", 1, None), parse_key(key))


def test_one_header_read_plans_a_flow_log():
    objects = [listed(flow_log, number) for flow_log in ("fl-a", "fl-b") for number in range(50)]
    storage = Heads({one.stored.key: ANNOUNCED.header().encode() + b"\n" for one in objects})
    assert plan_formats(storage, objects, {}) == {"fl-a": ANNOUNCED, "fl-b": ANNOUNCED}
    assert len(storage.read) == 2


def test_the_next_object_when_the_first_is_broken():
    objects = [listed("fl-a", number) for number in range(4)]
    heads = [None, b"garbage\n", DEFAULT_FORMAT.header().encode() + b"\n", ANNOUNCED.header().encode()]
    storage = Heads({one.stored.key: head for one, head in zip(objects, heads, strict=True)})
    assert plan_formats(storage, objects, {}) == {"fl-a": DEFAULT_FORMAT}
    assert len(storage.read) == 3


def test_configuration_and_parquet_need_no_header():
    objects = [listed("fl-a", 1), listed("fl-p", 1, "log.parquet")]
    storage = Heads({})
    assert plan_formats(storage, objects, {"fl-a": ANNOUNCED}) == {"fl-a": ANNOUNCED}
    assert storage.read == []


def test_describe_flow_logs(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        ec2 = boto3.client("ec2", region_name="us-east-1")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="flow-logs")
        made = ec2.create_flow_logs(
            ResourceIds=[vpc],
            ResourceType="VPC",
            TrafficType="ALL",
            LogDestinationType="s3",
            LogDestination="arn:aws:s3:::flow-logs",
            LogFormat=str(ANNOUNCED),
        )
        assert describe_formats(ec2) == {made["FlowLogIds"][0]: ANNOUNCED}
