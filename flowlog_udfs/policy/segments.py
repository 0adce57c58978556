"""Which segment an end is in, which connections the allow-list lets pass, and which exception covers one; for whole columns.

In: columns of table `connections`. Out: a code for each row, -1 for none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from flowlog_udfs.addresses import PrefixTable, packed
from flowlog_udfs.columns import Flags, Ints, codes, equals, numbers
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.policy.model import ANY, INTERNET, OWN, Allow, Ports, Segment, Waiver

INTERNET_SCOPES = ("internet", "aws-tenant")
OWN_SCOPES = ("own-network", "own-public")
ENDS = ("initiator", "responder")


@dataclass(frozen=True)
class Segments:
    """The segments of a policy, tags resolved to subnets and VPCs by an inventory. Of several that hold an end the first counts."""

    names: tuple[str, ...]
    sensitive: Flags
    of_subnet: Mapping[str, int]
    of_vpc: Mapping[str, int]
    ranges: PrefixTable | None
    listed: PrefixTable | None = None  # the inventory's ranges of its subnets and VPCs, for ends of which only the address is known

    @classmethod
    def of(cls, segments: Sequence[Segment], inventory: Inventory | None) -> Segments:
        """Prepare for a day."""
        of_subnet: dict[str, int] = {}
        of_vpc: dict[str, int] = {}
        ranges: dict[str, int] = {}
        for place, segment in enumerate(segments):
            wanted = set(segment.tags)
            tagged = [one.subnet_id for one in (inventory.subnets if inventory else ()) if wanted & set(one.tags)]
            tagged_vpcs = [one.vpc_id for one in (inventory.vpcs if inventory else ()) if wanted & set(one.tags)]
            for names, found in (((*segment.subnets, *tagged), of_subnet), ((*segment.vpcs, *tagged_vpcs), of_vpc)):
                for name in names:
                    found.setdefault(name, place)
            for cidr in segment.cidrs:
                ranges.setdefault(cidr, place)
        held = Counter(cidr for one in (inventory.vpcs if inventory else ()) for cidr in one.cidrs)
        held += Counter(cidr for one in (inventory.subnets if inventory else ()) for cidr in one.cidrs)
        listed: dict[str, int] = {}
        for one in inventory.subnets if inventory else ():
            place = min(of_subnet.get(one.subnet_id, len(segments)), of_vpc.get(one.vpc_id, len(segments)))
            listed |= {cidr: place for cidr in one.cidrs if place < len(segments) and held[cidr] == 1}
        return cls(
            tuple(one.name for one in segments),
            np.array([one.sensitive for one in segments], dtype=bool),
            of_subnet,
            of_vpc,
            PrefixTable.build(ranges.items()) if ranges else None,
            PrefixTable.build(listed.items()) if listed else None,
        )

    def holding(self, connections: pa.Table, end: str) -> Ints:
        """The segment of each row's `initiator` or `responder`; ends on the internet are in none.

        Where neither subnet nor VPC of an end is known, the inventory's ranges tell it, those that two subnets share left aside.
        """
        found = np.full(connections.num_rows, len(self.names))
        for column, places in ((f"{end}_subnet_id", self.of_subnet), (f"{end}_vpc_id", self.of_vpc)):
            code, words = codes(connections.column(column))
            known = np.array([*(places.get(word, len(self.names)) for word in words.to_pylist()), len(self.names)], np.int64)
            found = np.minimum(found, known[code])
        code, words = codes(connections.column(f"{end}_addr"))
        homeless = np.asarray(connections.column(f"{end}_subnet_id").is_null()) & np.asarray(connections.column(f"{end}_vpc_id").is_null())
        for table, rows in ((self.ranges, np.ones(len(code), dtype=bool)), (self.listed, homeless)):
            if table is not None:
                matched = np.append(table.match(*packed(words)), -1)[code]
                found = np.minimum(found, np.where(rows & (matched >= 0), matched, len(self.names)))
        return np.where((found == len(self.names)) | in_scopes(connections, end, INTERNET_SCOPES), -1, found)


def in_scopes(connections: pa.Table, end: str, scopes: Sequence[str]) -> Flags:
    """Rows whose `initiator` or `responder` stands in one of the peer scopes."""
    result = np.zeros(connections.num_rows, dtype=bool)
    for scope in scopes:
        result |= equals(connections.column(f"{end}_scope"), scope)
    return result


def on_ports(connections: pa.Table, ports: Ports) -> Flags:
    """Rows whose responder's port is one of `ports`."""
    if not ports.ranges:
        return np.ones(connections.num_rows, dtype=bool)
    result = np.zeros(connections.num_rows, dtype=bool)
    protocol, port = numbers(connections.column("protocol"), -1), numbers(connections.column("responder_port"), -1)
    for number, first, last in ports.ranges:
        result |= (protocol == number) & (port >= first) & (port <= last)
    return result


def within(connections: pa.Table, end: str, cidrs: Sequence[str]) -> Flags:
    """Rows whose `initiator` or `responder` has an address in one of the ranges."""
    code, words = codes(connections.column(f"{end}_addr"))
    if not cidrs or not len(words):
        return np.zeros(connections.num_rows, dtype=bool)
    table = PrefixTable.build((cidr, 0) for cidr in cidrs)
    return np.append(table.match(*packed(words)) >= 0, False)[code]


def allowed(connections: pa.Table, sides: tuple[Ints, Ints], names: Sequence[str], rows: Sequence[Allow], day: date) -> Flags:
    """Connections that a row of the allow-list lets pass on `day`; `sides` are the segments of both ends."""
    result = np.zeros(connections.num_rows, dtype=bool)
    for row in rows:
        if row.approval.holds(day):
            ends = [
                _is_end(connections, end, side, name, names) for end, side, name in zip(ENDS, sides, (row.source, row.target), strict=True)
            ]
            result |= ends[0] & ends[1] & on_ports(connections, row.ports)
    return result


def _is_end(connections: pa.Table, end: str, side: Ints, name: str, names: Sequence[str]) -> Flags:
    if name == ANY:
        return np.ones(connections.num_rows, dtype=bool)
    if name in (INTERNET, OWN):
        return in_scopes(connections, end, INTERNET_SCOPES if name == INTERNET else OWN_SCOPES)
    return np.asarray(side == names.index(name))


def waived(connections: pa.Table, waivers: Sequence[tuple[int, Waiver]], vpc: Ints, vpcs: Sequence[str | None]) -> Ints:
    """The number of the first of some exceptions that covers each connection, -1 for none; `vpc` is whose finding it would be."""
    result = np.full(connections.num_rows, -1)
    for number, waiver in reversed(waivers):
        covered = on_ports(connections, waiver.ports)
        if waiver.vpc is not None:
            covered &= np.array([*(name == waiver.vpc for name in vpcs), False], dtype=bool)[vpc]
        for end, cidr in zip(ENDS, (waiver.initiator, waiver.responder), strict=True):
            if cidr is not None:
                covered &= within(connections, end, [cidr])
        result = np.where(covered, number, result)
    return result
