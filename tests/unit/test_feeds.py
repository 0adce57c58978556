"""What formats can feed, and the command that creates the recommended one."""

import shlex

import boto3
import pytest
from moto import mock_aws

from flowlog_udfs.feeds import NO, PARTLY, RECOMMENDED, RESULTS, YES, create_command, feeds, unassessed
from flowlog_udfs.fields import CONNECTION_FIELDS, TGW_FIELDS
from flowlog_udfs.formats import DEFAULT_FORMAT, LogFormat
from flowlog_udfs.policy.loading import load_policy

ANNOUNCED = LogFormat.parse(
    "${version} ${vpc-id} ${subnet-id} ${instance-id} ${interface-id} ${account-id} ${type} ${srcaddr} ${dstaddr} ${srcport} ${dstport} "
    "${pkt-srcaddr} ${pkt-dstaddr} ${protocol} ${bytes} ${packets} ${start} ${end} ${action} ${tcp-flags} ${log-status}"
)


def answers(log_format: LogFormat) -> dict[str, str]:
    return {one.result: one.answer for one in feeds(log_format)}


def test_the_recommended_format_feeds_everything():
    assert set(answers(RECOMMENDED).values()) == {YES}
    assert unassessed(RECOMMENDED, load_policy(None)) == {}


@pytest.mark.parametrize("name", sorted({name for result in RESULTS for name in (*result.fields, *result.vital)}))
def test_each_field_that_a_result_needs_is_missed(name: str):
    without = feeds(LogFormat(tuple(one for one in RECOMMENDED.names if one != name)))
    lacking = [one for one in without if name in one.lacking]
    assert lacking and all(one.answer != YES and one.meaning for one in lacking)


def test_without_flags_ports_tell_and_without_packet_addresses_clients_do():
    found = answers(DEFAULT_FORMAT)
    assert (found["who talked to whom"], found["who initiated"], found["what is behind a NAT"]) == (YES, PARTLY, PARTLY)
    assert (found["why it was refused"], found["what was lost"], found["bytes of each subnet"]) == (NO, YES, PARTLY)
    assert answers(ANNOUNCED)["who initiated"] == answers(ANNOUNCED)["what is behind a NAT"] == YES


def test_without_ports_nobody_initiated():
    lone = LogFormat.parse("${interface-id} ${bytes} ${tcp-flags} ${pkt-srcaddr} ${pkt-dstaddr}")
    found = answers(lone)
    assert found["who talked to whom"] == found["who initiated"] == found["what is behind a NAT"] == NO
    assert found["bytes of each subnet"] == PARTLY


def test_a_transit_gateway_feeds_its_records_only():
    found = feeds(LogFormat(tuple(field.name for field in TGW_FIELDS)))
    assert {one.answer for one in found} == {NO}
    assert "records_tgw" in str(found[0].meaning)


def test_rules_are_named_with_what_they_lack():
    found = unassessed(ANNOUNCED, load_policy(None))
    assert found["block-public-access"] == ("reject-reason",)
    assert found["admin-from-internet"] == ("pkt-dst-aws-service", "pkt-src-aws-service")
    assert "port-scan" not in found and "cleartext" not in found


@pytest.mark.parametrize("name", CONNECTION_FIELDS)
def test_rules_about_connections_lack_what_tells_these_apart(name: str):
    found = unassessed(LogFormat(tuple(one for one in RECOMMENDED.names if one != name)), load_policy(None))
    for rule in ("segmentation", "refused-from-inside", "block-public-access", "port-scan", "first-seen-peer"):
        assert found[rule] == (name,)
    assert not {"skipdata", "expected-missing", "ledger-hole"} & set(found)


def test_ec2_takes_the_command_as_it_is_printed():
    words = shlex.split(create_command(RECOMMENDED, ["vpc-1", "vpc-2"], "arn:aws:s3:::flow-logs").replace("\\\n", " "))
    assert words[:3] == ["aws", "ec2", "create-flow-logs"]
    assert words[words.index("--resource-ids") + 1 : words.index("--traffic-type")] == ["vpc-1", "vpc-2"]
    given = {name: words[words.index(f"--{name}") + 1] for name in ("log-format", "log-destination", "max-aggregation-interval")}
    assert LogFormat.parse(given["log-format"]) == RECOMMENDED
    with mock_aws():
        ec2, s3 = boto3.client("ec2", "us-east-1"), boto3.client("s3", "us-east-1")
        s3.create_bucket(Bucket="flow-logs")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        options = dict(one.split("=") for one in words[words.index("--destination-options") + 1].split(","))
        made = ec2.create_flow_logs(
            ResourceType=words[words.index("--resource-type") + 1],
            ResourceIds=[vpc],
            TrafficType=words[words.index("--traffic-type") + 1],
            LogDestinationType=words[words.index("--log-destination-type") + 1],
            LogDestination=given["log-destination"],
            LogFormat=given["log-format"],
            MaxAggregationInterval=int(given["max-aggregation-interval"]),
            DestinationOptions={name: {"true": True, "false": False}.get(value, value) for name, value in options.items()},
        )
    assert made["Unsuccessful"] == [] and len(made["FlowLogIds"]) == 1
