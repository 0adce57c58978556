"""Attributed episodes to rows of table `connections`: who opened what to whom, what was sent each way, and how it went.

Bytes and packets are those of the chosen observation points; the verdict is that of the observer nearest the receiver; flags count from
wherever they were seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.addresses import is_private, packed
from flowlog_udfs.attribution import Attributed
from flowlog_udfs.columns import Flags, Groups, Ints, codes, mixed, texts
from flowlog_udfs.initiators import BASES, BY_BOTH, BY_SYN_ACK, HI, UNKNOWN
from flowlog_udfs.interfaces import Interface
from flowlog_udfs.observed import RECEIVER, SENDER, UNKNOWN_SIDE
from flowlog_udfs.outcomes import ACTIONS, CLOSED_BY, STATES, Outcomes
from flowlog_udfs.owners import Owners
from flowlog_udfs.peers import OWN_NETWORK, OWN_PUBLIC, PEER_SCOPES, SAME_SUBNET
from flowlog_udfs.peers import UNKNOWN as UNKNOWN_SCOPE
from flowlog_udfs.protocols import is_tunnel
from flowlog_udfs.sorting import distinct
from flowlog_udfs.tables import Table
from flowlog_udfs.tcp_flags import closes
from flowlog_udfs.verdicts import VERDICTS_BY

_TEXT = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("us", "UTC")
_NEVER = np.iinfo(np.int64).max

OWNER_COLUMNS = ("account_id", "vpc_id", "subnet_id", "instance_id", "interface_id")
"""What is known of an end that an interface of ours owns."""
KINDS = ("host", "proxy", "unknown")
"""Who sits at the initiator: an instance or a listed interface, a load balancer or endpoint or NAT, or nobody of ours."""
INSIDE, OUTSIDE = 0, 1
NAT_LEGS = ("inside", "outside")

_COUNTS = ("bytes_sent", "bytes_received", "packets_sent", "packets_received")
CONNECTIONS = pa.schema(
    [
        ("initiator_addr", _TEXT),
        ("initiator_port", pa.int32()),
        ("responder_addr", _TEXT),
        ("responder_port", pa.int32()),
        ("protocol", pa.int32()),
        ("episode", pa.int32()),
        *((f"{end}_{name}", _TEXT) for end in ("initiator", "responder") for name in OWNER_COLUMNS),
        ("initiator_kind", _TEXT),
        *((name, pa.int64()) for name in _COUNTS),
        *((f"rejected_{name}", pa.int64()) for name in _COUNTS),
        ("late_rejects", pa.int64()),
        ("first_start", _TIME),
        ("last_end", _TIME),
        ("records", pa.int64()),
        ("observation_points", pa.int32()),
        ("interfaces", pa.list_(pa.string())),
        ("action", _TEXT),
        ("verdict_by", _TEXT),
        ("state", _TEXT),
        ("attempts", pa.int64()),
        ("handshakes", pa.int64()),
        ("closed_by", _TEXT),
        ("basis", _TEXT),
        ("confidence", pa.float64()),
        ("nat_id", _TEXT),
        ("nat_leg", _TEXT),
        ("traffic_class", _TEXT),
        ("network", _TEXT),
        ("is_open", pa.bool_()),  # neither FIN nor RST was seen
        ("proven", pa.bool_()),  # the responder's SYN-ACK was seen, and nothing contradicts it
        ("shortfall_packets", pa.int64()),  # that the preferred observation point saw less than the one in use
        ("shortfall_bytes", pa.int64()),
        ("connection_id", pa.int64()),  # the same whenever the day is worked out again
        ("initiator_scope", _TEXT),  # where each end stands, seen from the own network (`peers.PEER_SCOPES`)
        ("responder_scope", _TEXT),
        ("encryption_status", pa.int32()),  # the least of the records'
        ("reject_reason", _TEXT),  # of packets refused by other than security groups and network ACLs: BPA, EC
    ]
)
CONNECTIONS_TABLE = Table(
    "connections",
    CONNECTIONS,
    ("initiator_addr", "responder_addr", "responder_port", "protocol", "first_start", "last_end", "action", "state", "basis"),
)


def connection_ids(done: Attributed) -> Ints:
    """A hash of each episode's network, ends, protocol and number."""
    first = done.groups.starts
    return mixed(done.rows.hashed[first], done.rows.episode[first]).view(np.int64)


def connections(
    done: Attributed, came_to: Outcomes, interfaces: Mapping[str, Interface], owners: Owners, nat: tuple[pa.Array, Ints]
) -> pa.Table:
    """One row of `CONNECTIONS` per episode; `nat` holds its `nat_id` and its leg as far as they are known without pairing legs."""
    rows, groups, answers = done.rows, done.groups, done.answers
    first = groups.starts
    flip = answers.initiator == HI
    lo_port, hi_port, protocol = rows.lo_port[first], rows.hi_port[first], rows.protocol[first]
    own = np.flatnonzero(~rows.duplicate)
    observers = Groups.of(groups.ids[own], rows.observer[own])
    seen_at = rows.observer[own][observers.starts]
    points = np.bincount(groups.ids[own][observers.starts], minlength=len(groups))
    there, back = came_to.way_there, came_to.way_back
    scopes = _scopes(done)
    initiator, responder = np.where(flip, rows.hi[first], rows.lo[first]), np.where(flip, rows.lo[first], rows.hi[first])
    columns = {
        "initiator_addr": texts(initiator, rows.addresses),
        "initiator_port": _ports(np.where(flip, hi_port, lo_port)),
        "responder_addr": texts(responder, rows.addresses),
        "responder_port": _ports(np.where(flip, lo_port, hi_port)),
        "protocol": _ports(protocol),
        "episode": rows.episode[first],
        **_owner_columns(done, came_to.sent, interfaces, owners, {"initiator": initiator, "responder": responder}),
        "bytes_sent": there.octets,
        "bytes_received": back.octets,
        "packets_sent": there.packets,
        "packets_received": back.packets,
        "rejected_bytes_sent": there.rejected_octets,
        "rejected_bytes_received": back.rejected_octets,
        "rejected_packets_sent": there.rejected_packets,
        "rejected_packets_received": back.rejected_packets,
        "late_rejects": groups.sum(came_to.late),
        **_times(done, came_to.late),
        "records": np.bincount(groups.ids[own], minlength=len(groups)),
        "observation_points": points,
        "interfaces": _interface_lists(groups.ids[own][observers.starts], seen_at, rows.observers, interfaces, len(groups)),
        "action": _words(came_to.action, ACTIONS),
        "verdict_by": _words(came_to.verdict_by, VERDICTS_BY),
        "state": _words(came_to.state, STATES),
        "attempts": came_to.attempts,
        "handshakes": came_to.handshakes,
        "closed_by": _words(came_to.closed_by, CLOSED_BY),
        "basis": _words(answers.basis, BASES),
        "confidence": answers.confidence,
        "nat_id": nat[0],
        "nat_leg": _words(nat[1], NAT_LEGS),
        "traffic_class": _words(np.where(is_tunnel(protocol, lo_port, hi_port), 0, -1), ("tunnel",)),
        "network": texts(rows.network[first], rows.networks),
        "is_open": ~groups.any(closes(rows.flags)),
        "proven": ((answers.basis == BY_SYN_ACK) | (answers.basis == BY_BOTH)) & (answers.confidence == 1),
        "shortfall_packets": done.shortfall_packets,
        "shortfall_bytes": done.shortfall_bytes,
        "connection_id": connection_ids(done),
        "initiator_scope": texts(np.where(flip, scopes[1], scopes[0]), pa.array(PEER_SCOPES)),
        "responder_scope": texts(np.where(flip, scopes[0], scopes[1]), pa.array(PEER_SCOPES)),
        "encryption_status": _ports(_least(groups, own, rows.encryption)),
        "reject_reason": texts(_least(groups, own, rows.reason), rows.reasons),
    }
    return pa.table([_cast(columns[column.name], column.type) for column in CONNECTIONS], schema=CONNECTIONS)


def _owner_columns(
    done: Attributed, sent: Flags, interfaces: Mapping[str, Interface], owners: Owners, ends: Mapping[str, Ints]
) -> dict[str, pa.Array]:
    """Whose each end is: the first interface, by name, that logged the end as its own, else the one that is known to own its address; and
    who sits at the initiator.
    """
    rows, groups = done.rows, done.groups
    logged = [interfaces[name] for name in rows.observers.to_pylist()]
    result: dict[str, pa.Array] = {}
    for end, way in (("initiator", sent), ("responder", ~sent)):
        owns = ~rows.transit & ~rows.duplicate & ((way & (rows.side == SENDER)) | (~way & (rows.side == RECEIVER)))
        owner = groups.min(np.where(owns, rows.observer, len(logged)))
        alone = np.flatnonzero(owner == len(logged))
        (network, address), place = distinct(rows.network[groups.starts[alone]], ends[end][alone])
        networks, addresses = (words.take(pa.array(one)) for words, one in ((rows.networks, network), (rows.addresses, address)))
        found = [owners.get(one) for one in zip(networks.to_pylist(), addresses.to_pylist(), strict=True)]
        listed = [*logged, *filter(None, found)]
        has_one = np.array([one is not None for one in found], dtype=bool)
        owner[alone] = np.where(has_one, len(logged) + np.cumsum(has_one) - 1, -1)[place]
        for name in OWNER_COLUMNS:
            values = [one.place[name] if name in one.place else getattr(one, name) for one in listed]
            code, words = codes(pa.array([*values, None], pa.string()))
            result[f"{end}_{name}"] = texts(code[owner], words)
        by_address = groups.max(np.where(owns & (rows.observer == groups.spread(owner)), rows.subnet, -1))
        if (by_address >= 0).any():
            found_subnet, matched = (column.cast(pa.string()) for column in (result[f"{end}_subnet_id"], texts(by_address, rows.subnets)))
            result[f"{end}_subnet_id"] = pc.coalesce(found_subnet, matched)
        if end == "initiator":
            proxy, host = (
                groups.any(owns & np.array(flags[: len(logged)], dtype=bool)[rows.observer]) | np.array([*flags, False])[owner]
                for flags in ([one.opens_for_others for one in listed], [bool(one.instance_id) or one.is_listed for one in listed])
            )
            kind = np.where(proxy, 1, np.where(host, 0, 2))
            result["initiator_kind"] = _words(np.where(done.answers.initiator == UNKNOWN, 2, kind), KINDS)
    return result


def _scopes(done: Attributed) -> tuple[Ints, Ints]:
    """Where `lo` and `hi` of each episode stand: the end of an interface is its owner's; any other is what the far side sees it as."""
    rows, groups = done.rows, done.groups
    private = is_private(*packed(rows.addresses)) if len(rows.addresses) else np.zeros(0, dtype=bool)
    ipv4_public = np.array([":" not in word for word in rows.addresses.to_pylist()], dtype=bool) & ~private
    known = (rows.side != UNKNOWN_SIDE) & ~rows.duplicate
    found = []
    for address, is_local in ((rows.lo, rows.local_is_lo), (rows.hi, ~rows.local_is_lo)):
        word = address[groups.starts]
        scope = groups.min(np.where(known & ~is_local, rows.scope, UNKNOWN_SCOPE))
        scope = np.where((scope == UNKNOWN_SCOPE) & private[word] | (scope == SAME_SUBNET), OWN_NETWORK, scope)
        owned = groups.any(known & ~rows.transit & is_local)
        found.append(np.where(owned, np.where(ipv4_public[word], OWN_PUBLIC, OWN_NETWORK), scope))
    return found[0], found[1]


def _least(groups: Groups, rows: Ints, values: Ints) -> Ints:
    """The least value from 0 on of each episode's `rows`; -1 without one."""
    most = int(values.max(initial=0)) + 1
    chosen = np.full(groups.rows, most)
    chosen[rows] = np.where(values[rows] < 0, most, values[rows])
    least = groups.min(chosen)
    return np.where(least == most, -1, least)


def _times(done: Attributed, late: Flags) -> dict[str, pa.Array]:
    """First and last second of the rows that are no late rejects (of all, where there is nothing else); null in formats without times."""
    rows, groups = done.rows, done.groups
    real = ~rows.duplicate
    on_time = real & (~late | ~groups.spread(groups.any(real & ~late)))
    timed = on_time & (rows.end > 0)
    start = groups.min(np.where(timed, rows.start, _NEVER))
    end = groups.max(np.where(timed, rows.end, 0))
    without = start == _NEVER
    return {
        name: pa.array(np.where(without, 0, seconds) * 1_000_000, mask=without).cast(_TIME)
        for name, seconds in (("first_start", start), ("last_end", end))
    }


def _interface_lists(episode: Ints, observer: Ints, names: pa.Array, interfaces: Mapping[str, Interface], count: int) -> pa.Array:
    """The interfaces of each episode in order of name; observers without an interface id are left out."""
    ids = pa.array([interfaces[name].interface_id for name in names.to_pylist()], pa.string())
    kept = np.asarray(ids.is_valid())[observer]
    sizes = np.bincount(episode[kept], minlength=count)
    offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), ids.take(pa.array(observer[kept])))


def _ports(numbers: Ints) -> pa.Array:
    return pa.array(numbers, mask=numbers < 0)


def _words(chosen: Ints, words: tuple[str, ...]) -> pa.Array:
    return texts(chosen, pa.array(words))


def _cast(values: npt.NDArray[np.generic] | pa.Array, kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return array if array.type == kind else array.cast(kind)
