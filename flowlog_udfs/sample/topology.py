"""The places of the sample: VPCs, subnets, interfaces and what stands behind them, as frozen rows and as columns to index.

Addresses are 64-bit numbers throughout the generator: an IPv4 address is its value, an IPv6 address the complement of its place in
`Topology.ipv6`. The same number in two VPCs is two addresses; the interface tells them apart.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from flowlog_udfs.fields import NO_VALUE

Column = NDArray[Any]

NAT, REGIONAL_NAT, TGW, NLB, ENDPOINT = "nat_gateway", "regional_nat_gateway", "transit_gateway", "network_load_balancer", "vpc_endpoint"
"""The values of the field `interface-type`."""

AWS_RANGES = (
    ("3.208.0.0/12", "EC2"),
    ("13.32.0.0/15", "CLOUDFRONT"),
    ("15.177.0.0/18", "ROUTE53_HEALTHCHECKS"),
    ("52.216.0.0/15", "S3"),
    ("54.239.0.0/17", "AMAZON"),
    ("107.22.0.0/16", "EC2"),
)
"""The part of AWS's address ranges that sample traffic touches, in order of address."""

INTERNET_RANGES = ("62.0.0.0/8", "77.0.0.0/8", "80.0.0.0/6", "90.0.0.0/9", "185.0.0.0/9")
"""Where the addresses of the internet are drawn from; documentation ranges are too small for a day of clients."""

DISTINCT_CLIENTS = ipaddress.ip_network("93.0.0.0/8")
"""Clients that must be one address each are counted through from here."""

IPV6_CLIENTS = 2_000


def ipv4(text: str) -> int:
    """An IPv4 address as the number that the generator uses."""
    return int(ipaddress.IPv4Address(text))


@dataclass(frozen=True, slots=True)
class Vpc:
    """A VPC; `logged` ones have flow logs, the others are only talked to."""

    name: str
    id: str
    cidr: str
    account: str
    region: str
    ipv6_cidr: str | None = None


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet in one zone of a VPC."""

    name: str
    id: str
    vpc: Vpc
    cidr: str
    az_id: str
    ipv6_cidr: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface, or the stand-in for a regional NAT gateway's address, which has none (`id` and `subnet` empty)."""

    id: str
    role: str
    vpc: Vpc
    subnet: Subnet | None
    address: str
    instance_id: str
    nitro: bool
    kind: str
    account: str
    ipv6: str | None = None
    public_address: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    clock_skew: int = 0
    lag: int = 0
    phase: int = 0

    def field(self, name: str) -> str:
        """The value of a field that is the same in all rows of the interface."""
        own = {
            "account-id": self.account,
            "interface-id": self.id,
            "vpc-id": self.vpc.id,
            "subnet-id": self.subnet.id if self.subnet else NO_VALUE,
            "instance-id": self.instance_id,
            "region": self.vpc.region,
            "az-id": self.subnet.az_id if self.subnet else NO_VALUE,
            "interface-type": self.kind,
        }
        return own.get(name) or self.fields.get(name, NO_VALUE)


@dataclass(frozen=True)
class Topology:
    """All places, with columns over `interfaces` for the vectorised steps. `pods` are (address, index of the node's interface)."""

    vpcs: tuple[Vpc, ...]
    subnets: tuple[Subnet, ...]
    interfaces: tuple[Interface, ...]
    ipv6: tuple[str, ...]
    pods: Column
    peerings: tuple[tuple[str, str], ...]
    transit_gateway: str
    attached: tuple[str, ...]

    @cached_property
    def roles(self) -> Mapping[str, Column]:
        """Indices of interfaces by role."""
        found: dict[str, list[int]] = defaultdict(list)
        for index, interface in enumerate(self.interfaces):
            found[interface.role].append(index)
        return {role: np.array(indices, np.int32) for role, indices in found.items()}

    @cached_property
    def address(self) -> Column:
        """Primary IPv4 addresses."""
        return np.array([ipv4(interface.address) for interface in self.interfaces], np.int64)

    @cached_property
    def address6(self) -> Column:
        """IPv6 addresses as numbers; 0 for interfaces without."""
        place = {text: ~index for index, text in enumerate(self.ipv6)}
        return np.array([place.get(interface.ipv6 or "", 0) for interface in self.interfaces], np.int64)

    @cached_property
    def vpc_index(self) -> Column:
        """Index of each interface's VPC."""
        place = {vpc.id: index for index, vpc in enumerate(self.vpcs)}
        return np.array([place[interface.vpc.id] for interface in self.interfaces], np.int32)

    @cached_property
    def subnet_index(self) -> Column:
        """Index of each interface's subnet, -1 for a regional NAT gateway."""
        place = {subnet.id: index for index, subnet in enumerate(self.subnets)}
        return np.array([place[interface.subnet.id] if interface.subnet else -1 for interface in self.interfaces], np.int32)

    @cached_property
    def kind(self) -> Column:
        """The `interface-type` of each interface, empty for ordinary ones."""
        return np.array([interface.kind for interface in self.interfaces])

    def numbers(self, name: str) -> Column:
        """A numeric or boolean attribute of all interfaces as a column."""
        return np.array([getattr(interface, name) for interface in self.interfaces])

    def shown_address(self, interfaces: Column, real: Column, own_side: Column) -> Column:
        """What a row shows beside the packet-level address: on the interface's own side its primary IPv4 address, whatever the packet says.

        A regional NAT gateway has no interface, so its rows show the packet's own addresses. Source: AWS, "Flow log limitations".
        """
        return np.where(own_side & (real >= 0) & (self.subnet_index[interfaces] >= 0), self.address[interfaces], real)

    def texts(self, name: str) -> pa.StringArray:
        """A flow log field of all interfaces as a column; null where the row shows `-`."""
        values = (interface.field(name) for interface in self.interfaces)
        return pa.array([None if value == NO_VALUE else value for value in values], pa.string())


def aws_service(addresses: Column) -> Column:
    """The place in `AWS_RANGES` of the range that holds each address; -1 where none does."""
    networks = [ipaddress.IPv4Network(cidr) for cidr, _ in AWS_RANGES]
    low = np.array([int(network[0]) for network in networks])
    high = np.array([int(network[-1]) for network in networks])
    place = np.searchsorted(low, addresses, side="right") - 1
    return np.where((place >= 0) & (addresses <= high[place]), place, -1)


class Builder:
    """Collects places while a topology is laid out. Identifiers follow from the seed and the names, so they never depend on order."""

    def __init__(self, seed: int) -> None:
        """Start with nothing but the seed."""
        self.seed = seed
        self.rng = np.random.default_rng([seed, 1])
        self.vpcs: list[Vpc] = []
        self.subnets: list[Subnet] = []
        self.interfaces: list[Interface] = []

    def id(self, prefix: str, name: str) -> str:
        """An AWS identifier of 17 hexadecimal digits."""
        return f"{prefix}-{hashlib.blake2b(f'{self.seed}/{prefix}/{name}'.encode(), digest_size=16).hexdigest()[:17]}"

    def vpc(self, name: str, cidr: str, account: str, region: str, ipv6_cidr: str | None = None) -> Vpc:
        """Add a VPC."""
        self.vpcs.append(Vpc(name, self.id("vpc", name), cidr, account, region, ipv6_cidr))
        return self.vpcs[-1]

    def subnet(self, vpc: Vpc, name: str, cidr: str, zone: int = 1, tags: tuple[tuple[str, str], ...] = ()) -> Subnet:
        """Add a subnet; it has an IPv6 range where its VPC has one."""
        prefix = {"us-east-1": "use1", "eu-west-1": "euw1"}[vpc.region]
        six = None
        if vpc.ipv6_cidr:
            place = sum(subnet.vpc is vpc for subnet in self.subnets)
            base = int(ipaddress.IPv6Network(vpc.ipv6_cidr)[0])
            six = str(ipaddress.IPv6Network((base + (place << 64), 64)))
        self.subnets.append(Subnet(name, self.id("subnet", name), vpc, cidr, f"{prefix}-az{zone}", six, tags))
        return self.subnets[-1]

    def interface(
        self,
        role: str,
        subnet: Subnet | Vpc,
        address: str,
        *,
        instance: bool = True,
        nitro: bool = True,
        kind: str = NO_VALUE,
        account: str | None = None,
        public: str | None = None,
        fields: Mapping[str, str] | None = None,
        skew: int | None = None,
    ) -> None:
        """Add an interface, or a regional NAT gateway's address when given a VPC in place of a subnet."""
        vpc = subnet if isinstance(subnet, Vpc) else subnet.vpc
        name = f"{vpc.name}/{address}"
        six = None
        if isinstance(subnet, Subnet) and subnet.ipv6_cidr and instance:
            six = str(ipaddress.IPv6Network(subnet.ipv6_cidr)[0x1000 + ipv4(address) % 0x10000])
        drawn = [int(value) for value in self.rng.integers((-2, 0, 0), (3, 40, 600))]
        self.interfaces.append(
            Interface(
                id=NO_VALUE if isinstance(subnet, Vpc) else self.id("eni", name),
                role=role,
                vpc=vpc,
                subnet=None if isinstance(subnet, Vpc) else subnet,
                address=address,
                instance_id=self.id("i", name) if instance else NO_VALUE,
                nitro=nitro or kind in (NAT, REGIONAL_NAT, TGW),
                kind=kind,
                account=account or vpc.account,
                ipv6=six,
                public_address=public,
                fields=fields or {},
                clock_skew=drawn[0] if skew is None else skew,
                lag=drawn[1],
                phase=drawn[2],
            )
        )

    def hosts(self, role: str, subnet: Subnet, first: str, count: int, **options: Any) -> None:
        """Add `count` interfaces with consecutive addresses."""
        for offset in range(count):
            self.interface(role, subnet, str(ipaddress.IPv4Address(first) + offset), **options)

    def finish(self, pods: Sequence[tuple[int, int]], peerings: tuple[tuple[Vpc, Vpc], ...], attached: Sequence[Vpc]) -> Topology:
        """Close the topology, adding the internet's IPv6 clients to the table of IPv6 addresses."""
        clients = (f"2a02:810d:{index >> 8 & 0xFFFF:x}:{index & 0xFF:x}::{index * 7919 % 65521:x}" for index in range(1, IPV6_CLIENTS + 1))
        own = (interface.ipv6 for interface in self.interfaces if interface.ipv6)
        return Topology(
            vpcs=tuple(self.vpcs),
            subnets=tuple(self.subnets),
            interfaces=tuple(self.interfaces),
            ipv6=tuple(str(ipaddress.IPv6Address(text)) for text in (*clients, *own)),
            pods=np.array(pods, [("address", "i8"), ("interface", "i4")]),
            peerings=tuple((one.id, other.id) for one, other in peerings),
            transit_gateway=self.id("tgw", "main"),
            attached=tuple(vpc.id for vpc in attached),
        )
