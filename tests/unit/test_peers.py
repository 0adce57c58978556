"""The peer scope: each scope, their order, one's own network and subnet, and what is known without the flow log's service fields."""

import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flowlog_udfs.addresses import packed
from flowlog_udfs.errors import UsageError
from flowlog_udfs.inventory import Inventory, read_inventory
from flowlog_udfs.networks import Networks
from flowlog_udfs.peers import PEER_SCOPES, AwsRanges, KnownAddress, PeerScopes

INVENTORY = read_inventory(
    {
        "TakenAt": "2026-01-05T23:40:00Z",
        "Vpcs": [
            {
                "VpcId": "vpc-1",
                "CidrBlock": "10.0.0.0/16",
                # A public range used inside a VPC.
                "CidrBlockAssociationSet": [{"CidrBlock": "10.0.0.0/16"}, {"CidrBlock": "192.0.2.0/24"}],
                "Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlock": "2600:1f18:1::/56"}],
            },
            {"VpcId": "vpc-2", "CidrBlock": "10.0.0.0/16", "Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlock": "2600:1f18:2::/56"}]},
        ],
        "Subnets": [
            {
                "SubnetId": "subnet-1a",
                "VpcId": "vpc-1",
                "CidrBlock": "10.0.1.0/24",
                "Ipv6CidrBlockAssociationSet": [{"Ipv6CidrBlock": "2600:1f18:1::/64"}],
            },
            {"SubnetId": "subnet-1b", "VpcId": "vpc-1", "CidrBlock": "10.0.2.0/24"},
            {"SubnetId": "subnet-2a", "VpcId": "vpc-2", "CidrBlock": "10.0.1.0/24"},
        ],
        "Addresses": [{"PublicIp": "203.0.113.9"}, {"PublicIp": "192.0.2.200"}],
    },
    "test",
)
SCOPES = PeerScopes.build(Networks.build(INVENTORY), INVENTORY)


def scope(
    peer: str | None,
    service: str | None = None,
    *,
    logged: bool = True,
    scopes: PeerScopes = SCOPES,
    network: str | None = "vpc-1",
    subnet: str | None = "subnet-1a",
) -> str:
    """The scope of one peer, seen from a subnet; `logged`: the row's format has the service field."""
    high, low = packed(pa.array([peer], pa.string()))
    columns = (pa.array([text], pa.string()) for text in (network, subnet, service))
    return PEER_SCOPES[scopes.codes(high, low, *columns, np.array([logged]))[0]]


@pytest.mark.parametrize(
    ("peer", "service", "expected"),
    [
        ("10.0.1.77", None, "same-subnet"),
        ("2600:1f18:1::77", None, "same-subnet"),
        ("10.0.2.77", None, "own-network"),  # another subnet
        ("10.77.0.1", None, "own-network"),  # private, in no VPC that is known
        ("172.31.0.1", None, "own-network"),
        ("192.168.0.1", None, "own-network"),
        ("100.64.0.1", None, "own-network"),
        ("fd00::1", None, "own-network"),
        ("192.0.2.7", None, "own-network"),  # public, but a range of the own VPC
        ("192.0.2.200", None, "own-network"),  # also where it is an Elastic IP address: the network comes first
        ("2600:1f18:1:1::77", None, "own-network"),
        ("2600:1f18:2::77", None, "own-network"),  # the owner's other VPC: IPv6 ranges are unique
        ("169.254.170.23", None, "own-network"),
        ("fe80::1", None, "own-network"),
        ("224.0.0.5", None, "own-network"),
        ("ff02::1", None, "own-network"),
        ("255.255.255.255", None, "own-network"),
        ("203.0.113.9", "EC2", "own-public"),  # AWS says EC2 of an Elastic IP address: it is the owner's all the same
        ("52.216.0.1", "S3", "aws-service"),
        ("52.216.0.1", "DYNAMODB", "aws-service"),
        ("130.176.0.1", "CLOUDFRONT_ORIGIN_FACING", "aws-service"),
        ("3.208.0.1", "EC2", "aws-tenant"),
        ("3.208.0.1", "AMAZON", "aws-tenant"),
        ("3.208.0.1", "CLOUDFRONT", "aws-tenant"),
        ("3.208.0.1", "API_GATEWAY", "aws-tenant"),
        ("3.208.0.1", "GLOBALACCELERATOR", "aws-tenant"),
        ("3.208.0.1", "SERVICE_OF_NEXT_YEAR", "aws-service"),
        ("198.51.100.4", None, "internet"),
        ("2a02:810d::1", None, "internet"),
        ("64:ff9b::c633:6404", None, "internet"),  # NAT64 of 198.51.100.4
        ("64:ff9b::cb00:7109", None, "own-public"),  # NAT64 of 203.0.113.9
        (None, None, "unknown"),
        ("0.0.0.0", None, "unknown"),
        ("127.0.0.1", None, "unknown"),
        ("::1", None, "unknown"),
        ("241.0.0.1", None, "unknown"),
    ],
)
def test_scopes_in_order(peer: str | None, service: str | None, expected: str):
    assert scope(peer, service) == expected


def test_an_address_means_another_place_in_another_network():
    # Both VPCs have 10.0.0.0/16, and only vpc-1 has the public range.
    assert scope("10.0.1.77", network="vpc-2", subnet="subnet-2a") == "same-subnet"
    assert scope("10.0.1.77", network="vpc-2", subnet="subnet-1a") == "own-network"
    assert scope("192.0.2.7", network="vpc-2", subnet="subnet-2a") == "internet"
    assert scope("192.0.2.200", network="vpc-2", subnet="subnet-2a") == "own-public"
    assert scope("192.0.2.7", network="vpc-7", subnet="subnet-7") == "internet"
    assert scope("10.0.1.77", network=None, subnet=None) == "own-network"


def test_the_same_vpc_joined_to_another_shares_its_ranges():
    joined = Networks({"vpc-1": "vpc-1", "vpc-3": "vpc-1"})
    scopes = PeerScopes.build(joined, INVENTORY)
    assert scope("192.0.2.7", scopes=scopes, network=joined.name("vpc-3"), subnet="subnet-3") == "own-network"
    assert scope("10.0.1.77", scopes=scopes, network=joined.name("vpc-3"), subnet="subnet-1a") == "same-subnet"


def test_without_the_service_field_public_peers_are_unclassified():
    assert scope("198.51.100.4", logged=False) == "public-unclassified"
    assert scope("10.0.2.77", logged=False) == "own-network"
    assert scope("203.0.113.9", logged=False) == "own-public"
    # A value shows that the field is there.
    assert scope("52.216.0.1", "S3", logged=False) == "aws-service"
    high, low = packed(pa.array(["198.51.100.4", "10.0.1.1"]))
    own = pa.array(["vpc-1", "vpc-1"]), pa.array(["subnet-1a", "subnet-1a"])
    assert [PEER_SCOPES[code] for code in SCOPES.codes(high, low, *own)] == ["public-unclassified", "same-subnet"]


def test_without_an_inventory_known_addresses_tell_the_subnet():
    known = [
        KnownAddress("vpc-1", "10.0.1.5", "subnet-1a"),
        KnownAddress("vpc-1", "10.0.1.6", "subnet-1b"),
        KnownAddress("vpc-2", "10.0.1.7", "subnet-1a"),
    ]
    scopes = PeerScopes.build(Networks.build(None, seen=["vpc-1"]), known=known, public=["107.22.182.139"])
    found = {peer: scope(peer, scopes=scopes) for peer in ("10.0.1.5", "10.0.1.6", "10.0.1.7", "107.22.182.139", "107.22.182.140")}
    assert found == {
        "10.0.1.5": "same-subnet",
        "10.0.1.6": "own-network",  # known, in another subnet
        "10.0.1.7": "own-network",  # known in another network only
        "107.22.182.139": "own-public",
        "107.22.182.140": "internet",
    }


def test_the_subnet_of_a_known_interface_goes_before_a_range():
    scopes = PeerScopes.build(Networks.build(INVENTORY), INVENTORY, known=[KnownAddress("vpc-1", "10.0.1.5", "subnet-1b")])
    assert scope("10.0.1.5", scopes=scopes) == "own-network"
    assert scope("10.0.1.5", scopes=scopes, subnet="subnet-1b") == "same-subnet"
    # Known in two subnets, which cannot be: the smaller id, in any order.
    twice = [KnownAddress("vpc-1", "10.0.9.5", "subnet-x"), KnownAddress("vpc-1", "10.0.9.5", "subnet-a")]
    for order in (twice, twice[::-1]):
        assert scope("10.0.9.5", scopes=PeerScopes.build(Networks(), known=order), subnet="subnet-a") == "same-subnet"


RANGES = {
    "syncToken": "1767657600",
    "createDate": "2026-01-06-00-00-00",
    "prefixes": [
        {"ip_prefix": "52.216.0.0/15", "region": "us-east-1", "service": "AMAZON", "network_border_group": "us-east-1"},
        {"ip_prefix": "52.216.0.0/15", "region": "us-east-1", "service": "S3", "network_border_group": "us-east-1"},
        {"ip_prefix": "3.208.0.0/12", "region": "us-east-1", "service": "AMAZON", "network_border_group": "us-east-1"},
        {"ip_prefix": "3.208.0.0/12", "region": "us-east-1", "service": "EC2", "network_border_group": "us-east-1"},
        {"ip_prefix": "3.209.1.0/24", "region": "us-east-1", "service": "ROUTE53_HEALTHCHECKS", "network_border_group": "us-east-1"},
    ],
    "ipv6_prefixes": [{"ipv6_prefix": "2600:9000::/28", "region": "GLOBAL", "service": "CLOUDFRONT", "network_border_group": "GLOBAL"}],
}


@pytest.fixture
def ranges(tmp_path: Path) -> AwsRanges:
    (tmp_path / "ip-ranges.json").write_text(json.dumps(RANGES))
    return AwsRanges.load(tmp_path / "ip-ranges.json")


def test_a_snapshot_of_aws_ranges_stands_in_for_the_service_field(ranges: AwsRanges):
    assert ranges.created == datetime(2026, 1, 6, tzinfo=timezone.utc)
    scopes = PeerScopes.build(Networks.build(INVENTORY), INVENTORY, ranges)
    expected = {
        "52.216.0.1": "aws-service",  # S3's name says more than AMAZON's
        "3.208.0.1": "aws-tenant",
        "3.209.1.1": "aws-service",  # a service's range inside a tenant's
        "2600:9000::1": "aws-tenant",
        "198.51.100.4": "internet",
        "203.0.113.9": "own-public",
    }
    assert {peer: scope(peer, scopes=scopes, logged=False) for peer in expected} == expected
    # The flow log's own word goes before the snapshot's, also where it has none.
    assert scope("52.216.0.1", scopes=scopes, logged=True) == "internet"
    assert scope("52.216.0.1", "EC2", scopes=scopes) == "aws-tenant"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"createDate": "yesterday"}, "not AWS's ip-ranges.json"),
        ({"prefixes": [{"ip_prefix": "52.216.0.0/15"}]}, "not AWS's ip-ranges.json .*service"),
        ({"prefixes": [{"ip_prefix": "52.216.0.0", "service": "S3"}, {"ip_prefix": "ten", "service": "S3"}]}, "'ten' is not a CIDR"),
    ],
)
def test_a_wrong_snapshot_is_named(tmp_path: Path, change: dict, message: str):
    path = tmp_path / "ip-ranges.json"
    path.write_text(json.dumps(RANGES | change))
    with pytest.raises(UsageError, match=message) as raised:
        AwsRanges.load(path)
    assert str(path) in str(raised.value)
    path.write_text("no JSON")
    with pytest.raises(UsageError, match=r"not valid JSON: .*; take AWS's"):
        AwsRanges.load(path)
    with pytest.raises(UsageError, match="No such file"):
        AwsRanges.load(tmp_path / "absent.json")


def test_columns_of_any_layout_and_no_rows():
    assert isinstance(INVENTORY, Inventory)
    high, low = packed(pa.array(["10.0.1.1", "198.51.100.4", "52.216.0.1"]))
    network = pa.chunked_array([["vpc-1"], ["vpc-1", "vpc-1"]])
    subnet = pa.array(["subnet-1a"] * 3).dictionary_encode()
    service = pa.array([None, None, "S3"]).dictionary_encode()
    found = SCOPES.codes(high, low, network, subnet, service, np.array([True, True, True]))
    assert found.dtype == np.int8
    assert [PEER_SCOPES[code] for code in found] == ["same-subnet", "internet", "aws-service"]
    none = pa.array([], pa.string())
    assert len(SCOPES.codes(*packed(none), none, none, none)) == 0
