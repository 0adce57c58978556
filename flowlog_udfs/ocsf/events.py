"""Connections to OCSF events of class Network Activity (4001): one event for each connection.

In: rows of `connections`, and of `nat_mappings` for the same ends. Out: rows of `NETWORK_ACTIVITY`. Source: OCSF schema 1.8.0, class
`network_activity` with the profiles `cloud` and `security_control`.

The source of an event is who initiated, and `traffic` counts out of it: `bytes_out` is what the initiator sent. Where nobody is known to
have initiated, `is_src_dst_assignment_known` is false and the direction unknown. What OCSF has no attribute for is in `unmapped`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.addresses import is_ipv4, packed
from flowlog_udfs.columns import Flags, Ints, codes, equals, numbers, shared_codes
from flowlog_udfs.community_id import community_ids
from flowlog_udfs.ocsf.schema import ENDPOINT, KEPT, NETWORK_ACTIVITY, VERSION
from flowlog_udfs.pseudonyms import stands_for_ipv4

TRAFFIC, FAIL, REFUSE = 6, 4, 5
ACTIVITIES = {
    "established": TRAFFIC,
    "partial": TRAFFIC,
    "unsolicited": TRAFFIC,
    "unanswered": FAIL,
    "refused_by_host": REFUSE,
    "rejected": REFUSE,
}
"""The activity of each `state`: a connection's whole account is a report of traffic."""
_ACTIVITY_NAMES = {TRAFFIC: "Traffic", FAIL: "Fail", REFUSE: "Refuse", 0: "Unknown"}
SUCCESS, FAILURE, NO_STATUS = 1, 2, 0
STATUSES = {"established": SUCCESS, "unanswered": FAILURE, "refused_by_host": FAILURE, "rejected": FAILURE}
_STATUS_NAMES = {SUCCESS: "Success", FAILURE: "Failure", NO_STATUS: "Unknown"}
ALLOWED, DENIED, MIXED = 1, 2, 99
ACTIONS = {"ACCEPT": ALLOWED, "REJECT": DENIED, "MIXED": MIXED}
_ACTION_NAMES = {ALLOWED: "Allowed", DENIED: "Denied", MIXED: "Other", 0: "Unknown"}
_DISPOSITIONS = {ALLOWED: 1, DENIED: 2, MIXED: 99, 0: 0}
_DISPOSITION_NAMES = {1: "Allowed", 2: "Blocked", 99: "Other", 0: "Unknown"}
UNKNOWN, INBOUND, OUTBOUND, LATERAL, OTHER = 0, 1, 2, 3, 99
_DIRECTION_NAMES = {UNKNOWN: "Unknown", INBOUND: "Inbound", OUTBOUND: "Outbound", LATERAL: "Lateral", OTHER: "Other"}
INTERNAL, EXTERNAL, SAME_VPC = 2, 3, 4
_BOUNDARY_NAMES = {0: "Unknown", INTERNAL: "Internal", EXTERNAL: "External", SAME_VPC: "Same VPC"}
OWN_SCOPES = frozenset({"same-subnet", "own-network", "own-public"})
PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah", 58: "ipv6-icmp", 132: "sctp"}
"""IANA's keywords of the protocols that flow logs meet, as OCSF writes them: in lower case."""
AWS_ACCOUNT = 10

MAPPING_COLUMNS = ("nat_id", "nat_addr", "inside_addr", "inside_port", "remote_addr", "remote_port", "protocol")
"""What is needed of `nat_mappings`."""


def events(connections: pa.Table, mappings: pa.Table, regions: Mapping[str, str], flowlog_version: str) -> pa.Table:
    """Rows of `NETWORK_ACTIVITY` in order of `connection_id`; `regions` are those of interfaces, by id."""
    if not connections.num_rows:
        return NETWORK_ACTIVITY.empty_table()
    rows = connections.sort_by("connection_id")
    known = ~equals(rows.column("basis"), "none")
    activity = _coded(rows.column("state"), ACTIVITIES)
    status = _coded(rows.column("state"), STATUSES)
    action = _coded(rows.column("action"), ACTIONS)
    disposition = np.array([_DISPOSITIONS[one] for one in action.tolist()], np.int32)
    start, end = (_milliseconds(rows.column(name)) for name in ("first_start", "last_end"))
    uid = pa.array([f"{number & 0xFFFF_FFFF_FFFF_FFFF:016x}" for number in rows.column("connection_id").to_pylist()], pa.string())
    through = _through(rows, mappings)
    ends = {
        role: _endpoint(rows, end, pa.array(through[end], pa.list_(pa.string())))
        for role, end in (("src_endpoint", "initiator"), ("dst_endpoint", "responder"))
    }
    repeated = {
        "category_uid": 4,
        "class_uid": 4001,
        "category_name": "Network Activity",
        "class_name": "Network Activity",
        "severity_id": 1,
        "severity": "Informational",
    }
    columns: dict[str, Any] = {
        **{name: pa.repeat(pa.scalar(value), rows.num_rows) for name, value in repeated.items()},
        "activity_id": activity,
        "activity_name": _named(activity, _ACTIVITY_NAMES),
        "type_uid": 400_100 + activity.astype(np.int64),
        "type_name": _named(activity, {number: f"Network Activity: {name}" for number, name in _ACTIVITY_NAMES.items()}),
        "time": start,
        "start_time": start,
        "end_time": end,
        "duration": pc.subtract(end, start),
        "status_id": status,
        "status": _named(status, _STATUS_NAMES),
        "status_detail": _plain(rows, "state"),
        "action_id": action,
        "action": _named(action, _ACTION_NAMES),
        "disposition_id": disposition,
        "disposition": _named(disposition, _DISPOSITION_NAMES),
        "is_src_dst_assignment_known": known,
        "metadata": _metadata(uid, flowlog_version),
        "cloud": _cloud(rows, regions),
        "connection_info": _connection_info(rows, known, uid),
        **ends,
        "traffic": _traffic(rows),
        "unmapped": _struct({name: _plain(rows, name) for name in KEPT}, NETWORK_ACTIVITY.field("unmapped").type),
    }
    return pa.table([pa.chunked_array([pa.array(columns[one.name])]).cast(one.type) for one in NETWORK_ACTIVITY], schema=NETWORK_ACTIVITY)


def _connection_info(rows: pa.Table, known: Flags, uid: pa.Array) -> pa.StructArray:
    direction, boundary = _direction(rows, known), _boundary(rows)
    protocol = numbers(rows.column("protocol"), -1)
    code, words = codes(rows.column("initiator_addr"))
    address = packed(words)
    four = np.append(is_ipv4(*address) | stands_for_ipv4(*address), False)[code]
    columns = {
        "uid": uid,
        "community_uid": community_ids(rows),
        "direction_id": pa.array(direction),
        "direction": _named(direction, _DIRECTION_NAMES),
        "boundary_id": pa.array(boundary),
        "boundary": _named(boundary, _BOUNDARY_NAMES),
        "protocol_num": rows.column("protocol"),
        "protocol_name": _named(protocol, PROTOCOLS),
        "protocol_ver_id": pa.array(np.where(code < 0, 0, np.where(four, 4, 6))),
    }
    return _struct(columns, NETWORK_ACTIVITY.field("connection_info").type)


def _direction(rows: pa.Table, known: Flags) -> npt.NDArray[np.int32]:
    """Seen from the own network, by who initiated: out of it, into it, or between two ends of it."""
    source, target = (_is_own(rows.column(f"{end}_scope")) for end in ("initiator", "responder"))
    placed = known & (source >= 0) & (target >= 0)
    told = np.where(source == 1, np.where(target == 1, LATERAL, OUTBOUND), np.where(target == 1, INBOUND, OTHER))
    return np.where(placed, told, UNKNOWN).astype(np.int32)


def _boundary(rows: pa.Table) -> npt.NDArray[np.int32]:
    """What the connection crosses, whoever initiated it."""
    one, other = (_is_own(rows.column(f"{end}_scope")) for end in ("initiator", "responder"))
    (vpc, peer), _ = shared_codes(rows.column("initiator_vpc_id"), rows.column("responder_vpc_id"))
    inside = np.where((vpc >= 0) & (vpc == peer), SAME_VPC, INTERNAL)
    placed = (one >= 0) & (other >= 0)
    return np.where(placed, np.where((one == 1) & (other == 1), inside, EXTERNAL), 0).astype(np.int32)


def _is_own(scope: pa.ChunkedArray) -> Ints:
    """1 in the own network, 0 outside, -1 where nobody can tell."""
    code, words = codes(scope)
    places = [-1 if word == "unknown" else int(word in OWN_SCOPES) for word in words.to_pylist()]
    return np.array([*places, -1], np.int64)[code]


def _through(rows: pa.Table, mappings: pa.Table) -> dict[str, list[list[str] | None]]:
    """For each end the addresses that its translator shows to the other one; None for most."""
    found: dict[str, list[list[str] | None]] = {}
    for inside, remote in (("initiator", "responder"), ("responder", "initiator")):
        own = {f"{inside}_addr": "inside_addr", f"{inside}_port": "inside_port"}
        own |= {f"{remote}_addr": "remote_addr", f"{remote}_port": "remote_port", "protocol": "protocol", "nat_id": "nat_id"}
        legs = pa.table({"row": np.arange(rows.num_rows)} | {target: _key(rows, name, target) for name, target in own.items()})
        legs = legs.filter(pa.array(equals(rows.column("nat_leg"), "inside")))
        pairs = pa.table({"nat_addr": _plain(mappings, "nat_addr")} | {name: _key(mappings, name, name) for name in own.values()})
        pairs = pairs.filter(pc.field("nat_addr").is_valid())
        met = legs.join(pairs, keys=list(own.values()), join_type="inner").group_by("row").aggregate([("nat_addr", "distinct")])
        shown: list[list[str] | None] = [None] * rows.num_rows
        for row, addresses in zip(met.column("row").to_pylist(), met.column("nat_addr_distinct").to_pylist(), strict=True):
            shown[row] = sorted(addresses)
        found[inside] = shown
    return found


def _key(rows: pa.Table, name: str, target: str) -> pa.Array:
    """A column to join by, of one type wherever it comes from: rows that tasks exchange have whole numbers of 64 bits."""
    none = pa.scalar(_NONE[target])
    return _plain(rows, name).cast(none.type).fill_null(none)


_NONE: dict[str, Any] = {"inside_addr": "", "inside_port": -1, "remote_addr": "", "remote_port": -1, "protocol": -1, "nat_id": ""}


def _endpoint(rows: pa.Table, end: str, through: pa.Array) -> pa.StructArray:
    account = _plain(rows, f"{end}_account_id")
    owner = ENDPOINT.field("owner").type
    uid = pa.StructArray.from_arrays([account], fields=list(owner.field("account").type), mask=account.is_null())
    columns = {
        "ip": _plain(rows, f"{end}_addr"),
        "port": rows.column(f"{end}_port"),
        "interface_uid": _plain(rows, f"{end}_interface_id"),
        "instance_uid": _plain(rows, f"{end}_instance_id"),
        "subnet_uid": _plain(rows, f"{end}_subnet_id"),
        "vpc_uid": _plain(rows, f"{end}_vpc_id"),
        "owner": pa.StructArray.from_arrays([uid], fields=list(owner), mask=account.is_null()),
        "intermediate_ips": through,
    }
    return _struct(columns, ENDPOINT)


def _traffic(rows: pa.Table) -> pa.StructArray:
    columns: dict[str, Any] = {}
    for unit in ("bytes", "packets"):
        sent, received = rows.column(f"{unit}_sent"), rows.column(f"{unit}_received")
        columns |= {unit: pc.add(sent, received), f"{unit}_out": sent, f"{unit}_in": received}
    return _struct(columns, NETWORK_ACTIVITY.field("traffic").type)


def _cloud(rows: pa.Table, regions: Mapping[str, str]) -> pa.StructArray:
    """The account of the end that is ours, the initiator's first; the Region of an interface that logged it."""
    kind = NETWORK_ACTIVITY.field("cloud").type
    account = pc.coalesce(_plain(rows, "initiator_account_id"), _plain(rows, "responder_account_id"))
    fixed = [pa.repeat(pa.scalar(AWS_ACCOUNT, pa.int32()), rows.num_rows), pa.repeat(pa.scalar("AWS Account"), rows.num_rows)]
    owner = pa.StructArray.from_arrays([account, *fixed], fields=list(kind.field("account").type), mask=account.is_null())
    first = pc.list_slice(rows.column("interfaces").combine_chunks(), 0, 1)
    region = [regions.get(names[0]) if names else None for names in first.to_pylist()]
    return _struct({"provider": pa.repeat("AWS", rows.num_rows), "region": pa.array(region, pa.string()), "account": owner}, kind)


def _metadata(uid: pa.Array, flowlog_version: str) -> pa.StructArray:
    kind = NETWORK_ACTIVITY.field("metadata").type
    same = {
        "version": VERSION,
        "product": {"name": "flowlog", "vendor_name": "flowlog", "version": flowlog_version},
        "profiles": ["cloud", "security_control"],
        "log_provider": "Amazon VPC",
        "log_name": "VPC Flow Logs",
    }
    columns = {name: pa.repeat(pa.scalar(value, kind.field(name).type), len(uid)) for name, value in same.items()}
    return _struct({**columns, "uid": uid}, kind)


def _struct(columns: Mapping[str, Any], kind: pa.StructType) -> pa.StructArray:
    arrays = []
    for field in kind:
        column = columns[field.name]
        arrays.append((column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column).cast(field.type))
    return pa.StructArray.from_arrays(arrays, fields=list(kind))


def _plain(rows: pa.Table, name: str) -> pa.Array:
    """A column without dictionary encoding."""
    column = rows.column(name).combine_chunks()
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _coded(column: pa.ChunkedArray, meanings: Mapping[str, int]) -> npt.NDArray[np.int32]:
    code, words = codes(column)
    return np.array([*(meanings.get(word, 0) for word in words.to_pylist()), 0], np.int32)[code]


def _named(values: npt.NDArray[Any], names: Mapping[int, str]) -> pa.Array:
    known, place = np.unique(values, return_inverse=True)
    return pa.array([names.get(one) for one in known.tolist()], pa.string()).take(pa.array(place.reshape(-1)))


def _milliseconds(times: pa.ChunkedArray) -> pa.Array:
    return pc.divide(times.combine_chunks().cast(pa.int64()), 1_000)
