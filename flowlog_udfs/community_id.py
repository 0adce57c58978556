"""The Community ID of a five-tuple: by it a connection is found again in the logs of other tools (Zeek, Suricata, packet brokers).

In: columns of table `connections`. Out: a text for each row. Source: Community ID Flow Hashing, version 1 (corelight/community-id-spec).
The ID of ICMP is made of its type and code, which flow logs do not carry: there is none.
"""

from __future__ import annotations

import base64
import hashlib

import numpy as np
import pyarrow as pa

from flowlog_udfs.addresses import is_ipv4, packed
from flowlog_udfs.columns import numbers, shared_codes

PORTED = (6, 17, 132)
"""TCP, UDP, SCTP: the protocols whose ports are hashed."""
_ICMP = (1, 58)


def community_ids(connections: pa.Table, seed: int = 0) -> pa.Array:
    """The Community ID of each row of `initiator_addr, initiator_port, responder_addr, responder_port, protocol`, whoever initiated.

    Null for ICMP, and where an address or the protocol is unknown; `seed` must be that of the tools it is compared with.
    """
    (source, target), words = shared_codes(connections.column("initiator_addr"), connections.column("responder_addr"))
    high, low = packed(words)
    short = is_ipv4(high, low)
    octets = [
        number.to_bytes(16, "big")[12 if four else 0 :]
        for number, four in zip(((int(upper) << 64) | int(lower) for upper, lower in zip(high, low, strict=True)), short, strict=True)
    ]
    protocol = numbers(connections.column("protocol"), -1)
    has_ports = np.isin(protocol, PORTED)
    ports = [np.where(has_ports, numbers(connections.column(f"{end}_port"), 0), 0) for end in ("initiator", "responder")]
    rank = np.empty(len(words) + 1, np.int64)
    rank[np.lexsort((low, high))] = np.arange(len(words))
    rank[-1] = -1
    forward = (rank[source] < rank[target]) | ((source == target) & (ports[0] <= ports[1]))
    ends = [np.where(forward, source, target), np.where(forward, target, source)]
    doors = [np.where(forward, ports[0], ports[1]), np.where(forward, ports[1], ports[0])]
    head = seed.to_bytes(2, "big")
    return pa.array(
        [
            None
            if one < 0 or other < 0 or number < 0 or number in _ICMP
            else _digest(head, octets[one], octets[other], number, first, second)
            for one, other, number, first, second in zip(*(column.tolist() for column in (*ends, protocol, *doors)), strict=True)
        ],
        pa.string(),
    )


def _digest(head: bytes, one: bytes, other: bytes, protocol: int, first: int, second: int) -> str:
    tuple_ = head + one + other + bytes((protocol, 0))
    if protocol in PORTED:
        tuple_ += first.to_bytes(2, "big") + second.to_bytes(2, "big")
    return "1:" + base64.b64encode(hashlib.sha1(tuple_, usedforsecurity=False).digest()).decode()
