"""What the reference knows before it sees a record: addresses, the owner's network, settings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Record = Mapping[str, Any]

TCP, UDP, ICMP, ICMPV6, GRE, ESP = 6, 17, 1, 58, 47, 50
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32

FORWARDING = {"nat_gateway", "regional_nat_gateway", "transit_gateway", "gateway_load_balancer", "gateway_load_balancer_endpoint"}
TERMINATING = {"load_balancer", "network_load_balancer", "vpc_endpoint", "global_accelerator_managed", "api_gateway_managed"}

PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
NEVER_ROUTED = ("169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "255.255.255.255/32")
NOWHERE = ("0.0.0.0/8", "127.0.0.0/8", "240.0.0.0/4", "::/127")
NAT64 = "64:ff9b::/96"
TENANT_CODES = {"EC2", "AMAZON", "CLOUDFRONT", "API_GATEWAY", "GLOBALACCELERATOR"}


def within(address: str, cidrs: Iterable[str]) -> bool:
    """Whether an address lies in one of the ranges."""
    return any(_inside(address, cidr) for cidr in cidrs)


@cache
def _inside(address: str, cidr: str) -> bool:
    value, network = ip_address(address), ip_network(cidr)
    return value.version == network.version and value in network


def is_private(address: str) -> bool:
    """RFC 1918, shared address space, unique local addresses, and what no router forwards."""
    return within(address, PRIVATE + NEVER_ROUTED)


def without_nat64(address: str) -> str:
    """The IPv4 address inside an address of 64:ff9b::/96, any other address as it is."""
    return str(ip_address(int(ip_address(address)) & 0xFFFFFFFF)) if within(address, [NAT64]) else address


@cache
def order_of(address: str | None) -> int:
    """A number by which addresses of both families can be ordered; an absent one comes first."""
    if address is None:
        return -1
    value = ip_address(address)
    return int(value) | (0xFFFF << 32 if value.version == 4 else 0)


def too_far_for_a_subnet(one: str, other: str) -> bool:
    """No subnet holds both: subnets are /16 at most, in IPv6 /44 at most."""
    a, b = ip_address(one), ip_address(other)
    if a.version != b.version:
        return True
    return ip_network((int(a), 16 if a.version == 4 else 44), strict=False) != ip_network(
        (int(b), 16 if b.version == 4 else 44), strict=False
    )


DEFAULTS: dict[str, Any] = {
    "idle_seconds": 350,
    "idle_seconds_udp": 180,
    "clock_tolerance": 120,  # two interfaces may disagree so much about one packet
    "window_gap": 30,  # starts further apart than this at one interface are different windows
    "shortest_window": 60,
    "carry_seconds": 720,
    "redelivery_share": 0.9,
    "shortfall_share": 0.01,
    "shortfall_packets": 2,
    "pairing_seconds": 120,
    "max_candidates": 8,
    "fan_in_peers": 3,
    "late_hours": 2,
    "links": [],  # groups of VPC ids that the operator says are routed to each other
    "ip_ranges": None,  # a snapshot of AWS's ranges: pairs of range and service
    "confidence": {
        "flags": 1.0,
        "contradicted": 0.8,
        "sole-sender": 0.6,
        "icmp": 0.5,
        "known-server": 0.9,
        "well-known-port": 0.9,
        "ephemeral-port": 0.9,
        "fan-in": 0.8,
        "port-order": 0.55,
    },
}


def load_services() -> set[tuple[int, int]]:
    """(protocol, port) of the curated list in `conf/services.toml`."""
    path = Path(__file__).parents[2] / "conf" / "services.toml"
    numbers = {"tcp": 6, "udp": 17, "sctp": 132}
    return {(numbers[entry["protocol"]], entry["port"]) for entry in tomllib.loads(path.read_text())["service"]}


def settings(changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The defaults with changes laid over them."""
    changes = dict(changes or {})
    confidence = {**DEFAULTS["confidence"], **changes.pop("confidence", {})}
    unknown = set(changes) - set(DEFAULTS) - {"services"}
    if unknown:
        raise ValueError(f"unknown settings {sorted(unknown)}")
    return {**DEFAULTS, "services": load_services(), **changes, "confidence": confidence}


@dataclass
class Known:
    """An inventory in the shape of EC2's answers, made easy to ask."""

    interfaces: dict[str, dict[str, Any]] = field(default_factory=dict)  # id -> kind, vpc, subnet, account, instance, addresses, ranges
    subnets: dict[str, dict[str, Any]] = field(default_factory=dict)  # id -> vpc, az, region, cidrs
    vpc_cidrs: dict[str, list[str]] = field(default_factory=dict)
    links: list[tuple[str, ...]] = field(default_factory=list)
    public: set[str] = field(default_factory=set)
    gateway_of_public: dict[str, str] = field(default_factory=dict)  # public address of a regional NAT gateway -> its id
    traffic: dict[str, str] = field(default_factory=dict)  # flow log -> ACCEPT, REJECT or ALL

    @classmethod
    def read(cls, answers: Mapping[str, Any] | None) -> Known:
        """From parsed JSON; None gives an inventory that knows nothing."""
        known = cls()
        if answers is None:
            return known
        for vpc in answers.get("Vpcs", []):
            known.vpc_cidrs[vpc["VpcId"]] = _cidrs(vpc)
        for subnet in answers.get("Subnets", []):
            known.subnets[subnet["SubnetId"]] = {
                "vpc_id": subnet["VpcId"],
                "az_id": subnet.get("AvailabilityZoneId"),
                "region": subnet.get("Region"),
                "cidrs": _cidrs(subnet),
            }
        for item in answers.get("NetworkInterfaces", []):
            known._add_interface(item)
        for gateway in answers.get("NatGateways", []):
            for entry in gateway.get("NatGatewayAddresses", []):
                if "PublicIp" in entry:
                    known.public.add(entry["PublicIp"])
                    if gateway.get("AvailabilityMode") == "regional":
                        known.gateway_of_public[entry["PublicIp"]] = gateway["NatGatewayId"]
        known.public |= {entry["PublicIp"] for entry in answers.get("Addresses", [])}
        for peering in answers.get("VpcPeeringConnections", []):
            if peering["Status"]["Code"] == "active":
                sides = [peering[name] for name in ("RequesterVpcInfo", "AccepterVpcInfo")]
                for side in sides:
                    known.vpc_cidrs.setdefault(side["VpcId"], _cidrs(side))
                known.links.append(tuple(sorted(side["VpcId"] for side in sides)))
        attached: dict[str, set[str]] = {}
        for attachment in answers.get("TransitGatewayVpcAttachments", []):
            attached.setdefault(attachment["TransitGatewayId"], set()).add(attachment["VpcId"])
        known.links += [tuple(sorted(vpcs)) for _, vpcs in sorted(attached.items())]
        known.traffic = {log["FlowLogId"]: log["TrafficType"] for log in answers.get("FlowLogs", []) if "TrafficType" in log}
        return known

    def _add_interface(self, item: Mapping[str, Any]) -> None:
        kind = {"natGateway": "nat_gateway"}.get(item["InterfaceType"], item["InterfaceType"])
        if kind == "interface" and (item.get("RequesterId") == "amazon-elb" or item.get("Description", "").startswith("ELB ")):
            kind = "load_balancer"
        private = [entry["PrivateIpAddress"] for entry in item.get("PrivateIpAddresses", [])]
        self.interfaces[item["NetworkInterfaceId"]] = {
            "kind": kind,
            "vpc_id": item.get("VpcId"),
            "subnet_id": item.get("SubnetId"),
            "account_id": item.get("OwnerId"),
            "instance_id": (item.get("Attachment") or {}).get("InstanceId"),
            "addresses": {
                *([item["PrivateIpAddress"]] if item.get("PrivateIpAddress") else []),
                *private,
                *(entry["Ipv6Address"] for entry in item.get("Ipv6Addresses", [])),
            },
            "ranges": [entry[f"{family}Prefix"] for family in ("Ipv4", "Ipv6") for entry in item.get(f"{family}Prefixes", [])],
            "public": (item.get("Association") or {}).get("PublicIp"),
        }
        for holder in (item, *item.get("PrivateIpAddresses", [])):
            if (holder.get("Association") or {}).get("PublicIp"):
                self.public.add(holder["Association"]["PublicIp"])

    def networks(self, links: Sequence[Sequence[str]], seen: Iterable[str]) -> dict[str, str]:
        """The network of each VPC: joined where a link says so and no ranges overlap, named after the smallest VPC id in it."""
        groups = {vpc: {vpc} for vpc in {*self.vpc_cidrs, *seen, *(vpc for link in links for vpc in link)}}
        for link, believed in [*((tuple(link), True) for link in links), *((link, False) for link in sorted(self.links))]:
            members = [vpc for vpc in sorted(set(link)) if believed or vpc in self.vpc_cidrs]
            for vpc in members[1:]:
                one, other = groups[members[0]], groups[vpc]
                if one is not other and not self._overlap(one, other):
                    for member in other:
                        one.add(member)
                        groups[member] = one
        return {vpc: min(group) for vpc, group in groups.items()}

    def _overlap(self, one: set[str], other: set[str]) -> bool:
        pairs = (
            (ip_network(a), ip_network(b)) for v in one for a in self.vpc_cidrs.get(v, []) for w in other for b in self.vpc_cidrs.get(w, [])
        )
        return any(a.version == b.version and a.overlaps(b) for a, b in pairs)


def _cidrs(item: Mapping[str, Any]) -> list[str]:
    four = [entry["CidrBlock"] for name in ("CidrBlockAssociationSet", "CidrBlockSet") for entry in item.get(name) or []]
    six = [entry["Ipv6CidrBlock"] for name in ("Ipv6CidrBlockAssociationSet", "Ipv6CidrBlockSet") for entry in item.get(name) or []]
    return [*(four or ([item["CidrBlock"]] if item.get("CidrBlock") else [])), *six]
