"""What the interfaces log of the traffic: connections in, records out, cut into each interface's aggregation windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowlog_udfs.errors import UsageError
from flowlog_udfs.sample.layout import FlowLog, coverage, higher_ranked
from flowlog_udfs.sample.topology import Column, Topology
from flowlog_udfs.sample.traffic import (
    FORWARD,
    INITIATOR_END,
    REFUSED_AT_RECEIVER,
    REFUSED_AT_SENDER,
    RESPONDER_END,
    REVERSE,
    TCP,
    UDP,
    Table,
    Traffic,
)

STREAMS_AT_ONCE = 1_000_000
PORT_STRIDE = 7_919
"""Prime, and no divisor of the size of any range of ephemeral ports: consecutive connections get scattered ports, none twice."""

STATUS_OK, STATUS_NODATA, STATUS_SKIPDATA = 0, 1, 2

STREAM = np.dtype(
    [
        ("flow", "i4"),  # -1: a row about the interface itself (NODATA, SKIPDATA)
        ("sighting", "i4"),
        ("interface", "i4"),
        ("next_hop", "i4"),  # interface on the other side of this one; -1: none of ours
        ("log", "i2"),
        ("status", "u1"),
        ("rejected", "?"),
        ("egress", "?"),
    ]
)
RECORD = np.dtype(
    [
        ("stream", "i4"),
        ("start", "i4"),
        ("end", "i4"),
        ("flags", "u1"),
        ("duplicate", "?"),  # a higher-ranked flow log has it too
        ("packets", "i8"),
        ("bytes", "i8"),
    ]
)


@dataclass(frozen=True)
class Observed:
    """Traffic with the streams and records that the flow logs hold of it. Times are seconds from midnight of the first day."""

    topology: Topology
    logs: tuple[FlowLog, ...]
    traffic: Traffic
    streams: Table
    records: Table


def mixed(*columns: Column) -> Column:
    """One 64-bit number for each row of several columns, different (in all likelihood) where a row differs (splitmix64)."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed += column.astype(np.int64).view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed


def network_of(topology: Topology, interfaces: Column) -> Column:
    """The index of the VPC of each interface; -1 for what is not ours."""
    return np.where(interfaces >= 0, topology.vpc_index[interfaces], -1)


def five_tuples(topology: Topology, connections: Table, *, with_port: bool = True) -> Column:
    """A number for each connection's five-tuple and networks, the initiator's port left out on request."""
    one, other = (network_of(topology, connections[f"{end}_interface"]) for end in ("initiator", "responder"))
    ports = (connections["initiator_port"],) if with_port else ()
    return mixed(
        connections["initiator"], one, connections["responder"], other, connections["responder_port"], connections["protocol"], *ports
    )


def ordinals(groups: Column, order: Column) -> Column:
    """The place (from 0) of each row among those of its group, in the order of `order`."""
    rows = np.lexsort((order, groups))
    ordered = groups[rows]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    place = np.empty(len(groups), np.int64)
    place[rows] = np.arange(len(groups)) - np.repeat(first, np.diff(np.r_[first, len(groups)]))
    return place


def assign_ports(topology: Topology, connections: Table) -> None:
    """Give each TCP or UDP connection without one an initiator's port, so that no five-tuple is used twice by accident.

    Raises `UsageError` where one client would need more connections to one server port than it has ports.
    """
    open_rows = np.flatnonzero((connections["initiator_port"] == 0) & np.isin(connections["protocol"], (TCP, UDP)))
    wanting = connections[open_rows]
    if not len(wanting):
        return
    groups = five_tuples(topology, wanting, with_port=False)
    place = ordinals(groups, np.arange(len(groups)))
    room = wanting["port_high"] - wanting["port_low"] + 1
    if (place >= room).any():
        raise UsageError("too many connections for the sample's places: one client would run out of ports; ask for fewer")
    offset = (groups % np.uint64(65_536)).astype(np.int64)
    connections["initiator_port"][open_rows] = wanting["port_low"] + (offset + place * PORT_STRIDE) % room


def find_streams(topology: Topology, logs: tuple[FlowLog, ...], traffic: Traffic) -> Table:
    """Which flows each flow log holds rows of, and where: flows by sightings of their connection by flow logs of the interface."""
    flows, sightings = traffic.flows, traffic.sightings
    order = np.lexsort((sightings["hop"], sightings["connection"]))
    ordered = sightings[order]
    same = ordered["connection"][1:] == ordered["connection"][:-1]
    following = np.r_[np.where(same, ordered["interface"][1:], -1), -1][: len(ordered)]
    preceding = np.r_[-1, np.where(same, ordered["interface"][:-1], -1)][: len(ordered)]
    next_hop = np.where(ordered["sends_forward"], following, preceding)

    count = np.bincount(ordered["connection"], minlength=len(traffic.connections))
    first = np.cumsum(count) - count
    times = count[flows["connection"]]
    flow = np.repeat(np.arange(len(flows)), times)
    place = np.repeat(first[flows["connection"]], times) + np.arange(len(flow)) - np.repeat(np.cumsum(times) - times, times)
    part, reverse, verdict = ordered["part"][place], flows["reverse"][flow], flows["verdict"][flow]
    sender = part == np.where(reverse, RESPONDER_END, INITIATOR_END)
    receiver = part == np.where(reverse, INITIATOR_END, RESPONDER_END)
    seen = (ordered["sees"][place] & np.where(reverse, REVERSE, FORWARD)) > 0
    seen &= (verdict != REFUSED_AT_SENDER) | sender
    rejected = ((verdict == REFUSED_AT_SENDER) & sender) | ((verdict == REFUSED_AT_RECEIVER) & receiver)

    watched, kept = coverage(topology, logs), []
    interface = ordered["interface"][place]
    for number, log in enumerate(logs):
        rows = np.flatnonzero(seen & watched[number][interface] & log.admits(rejected))
        stream = np.zeros(len(rows), STREAM)
        stream["flow"], stream["sighting"], stream["interface"] = flow[rows], order[place[rows]], interface[rows]
        stream["next_hop"], stream["log"], stream["rejected"] = next_hop[place[rows]], number, rejected[rows]
        stream["egress"] = ordered["sends_forward"][place[rows]] ^ reverse[rows]
        kept.append(stream)
    return np.concatenate(kept)


def window_grid(topology: Topology, logs: tuple[FlowLog, ...], streams: Table) -> tuple[Column, Column]:
    """Length and phase, in seconds, of each stream's aggregation windows; interfaces of Nitro instances never have long ones."""
    intervals, interface = np.array([log.interval for log in logs]), streams["interface"]
    length = np.where(topology.numbers("nitro")[interface], 60, intervals[streams["log"]]).astype(np.int64)
    return length, topology.numbers("phase")[interface] % length


def cut_records(topology: Topology, logs: tuple[FlowLog, ...], flows: Table, streams: Table, horizon: int) -> Table:
    """Cut streams into one record for each aggregation window in which they have packets.

    Packets are spread evenly from a flow's start to its end, on the interface's own clock. Windows have a phase of their own at each
    interface. Windows of 60 s show their own bounds as start and end, longer ones their first and last packet, which stays within the
    minute that AWS allows. Nothing is cut after `horizon` or outside the life of a flow log.
    """
    skew = topology.numbers("clock_skew")
    begins, ends = np.array([log.begins for log in logs]), np.array([log.ends for log in logs])
    parts = []
    for piece in range(0, len(streams), STREAMS_AT_ONCE):
        stream = streams[piece : piece + STREAMS_AT_ONCE]
        flow, interface = flows[stream["flow"]], stream["interface"]
        length, phase = window_grid(topology, logs, stream)
        begin = flow["start"] + skew[interface]
        packets = flow["packets"]
        spacing = np.where(packets > 1, (flow["end"] - flow["start"]) / np.maximum(packets - 1, 1), 0.0)
        first = np.floor((begin - phase) / length).astype(np.int64)
        last = np.floor((begin + spacing * (packets - 1) - phase) / length).astype(np.int64)
        shown_last = np.minimum(last, (horizon - phase) // length)
        count = np.maximum(shown_last - first + 1, 0)

        row = np.repeat(np.arange(len(stream)), count)
        window = first[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        left, pace, total = phase[row] + window * length[row], spacing[row], packets[row]
        right = left + length[row]
        divisor = np.where(pace > 0, pace, 1.0)
        before = np.where(window == first[row], 0, np.clip(np.ceil((left - begin[row]) / divisor), 0, total)).astype(np.int64)
        upto = np.where(window == last[row], total, np.clip(np.ceil((right - begin[row]) / divisor), 0, total)).astype(np.int64)
        log_number = stream["log"][row]
        alive = (upto > before) & (left >= begins[log_number]) & (left < ends[log_number])

        record = np.zeros(int(alive.sum()), RECORD)
        row, left, right, before, upto, pace, total = (column[alive] for column in (row, left, right, before, upto, pace, total))
        each, rest = np.divmod(flow["bytes"][row], total)
        record["stream"], record["packets"] = piece + row, upto - before
        record["bytes"] = each * (upto - before) + np.minimum(upto, rest) - np.minimum(before, rest)
        by_window = length[row] == 60
        record["start"] = np.where(by_window, left, np.floor(begin[row] + before * pace))
        record["end"] = np.where(by_window, right - 1, np.floor(begin[row] + (upto - 1) * pace))
        record["flags"] = flow["every_flags"][row] | np.where(before == 0, flow["first_flags"][row], 0)
        record["flags"] |= np.where(upto == total, flow["last_flags"][row], 0).astype(np.uint8)
        parts.append(record)
    return np.concatenate([np.empty(0, RECORD), *parts])


def split_some(records: Table, rng: np.random.Generator, share: float) -> Table:
    """Turn a share of records into two with overlapping times, as interfaces write now and then: both rows are real."""
    chosen = np.flatnonzero((rng.random(len(records)) < share) & (records["packets"] >= 6) & (records["bytes"] > 0))
    rest = records[chosen].copy()
    rest["packets"] //= 3
    rest["bytes"] //= 3
    rest["flags"] = 0
    rest["start"] += (rest["end"] - rest["start"]) // 3
    records["packets"][chosen] -= rest["packets"]
    records["bytes"][chosen] -= rest["bytes"]
    return np.concatenate([records, rest])


def mark_duplicates(topology: Topology, logs: tuple[FlowLog, ...], streams: Table, records: Table) -> None:
    """Mark records whose interface a higher-ranked flow log was watching at that time, for their action too."""
    watched = coverage(topology, logs)
    for lower, higher in higher_ranked(logs, watched):
        streams_of_lower = (streams["log"] == lower) & watched[higher][streams["interface"]]
        streams_of_lower &= logs[higher].admits(streams["rejected"]) | (streams["flow"] < 0)
        rows = np.flatnonzero(streams_of_lower[records["stream"]])
        length, phase = window_grid(topology, logs, streams[records["stream"][rows]])
        # Both write a window or neither does, wherever in it the first packet lies.
        window = records["start"][rows] - (records["start"][rows] - phase) % length
        records["duplicate"][rows] |= (window >= logs[higher].begins) & (window < logs[higher].ends)
