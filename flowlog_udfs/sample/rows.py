"""Records as the fields of a log format: Arrow columns, and from them lines of text or Parquet tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timezone
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.fields import ACCEPT, BY_NAME, EGRESS, INGRESS, NO_VALUE, NODATA, OK, REJECT, SKIPDATA
from flowlog_udfs.sample.formats import Format, format_version
from flowlog_udfs.sample.observation import Observed
from flowlog_udfs.sample.topology import AWS_RANGES, NLB, TGW, Column, aws_service
from flowlog_udfs.sample.traffic import BLOCKED, REJECT_REASONS, Table

_OCTETS = pa.array([str(number) for number in range(256)])
_ARROW_TYPES = {"STRING": pa.string(), "INT": pa.int32(), "BIGINT": pa.int64()}

SAME_VPC, PEERING, PEERING_REGION, AMBIGUOUS_GATEWAY, INTERNET_GATEWAY, GATEWAY_ENDPOINT = 1, 4, 5, 2, 8, 7
"""Values of traffic-path. Source: AWS, "Flow log records"."""


def midnight(day: date) -> int:
    """Unix seconds at which a UTC day begins."""
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())


def address_texts(addresses: Column, ipv6: tuple[str, ...]) -> pa.StringArray:
    """Addresses in text form."""
    unique, places = np.unique(addresses, return_inverse=True)
    six = pa.array([ipv6[~number] for number in unique[unique < 0].tolist()], pa.string())
    four = unique[unique >= 0]
    octets = [_OCTETS.take(pa.array(four >> shift & 255)) for shift in (24, 16, 8, 0)]
    texts = pa.concat_arrays([six, pc.binary_join_element_wise(*octets, ".")])
    return texts.take(pa.array(places))


def _chosen(texts: tuple[str | None, ...], places: Column) -> pa.StringArray:
    return pa.array(texts, pa.string()).take(pa.array(places))


@dataclass(frozen=True)
class Rows:
    """Some records of what was observed, seen as the rows that a flow log writes."""

    observed: Observed
    places: Column
    epoch: int

    @cached_property
    def records(self) -> Table:
        """The chosen records."""
        chosen: Table = self.observed.records[self.places]
        return chosen

    @cached_property
    def streams(self) -> Table:
        """The stream of each record."""
        streams: Table = self.observed.streams[self.records["stream"]]
        return streams

    @cached_property
    def empty(self) -> Column:
        """Rows about the interface itself, which have no traffic fields."""
        empty: Column = self.streams["flow"] < 0
        return empty

    @cached_property
    def flows(self) -> Table:
        """The flow of each record; any flow where there is none."""
        flows: Table = self.observed.traffic.flows[self.streams["flow"]]
        return flows

    @cached_property
    def connections(self) -> Table:
        """The connection of each record."""
        connections: Table = self.observed.traffic.connections[self.flows["connection"]]
        return connections

    def end(self, name: str, source: bool) -> Column:
        """A column of the source's or the destination's end of the connection: `{}`, `{}_port` or `{}_interface`."""
        from_initiator = self.flows["reverse"] != source
        return np.where(from_initiator, self.connections[name.format("initiator")], self.connections[name.format("responder")])

    def logged_address(self, source: bool) -> Column:
        """The address without packet level."""
        topology, streams = self.observed.topology, self.streams
        return topology.shown_address(streams["interface"], self.end("{}", source), streams["egress"] == source)

    def texts(self, values: pa.Array) -> pa.Array:
        """Values with nulls in rows without traffic."""
        return pc.if_else(pa.array(~self.empty), values, pa.scalar(None, values.type))

    def numbers(self, values: Column, missing: Column | None = None) -> pa.Array:
        """Whole numbers, null in rows without traffic and where `missing`."""
        return pa.array(values.astype(np.int64), mask=self.empty if missing is None else self.empty | missing)

    def addresses(self, values: Column) -> pa.Array:
        """Addresses as text."""
        return self.texts(address_texts(values, self.observed.topology.ipv6))

    def of_interface(self, name: str) -> pa.Array:
        """A field of the capturing interface, filled in rows without traffic too."""
        return self.observed.topology.texts(name).take(pa.array(self.streams["interface"]))

    def of_next_hop(self, name: str) -> pa.Array:
        """A field of the next hop's interface; AWS leaves it out for ingress from transit gateways and network load balancers."""
        hop = self.streams["next_hop"]
        hidden = (hop < 0) | (~self.streams["egress"] & np.isin(self.observed.topology.kind[hop], (TGW, NLB)))
        return self.texts(self.observed.topology.texts(name).take(pa.array(np.where(hidden, 0, hop), mask=hidden)))

    def service(self, source: bool) -> pa.Array:
        """The AWS service whose address range holds the packet-level address."""
        place = aws_service(self.end("{}", source))
        return self.texts(_chosen((*(code for _, code in AWS_RANGES), None), np.where(place < 0, len(AWS_RANGES), place)))

    def traffic_path(self) -> pa.Array:
        """How egress leaves the interface: inside the VPC, over a peering, or by a gateway, which only Nitro instances tell apart."""
        topology, here, hop = self.observed.topology, self.streams["interface"], self.streams["next_hop"]
        regions = np.array([vpc.region for vpc in topology.vpcs])[topology.vpc_index]
        path = np.where(self.connections["path"] > 0, self.connections["path"], INTERNET_GATEWAY)
        path = np.where(topology.numbers("nitro")[here], path, AMBIGUOUS_GATEWAY)
        across = np.where(regions[here] == regions[hop], PEERING, PEERING_REGION)
        path = np.where(hop >= 0, np.where(topology.vpc_index[here] == topology.vpc_index[hop], SAME_VPC, across), path)
        return self.numbers(path, ~self.streams["egress"])

    def encryption(self) -> pa.Array:
        """1 between Nitro instances of one VPC, else 0."""
        topology, here, hop = self.observed.topology, self.streams["interface"], self.streams["next_hop"]
        nitro = topology.numbers("nitro")
        return self.numbers((hop >= 0) & nitro[here] & nitro[hop] & (topology.vpc_index[here] == topology.vpc_index[hop]))

    def field(self, name: str, format: Format) -> pa.Array:
        """A field's values: strings, or 64-bit integers; null where the row shows `-`."""
        if name == "version":
            return pa.array(np.full(len(self.places), format_version(format)))
        return _VALUES[name](self) if name in _VALUES else self.of_interface(name)

    def lines(self, format: Format) -> pa.StringArray:
        """One line of text for each row, ending in a newline."""
        columns = [pc.fill_null(self.field(name, format).cast(pa.string()), NO_VALUE) for name in format]
        columns[-1] = pc.binary_join_element_wise(columns[-1], "\n", "")
        return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, " ")

    def table(self, format: Format) -> pa.Table:
        """The rows as in a Parquet flow log: text columns hold `-` where there is no value, numbers are null."""
        columns = {}
        for name in format:
            values = self.field(name, format)
            column_type = _ARROW_TYPES[BY_NAME[name].type]
            columns[BY_NAME[name].column] = (pc.fill_null(values, NO_VALUE) if column_type == pa.string() else values).cast(column_type)
        return pa.table(columns)


_VALUES: Mapping[str, Callable[[Rows], pa.Array]] = {
    "srcaddr": lambda rows: rows.addresses(rows.logged_address(True)),
    "dstaddr": lambda rows: rows.addresses(rows.logged_address(False)),
    "pkt-srcaddr": lambda rows: rows.addresses(rows.end("{}", True)),
    "pkt-dstaddr": lambda rows: rows.addresses(rows.end("{}", False)),
    "srcport": lambda rows: rows.numbers(rows.end("{}_port", True)),
    "dstport": lambda rows: rows.numbers(rows.end("{}_port", False)),
    "protocol": lambda rows: rows.numbers(rows.connections["protocol"]),
    "packets": lambda rows: rows.numbers(rows.records["packets"]),
    "bytes": lambda rows: rows.numbers(rows.records["bytes"], rows.connections["reason"] == BLOCKED),
    "start": lambda rows: pa.array(rows.records["start"].astype(np.int64) + rows.epoch),
    "end": lambda rows: pa.array(rows.records["end"].astype(np.int64) + rows.epoch),
    "action": lambda rows: rows.texts(_chosen((ACCEPT, REJECT), rows.streams["rejected"].astype(np.int8))),
    "log-status": lambda rows: _chosen((OK, NODATA, SKIPDATA), rows.streams["status"]),
    "tcp-flags": lambda rows: rows.numbers(rows.records["flags"]),
    "type": lambda rows: rows.texts(_chosen(("IPv4", "IPv6"), (rows.end("{}", True) < 0).astype(np.int8))),
    "pkt-src-aws-service": lambda rows: rows.service(True),
    "pkt-dst-aws-service": lambda rows: rows.service(False),
    "flow-direction": lambda rows: rows.texts(_chosen((INGRESS, EGRESS), rows.streams["egress"].astype(np.int8))),
    "traffic-path": lambda rows: rows.traffic_path(),
    "reject-reason": lambda rows: rows.texts(_chosen(REJECT_REASONS, rows.connections["reason"])),
    "encryption-status": lambda rows: rows.encryption(),
    "next-hop-interface-id": lambda rows: rows.of_next_hop("interface-id"),
    "next-hop-subnet-id": lambda rows: rows.of_next_hop("subnet-id"),
    "next-hop-az-id": lambda rows: rows.of_next_hop("az-id"),
    "next-hop-vpc-id": lambda rows: rows.of_next_hop("vpc-id"),
    "next-hop-interface-type": lambda rows: rows.of_next_hop("interface-type"),
}
"""How each field follows from a record; fields not named here belong to the interface."""
