"""Which VPCs are one network: joins, refusals, names, and that neither order nor names decide."""

import ipaddress
from collections.abc import Iterable
from itertools import combinations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowlog_udfs.errors import UsageError
from flowlog_udfs.inventory import Inventory, read_inventory
from flowlog_udfs.networks import CONFIGURED, Networks, NetworksConfig, network_without_vpc


def inventory(
    vpcs: dict[str, Iterable[str]], peerings: Iterable[tuple[str, str]] = (), gateways: dict[str, Iterable[str]] | None = None
) -> Inventory:
    """An inventory of VPCs with their ranges, peerings, and transit gateways with the VPCs attached."""
    attachments = [(gateway, vpc) for gateway, attached in (gateways or {}).items() for vpc in attached]
    return read_inventory(
        {
            "TakenAt": "2026-01-05T23:40:00Z",
            "Vpcs": [
                {"VpcId": vpc, "CidrBlock": cidrs[0], "CidrBlockAssociationSet": [{"CidrBlock": cidr} for cidr in cidrs]}
                for vpc, cidrs in ((vpc, list(cidrs)) for vpc, cidrs in vpcs.items())
            ],
            "VpcPeeringConnections": [
                {
                    "VpcPeeringConnectionId": f"pcx-{place}",
                    "Status": {"Code": "active"},
                    "RequesterVpcInfo": {"VpcId": one},
                    "AccepterVpcInfo": {"VpcId": other},
                }
                for place, (one, other) in enumerate(peerings)
            ],
            "TransitGatewayVpcAttachments": [
                {"TransitGatewayAttachmentId": f"tgw-attach-{place}", "TransitGatewayId": gateway, "VpcId": vpc, "State": "available"}
                for place, (gateway, vpc) in enumerate(attachments)
            ],
        },
        "test",
    )


def test_every_vpc_alone_without_links():
    # The two default VPCs of rule 2's vector: the same addresses, two networks.
    networks = Networks.build(inventory({"vpc-1": ["172.31.0.0/16"], "vpc-2": ["172.31.0.0/16"]}), seen=["vpc-3"])
    assert networks == Networks({"vpc-1": "vpc-1", "vpc-2": "vpc-2", "vpc-3": "vpc-3"})


def test_peerings_and_transit_gateways_join_under_the_smallest_id():
    networks = Networks.build(
        inventory(
            {
                "vpc-1": ["10.1.0.0/16"],
                "vpc-2": ["10.2.0.0/16"],
                "vpc-3": ["10.3.0.0/16"],
                "vpc-4": ["10.4.0.0/16"],
                "vpc-5": ["10.5.0.0/16"],
            },
            peerings=[("vpc-3", "vpc-2")],
            gateways={"tgw-1": ["vpc-3", "vpc-4"]},
        )
    )
    assert networks.by_vpc == {"vpc-1": "vpc-1", "vpc-2": "vpc-2", "vpc-3": "vpc-2", "vpc-4": "vpc-2", "vpc-5": "vpc-5"}
    assert networks.refused == ()


def test_overlapping_vpcs_are_not_joined_and_the_refusal_is_told():
    networks = Networks.build(inventory({"vpc-1": ["172.31.0.0/16"], "vpc-2": ["172.31.0.0/16"]}), links=[["vpc-1", "vpc-2"]])
    assert networks.by_vpc == {"vpc-1": "vpc-1", "vpc-2": "vpc-2"}
    assert [str(refusal) for refusal in networks.refused] == [
        "vpc-2 was not joined through [networks] links: its network overlaps that of vpc-1"
    ]


@pytest.mark.parametrize(
    ("one", "other", "joined"),
    [
        ("10.0.0.0/16", "10.0.128.0/17", False),
        ("10.0.128.0/24", "10.0.0.0/16", False),
        ("10.0.0.0/17", "10.0.128.0/17", True),  # they meet, and do not overlap
        ("2600:1f18::/56", "2600:1f18:0:80::/57", False),
        ("10.0.0.0/8", "a00::/8", True),
    ],
)
def test_what_overlaps(one: str, other: str, joined: bool):
    networks = Networks.build(inventory({"vpc-1": [one], "vpc-2": [other]}, [("vpc-1", "vpc-2")]))
    assert (networks.name("vpc-2") == "vpc-1") is joined
    assert len(networks.refused) == (not joined)


def test_a_join_may_not_bring_two_overlapping_vpcs_together_through_a_third():
    # A hub peers with two spokes of the same range: AWS allows that. The first in order of ranges joins, the other stays alone.
    networks = Networks.build(
        inventory({"vpc-a": ["10.9.0.0/16"], "vpc-b": ["10.1.0.0/16"], "vpc-c": ["10.1.0.0/17"]}, [("vpc-a", "vpc-b"), ("vpc-a", "vpc-c")])
    )
    assert len(set(networks.by_vpc.values())) == 2
    assert [(refusal.via, refusal.vpc_id) for refusal in networks.refused] == [("pcx-0", "vpc-a")]
    assert networks.name("vpc-a") == networks.name("vpc-c")


def test_only_the_overlapping_vpcs_of_a_transit_gateway_stay_out():
    ranges = {f"vpc-{number}": [f"10.{number}.0.0/16"] for number in range(1, 9)} | {"vpc-9": ["10.3.0.0/16"]}
    networks = Networks.build(inventory(ranges, gateways={"tgw-1": ranges}))
    assert {vpc for vpc in ranges if networks.name(vpc) != "vpc-1"} == {"vpc-9"}
    assert [(refusal.vpc_id, refusal.reason) for refusal in networks.refused] == [("vpc-9", "its network overlaps that of vpc-3")]


def test_an_operators_link_is_believed_where_ranges_are_unknown_and_aws_links_are_not():
    assert Networks.build(None, links=[["vpc-2", "vpc-1"]]).by_vpc == {"vpc-1": "vpc-1", "vpc-2": "vpc-1"}
    # A transit gateway shared by another account: its VPC's ranges are not in the inventory.
    networks = Networks.build(inventory({"vpc-1": ["10.1.0.0/16"]}, gateways={"tgw-1": ["vpc-1", "vpc-2"]}))
    assert networks.by_vpc.get("vpc-2", "vpc-2") == "vpc-2"
    assert [str(refusal) for refusal in networks.refused] == [
        "vpc-2 was not joined through tgw-1: the inventory does not have its address ranges"
    ]


def test_the_operators_links_come_first():
    found = inventory({"vpc-1": ["10.1.0.0/16"], "vpc-2": ["10.1.0.0/16"], "vpc-3": ["10.3.0.0/16"]}, [("vpc-1", "vpc-3")])
    networks = Networks.build(found, links=[["vpc-2", "vpc-3"]])
    assert networks.by_vpc == {"vpc-1": "vpc-1", "vpc-2": "vpc-2", "vpc-3": "vpc-2"}
    assert [refusal.via for refusal in networks.refused] == ["pcx-0"]


_names = st.sampled_from([f"vpc-{letter}" for letter in "abcdef"])
_cidrs = st.lists(
    st.sampled_from(["10.0.0.0/8", "10.0.0.0/9", "10.128.0.0/16", "11.0.0.0/8", "12.0.0.0/8", "13.0.0.0/16"]), min_size=1, max_size=2
)
_peerings = st.lists(st.tuples(_names, _names).filter(lambda pair: pair[0] != pair[1]), max_size=8)
_gateways = st.dictionaries(st.sampled_from(["tgw-1", "tgw-2"]), st.lists(_names, min_size=2, max_size=5, unique=True))


@given(st.dictionaries(_names, _cidrs, min_size=1), _peerings, _gateways, st.lists(st.lists(_names, min_size=2, max_size=3, unique=True)))
def test_networks_never_overlap_and_nothing_is_lost(vpcs, peerings, gateways, links):
    networks = Networks.build(inventory(vpcs, peerings, gateways), links, seen=["vpc-z"])
    named = {*vpcs, *(vpc for link in links for vpc in link), "vpc-z"}
    assert named <= set(networks.by_vpc)
    for vpc, name in networks.by_vpc.items():
        assert name == min(other for other, its in networks.by_vpc.items() if its == name)
        assert name <= vpc
    for one, other in combinations(sorted(set(vpcs) & set(networks.by_vpc)), 2):
        if networks.by_vpc[one] == networks.by_vpc[other]:
            assert not any(ipaddress.ip_network(a).overlaps(ipaddress.ip_network(b)) for a in vpcs[one] for b in vpcs[other])
    # Whatever is linked is joined, unless a refusal tells of it.
    told = {refusal.vpc_id for refusal in networks.refused}
    for group in (*peerings, *gateways.values(), *links):
        parts = {networks.name(vpc) for vpc in group}
        assert len(parts) == 1 or any(networks.name(vpc) in {networks.name(other) for other in told} for vpc in group)


@given(_peerings, st.permutations("abcdef"))
def test_other_ids_give_the_same_networks(peerings: list[tuple[str, str]], letters: list[str]):
    # All ranges differ, two pairs overlap; ids then have no say in which joins are made.
    ranges = ["10.0.0.0/8", "10.0.0.0/9", "11.0.0.0/8", "11.0.0.0/16", "12.0.0.0/8", "13.0.0.0/16"]
    before = {f"vpc-{letter}": [cidr] for letter, cidr in zip("abcdef", ranges, strict=True)}
    renamed = {f"vpc-{old}": f"vpc-{new}" for old, new in zip("abcdef", letters, strict=True)}
    first = Networks.build(inventory(before, peerings))
    second = Networks.build(
        inventory({renamed[vpc]: cidrs for vpc, cidrs in before.items()}, [(renamed[one], renamed[other]) for one, other in peerings])
    )
    for one, other in combinations(before, 2):
        assert (first.name(one) == first.name(other)) == (second.name(renamed[one]) == second.name(renamed[other]))


def test_columns():
    networks = Networks({"vpc-1": "vpc-1", "vpc-2": "vpc-1"})
    found = networks.of(pa.array(["vpc-2", None, "vpc-1", "vpc-7"]).dictionary_encode())
    assert found.to_pylist() == ["vpc-1", None, "vpc-1", "vpc-7"]
    assert found.indices.to_pylist()[0] == found.indices.to_pylist()[2]
    assert networks.of(pa.array([None, None], pa.string())).to_pylist() == [None, None]


def test_rows_without_a_vpc():
    names = {
        network_without_vpc("1", "us-east-1", "fl-1"),
        network_without_vpc("1", "us-east-1", "fl-2"),
        network_without_vpc(None, "us-east-1", "fl-1"),
    }
    assert len(names) == 3


def test_config():
    assert NetworksConfig.parse([["vpc-1", "vpc-2"], ["vpc-3", "vpc-4", "vpc-5"]]).links == (
        ("vpc-1", "vpc-2"),
        ("vpc-3", "vpc-4", "vpc-5"),
    )
    assert NetworksConfig().links == ()
    assert CONFIGURED in str(Networks.build(inventory({"vpc-1": ["10.0.0.0/8"], "vpc-2": ["10.0.0.0/8"]}), [["vpc-1", "vpc-2"]]).refused[0])


@pytest.mark.parametrize("links", ["vpc-1", [["vpc-1"]], [["vpc-1", "vpc-1"]], ["vpc-1", "vpc-2"], [["vpc-1", "subnet-2"]], [["vpc-1", 2]]])
def test_wrong_links_are_refused(links):
    with pytest.raises(UsageError, match=r"\[networks\] links .*must be a list"):
        NetworksConfig.parse(links)
