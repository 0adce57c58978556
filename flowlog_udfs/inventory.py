"""What the owner of a network knows of a day: VPCs, subnets, interfaces, NAT gateways, public addresses, links between VPCs.

In: EC2, or a file. Out: an `Inventory`, a snapshot that carries the time at which it was taken: it speaks of that day, never of "now".

The file is one JSON object: `TakenAt` (like 2026-01-05T23:40:00Z) and the lists of `ec2.SHAPES`, named and shaped as in the answers of
EC2's Describe calls, so that what the AWS command line prints fits as it is: Vpcs, Subnets, NetworkInterfaces, NatGateways, Addresses,
VpcPeeringConnections, TransitGatewayVpcAttachments, FlowLogs. A list may be absent. Keys of an answer that flowlog has no use for are
passed over; an unknown list, a missing key or a wrong value is refused by name.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from botocore.client import BaseClient

from flowlog_udfs import ec2
from flowlog_udfs.documents import read_json

NAT_GATEWAY, REGIONAL_NAT_GATEWAY, TRANSIT_GATEWAY = "nat_gateway", "regional_nat_gateway", "transit_gateway"
LOAD_BALANCER, NETWORK_LOAD_BALANCER, VPC_ENDPOINT = "load_balancer", "network_load_balancer", "vpc_endpoint"
"""Kinds of interface: EC2's names, which are those of the field `interface-type` too; `load_balancer` is an Application or Classic one."""

GATEWAY_LOAD_BALANCER, GATEWAY_ENDPOINT = "gateway_load_balancer", "gateway_load_balancer_endpoint"
FORWARDING_KINDS = frozenset({NAT_GATEWAY, REGIONAL_NAT_GATEWAY, TRANSIT_GATEWAY, GATEWAY_LOAD_BALANCER, GATEWAY_ENDPOINT})
"""Interfaces that pass on what others say: middleboxes."""

TERMINATING_KINDS = frozenset({LOAD_BALANCER, NETWORK_LOAD_BALANCER, VPC_ENDPOINT, "global_accelerator_managed", "api_gateway_managed"})
"""Interfaces that end a connection and open another on behalf of someone: they own their end, but nobody sits there."""

_OTHER_NAMES = {"natGateway": NAT_GATEWAY}


@dataclass(frozen=True, slots=True)
class Vpc:
    """A VPC, its address ranges, and its tags in order of key."""

    vpc_id: str
    account_id: str | None
    region: str | None
    cidrs: tuple[str, ...]
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet, its address ranges and tags, and the account that owns it (in a shared VPC not the one that owns its interfaces)."""

    subnet_id: str
    vpc_id: str
    account_id: str | None
    region: str | None
    az_id: str | None
    cidrs: tuple[str, ...]
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface. `addresses` are private IPv4, the primary first; `prefixes` are delegated to it, for example for pods.

    `account_id` owns the interface, `instance_account_id` what it is attached to. `checks_addresses` is false where the source and
    destination check is off, as on a router, firewall or NAT instance.
    """

    interface_id: str
    kind: str
    vpc_id: str | None
    subnet_id: str | None
    account_id: str | None
    instance_id: str | None
    instance_account_id: str | None
    description: str
    addresses: tuple[str, ...]
    ipv6_addresses: tuple[str, ...]
    public_addresses: tuple[str, ...]
    prefixes: tuple[str, ...]
    checks_addresses: bool


@dataclass(frozen=True, slots=True)
class NatGateway:
    """A NAT gateway with its addresses; a regional one has neither subnet nor interfaces."""

    nat_gateway_id: str
    kind: str
    vpc_id: str
    subnet_id: str | None
    interface_ids: tuple[str, ...]
    addresses: tuple[str, ...]
    public_addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """VPCs that may route to each other through a peering connection or a transit gateway."""

    via: str
    vpc_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FlowLog:
    """A flow log as its owner set it up: what it watches, ACCEPT, REJECT or ALL, its interval in seconds, its format."""

    flow_log_id: str
    resource_id: str | None
    traffic: str | None
    interval: int | None
    format: str | None


@dataclass(frozen=True)
class Inventory:
    """A dated snapshot, every tuple in order of ids.

    `remote_vpcs` are known only as the far side of a peering. `public_addresses` are all that the owner holds: Elastic IP addresses, and
    those that Amazon lent to interfaces and NAT gateways.
    """

    taken_at: datetime
    vpcs: tuple[Vpc, ...]
    remote_vpcs: tuple[Vpc, ...]
    subnets: tuple[Subnet, ...]
    interfaces: tuple[Interface, ...]
    nat_gateways: tuple[NatGateway, ...]
    public_addresses: tuple[str, ...]
    links: tuple[Link, ...]
    flow_logs: tuple[FlowLog, ...]
    document: str = field(repr=False)

    @property
    def day(self) -> date:
        """The UTC day that the snapshot speaks of."""
        return self.taken_at.date()

    @cached_property
    def cidrs(self) -> Mapping[str, tuple[str, ...]]:
        """The address ranges of every VPC, remote ones too, by VPC id."""
        return {vpc.vpc_id: vpc.cidrs for vpc in (*self.remote_vpcs, *self.vpcs)}

    def to_json(self) -> str:
        """The inventory as `load_inventory` reads it: the keys in use only, in one order, so that equal networks give equal text."""
        return json.dumps(json.loads(self.document), sort_keys=True, indent=1) + "\n"

    def digest(self) -> str:
        """SHA-256 of the content in hexadecimal; layout and order of the file do not change it."""
        return hashlib.sha256(self.document.encode()).hexdigest()


def load_inventory(path: Path) -> Inventory:
    """Read an inventory file; raises `UsageError` naming the file, the key and the remedy."""
    return read_inventory(read_json(path, "jobs/take_inventory.py writes such a file"), str(path))


def describe_inventory(clients: Iterable[tuple[str, BaseClient]], taken_at: datetime) -> Inventory:
    """Take a snapshot through EC2 clients, each with its Region, of one account or several; raises `StorageError` where EC2 refuses."""
    return read_inventory(ec2.describe(clients, taken_at), "EC2")


def read_inventory(answers: Any, where: str) -> Inventory:
    """An inventory from parsed JSON; `where` names its place in the messages of `UsageError`."""
    kept = ec2.checked(answers, where)
    vpcs = tuple(_vpc(item) for item in kept["Vpcs"])
    peerings = [item for item in kept["VpcPeeringConnections"] if item["Status"]["Code"] == "active"]
    interfaces = tuple(map(_interface, kept["NetworkInterfaces"]))
    gateways = tuple(_nat_gateway(item) for item in kept["NatGateways"] if item.get("State") not in ("failed", "deleted"))
    public = {address for item in kept["Addresses"] for address in _public(item)}
    public.update(address for interface in interfaces for address in interface.public_addresses)
    public.update(address for gateway in gateways for address in gateway.public_addresses)
    return Inventory(
        taken_at=datetime.fromisoformat(kept["TakenAt"].replace("Z", "+00:00")),
        vpcs=vpcs,
        remote_vpcs=_remote(peerings, {vpc.vpc_id for vpc in vpcs}),
        subnets=tuple(map(_subnet, kept["Subnets"])),
        interfaces=interfaces,
        nat_gateways=gateways,
        public_addresses=tuple(sorted(public)),
        links=(*map(_peering, peerings), *_attachments(kept["TransitGatewayVpcAttachments"])),
        flow_logs=tuple(map(_flow_log, kept["FlowLogs"])),
        document=ec2.text(kept),
    )


def _cidrs(item: Mapping[str, Any]) -> tuple[str, ...]:
    """All ranges of a VPC, a side of a peering or a subnet, IPv4 first; ranges taken away again stay in EC2's answers for a while."""

    def associated(name: str, key: str) -> set[str]:
        # Associations say their state; the sets of a peering have none.
        kept = (entry for entry in item.get(name, ()) if entry.get(f"{key}State", {}).get("State", "associated") == "associated")
        return {entry[key] for entry in kept}

    four = associated("CidrBlockAssociationSet", "CidrBlock") | associated("CidrBlockSet", "CidrBlock")
    if not four and "CidrBlock" in item:
        four = {item["CidrBlock"]}
    six = associated("Ipv6CidrBlockAssociationSet", "Ipv6CidrBlock") | associated("Ipv6CidrBlockSet", "Ipv6CidrBlock")
    return (*sorted(four), *sorted(six))


def _vpc(item: Mapping[str, Any]) -> Vpc:
    return Vpc(item["VpcId"], item.get("OwnerId"), item.get("Region"), _cidrs(item), _tags(item))


def _subnet(item: Mapping[str, Any]) -> Subnet:
    owner, region, zone = (item.get(name) for name in ("OwnerId", "Region", "AvailabilityZoneId"))
    return Subnet(item["SubnetId"], item["VpcId"], owner, region, zone, _cidrs(item), _tags(item))


def _tags(item: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((tag["Key"], tag["Value"]) for tag in item.get("Tags", ())))


def _interface(item: Mapping[str, Any]) -> Interface:
    primary = item.get("PrivateIpAddress")
    private = {entry["PrivateIpAddress"]: entry for entry in item.get("PrivateIpAddresses", ())}
    others = (address for address in sorted(private) if address != primary)
    attachment = item.get("Attachment", {})
    associations = [entry.get("Association", {}) for entry in (item, *private.values())]
    delegated = [entry[f"{family}Prefix"] for family in ("Ipv4", "Ipv6") for entry in item.get(f"{family}Prefixes", ())]
    return Interface(
        interface_id=item["NetworkInterfaceId"],
        kind=interface_kind(item["InterfaceType"], item.get("RequesterId", ""), item.get("Description", "")),
        vpc_id=item.get("VpcId"),
        subnet_id=item.get("SubnetId"),
        account_id=item.get("OwnerId"),
        instance_id=attachment.get("InstanceId"),
        instance_account_id=attachment.get("InstanceOwnerId"),
        description=item.get("Description", ""),
        addresses=(*([primary] if primary else ()), *others),
        ipv6_addresses=tuple(entry["Ipv6Address"] for entry in item.get("Ipv6Addresses", ())),
        public_addresses=tuple(sorted({address for association in associations for address in _public(association)})),
        prefixes=tuple(delegated),
        checks_addresses=item.get("SourceDestCheck", True),
    )


def interface_kind(interface_type: str, requester: str, description: str) -> str:
    """The kind of an interface: EC2's type, where EC2 is not silent.

    The interfaces of Application and Classic Load Balancers have type `interface`, are asked for by `amazon-elb`, and their description
    begins with `ELB`. Source: AWS, "Requester-managed network interfaces", and the load balancers' guides.
    """
    if interface_type == "interface" and (requester == "amazon-elb" or description.startswith("ELB ")):
        return LOAD_BALANCER
    return _OTHER_NAMES.get(interface_type, interface_type)


def _public(item: Mapping[str, Any]) -> Iterator[str]:
    """The address on the internet, and in a Wavelength Zone that on the carrier's network."""
    return (item[name] for name in ("PublicIp", "CarrierIp") if name in item)


def _nat_gateway(item: Mapping[str, Any]) -> NatGateway:
    def all_of(name: str) -> tuple[str, ...]:
        return tuple(sorted({entry[name] for entry in item.get("NatGatewayAddresses", ()) if name in entry}))

    kind = REGIONAL_NAT_GATEWAY if item.get("AvailabilityMode") == "regional" else NAT_GATEWAY
    interface_ids, addresses, public_addresses = map(all_of, ("NetworkInterfaceId", "PrivateIp", "PublicIp"))
    return NatGateway(item["NatGatewayId"], kind, item["VpcId"], item.get("SubnetId"), interface_ids, addresses, public_addresses)


def _peering(item: Mapping[str, Any]) -> Link:
    sides = (item["RequesterVpcInfo"]["VpcId"], item["AccepterVpcInfo"]["VpcId"])
    return Link(item["VpcPeeringConnectionId"], tuple(sorted(sides)))


def _remote(peerings: Iterable[Mapping[str, Any]], known: set[str]) -> tuple[Vpc, ...]:
    sides = (peering[side] for peering in peerings for side in ("RequesterVpcInfo", "AccepterVpcInfo"))
    # Of a VPC peered twice, the side that tells more ranges.
    told = sorted((_vpc(side) for side in sides if side["VpcId"] not in known), key=lambda vpc: (len(vpc.cidrs), vpc.cidrs))
    remote = {vpc.vpc_id: vpc for vpc in told}
    return tuple(remote[vpc_id] for vpc_id in sorted(remote))


def _attachments(items: Iterable[Mapping[str, Any]]) -> Iterator[Link]:
    attached = defaultdict(set)
    for item in items:
        if item["State"] in ("available", "modifying"):
            attached[item["TransitGatewayId"]].add(item["VpcId"])
    return (Link(gateway, tuple(sorted(attached[gateway]))) for gateway in sorted(attached) if len(attached[gateway]) > 1)


def _flow_log(item: Mapping[str, Any]) -> FlowLog:
    return FlowLog(
        item["FlowLogId"], item.get("ResourceId"), item.get("TrafficType"), item.get("MaxAggregationInterval"), item.get("LogFormat")
    )
