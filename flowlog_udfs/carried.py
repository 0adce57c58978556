"""What a day hands to the next: connections open at its end, and servers that were proven.

In: rows of `connections` of the day before. Out: a `Carried`, and hashes of ends as attribution knows them.
"""

from __future__ import annotations

import zlib
from datetime import date, datetime, time, timedelta, timezone

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.addresses import packed
from flowlog_udfs.attribution import CARRY_SECONDS, Carried, Hashes
from flowlog_udfs.columns import Ints, codes, mixed, numbers, shared_codes
from flowlog_udfs.initiators import BASES, BY_BOTH, BY_SYN, BY_SYN_ACK, CARRIED
from flowlog_udfs.observed import end_hashes
from flowlog_udfs.outcomes import STATES
from flowlog_udfs.protocols import TCP

READ = (
    "network",
    "initiator_addr",
    "initiator_port",
    "responder_addr",
    "responder_port",
    "protocol",
    "episode",
    "basis",
    "confidence",
    "state",
    "is_open",
    "proven",
    "last_end",
)
"""The columns of `connections` that are needed."""

CARRIES = pa.schema(
    [
        ("key", pa.int64()),  # hash of the five-tuple, or of a proven server's end
        ("episode", pa.int32()),  # 0: a server
        ("is_open", pa.bool_()),
        ("lo_initiated", pa.bool_()),
        ("confidence", pa.float64()),
        ("state", pa.int64()),
    ]
)


def carries(connections: pa.Table, day: date) -> pa.Table:
    """What rows of `connections` of `day` may hand on, as rows of `CARRIES`.

    A TCP connection is open if its initiator is known by flags, or was carried itself, no FIN or RST was seen, and its last window lies
    within `CARRY_SECONDS` of midnight; every episode whose window lies there is handed on, for only a five-tuple's last one counts.
    """
    network, networks = codes(connections.column("network"))
    hashed = np.array([zlib.crc32(name.encode()) for name in networks.to_pylist()], np.int64)[network]
    (initiator, responder), words = shared_codes(connections.column("initiator_addr"), connections.column("responder_addr"))
    ports = [numbers(connections.column(f"{end}_port"), -1) for end in ("initiator", "responder")]
    high, low = packed(words)
    rank = np.empty(len(words), np.int64)
    rank[np.lexsort((low, high))] = np.arange(len(words))
    own, other = (
        end_hashes(hashed, high[address], low[address], port) for address, port in zip((initiator, responder), ports, strict=True)
    )
    is_lo = (rank[initiator] < rank[responder]) | ((rank[initiator] == rank[responder]) & (ports[0] <= ports[1]))
    protocol = numbers(connections.column("protocol"), -1)
    key = mixed(np.where(is_lo, own, other), np.where(is_lo, other, own), protocol)
    midnight = int(datetime.combine(day + timedelta(days=1), time(), timezone.utc).timestamp())
    last_end = numbers(pc.divide(connections.column("last_end").cast(pa.int64()), 1_000_000), 0)
    late = (protocol == TCP) & (last_end >= midnight - CARRY_SECONDS)
    basis = _places(connections.column("basis"), BASES)
    known = np.isin(basis, (BY_SYN, BY_SYN_ACK, BY_BOTH, CARRIED))
    rows = np.flatnonzero(late)
    proven = np.flatnonzero(numbers(connections.column("proven"), 0) == 1)
    servers = np.unique(other[proven])
    none = np.zeros(len(servers), np.int64)
    return pa.table(
        [
            np.concatenate((key[rows], servers)).view(np.int64),
            pa.array(np.concatenate((numbers(connections.column("episode"), 1)[rows], none)), pa.int32()),
            np.concatenate(((known & (numbers(connections.column("is_open"), 0) == 1))[rows], none == 1)),
            np.concatenate((is_lo[rows], none == 1)),
            np.concatenate((np.asarray(connections.column("confidence"))[rows], none.astype(float))),
            np.concatenate((_places(connections.column("state"), STATES)[rows], none)),
        ],
        schema=CARRIES,
    )


def received(found: pa.Table) -> tuple[Carried, Hashes]:
    """The carried connections and proven servers of all rows of `CARRIES` of a day: of a five-tuple the last episode, if it is open."""
    key = np.asarray(found.column("key"), np.int64).view(np.uint64)
    episode = numbers(found.column("episode"), 0)
    servers = np.unique(key[episode == 0])
    order = np.lexsort((episode, key))
    order = order[episode[order] > 0]
    last = np.ones(len(order), dtype=bool)
    last[:-1] = key[order][1:] != key[order][:-1]
    order = order[last]
    order = order[numbers(found.column("is_open"), 0)[order] == 1]
    carried = Carried(
        key=key[order],
        lo_initiated=numbers(found.column("lo_initiated"), 0)[order] == 1,
        confidence=np.asarray(found.column("confidence"))[order],
        state=numbers(found.column("state"), 0)[order],
    )
    return carried, servers


def _places(column: pa.ChunkedArray, words: tuple[str, ...]) -> Ints:
    code, found = codes(column)
    return np.array([*(words.index(word) for word in found.to_pylist()), -1], np.int64)[code]
