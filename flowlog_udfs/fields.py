"""Every flow log field, once: name, version, type, what a value may be, and what it means.

Formats, schemas, the parser's checks, the documentation table and the sample generator all derive from `FIELDS` (VPC flow logs,
versions 2 to 11) and `TGW_FIELDS` (Transit Gateway flow logs, version 6). Nothing else in the project lists fields.

Sources: AWS, "Flow log records" (VPC user guide) and "Transit Gateway Flow Logs records" (Transit Gateway guide).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

NO_VALUE = "-"
"""What AWS writes where a field does not apply or could not be computed."""

ACCEPT, REJECT = "ACCEPT", "REJECT"
OK, NODATA, SKIPDATA = "OK", "NODATA", "SKIPDATA"
INGRESS, EGRESS = "ingress", "egress"

CONNECTION_FIELDS = ("srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes", "start", "end")
"""The fields without which connections cannot be told apart."""

SqlType = Literal["STRING", "INT", "BIGINT"]


@dataclass(frozen=True, slots=True)
class Text:
    """Any text: identifiers and AWS's open enumerations, which grow without notice."""


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 or IPv6 address in text form (RFC 4291, section 2.2)."""


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number between `low` and `high`, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a closed set of words."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnixTime:
    """Unix seconds. Milliseconds, met in some deliveries, are divided by 1000 (see `records.UNIX_MILLISECONDS_FROM`)."""


Domain = Text | Address | Number | OneOf | UnixTime


@dataclass(frozen=True)
class Field:
    """One flow log field: its `name` as written in a format string, and all that the rest of flowlog must know of it."""

    name: str
    version: int
    type: SqlType
    domain: Domain
    meaning: str

    @cached_property
    def column(self) -> str:
        """The column's name in tables and in Parquet flow logs: the field's, with `_` for `-`."""
        return self.name.replace("-", "_")


_PORT = Number(0, 65_535)
_BYTE = Number(0, 255)
_SMALL = Number(0, 2**31 - 1)
_COUNT = Number(0, 2**63 - 1)


def _text(name: str, version: int, meaning: str) -> Field:
    return Field(name, version, "STRING", Text(), meaning)


FIELDS: tuple[Field, ...] = (
    Field("version", 2, "INT", _SMALL, "highest version among the fields that the flow log selects"),
    _text("account-id", 2, "account that owns the interface; `unknown` for some interfaces made by an AWS service"),
    _text("interface-id", 2, "interface that saw the traffic; empty for a regional NAT gateway"),
    Field("srcaddr", 2, "STRING", Address(), "source; for egress the interface's own primary address"),
    Field("dstaddr", 2, "STRING", Address(), "destination; for ingress the interface's own primary address"),
    Field("srcport", 2, "INT", _PORT, "source port; 0 for ICMP"),
    Field("dstport", 2, "INT", _PORT, "destination port; 0 for ICMP"),
    Field("protocol", 2, "INT", _BYTE, "IANA protocol number: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6"),
    Field("packets", 2, "BIGINT", _COUNT, "packets in this aggregation interval"),
    Field("bytes", 2, "BIGINT", _COUNT, "bytes in this interval, IP headers included; empty when block public access refused it"),
    Field("start", 2, "BIGINT", UnixTime(), "first packet of the interval, Unix seconds, up to 60 s off"),
    Field("end", 2, "BIGINT", UnixTime(), "last packet of the interval, Unix seconds, up to 60 s late"),
    Field("action", 2, "STRING", OneOf((ACCEPT, REJECT)), "this interface's own verdict; REJECT also for packets after the close"),
    Field("log-status", 2, "STRING", OneOf((OK, NODATA, SKIPDATA)), "OK; NODATA: no traffic; SKIPDATA: records were lost"),
    _text("vpc-id", 3, "VPC of the interface"),
    _text("subnet-id", 3, "subnet of the interface; empty for a regional NAT gateway"),
    _text("instance-id", 3, "instance, if the subscriber owns it; empty for requester-managed interfaces"),
    Field("tcp-flags", 3, "INT", _BYTE, "FIN 1, SYN 2, RST 4, SYN-ACK 18, OR-ed over the interval"),
    Field("type", 3, "STRING", OneOf(("IPv4", "IPv6", "EFA")), "kind of traffic"),
    Field("pkt-srcaddr", 3, "STRING", Address(), "packet-level source: the original one behind an intermediate layer"),
    Field("pkt-dstaddr", 3, "STRING", Address(), "packet-level destination: the final one behind an intermediate layer"),
    _text("region", 4, "Region of the interface"),
    _text("az-id", 4, "Availability Zone id; empty in a sublocation"),
    _text("sublocation-type", 4, "wavelength, outpost or localzone"),
    _text("sublocation-id", 4, "id of the sublocation"),
    _text("pkt-src-aws-service", 5, "AWS address range of the packet-level source, for example S3"),
    _text("pkt-dst-aws-service", 5, "AWS address range of the packet-level destination"),
    Field("flow-direction", 5, "STRING", OneOf((INGRESS, EGRESS)), "relative to the capturing interface, not to who initiated"),
    Field("traffic-path", 5, "INT", _SMALL, "way out, egress only: 1 same VPC, 2 and 8 internet gateway, 7 gateway endpoint"),
    _text("ecs-cluster-arn", 7, "ECS cluster of the task (awsvpc mode)"),
    _text("ecs-cluster-name", 7, "name of the ECS cluster"),
    _text("ecs-container-instance-arn", 7, "ECS container instance; empty on Fargate"),
    _text("ecs-container-instance-id", 7, "id of the ECS container instance; empty on Fargate"),
    _text("ecs-container-id", 7, "runtime id of the task's first container"),
    _text("ecs-second-container-id", 7, "runtime id of the task's second container"),
    _text("ecs-service-name", 7, "ECS service that started the task"),
    _text("ecs-task-definition-arn", 7, "ECS task definition"),
    _text("ecs-task-arn", 7, "ECS task"),
    _text("ecs-task-id", 7, "id of the ECS task"),
    _text("reject-reason", 8, "BPA (block public access), EC (encryption controls); empty for security groups and network ACLs"),
    _text("resource-id", 9, "id of the regional NAT gateway"),
    Field("encryption-status", 10, "INT", _SMALL, "0 not encrypted, 1 by Nitro hardware, 2 by the application, 3 both"),
    _text("instance-tag", 11, "value of the first tag key chosen for instances, percent-encoded"),
    _text("instance-tag-2", 11, "value of the second tag key chosen for instances"),
    _text("interface-tag", 11, "value of the first tag key chosen for interfaces"),
    _text("interface-tag-2", 11, "value of the second tag key chosen for interfaces"),
    _text("asg-tag", 11, "value of the first tag key chosen for Auto Scaling groups"),
    _text("asg-tag-2", 11, "value of the second tag key chosen for Auto Scaling groups"),
    _text("interface-type", 11, "nat_gateway, network_load_balancer, regional_nat_gateway, transit_gateway, vpc_endpoint, or empty"),
    _text("next-hop-interface-id", 11, "egress: interface that receives; ingress: interface that sent"),
    _text("next-hop-subnet-id", 11, "subnet of the next hop"),
    _text("next-hop-az-id", 11, "zone of the next hop; the only one known when another account owns it"),
    _text("next-hop-vpc-id", 11, "VPC of the next hop"),
    _text("next-hop-interface-type", 11, "kind of the next hop's interface"),
)
"""The fields of VPC flow logs, in the order of AWS's table."""

_SHARED = {field.name: field for field in FIELDS}


def _tgw_count(name: str, meaning: str) -> Field:
    return Field(name, 6, "BIGINT", _COUNT, meaning)


TGW_FIELDS: tuple[Field, ...] = (
    _SHARED["version"],
    _text("resource-type", 6, "TransitGateway"),
    _SHARED["account-id"],
    _text("tgw-id", 6, "transit gateway"),
    _text("tgw-attachment-id", 6, "attachment that the record is about"),
    _text("tgw-src-vpc-account-id", 6, "account of the source VPC"),
    _text("tgw-dst-vpc-account-id", 6, "account of the destination VPC"),
    _text("tgw-src-vpc-id", 6, "source VPC"),
    _text("tgw-dst-vpc-id", 6, "destination VPC"),
    _text("tgw-src-subnet-id", 6, "subnet of the transit gateway's interface on the source side"),
    _text("tgw-dst-subnet-id", 6, "subnet of the transit gateway's interface on the destination side"),
    _text("tgw-src-eni", 6, "the transit gateway's interface on the source side"),
    _text("tgw-dst-eni", 6, "the transit gateway's interface on the destination side"),
    _text("tgw-src-az-id", 6, "zone of the source interface"),
    _text("tgw-dst-az-id", 6, "zone of the destination interface"),
    _text("tgw-pair-attachment-id", 6, "the other attachment of the flow"),
    *(_SHARED[name] for name in ("srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes", "start", "end")),
    _SHARED["log-status"],
    _SHARED["type"],
    _tgw_count("packets-lost-no-route", "packets dropped for want of a route"),
    _tgw_count("packets-lost-blackhole", "packets dropped by a blackhole route"),
    _tgw_count("packets-lost-mtu-exceeded", "packets dropped because they were too large"),
    _tgw_count("packets-lost-ttl-expired", "packets dropped because their time to live ran out"),
    _SHARED["tcp-flags"],
    _SHARED["region"],
    Field("flow-direction", 6, "STRING", OneOf((INGRESS, EGRESS)), "relative to the transit gateway"),
    _SHARED["pkt-src-aws-service"],
    _SHARED["pkt-dst-aws-service"],
)
"""The fields of Transit Gateway flow logs, in the order of their default format."""

BY_NAME = {field.name: field for field in (*TGW_FIELDS, *FIELDS)}
"""Every known field by its hyphenated name; the VPC meaning where both families have the field."""

TGW_ONLY = frozenset(field.name for field in TGW_FIELDS) - frozenset(field.name for field in FIELDS)
"""Names that only Transit Gateway flow logs have: one of them in a format makes it a Transit Gateway format."""
