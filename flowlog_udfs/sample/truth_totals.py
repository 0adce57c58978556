"""The true totals of a day: by subnet and hour, by bucket, by stream, and the account of every object."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from flowlog_udfs.fields import ACCEPT, REJECT
from flowlog_udfs.sample.delivery import DAY, Delivered
from flowlog_udfs.sample.observation import STATUS_NODATA, STATUS_SKIPDATA
from flowlog_udfs.sample.rows import address_texts
from flowlog_udfs.sample.topology import AWS_RANGES, Column, aws_service
from flowlog_udfs.sample.traffic import INITIATOR_END, RESPONDER_END, STATES
from flowlog_udfs.sample.truth import BUCKETS, DELIVERED_TWICE, NODATA, SKIPDATA, Day

SCOPES = ("same-subnet", "own-network", "aws-service", "aws-tenant", "internet")
TENANT_CODES = ("EC2", "AMAZON", "CLOUDFRONT", "API_GATEWAY", "GLOBALACCELERATOR")
"""Ranges in which AWS's customers have addresses: to a rule they are the internet."""
SIDES = ("local", "remote", "unknown")
LISTED_LATE = 2 * 3_600
"""How far into the next day's prefix a run looks by default, in seconds."""


def subnet_table(day: Day) -> pa.Table:
    """Bytes, packets and records by hour, subnet, direction, side that initiated, peer scope, action and bucket."""
    topology, traffic = day.observed.topology, day.observed.traffic
    rows = np.flatnonzero(day.flow >= 0)
    records, flow = day.records[rows], day.flow[rows]
    stream, connection = day.observed.streams[records["stream"]], traffic.connections[traffic.flows["connection"][flow]]
    part = traffic.sightings["part"][stream["sighting"]]
    side = np.select([connection["state"] == STATES.index("unsolicited"), part == INITIATOR_END, part == RESPONDER_END], [2, 0, 1], 2)

    # Ingress packets come from the peer; the peer is the source when the row is ingress.
    peer_is_initiator = traffic.flows["reverse"][flow] == stream["egress"]
    peer = np.where(peer_is_initiator, connection["initiator"], connection["responder"])
    interface = np.where(peer_is_initiator, connection["initiator_interface"], connection["responder_interface"])
    subnet = topology.subnet_index[stream["interface"]]
    tenant = np.array([code in TENANT_CODES for _, code in AWS_RANGES])[aws_service(peer)]
    scope = np.select(
        [(interface >= 0) & (topology.subnet_index[interface] == subnet) & (subnet >= 0), interface >= 0, aws_service(peer) < 0, tenant],
        [0, 1, 4, 3],
        2,
    )
    keys = (records["start"] // 3_600, subnet + 1, stream["egress"], side, scope, stream["rejected"], day.bucket[rows])
    packed = np.zeros(len(rows), np.int64)
    for key in keys:
        # Seven keys fit into 63 bits only if each takes no more room than its values need.
        above = key.astype(np.int64) - int(key.min())
        packed = packed * (int(above.max(initial=0)) + 1) + above
    _, first, place = np.unique(packed, return_index=True, return_inverse=True)

    def choose(texts: Sequence[str | None], codes: Column) -> pa.Array:
        return pa.array(texts, pa.string()).take(pa.array(codes[first].astype(np.int64)))

    subnets = (None, *topology.subnets)
    columns: dict[str, object] = {
        "hour": day.timestamps(keys[0][first] * 3_600),
        "subnet_id": choose([subnet.id if subnet else None for subnet in subnets], keys[1]),
        "vpc_id": choose([vpc.id for vpc in topology.vpcs], topology.vpc_index[stream["interface"]]),
        "direction": choose(("in", "out"), stream["egress"]),
        "initiated_by": choose(SIDES, side),
        "peer_scope": choose(SCOPES, scope),
        "action": choose((ACCEPT, REJECT), stream["rejected"]),
        "bucket": choose(BUCKETS, keys[6]),
    }
    late = day.late[day.rows][rows]
    for name, chosen in (("", ~late), ("late_", late)):
        for measure in ("bytes", "packets"):
            columns[f"{name}{measure}"] = np.bincount(place[chosen], records[measure][chosen], len(first)).astype(np.int64)
        columns[f"{name}records"] = np.bincount(place[chosen], minlength=len(first))
    return pa.table(columns)


def totals_table(day: Day, order: Column, objects: Sequence[Delivered]) -> pa.Table:
    """Bytes and records by bucket: what a run of the day finds, and (`late_`) what lies in objects that come after it."""
    copied = [order[delivered.parcel.first : delivered.parcel.last] for delivered in objects if delivered.parcel.copy_of]
    again = np.concatenate([np.empty(0, np.int64), *copied])
    again = again[day.observed.records["start"][again] // DAY == day.number]
    late, bucket = day.late[day.rows], day.bucket
    values = {}
    streams = day.observed.streams[day.observed.records["stream"][again]]
    copies = np.select([streams["status"] == STATUS_NODATA, streams["status"] == STATUS_SKIPDATA], [NODATA, SKIPDATA], DELIVERED_TWICE)
    for name, chosen in (("", ~late), ("late_", late)):
        values[f"{name}bytes"] = np.bincount(bucket[chosen], day.records["bytes"][chosen], len(BUCKETS)).astype(np.int64)
        values[f"{name}records"] = np.bincount(bucket[chosen], minlength=len(BUCKETS))
    values["bytes"] += np.bincount(copies, day.observed.records["bytes"][again], len(BUCKETS)).astype(np.int64)
    values["records"] += np.bincount(copies, minlength=len(BUCKETS))
    return pa.table({"bucket": BUCKETS, **values})


def streams_table(day: Day) -> pa.Table:
    """What each flow log holds of each flow at each interface: who passes as source and destination there, and how much."""
    observed = day.observed
    rows = np.flatnonzero(day.flow >= 0)
    stream_of = day.records["stream"][rows]
    size = len(observed.streams)
    records = np.bincount(stream_of, minlength=size)
    kept = np.flatnonzero(records)
    streams = observed.streams[kept]
    flows = observed.traffic.flows[streams["flow"]]
    connections = observed.traffic.connections[flows["connection"]]
    interfaces = pa.array(streams["interface"])
    columns: dict[str, object] = {
        "connection": flows["connection"],
        "direction": pa.array(("sent", "received")).take(pa.array(flows["reverse"].astype(np.int8))),
        "interface_id": pa.array([interface.id for interface in observed.topology.interfaces]).take(interfaces),
        "flow_log_id": pa.array([log.id for log in observed.logs]).take(pa.array(streams["log"])),
        "part": pa.array(("initiator", "transit", "responder")).take(pa.array(observed.traffic.sightings["part"][streams["sighting"]])),
        "flow_direction": pa.array(("ingress", "egress")).take(pa.array(streams["egress"].astype(np.int8))),
        "action": pa.array((ACCEPT, REJECT)).take(pa.array(streams["rejected"].astype(np.int8))),
    }
    for name, is_source in (("logged_srcaddr", True), ("logged_dstaddr", False)):
        from_initiator = flows["reverse"] != is_source
        real = np.where(from_initiator, connections["initiator"], connections["responder"])
        shown = observed.topology.shown_address(streams["interface"], real, streams["egress"] == is_source)
        columns[name] = address_texts(shown, observed.topology.ipv6)
    for measure in ("bytes", "packets"):
        columns[measure] = np.bincount(stream_of, day.records[measure][rows], size).astype(np.int64)[kept]
    columns["records"] = records[kept]
    columns["duplicate_records"] = np.bincount(stream_of[day.records["duplicate"][rows]], minlength=size)[kept]
    return pa.table(columns)


def objects_table(day: Day, order: Column, objects: Sequence[Delivered]) -> pa.Table:
    """The account of every object that a run of the day lists, or that holds rows of the day and comes too late to be listed.

    `records` are the good rows of the day, `other_day` those of others: lines = headers + blank + records + rejects + other_day.
    """
    of_day = np.r_[0, np.cumsum(day.observed.records["start"][order] // DAY == day.number)]
    rows = []
    for delivered in objects:
        parcel, log = delivered.parcel, delivered.log
        records = int(of_day[parcel.last] - of_day[parcel.first])
        since = parcel.published - day.number * DAY
        listed = 0 <= since < DAY + LISTED_LATE
        if listed or records:
            rows.append(
                {
                    "key": delivered.key,
                    "account_id": log.account,
                    "region": log.region,
                    "flow_log_id": log.id,
                    "published_at": parcel.published + day.epoch,
                    "layout": log.key_layout,
                    "file_format": log.file_format,
                    "size_bytes": delivered.size_bytes,
                    "lines": delivered.headers + delivered.blank + delivered.rows + len(delivered.bad_lines),
                    "headers": delivered.headers,
                    "blank": delivered.blank,
                    "records": records,
                    "rejects": len(delivered.bad_lines),
                    "other_day": delivered.rows - records,
                    "listed": listed,
                    "copy_of": parcel.copy_of,
                }
            )
    table = pa.Table.from_pylist(rows)
    place = table.schema.get_field_index("published_at")
    return table.set_column(place, "published_at", table.column(place).cast(pa.timestamp("s", "UTC")))


def bad_lines_table(objects: Sequence[Delivered]) -> pa.Table:
    """Every line that is no record: key of its object, line number from 1, its text (bytes that are no UTF-8 replaced) and the reason."""
    bad = [(delivered.key, line) for delivered in objects for line in delivered.bad_lines]
    return pa.table(
        {
            "key": pa.array([key for key, _ in bad], pa.string()),
            "line_number": pa.array([line.line_number for _, line in bad], pa.int64()),
            "line": pa.array([line.line.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for _, line in bad], pa.string()),
            "reason": pa.array([line.reason for _, line in bad], pa.string()),
        }
    )
