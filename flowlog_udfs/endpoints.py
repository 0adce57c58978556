"""Records to observed rows: packet-level ends in their network, which interface saw them, and what it is to them.

In: a batch of records and who saw them. Out: rows of `observed.OBSERVED`.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.columns import Flags, Ints, codes, equals, numbers, texts
from flowlog_udfs.fields import ACCEPT, REJECT
from flowlog_udfs.observed import ACCEPTED, NO_ACTION, OBSERVED, REJECTED, SENDER, UNKNOWN_SIDE, end_hashes
from flowlog_udfs.peers import UNKNOWN
from flowlog_udfs.protocols import has_flags
from flowlog_udfs.sides import Seen
from flowlog_udfs.sorting import distinct

READ = (
    "flow_log_id",
    "interface_id",
    "resource_id",
    "vpc_id",
    "subnet_id",
    "srcaddr",
    "dstaddr",
    "pkt_srcaddr",
    "pkt_dstaddr",
    "srcport",
    "dstport",
    "protocol",
    "packets",
    "bytes",
    "start",
    "end",
    "action",
    "tcp_flags",
    "flow_direction",
    "log_status",
    "pkt_src_aws_service",
    "pkt_dst_aws_service",
    "encryption_status",
    "reject_reason",
)
"""The columns of `records` that are needed."""


def observe(records: pa.Table, seen: Seen, duplicate: Flags) -> pa.Table:
    """Rows of `OBSERVED` for records that all have two ends; `duplicate` marks rows of overlapping subscriptions."""
    ends = seen.ends
    high, low = ends.packed
    # Canonical order: by address, then port, as numbers.
    rank = np.empty(len(ends.words), np.int64)
    rank[np.lexsort((low, high))] = np.arange(len(ends.words))
    from_port, to_port = (numbers(records.column(name), -1) for name in ("srcport", "dstport"))
    forward = _at_or_before(rank[ends.source], from_port, rank[ends.target], to_port)
    lo, hi = np.where(forward, ends.source, ends.target), np.where(forward, ends.target, ends.source)
    lo_port, hi_port = np.where(forward, from_port, to_port), np.where(forward, to_port, from_port)
    network, network_names = seen.of_interface([one.network for one in seen.interfaces])
    hashed = np.array([zlib.crc32(name.encode()) for name in network_names.to_pylist()], np.int64)[network]
    transit, hidden = seen.transit()
    flow_log, flow_logs = codes(records.column("flow_log_id"))
    protocol = numbers(records.column("protocol"), -1)
    start, end = times(records)
    subnet = seen.subnet()
    observer, names = seen.of_interface([one.observer for one in seen.interfaces])
    crowded = np.array([len(one.flow_logs) > 1 for one in seen.interfaces], dtype=bool)[seen.observer]
    columns = {
        "network": texts(network, network_names),
        "lo_addr": texts(lo, ends.words),
        "lo_port": lo_port,
        "hi_addr": texts(hi, ends.words),
        "hi_port": hi_port,
        "protocol": protocol,
        "lo_end": end_hashes(hashed, high[lo], low[lo], lo_port),
        "hi_end": end_hashes(hashed, high[hi], low[hi], hi_port),
        "forward": forward,
        "observer": texts(observer, names),
        "flow_log": np.array([seen.vantage.logs[name].rank for name in flow_logs.to_pylist()], np.int64)[flow_log],
        "side": seen.side,
        "transit": transit,
        "shown": texts(np.where((seen.side != UNKNOWN_SIDE) & (seen.local != seen.shown), seen.shown, -1), ends.words),
        "bare": seen.bare & (hidden | crowded) & (seen.side != UNKNOWN_SIDE),
        "subnet": texts(*subnet),
        "scope": peer_scopes(records, seen, subnet),
        "packets": numbers(records.column("packets"), 0),
        "bytes": numbers(records.column("bytes"), 0),
        "start": start,
        "end": end,
        "action": actions(records),
        "flags": np.where(has_flags(protocol), numbers(records.column("tcp_flags"), -1), -1),
        "encryption": numbers(records.column("encryption_status"), -1),
        "reject_reason": texts(*codes(records.column("reject_reason"))),
        "duplicate": duplicate,
    }
    return pa.table([_as(columns[column.name], column.type) for column in OBSERVED], schema=OBSERVED)


def peer_scopes(records: pa.Table, seen: Seen, subnet: tuple[Ints, pa.Array]) -> npt.NDArray[np.int8]:
    """The scope of each peer; judged once for each combination of observer, peer and service field."""
    side, rows = seen.side, len(seen.observer)
    if not len(seen.ends.words):
        return np.full(rows, UNKNOWN, np.int8)
    found = [codes(records.column(name)) for name in ("pkt_src_aws_service", "pkt_dst_aws_service")]
    (from_code, from_words), (to_code, to_words) = found
    words = pa.concat_arrays([from_words.cast(pa.string()), to_words.cast(pa.string())])
    service = np.where(side == SENDER, np.where(to_code >= 0, to_code + len(from_words), -1), from_code)
    flow_log, flow_logs = codes(records.column("flow_log_id"))
    has_field = [bool({"pkt-src-aws-service", "pkt-dst-aws-service"} & seen.vantage.logs[name].fields) for name in flow_logs.to_pylist()]
    logged = np.array(has_field, dtype=bool)[flow_log].astype(np.int64)
    (who, peer, named, has_service, matched), place = distinct(seen.observer, seen.peer, service, logged, subnet[0])
    high, low = seen.ends.packed
    own_subnets = codes(pa.array([one.place["subnet_id"] for one in seen.interfaces], pa.string()))
    own_subnet = texts(own_subnets[0][who], own_subnets[1]).cast(pa.string())
    networks = codes(pa.array([one.network for one in seen.interfaces], pa.string()))
    judged = seen.vantage.scopes.codes(
        np.append(high, np.uint64(0))[peer],
        np.append(low, np.uint64(0))[peer],
        texts(networks[0][who], networks[1]),
        pc.coalesce(own_subnet, texts(matched, subnet[1]).cast(pa.string())),
        texts(named, words),
        has_service == 1,
    )
    judged[peer < 0] = UNKNOWN
    return np.where(side == UNKNOWN_SIDE, UNKNOWN, judged[place]).astype(np.int8)


def actions(records: pa.Table) -> Ints:
    """The action of each record: `ACCEPTED`, `REJECTED` or `NO_ACTION`."""
    column = records.column("action")
    return np.where(equals(column, ACCEPT), ACCEPTED, np.where(equals(column, REJECT), REJECTED, NO_ACTION))


def times(records: pa.Table) -> tuple[Ints, Ints]:
    """Start and end, each for the other where it is absent; 0 where both are."""
    start, end = numbers(records.column("start"), -1), numbers(records.column("end"), -1)
    start, end = np.where(start < 0, end, start), np.where(end < 0, start, end)
    return np.maximum(start, 0), np.maximum(end, np.maximum(start, 0))


def _at_or_before(rank: Ints, port: Ints, other_rank: Ints, other_port: Ints) -> Flags:
    return (rank < other_rank) | ((rank == other_rank) & (port <= other_port))


def _as(values: pa.Array | npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return array if array.type == kind else array.cast(kind)
