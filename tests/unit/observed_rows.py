"""Observed rows for tests, written as `src:port>dst:port` with what one interface saw of it."""

import ipaddress
import re
import zlib

import numpy as np
import pyarrow as pa

from flowlog_udfs.attribution import Knowledge, attribute
from flowlog_udfs.columns import mixed
from flowlog_udfs.connections import connections
from flowlog_udfs.initiators import Confidences
from flowlog_udfs.observations import RECEIVER, SENDER, TRANSIT, UNKNOWN_SIDE
from flowlog_udfs.observed import OBSERVED
from flowlog_udfs.services import PortRules, Service

ROLES = {"sender": SENDER, "receiver": RECEIVER, "transit": TRANSIT, "unknown": UNKNOWN_SIDE}
_FLOW = re.compile(r"(\S+):(\d+)>(\S+):(\d+)")


def row(
    flow, packets, octets, *, flags=None, start=0, end=50, action="ACCEPT", at="eni-1", role="receiver", protocol=6, network="vpc-1", **more
):
    source, source_port, target, target_port = _FLOW.fullmatch(flow).groups()
    ends = [(ipaddress.ip_address(source), int(source_port)), (ipaddress.ip_address(target), int(target_port))]
    lo, hi = sorted(ends)
    return {
        "network": network,
        "lo_addr": str(lo[0]),
        "lo_port": lo[1],
        "hi_addr": str(hi[0]),
        "hi_port": hi[1],
        "protocol": protocol,
        "lo_end": end_hash(network, lo, protocol),
        "hi_end": end_hash(network, hi, protocol),
        "forward": ends[0] == lo,
        "observer": at,
        "role": ROLES[role],
        "packets": packets,
        "bytes": octets,
        "start": start,
        "end": end,
        "rejected": action == "REJECT",
        "flags": flags,
        "trusted_ack": True,
        "only_evidence": False,
        **more,
    }


def end_hash(network, end, protocol=6):
    return int(mixed([zlib.crc32(network.encode())], [int(end[0]) & (2**63 - 1)], [end[1]], [protocol])[0])


def known(**more):
    none = np.zeros(0, np.uint64)
    services = (Service(3389, 6, "rdp"), Service(5432, 6, "postgresql"))
    settings = {
        "carried": none,
        "carried_initiator": np.zeros(0, np.int64),
        "servers": none,
        "fan_in": none,
        "ports": PortRules.build(services),
        "confidences": Confidences(),
    }
    return Knowledge(**settings | more)


def observed(rows):
    plain = pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in OBSERVED])
    return pa.Table.from_pylist(rows, plain).cast(OBSERVED)


def connect(*rows, **more):
    return connections(attribute(observed(list(rows)), known(**more))).to_pylist()
