"""The account of every record: what becomes of its bytes in the totals of subnets and in the totals of connections.

In: records, observed or not. Out: rows of `TALLIES`, sums by hour, place and bucket in both scopes, from which tables `subnet_bytes` and
`reconciliation` are made. The first bucket that fits holds a record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.attribution import Attributed
from flowlog_udfs.columns import Flags, Groups, Ints, codes, is_among, texts
from flowlog_udfs.connections import connection_ids
from flowlog_udfs.episodes import CLOCK_TOLERANCE
from flowlog_udfs.initiators import CARRIED, HI, LO, UNKNOWN
from flowlog_udfs.interfaces import PLACE, Interface
from flowlog_udfs.observed import NO_ACTION, SENDER, UNKNOWN_SIDE, Rows
from flowlog_udfs.peers import PEER_SCOPES
from flowlog_udfs.sorting import distinct, sort_by
from flowlog_udfs.tables import Table

HOUR = 3600
BUCKETS = (
    "counted",
    "duplicate_delivery",
    "duplicate_subscription",
    "nat_leg",
    "transit_only",
    "no_side",
    "no_subnet",
    "nodata",
    "skipdata",
    "other_end",
    "no_ends",
)
(
    COUNTED,
    DUPLICATE_DELIVERY,
    DUPLICATE_SUBSCRIPTION,
    NAT_LEG,
    TRANSIT_ONLY,
    NO_SIDE,
    NO_SUBNET,
    NODATA,
    SKIPDATA,
    OTHER_END,
    NO_ENDS,
) = range(len(BUCKETS))
DIRECTIONS = ("out", "in")
INITIATED_BY = ("local", "remote", "unknown")
BY_LOCAL, BY_REMOTE, BY_UNKNOWN = range(len(INITIATED_BY))

_TEXT = pa.dictionary(pa.int32(), pa.string())
SUMS = ("bytes", "packets", "records", "connections_started")
TALLIES = pa.schema(
    [
        ("hour", pa.int64()),  # Unix seconds, null without times
        *((name, _TEXT) for name in PLACE),
        ("direction", _TEXT),
        ("initiated_by", _TEXT),
        ("peer_scope", _TEXT),
        ("action", _TEXT),
        ("subnet_bucket", _TEXT),
        ("connection_bucket", _TEXT),
        ("connection_id", pa.int64()),  # only of what may be the target leg of a load balancer
        *((name, pa.int64()) for name in SUMS),
    ]
)
TALLIES_TABLE = Table("tallies", TALLIES, ("subnet_bucket", "connection_bucket"))


def tally(
    interfaces: list[Interface],
    observer: Ints,
    subnet: tuple[Ints, pa.Array],
    *,
    start: Ints,
    end: Ints,
    side: Ints,
    initiated_by: Ints,
    scope: Ints,
    action: Ints,
    subnet_bucket: Ints,
    connection_bucket: Ints,
    connection: Ints,
    octets: Ints,
    packets: Ints,
    started: Flags,
) -> pa.Table:
    """Sum records by all that `TALLIES` tells apart; `observer` are places in `interfaces`, `connection` is 0 where it does not matter."""
    hour = np.where(end > 0, start // HOUR, -1)
    relayed = np.unique(connection, return_inverse=True) if connection.any() else (np.zeros(1, np.int64), np.zeros(len(observer), np.int64))
    own = codes(pa.array([one.place["subnet_id"] for one in interfaces], pa.string()))
    found = np.where(own[0][observer] >= 0, -1, subnet[0])
    parts = (
        hour,
        _homes(interfaces)[observer],
        found,
        side,
        initiated_by,
        scope,
        action,
        subnet_bucket,
        connection_bucket,
        relayed[1].reshape(-1),
    )
    combinations, place = distinct(*parts)
    hours, who, matched, sides, by, scopes, acts, in_subnet, in_connection, which = combinations
    order = sort_by(place)
    groups = Groups.of(place[order])
    places = {name: _place(interfaces, name, who) for name in PLACE}
    places["subnet_id"] = pc.coalesce(places["subnet_id"].cast(pa.string()), texts(matched, subnet[1]).cast(pa.string()))
    columns = {
        "hour": pa.array(hours * HOUR, mask=hours < 0),
        **places,
        "direction": texts(np.where(sides == UNKNOWN_SIDE, -1, np.where(sides == SENDER, 0, 1)), pa.array(DIRECTIONS)),
        "initiated_by": texts(by, pa.array(INITIATED_BY)),
        "peer_scope": texts(scopes, pa.array(PEER_SCOPES)),
        "action": texts(np.where(acts == NO_ACTION, -1, acts), pa.array(("ACCEPT", "REJECT"))),
        "subnet_bucket": texts(in_subnet, pa.array(BUCKETS)),
        "connection_bucket": texts(in_connection, pa.array(BUCKETS)),
        "connection_id": pa.array(relayed[0][which], mask=relayed[0][which] == 0),
        "bytes": groups.sum(octets[order]),
        "packets": groups.sum(packets[order]),
        "records": groups.sizes,
        "connections_started": groups.sum(started[order]),
    }
    return pa.table([_cast(columns[field.name], field.type) for field in TALLIES], schema=TALLIES)


def _homes(interfaces: list[Interface]) -> Ints:
    """For each interface the first one in the same place: sums are by place, not by interface."""
    first: dict[tuple[str | None, ...], int] = {}
    return np.array([first.setdefault(tuple(one.place[name] for name in PLACE), at) for at, one in enumerate(interfaces)], np.int64)


def _place(interfaces: list[Interface], name: str, who: Ints) -> pa.DictionaryArray:
    code, words = codes(pa.array([one.place[name] for one in interfaces], pa.string()))
    return texts(code[who], words)


def merged(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of `TALLIES` added up to one."""
    keys = TALLIES.names[: -len(SUMS)]
    plain = [pa.table({f.name: one.column(f.name).cast(pa.string() if f.type == _TEXT else f.type) for f in TALLIES}) for one in tables]
    grouped = pa.concat_tables(plain or [TALLIES.empty_table()]).group_by(keys).aggregate([(name, "sum") for name in SUMS])
    columns = [grouped.column(f"{field.name}_sum" if field.name in SUMS else field.name) for field in TALLIES]
    return pa.table([column.cast(field.type) for column, field in zip(columns, TALLIES, strict=True)], schema=TALLIES)


def tally_connections(done: Attributed, interfaces: Mapping[str, Interface], balanced: npt.NDArray[np.uint64]) -> pa.Table:
    """The account of a partition's rows; `balanced` are clients' ends (hashes) that a network load balancer was seen to serve."""
    rows, groups = done.rows, done.groups
    listed = [interfaces[name] for name in rows.observers.to_pylist()]
    first = groups.starts
    initiator = groups.spread(done.answers.initiator)
    local = np.where(rows.local_is_lo, LO, HI)
    known = (initiator != UNKNOWN) & (rows.side != UNKNOWN_SIDE)
    by = np.where(known, np.where(initiator == local, BY_LOCAL, BY_REMOTE), BY_UNKNOWN)
    bucket = _subnet_buckets(rows, listed)
    in_connection = np.where(done.counts, COUNTED, np.where(bucket == NAT_LEG, NAT_LEG, OTHER_END))
    in_connection[rows.duplicate] = DUPLICATE_SUBSCRIPTION
    client = np.where(done.answers.initiator == LO, rows.lo_end[first], rows.hi_end[first])
    is_relayed = is_among(client, balanced) & (done.answers.initiator != UNKNOWN)
    tables = [
        tally(
            listed,
            rows.observer,
            (rows.subnet, rows.subnets),
            start=rows.start,
            end=rows.end,
            side=rows.side,
            initiated_by=by,
            scope=rows.scope,
            action=rows.action,
            subnet_bucket=bucket,
            connection_bucket=in_connection,
            connection=groups.spread(np.where(is_relayed, connection_ids(done), 0)),
            octets=rows.octets,
            packets=rows.packets,
            started=_started(done, listed, bucket, by),
        ),
        tally_apart(done.alone, listed),
    ]
    return pa.concat_tables(tables)


def tally_apart(alone: Rows, listed: list[Interface]) -> pa.Table:
    """The account of rows of overlapping subscriptions that are in no connection."""
    nothing = np.zeros(alone.count, np.int64)
    return tally(
        listed,
        alone.observer,
        (alone.subnet, alone.subnets),
        start=alone.start,
        end=alone.end,
        side=alone.side,
        initiated_by=nothing + BY_UNKNOWN,
        scope=alone.scope,
        action=alone.action,
        subnet_bucket=nothing + DUPLICATE_SUBSCRIPTION,
        connection_bucket=nothing + DUPLICATE_SUBSCRIPTION,
        connection=nothing,
        octets=alone.octets,
        packets=alone.packets,
        started=nothing == 1,
    )


def _subnet_buckets(rows: Rows, listed: list[Interface]) -> Ints:
    has_subnet = np.array([one.place["subnet_id"] is not None for one in listed], dtype=bool)[rows.observer] | (rows.subnet >= 0)
    bucket = np.where(rows.side == UNKNOWN_SIDE, NO_SIDE, np.where(has_subnet, COUNTED, NO_SUBNET))
    bucket = np.where(rows.transit, np.where(_owners_saw(rows), NAT_LEG, TRANSIT_ONLY), bucket)
    return np.where(rows.duplicate, DUPLICATE_SUBSCRIPTION, bucket)


def _owners_saw(rows: Rows) -> Flags:
    """Rows for whose packets there is an owner's row: the same five-tuple and direction, overlapping, clocks allowed for."""
    result = np.zeros(rows.count, dtype=bool)
    asking = np.flatnonzero(rows.transit & ~rows.duplicate)
    owners = np.flatnonzero(~rows.transit & ~rows.duplicate)
    if not len(asking) or not len(owners):
        return result
    talk = rows.key * 2 + rows.forward
    owners = owners[np.isin(talk[owners], talk[asking])]
    owners = owners[sort_by(talk[owners], rows.start[owners])]
    if not len(owners):
        return result
    base, span = int(rows.start.min()), int(rows.end.max()) - int(rows.start.min()) + 2 * CLOCK_TOLERANCE + 1
    before = np.searchsorted(
        talk[owners] * span + rows.start[owners] - base, talk[asking] * span + rows.end[asking] + CLOCK_TOLERANCE - base, side="right"
    )
    at = np.maximum(before - 1, 0)
    reach = Groups.of(talk[owners]).running_max(rows.end[owners])
    result[asking] = (before > 0) & (talk[owners][at] == talk[asking]) & (reach[at] >= rows.start[asking] - CLOCK_TOLERANCE)
    return result


def _started(done: Attributed, listed: list[Interface], bucket: Ints, by: Ints) -> Flags:
    """Of each connection that began this day, by subnet and direction, the first hour's first row that the initiator sent."""
    rows, groups = done.rows, done.groups
    from_initiator = ((by == BY_LOCAL) & (rows.side == SENDER)) | ((by == BY_REMOTE) & (rows.side != SENDER))
    at = np.flatnonzero((bucket == COUNTED) & from_initiator & groups.spread(done.answers.basis != CARRIED))
    result = np.zeros(rows.count, dtype=bool)
    if not len(at):
        return result
    by_text = np.argsort(np.argsort(np.array(PEER_SCOPES)))
    action = np.where(rows.action == NO_ACTION, -1, rows.action)[at]
    own = codes(pa.array([one.place["subnet_id"] for one in listed], pa.string()))[0][rows.observer[at]]
    subnet = np.where(own >= 0, own, len(listed) + rows.subnet[at])
    keys = (groups.ids[at], subnet, rows.side[at])
    order = sort_by(*keys, rows.start[at] // HOUR, rows.observer[at], by_text[rows.scope[at]], action)
    result[at[order[Groups.of(*(key[order] for key in keys)).starts]]] = True
    return result


def _cast(values: npt.NDArray[np.generic] | pa.Array, kind: pa.DataType) -> pa.Array:
    array = values if isinstance(values, pa.Array) else pa.array(values)
    return array if array.type == kind else array.cast(kind)
