"""What EC2 says of a network: the shape of its answers, asking for them through the API, and checking those that come from a file.

In: EC2 clients, or parsed JSON. Out: answers cut down to the keys that flowlog reads, each value checked, in an order of their own, so
that equal networks give equal text. Source: AWS, "Amazon EC2 API Reference".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from botocore.client import BaseClient
from botocore.exceptions import BotoCoreError, ClientError

from flowlog_udfs.addresses import cidr_range, is_address
from flowlog_udfs.errors import StorageError, UsageError

Answers = dict[str, Any]
Check = Callable[[Any], str | None]
"""What is wrong with a value, or None."""


def _of_type(kind: type, name: str) -> Check:
    return lambda value: None if type(value) is kind else f"must be {name}"


def _text(value: Any) -> str | None:
    # JSON can spell halves of characters (surrogates), which no table can hold.
    return None if isinstance(value, str) and not any("\ud800" <= sign <= "\udfff" for sign in value) else "must be text"


TEXT, NUMBER, FLAG = _text, _of_type(int, "a whole number"), _of_type(bool, "true or false")


def _address(value: Any) -> str | None:
    return None if isinstance(value, str) and is_address(value) else "must be an IPv4 or IPv6 address"


def _cidr(value: Any) -> str | None:
    try:
        cidr_range(str(value))
    except UsageError as error:
        return str(error)
    return None


ADDRESS, CIDR = _address, _cidr

_V4 = [{"CidrBlock*": CIDR, "CidrBlockState": {"State": TEXT}}]
_V6 = [{"Ipv6CidrBlock*": CIDR, "Ipv6CidrBlockState": {"State": TEXT}}]
_TAGS = [{"Key*": TEXT, "Value*": TEXT}]
_PUBLIC = {"PublicIp": ADDRESS, "CarrierIp": ADDRESS}
_PEER = {"VpcId*": TEXT, "OwnerId": TEXT, "Region": TEXT, "CidrBlock": CIDR, "CidrBlockSet": [{"CidrBlock*": CIDR}]}

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "Vpcs": {
        "VpcId*": TEXT,
        "OwnerId": TEXT,
        "Region": TEXT,
        "CidrBlock*": CIDR,
        "CidrBlockAssociationSet": _V4,
        "Ipv6CidrBlockAssociationSet": _V6,
        "Tags": _TAGS,
    },
    "Subnets": {
        "SubnetId*": TEXT,
        "VpcId*": TEXT,
        "OwnerId": TEXT,
        "Region": TEXT,
        "AvailabilityZoneId": TEXT,
        "CidrBlock": CIDR,
        "Ipv6CidrBlockAssociationSet": _V6,
        "Tags": _TAGS,
    },
    "NetworkInterfaces": {
        "NetworkInterfaceId*": TEXT,
        "InterfaceType*": TEXT,
        "VpcId": TEXT,
        "SubnetId": TEXT,
        "OwnerId": TEXT,
        "Description": TEXT,
        "RequesterId": TEXT,
        "SourceDestCheck": FLAG,
        "Attachment": {"InstanceId": TEXT, "InstanceOwnerId": TEXT},
        "PrivateIpAddress": ADDRESS,
        "PrivateIpAddresses": [{"PrivateIpAddress*": ADDRESS, "Association": _PUBLIC}],
        "Association": _PUBLIC,
        "Ipv6Addresses": [{"Ipv6Address*": ADDRESS}],
        "Ipv4Prefixes": [{"Ipv4Prefix*": CIDR}],
        "Ipv6Prefixes": [{"Ipv6Prefix*": CIDR}],
    },
    "NatGateways": {
        "NatGatewayId*": TEXT,
        "VpcId*": TEXT,
        "SubnetId": TEXT,
        "State": TEXT,
        "AvailabilityMode": TEXT,
        "NatGatewayAddresses": [{"NetworkInterfaceId": TEXT, "PrivateIp": ADDRESS, "PublicIp": ADDRESS}],
    },
    "Addresses": {"PublicIp*": ADDRESS, "CarrierIp": ADDRESS, "NetworkInterfaceId": TEXT, "PrivateIpAddress": ADDRESS},
    "VpcPeeringConnections": {
        "VpcPeeringConnectionId*": TEXT,
        "Status*": {"Code*": TEXT},
        "RequesterVpcInfo*": {**_PEER, "Ipv6CidrBlockSet": [{"Ipv6CidrBlock*": CIDR}]},
        "AccepterVpcInfo*": {**_PEER, "Ipv6CidrBlockSet": [{"Ipv6CidrBlock*": CIDR}]},
    },
    "TransitGatewayVpcAttachments": {"TransitGatewayAttachmentId*": TEXT, "TransitGatewayId*": TEXT, "VpcId*": TEXT, "State*": TEXT},
    "FlowLogs": {"FlowLogId*": TEXT, "ResourceId": TEXT, "TrafficType": TEXT, "MaxAggregationInterval": NUMBER, "LogFormat": TEXT},
}
"""The lists of an inventory and their keys, those needed marked `*`; the first key of each identifies its thing. `Region` is ours."""

CALLS = {
    "Vpcs": "describe_vpcs",
    "Subnets": "describe_subnets",
    "NetworkInterfaces": "describe_network_interfaces",
    "NatGateways": "describe_nat_gateways",
    "Addresses": "describe_addresses",
    "VpcPeeringConnections": "describe_vpc_peering_connections",
    "TransitGatewayVpcAttachments": "describe_transit_gateway_vpc_attachments",
    "FlowLogs": "describe_flow_logs",
}
"""The call that answers with each list."""


def describe(clients: Iterable[tuple[str, BaseClient]], taken_at: datetime) -> Answers:
    """Ask EC2 through each (Region, client); raises `StorageError` naming Region and call where EC2 refuses or cannot be reached."""
    answers: Answers = {name: [] for name in CALLS}
    for region, client in clients:
        for name, call in CALLS.items():
            try:
                if client.can_paginate(call):
                    found = [item for page in client.get_paginator(call).paginate() for item in page[name]]
                else:
                    found = getattr(client, call)()[name]
            except (BotoCoreError, ClientError) as error:
                raise StorageError(f"{region}: EC2's {call} failed: {error}") from error
            answers[name] += [{**item, "Region": region} for item in found] if "Region" in SHAPES[name] else found
    return {"TakenAt": taken_at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), **answers}


def checked(answers: Any, where: str) -> Answers:
    """Answers with only the keys of `SHAPES`, absent lists as empty ones, each thing once; raises `UsageError` naming place, value, remedy.

    A thing that two accounts or two calls describe is kept as the one that says more of it.
    """
    if not isinstance(answers, dict) or "TakenAt" not in answers:
        raise UsageError(f"{where}: must be an object with TakenAt and lists such as Subnets; jobs/take_inventory.py writes one")
    for name in sorted(answers.keys() - {"TakenAt", *SHAPES}):
        raise UsageError(f"{where}: unknown key {name!r}; known are TakenAt, {', '.join(SHAPES)}")
    kept: Answers = {"TakenAt": _utc(answers["TakenAt"], where)}
    for name, shape in SHAPES.items():
        id = next(iter(shape)).removesuffix("*")
        found: dict[str, Any] = {}
        given = [] if answers.get(name) is None else answers[name]
        for item in sorted(_many(given, shape, f"{where}: {name}"), key=lambda item: (len(text(item)), text(item))):
            found[item[id]] = item
        kept[name] = [found[id] for id in sorted(found)]
    return kept


def text(answers: Any) -> str:
    """Answers as JSON, the same for the same content."""
    return json.dumps(answers, sort_keys=True, separators=(",", ":"))


def _utc(value: Any, where: str) -> str:
    try:
        moment = datetime.fromisoformat(value.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            raise ValueError
        moment = moment.astimezone(timezone.utc)
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise UsageError(f"{where}: TakenAt = {value!r}: must be a time with its zone, like 2026-01-05T23:40:00Z") from None
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}".rjust(20, "0")


def _many(values: Any, shape: Mapping[str, Any], where: str) -> list[Answers]:
    if not isinstance(values, list):
        raise UsageError(f"{where}: must be a list, as in EC2's answers")
    return sorted((_one(value, shape, f"{where}[{place}]") for place, value in enumerate(values)), key=text)


def _one(value: Any, shape: Mapping[str, Any], where: str) -> Answers:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: must be an object, as in EC2's answers")
    kept: Answers = {}
    for marked, inner in shape.items():
        name = marked.removesuffix("*")
        found = value.get(name)
        if found is None or found == "":
            if name != marked:
                raise UsageError(f"{where}: {name} is missing; EC2's answers always have it")
        elif isinstance(inner, list):
            kept[name] = _many(found, inner[0], f"{where}.{name}")
        elif isinstance(inner, Mapping):
            kept[name] = _one(found, inner, f"{where}.{name}")
        elif wrong := inner(found):
            raise UsageError(f"{where}.{name} = {found!r}: {wrong}")
        else:
            kept[name] = found
    return {name: found for name, found in kept.items() if found not in ([], {})}
