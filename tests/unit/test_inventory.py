"""Inventories: what is read from EC2 (moto's) and from files, what is refused, and that equal networks give equal text."""

import json
import random
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from hypothesis import given
from hypothesis import strategies as st
from jobs_loaded import job_main
from moto import mock_aws

from flowlog_udfs.ec2 import CALLS
from flowlog_udfs.errors import StorageError, UsageError
from flowlog_udfs.inventory import (
    LOAD_BALANCER,
    NAT_GATEWAY,
    REGIONAL_NAT_GATEWAY,
    FlowLog,
    Interface,
    Inventory,
    Link,
    NatGateway,
    Subnet,
    Vpc,
    describe_inventory,
    interface_kind,
    load_inventory,
    read_inventory,
)
from flowlog_udfs.sample import SampleRequest, make_sample

TAKEN_AT = datetime(2026, 1, 5, 23, 40, tzinfo=timezone.utc)


def answers() -> dict[str, Any]:
    """Answers with something of everything, as EC2 gives them, keys that nobody reads included."""
    return {
        "TakenAt": "2026-01-05T23:40:00Z",
        "Vpcs": [
            {
                "VpcId": "vpc-1",
                "OwnerId": "111111111111",
                "Region": "us-east-1",
                "State": "available",
                "CidrBlock": "10.0.0.0/16",
                "CidrBlockAssociationSet": [
                    {"CidrBlock": "10.0.0.0/16", "CidrBlockState": {"State": "associated"}},
                    {"CidrBlock": "100.64.0.0/16", "CidrBlockState": {"State": "associated"}},
                    # Taken away: listed for a while still.
                    {"CidrBlock": "10.9.0.0/16", "CidrBlockState": {"State": "disassociated"}},
                ],
                "Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlock": "2600:1f18:1::/56", "Ipv6CidrBlockState": {"State": "associated"}}],
            },
        ],
        "Subnets": [
            {
                "SubnetId": "subnet-1",
                "VpcId": "vpc-1",
                "OwnerId": "111111111111",
                "Region": "us-east-1",
                "AvailabilityZoneId": "use1-az1",
                "CidrBlock": "10.0.1.0/24",
                "Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlock": "2600:1f18:1::/64", "Ipv6CidrBlockState": {"State": "associated"}}],
            },
            # An IPv6-only subnet has no CidrBlock.
            {"SubnetId": "subnet-2", "VpcId": "vpc-1", "Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlock": "2600:1f18:1:1::/64"}]},
        ],
        "NetworkInterfaces": [
            {
                "NetworkInterfaceId": "eni-1",
                "InterfaceType": "interface",
                "VpcId": "vpc-1",
                "SubnetId": "subnet-1",
                "OwnerId": "222222222222",
                "Description": "",
                "SourceDestCheck": False,
                "Attachment": {"InstanceId": "i-1", "InstanceOwnerId": "222222222222", "Status": "attached"},
                "PrivateIpAddress": "10.0.1.9",
                "PrivateIpAddresses": [
                    {"PrivateIpAddress": "10.0.1.8", "Primary": False, "Association": {"PublicIp": "203.0.113.8"}},
                    {"PrivateIpAddress": "10.0.1.9", "Primary": True, "Association": {"PublicIp": "203.0.113.9"}},
                ],
                "Association": {"PublicIp": "203.0.113.9"},
                "Ipv6Addresses": [{"Ipv6Address": "2600:1f18:1::9"}],
                "Ipv4Prefixes": [{"Ipv4Prefix": "10.0.1.32/28"}],
                "Ipv6Prefixes": [{"Ipv6Prefix": "2600:1f18:1:0:1::/80"}],
            },
            {"NetworkInterfaceId": "eni-2", "InterfaceType": "interface", "RequesterId": "amazon-elb", "Description": "ELB app/web/1"},
            {"NetworkInterfaceId": "eni-3", "InterfaceType": "natGateway", "PrivateIpAddress": "10.0.1.3", "Attachment": None},
        ],
        "NatGateways": [
            {
                "NatGatewayId": "nat-1",
                "VpcId": "vpc-1",
                "SubnetId": "subnet-1",
                "State": "available",
                "NatGatewayAddresses": [{"NetworkInterfaceId": "eni-3", "PrivateIp": "10.0.1.3", "PublicIp": "203.0.113.3"}],
            },
            {
                "NatGatewayId": "nat-2",
                "VpcId": "vpc-1",
                "AvailabilityMode": "regional",
                "NatGatewayAddresses": [{"PublicIp": "203.0.113.2"}],
            },
            # Its address may be someone else's by now.
            {"NatGatewayId": "nat-3", "VpcId": "vpc-1", "State": "deleted", "NatGatewayAddresses": [{"PublicIp": "203.0.113.1"}]},
        ],
        "Addresses": [
            {"PublicIp": "203.0.113.200", "AllocationId": "eipalloc-1"},
            {"PublicIp": "203.0.113.9", "NetworkInterfaceId": "eni-1"},
        ],
        "VpcPeeringConnections": [
            {
                "VpcPeeringConnectionId": "pcx-1",
                "Status": {"Code": "active"},
                "RequesterVpcInfo": {
                    "VpcId": "vpc-9",
                    "OwnerId": "999999999999",
                    "Region": "eu-west-1",
                    "CidrBlockSet": [{"CidrBlock": "10.8.0.0/16"}],
                },
                "AccepterVpcInfo": {"VpcId": "vpc-1", "CidrBlock": "10.0.0.0/16"},
            },
            {
                "VpcPeeringConnectionId": "pcx-2",
                "Status": {"Code": "deleted"},
                "RequesterVpcInfo": {"VpcId": "vpc-8"},
                "AccepterVpcInfo": {"VpcId": "vpc-1"},
            },
        ],
        "TransitGatewayVpcAttachments": [
            {"TransitGatewayAttachmentId": "tgw-attach-1", "TransitGatewayId": "tgw-1", "VpcId": "vpc-2", "State": "available"},
            {"TransitGatewayAttachmentId": "tgw-attach-2", "TransitGatewayId": "tgw-1", "VpcId": "vpc-1", "State": "modifying"},
            {"TransitGatewayAttachmentId": "tgw-attach-3", "TransitGatewayId": "tgw-1", "VpcId": "vpc-3", "State": "deleting"},
            # Alone on its gateway: it links nothing.
            {"TransitGatewayAttachmentId": "tgw-attach-4", "TransitGatewayId": "tgw-2", "VpcId": "vpc-1", "State": "available"},
        ],
        "FlowLogs": [
            {"FlowLogId": "fl-1", "ResourceId": "vpc-1", "TrafficType": "ALL", "MaxAggregationInterval": 60, "LogFormat": "${srcaddr}"}
        ],
    }


def test_everything_that_is_read():
    found = read_inventory(answers(), "test")
    assert (found.taken_at, found.day) == (TAKEN_AT, date(2026, 1, 5))
    assert found.vpcs == (Vpc("vpc-1", "111111111111", "us-east-1", ("10.0.0.0/16", "100.64.0.0/16", "2600:1f18:1::/56")),)
    assert found.remote_vpcs == (Vpc("vpc-9", "999999999999", "eu-west-1", ("10.8.0.0/16",)),)
    assert found.subnets == (
        Subnet("subnet-1", "vpc-1", "111111111111", "us-east-1", "use1-az1", ("10.0.1.0/24", "2600:1f18:1::/64")),
        Subnet("subnet-2", "vpc-1", None, None, None, ("2600:1f18:1:1::/64",)),
    )
    assert found.interfaces[0] == Interface(
        interface_id="eni-1",
        kind="interface",
        vpc_id="vpc-1",
        subnet_id="subnet-1",
        account_id="222222222222",
        instance_id="i-1",
        instance_account_id="222222222222",
        description="",
        addresses=("10.0.1.9", "10.0.1.8"),
        ipv6_addresses=("2600:1f18:1::9",),
        public_addresses=("203.0.113.8", "203.0.113.9"),
        prefixes=("10.0.1.32/28", "2600:1f18:1:0:1::/80"),
        checks_addresses=False,
    )
    assert [interface.kind for interface in found.interfaces] == ["interface", LOAD_BALANCER, NAT_GATEWAY]
    assert found.nat_gateways == (
        NatGateway("nat-1", NAT_GATEWAY, "vpc-1", "subnet-1", ("eni-3",), ("10.0.1.3",), ("203.0.113.3",)),
        NatGateway("nat-2", REGIONAL_NAT_GATEWAY, "vpc-1", None, (), (), ("203.0.113.2",)),
    )
    assert found.public_addresses == tuple(f"203.0.113.{last}" for last in (2, 200, 3, 8, 9))
    assert found.links == (Link("pcx-1", ("vpc-1", "vpc-9")), Link("tgw-1", ("vpc-1", "vpc-2")))
    assert found.flow_logs == (FlowLog("fl-1", "vpc-1", "ALL", 60, "${srcaddr}"),)
    assert found.cidrs == {vpc.vpc_id: vpc.cidrs for vpc in (*found.vpcs, *found.remote_vpcs)}


@pytest.mark.parametrize(
    ("interface_type", "requester", "description", "kind"),
    [
        ("interface", "amazon-elb", "", "load_balancer"),
        ("interface", "123", "ELB app/web/0123", "load_balancer"),
        ("interface", "amazon-rds", "RDSNetworkInterface", "interface"),
        ("interface", "", "for ELB tests", "interface"),
        ("network_load_balancer", "", "ELB net/web/0123", "network_load_balancer"),
        ("lambda", "", "AWS Lambda VPC ENI-f", "lambda"),
        ("vpc_endpoint", "", "", "vpc_endpoint"),
        ("transit_gateway", "", "", "transit_gateway"),
        ("nat_gateway", "", "", "nat_gateway"),
        ("natGateway", "", "", "nat_gateway"),
        ("kind_of_next_year", "", "", "kind_of_next_year"),
    ],
)
def test_kinds(interface_type: str, requester: str, description: str, kind: str):
    assert interface_kind(interface_type, requester, description) == kind


@given(st.randoms())
def test_order_does_not_change_the_inventory(shuffle: random.Random):
    shuffled = answers()
    for name, items in shuffled.items():
        if name != "TakenAt":
            shuffle.shuffle(items)
            for inner in (value for item in items for value in item.values() if isinstance(value, list)):
                shuffle.shuffle(inner)
    assert read_inventory(shuffled, "test") == read_inventory(answers(), "test")


def test_text_comes_back_and_a_change_changes_the_digest(tmp_path: Path):
    first = read_inventory(answers(), "test")
    (tmp_path / "inventory.json").write_text(first.to_json())
    again = load_inventory(tmp_path / "inventory.json")
    assert again == first
    assert again.digest() == first.digest()
    assert len(first.digest()) == 64
    changed = answers()
    changed["Addresses"][0]["PublicIp"] = "203.0.113.201"
    assert read_inventory(changed, "test").digest() != first.digest()
    # What nobody reads is no change.
    unread = answers()
    unread["Vpcs"][0]["State"] = "pending"
    assert read_inventory(unread, "test").digest() == first.digest()


def test_a_thing_described_twice_is_kept_as_the_fuller_one():
    twice = answers()
    # A participant in a shared VPC sees less of a subnet than its owner.
    twice["Subnets"].insert(0, {"SubnetId": "subnet-1", "VpcId": "vpc-1", "CidrBlock": "10.0.1.0/24"})
    assert read_inventory(twice, "test") == read_inventory(answers(), "test")


def test_lists_may_be_absent():
    found = read_inventory({"TakenAt": "2026-01-05T23:40:00Z", "Subnets": None}, "test")
    assert (found.vpcs, found.subnets, found.links, found.public_addresses) == ((), (), (), ())


def test_the_sample_writes_such_a_file(tmp_path: Path):
    make_sample(SampleRequest(str(tmp_path), date(2026, 6, 1), connections=200, file_format="text"))
    found = load_inventory(tmp_path / "inventory.json")
    assert found.day == date(2026, 6, 1)
    kinds = {"nat_gateway", "network_load_balancer", "transit_gateway", "vpc_endpoint", "lambda", "load_balancer", "interface"}
    assert {interface.kind for interface in found.interfaces} == kinds
    assert {gateway.kind for gateway in found.nat_gateways} == {NAT_GATEWAY, REGIONAL_NAT_GATEWAY}
    assert {link.via[:3] for link in found.links} == {"pcx", "tgw"}
    assert {subnet.vpc_id for subnet in found.subnets} <= {vpc.vpc_id for vpc in found.vpcs}


def broken(path: str, value: Any) -> dict[str, Any]:
    """The answers with one value changed, or without it where the new value is None."""
    *steps, last = path.split(".")
    whole = inner = answers()
    for step in steps:
        inner = inner[int(step)] if isinstance(inner, list) else inner[step]
    key = int(last) if isinstance(inner, list) else last
    if value is None:
        del inner[key]
    else:
        inner[key] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("TakenAt", None, "must be an object with TakenAt"),
        ("TakenAt", "2026-01-05", "TakenAt = '2026-01-05': must be a time with its zone"),
        ("TakenAt", 20260105, "TakenAt = 20260105"),
        ("Subnet", [], "unknown key 'Subnet'; known are TakenAt, Vpcs, Subnets"),
        ("Subnets", {"SubnetId": "subnet-1"}, "Subnets: must be a list"),
        ("Subnets.0", ["subnet-1"], r"Subnets\[0\]: must be an object"),
        ("Vpcs.0.VpcId", None, r"Vpcs\[0\]: VpcId is missing"),
        ("Vpcs.0.CidrBlock", "10.0.0.0/99", r"Vpcs\[0\]\.CidrBlock = '10\.0\.0\.0/99': .*is not a CIDR"),
        ("Vpcs.0.CidrBlock", 10, r"Vpcs\[0\]\.CidrBlock = 10: .*is not a CIDR"),
        ("NetworkInterfaces.0.PrivateIpAddresses.1.PrivateIpAddress", "ten", r"\[0\]\.PrivateIpAddresses\[1\]\.PrivateIpAddress = 'ten'"),
        ("NetworkInterfaces.0.SourceDestCheck", "no", "SourceDestCheck = 'no': must be true or false"),
        ("NetworkInterfaces.0.SubnetId", 7, "SubnetId = 7: must be text"),
        ("FlowLogs.0.MaxAggregationInterval", "60", "MaxAggregationInterval = '60': must be a whole number"),
        ("VpcPeeringConnections.0.Status", None, r"VpcPeeringConnections\[0\]: Status is missing"),
        ("VpcPeeringConnections.0.Status.Code", None, r"VpcPeeringConnections\[0\]\.Status: Code is missing"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, path: str, value: Any, message: str):
    file = tmp_path / "inventory.json"
    file.write_text(json.dumps(broken(path, value)))
    with pytest.raises(UsageError, match=message) as raised:
        load_inventory(file)
    assert str(raised.value).startswith(str(file))


def test_files_that_are_no_inventory(tmp_path: Path):
    with pytest.raises(UsageError, match=r"absent\.json: No such file"):
        load_inventory(tmp_path / "absent.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(UsageError, match="must be an object with TakenAt"):
        load_inventory(tmp_path / "list.json")
    (tmp_path / "text.json").write_text("Vpcs")
    with pytest.raises(UsageError, match="not valid JSON"):
        load_inventory(tmp_path / "text.json")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch):
    """moto's EC2, empty but for the default VPCs."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        yield


def client(region: str = "us-east-1") -> Any:
    return boto3.client("ec2", region_name=region)


def build_network() -> dict[str, str]:
    """Two VPCs in one Region, one in another; peering, transit gateway, NAT gateway, an instance's and a spare public address."""
    ec2, far = client(), client("eu-west-1")
    ids = {"vpc": ec2.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]}
    ec2.associate_vpc_cidr_block(VpcId=ids["vpc"], CidrBlock="100.64.0.0/16")
    ids["other"] = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    ids["far"] = far.create_vpc(CidrBlock="10.2.0.0/16")["Vpc"]["VpcId"]
    ids["subnet"] = ec2.create_subnet(VpcId=ids["vpc"], CidrBlock="10.0.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    interface = ec2.create_network_interface(SubnetId=ids["subnet"], PrivateIpAddress="10.0.1.9", Description="mine")
    ids["interface"] = interface["NetworkInterface"]["NetworkInterfaceId"]
    ids["public"], ids["spare"], ids["outside"] = (ec2.allocate_address(Domain="vpc")["PublicIp"] for _ in range(3))
    allocation = {address["PublicIp"]: address["AllocationId"] for address in ec2.describe_addresses()["Addresses"]}
    ec2.associate_address(AllocationId=allocation[ids["public"]], NetworkInterfaceId=ids["interface"])
    gateway = ec2.create_nat_gateway(SubnetId=ids["subnet"], AllocationId=allocation[ids["outside"]])["NatGateway"]
    ids["nat"] = gateway["NatGatewayId"]
    ids["peering"] = ec2.create_vpc_peering_connection(VpcId=ids["vpc"], PeerVpcId=ids["far"], PeerRegion="eu-west-1")[
        "VpcPeeringConnection"
    ]["VpcPeeringConnectionId"]
    far.accept_vpc_peering_connection(VpcPeeringConnectionId=ids["peering"])
    ids["tgw"] = ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
    for vpc in ("vpc", "other"):
        ec2.create_transit_gateway_vpc_attachment(TransitGatewayId=ids["tgw"], VpcId=ids[vpc], SubnetIds=[ids["subnet"]])
    return ids


def test_describe_reads_ec2(aws: None):
    ids = build_network()
    found = describe_inventory([("us-east-1", client())], TAKEN_AT)
    vpcs = {vpc.vpc_id: vpc for vpc in found.vpcs}
    assert vpcs[ids["vpc"]].cidrs[:2] == ("10.0.0.0/16", "100.64.0.0/16")
    assert vpcs[ids["vpc"]].cidrs[2].endswith("/56")
    assert (vpcs[ids["vpc"]].account_id, vpcs[ids["vpc"]].region) == ("123456789012", "us-east-1")
    assert [vpc.vpc_id for vpc in found.remote_vpcs] == [ids["far"]]
    subnet = next(subnet for subnet in found.subnets if subnet.subnet_id == ids["subnet"])
    assert subnet == Subnet(ids["subnet"], ids["vpc"], "123456789012", "us-east-1", "use1-az6", ("10.0.1.0/24",))
    interface = next(one for one in found.interfaces if one.interface_id == ids["interface"])
    assert (interface.subnet_id, interface.addresses, interface.public_addresses) == (ids["subnet"], ("10.0.1.9",), (ids["public"],))
    assert (interface.description, interface.kind, interface.checks_addresses) == ("mine", "interface", True)
    assert {ids["public"], ids["spare"], ids["outside"]} <= set(found.public_addresses)
    assert [(gateway.nat_gateway_id, gateway.kind, gateway.subnet_id) for gateway in found.nat_gateways] == [
        (ids["nat"], NAT_GATEWAY, ids["subnet"])
    ]
    assert found.links == (
        Link(ids["peering"], tuple(sorted((ids["vpc"], ids["far"])))),
        Link(ids["tgw"], tuple(sorted((ids["vpc"], ids["other"])))),
    )


def test_describe_joins_regions(aws: None):
    ids = build_network()
    found = describe_inventory([("us-east-1", client()), ("eu-west-1", client("eu-west-1"))], TAKEN_AT)
    assert {ids["vpc"], ids["far"]} <= {vpc.vpc_id for vpc in found.vpcs}
    assert {vpc.vpc_id: vpc.region for vpc in found.vpcs}[ids["far"]] == "eu-west-1"
    assert found.remote_vpcs == ()
    # Both Regions describe the peering: it is one link.
    assert [link.via for link in found.links] == [ids["peering"], ids["tgw"]]


def test_describe_reads_every_page(aws: None):
    ec2 = client()
    with Stubber(ec2) as stubbed:
        stubbed.add_response("describe_vpcs", {"Vpcs": [{"VpcId": "vpc-1", "CidrBlock": "10.0.0.0/16"}], "NextToken": "more"}, {})
        stubbed.add_response("describe_vpcs", {"Vpcs": [{"VpcId": "vpc-2", "CidrBlock": "10.1.0.0/16"}]}, {"NextToken": "more"})
        for call in list(CALLS)[1:]:
            stubbed.add_response(CALLS[call], {call: []}, {})
        found = describe_inventory([("us-east-1", ec2)], TAKEN_AT)
        stubbed.assert_no_pending_responses()
    assert [vpc.vpc_id for vpc in found.vpcs] == ["vpc-1", "vpc-2"]


def test_a_refusal_of_ec2_is_named(aws: None):
    ec2 = client()
    with Stubber(ec2) as stubbed:
        stubbed.add_client_error("describe_vpcs", "UnauthorizedOperation", "You are not authorized")
        with pytest.raises(StorageError, match=r"us-east-1: EC2's describe_vpcs failed: .*UnauthorizedOperation"):
            describe_inventory([("us-east-1", ec2)], TAKEN_AT)


def take_inventory(*arguments: str) -> int:
    """Run the job's `main` in this process, where moto answers."""
    return job_main("take_inventory")(arguments)


def test_the_job_writes_what_load_inventory_reads(aws: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ids = build_network()
    path = tmp_path / "inventory.json"
    assert take_inventory("--region", "us-east-1", "--region", "eu-west-1", "--output", str(path)) == 0
    found = load_inventory(path)
    assert isinstance(found, Inventory)
    assert {ids["vpc"], ids["far"]} <= {vpc.vpc_id for vpc in found.vpcs}
    assert f"{len(found.vpcs)} VPCs" in capsys.readouterr().out
    assert abs((datetime.now(timezone.utc) - found.taken_at).total_seconds()) < 600
    # Again: the same but for the time.
    assert take_inventory("--region", "eu-west-1", "--region", "us-east-1", "--output", str(path)) == 0
    again = load_inventory(path)
    assert (again.vpcs, again.subnets, again.links) == (found.vpcs, found.subnets, found.links)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--output", "x"], 1, "--region"),
        (["--region", "us-east-1", "--output", "x", "--profile", "nobody"], 1, "nobody"),
        (["--region", "not a region", "--output", "x"], 1, "not a region"),
        (["--region", "us-east-1", "--output", "/nowhere/x"], 3, "/nowhere/x: No such file"),
    ],
)
def test_the_job_says_what_is_wrong(aws: None, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str):
    assert take_inventory(*arguments) == status
    assert message in capsys.readouterr().err
