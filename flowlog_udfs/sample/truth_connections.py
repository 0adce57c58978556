"""The true connections of a day, and the true translations, as tables. Times are timestamps (UTC), sizes bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.sample.delivery import DAY
from flowlog_udfs.sample.observation import Observed, five_tuples, mixed, network_of, ordinals
from flowlog_udfs.sample.rows import address_texts
from flowlog_udfs.sample.topology import NAT, NLB, REGIONAL_NAT, Column
from flowlog_udfs.sample.traffic import FIN, STATES, SYN, SYN_ACK, TrafficKind
from flowlog_udfs.sample.truth import OBSERVERS, Day

NAT_KINDS = {NAT: "nat_gateway", REGIONAL_NAT: "regional_nat_gateway", NLB: "load_balancer"}
ACTIONS = ("ACCEPT", "REJECT", "MIXED")
EDGE = 700
"""Seconds: more than the longest aggregation window and the latest clock."""
ALIKE_WITHIN = 185
"""Seconds: connections that start this close together and are equal in size may show starts within 120 s of each other."""


def connections_table(day: Day, kinds: Sequence[TrafficKind]) -> pa.Table:
    """One row for each connection that has records in the day: ends, sizes, verdict, flags seen, and its translation.

    `records` counts those of overlapping flow logs too, but no second deliveries. `ends_logged` is whether any of them shows both ends as
    they are: in a format without packet-level addresses none may. Rejected sizes stand apart, those of packets after the close apart
    again. `verdict_by` is null in the rare case, always `near_midnight`, that only an overlapping flow log has records.
    """
    observed, topology = day.observed, day.observed.topology
    connections, flows = observed.traffic.connections, observed.traffic.flows
    has_traffic = day.flow >= 0
    kept = np.flatnonzero(np.bincount(day.connection[has_traffic], minlength=len(connections)) > 0)
    chosen = connections[kept]
    _, rejected, observer = day.judged
    reverse, refused, late = flows["reverse"][day.flow], rejected[day.flow] == 1, flows["late"][day.flow]

    columns: dict[str, object] = {
        "connection": kept,
        "kind": pa.array([kind.name for kind in kinds]).take(pa.array(chosen["kind"])),
        "state": pa.array(STATES).take(pa.array(chosen["state"])),
    }
    vpcs, ids = pa.array([vpc.id for vpc in topology.vpcs]), topology.texts("interface-id")
    for end in ("initiator", "responder"):
        interface = chosen[f"{end}_interface"]
        network = network_of(topology, interface)
        columns[f"{end}_network"] = vpcs.take(pa.array(network, mask=network < 0))
        columns[f"{end}_interface_id"] = ids.take(pa.array(interface, mask=interface < 0))
        columns[f"{end}_addr"] = address_texts(chosen[end], topology.ipv6)
        columns[f"{end}_port"] = chosen[f"{end}_port"]
    columns["protocol"] = chosen["protocol"].astype(np.int32)

    first, last = np.full(len(connections), np.inf), np.full(len(connections), -np.inf)
    np.minimum.at(first, day.connection[has_traffic], day.records["start"][has_traffic])
    np.maximum.at(last, day.connection[has_traffic], day.records["end"][has_traffic])
    columns["episode"] = ordinals(five_tuples(topology, chosen), first[kept]) + 1
    for way, is_way in (("sent", ~reverse), ("received", reverse)):
        for measure in ("bytes", "packets"):
            for name, verdict in (("", ~refused), ("rejected_", refused & ~late), ("late_rejected_", refused & late)):
                columns[f"{name}{measure}_{way}"] = day.sums(measure, day.counts_for_connection & is_way & verdict)[kept]
    columns["records"] = np.bincount(day.connection[has_traffic], minlength=len(connections))[kept]
    late_rows = has_traffic & day.late[day.rows]
    columns["late_records"] = np.bincount(day.connection[late_rows], minlength=len(connections))[kept]
    showing = has_traffic & _shows_both_ends(day.observed)[day.records["stream"]]
    columns["ends_logged"] = np.bincount(day.connection[showing], minlength=len(connections))[kept] > 0

    judged = np.flatnonzero((observer >= 0) & ~flows["late"])
    of_connection = flows["connection"][judged]
    accepted = np.bincount(of_connection[rejected[judged] == 0], minlength=len(connections))[kept] > 0
    refusals = np.bincount(of_connection[rejected[judged] == 1], minlength=len(connections))[kept] > 0
    action = np.where(accepted & refusals, 2, np.where(refusals, 1, 0))
    columns["action"] = pa.array(ACTIONS).take(pa.array(action))
    # The connection's verdict is that of its forward packets, where there are any.
    says = np.full(len(connections), -1)
    for backward in (True, False):
        rows = judged[flows["reverse"][judged] == backward]
        says[flows["connection"][rows]] = observer[rows]
    columns["verdict_by"] = pa.array(OBSERVERS).take(pa.array(says[kept], mask=says[kept] < 0))
    columns |= _times(day, kept, first, last)
    columns |= _translations(day, kept)
    return pa.table(columns)


def _shows_both_ends(observed: Observed) -> Column:
    """By stream: whether its rows show who really sends and who really receives."""
    streams, flows = observed.streams, observed.traffic.flows
    packet_level = np.array([{"pkt-srcaddr", "pkt-dstaddr"} <= set(log.format) for log in observed.logs])
    shows: Column = packet_level[streams["log"]]
    plain = np.flatnonzero(~shows & (streams["flow"] >= 0))
    flow, interface, egress = streams["flow"][plain], streams["interface"][plain], streams["egress"][plain]
    connections, reverse = observed.traffic.connections[flows["connection"][flow]], flows["reverse"][flow]
    real = np.ones(len(plain), bool)
    for end, is_source in (("initiator", ~reverse), ("responder", reverse)):
        real &= observed.topology.shown_address(interface, connections[end], egress == is_source) == connections[end]
    shows[plain] = real
    return shows


def _times(day: Day, kept: Column, first: Column, last: Column) -> dict[str, object]:
    observed = day.observed
    connections, flows = observed.traffic.connections, observed.traffic.flows
    size = len(connections)
    has_flags = np.array(["tcp-flags" in log.format for log in observed.logs])
    flags = np.where(has_flags[observed.streams["log"][day.records["stream"]]], day.records["flags"], 0) * (day.flow >= 0)
    opened, closed = np.full(size, np.inf), np.full(size, -np.inf)
    on_time = ~flows["late"]
    np.minimum.at(opened, flows["connection"][on_time], flows["start"][on_time])
    np.maximum.at(closed, flows["connection"][on_time], flows["end"][on_time])
    both_days = np.zeros(size, bool)
    near = (day.records["start"] - day.number * DAY < EDGE) | (day.records["end"] - (day.number + 1) * DAY > -EDGE)
    both_days[day.connection[near & (day.flow >= 0)]] = True
    columns: dict[str, object] = {
        "first_start": day.timestamps(first[kept]),
        "last_end": day.timestamps(last[kept]),
        "opened_at": day.timestamps(opened[kept]),
        "closed_at": day.timestamps(closed[kept]),
        # At the edge of a day interfaces disagree on which packets are today's: their windows are not aligned.
        "near_midnight": both_days[kept],
    }
    for name, wanted in (("syn_logged", SYN), ("syn_ack_logged", SYN_ACK)):
        columns[name] = (np.bincount(day.connection[flags & SYN_ACK == wanted], minlength=size) > 0)[kept]
    for way, is_reverse in (("sent", False), ("received", True)):
        closing = np.flatnonzero((flows["last_flags"] & FIN > 0) & (flows["reverse"] == is_reverse))
        at = np.full(size, np.nan)
        at[flows["connection"][closing]] = flows["end"][closing]
        columns[f"fin_{way}_at"] = day.timestamps(np.nan_to_num(at[kept]), np.isnan(at[kept]))
    return columns


def _translations(day: Day, kept: Column) -> dict[str, object]:
    topology, connections = day.observed.topology, day.observed.traffic.connections
    inside = np.flatnonzero(connections["outside"] >= 0)
    partner = np.full(len(connections), -1)
    leg = np.full(len(connections), -1)
    partner[inside], partner[connections["outside"][inside]] = connections["outside"][inside], inside
    leg[inside], leg[connections["outside"][inside]] = 0, 1
    translator = connections["translator"][kept]
    return {
        "nat_id": translator_ids(day).take(pa.array(translator, mask=translator < 0)),
        "nat_kind": pa.array([NAT_KINDS.get(kind) for kind in topology.kind.tolist()]).take(pa.array(translator, mask=translator < 0)),
        "nat_leg": pa.array(("inside", "outside")).take(pa.array(leg[kept], mask=leg[kept] < 0)),
        "other_leg": pa.array(partner[kept], mask=partner[kept] < 0),
    }


def translator_ids(day: Day) -> pa.StringArray:
    """By interface, what identifies it as a translator: the regional gateway's id, else the interface's."""
    topology = day.observed.topology
    return pa.array([interface.fields.get("resource-id", interface.id) for interface in topology.interfaces])


def nat_table(day: Day, connections: pa.Table) -> pa.Table:
    """One row for each translation with both legs in the day: who was behind which address and port, and how many it could have been.

    `candidates` counts the connections of the same gateway, remote address, port and protocol that are equal in packets and bytes both
    ways and start within minutes of each other; 1 means that the legs can be told apart. For a load balancer the inside is the target.
    """
    ids = connections.column("connection").to_numpy()
    row_of = np.full(len(day.observed.traffic.connections) + 1, -1)
    row_of[ids] = np.arange(len(ids))
    inside = np.flatnonzero(pc.equal(connections.column("nat_leg"), "inside").fill_null(False).to_numpy())
    outside = row_of[connections.column("other_leg").take(pa.array(inside)).to_numpy()]
    inside, outside = inside[outside >= 0], outside[outside >= 0]
    near, far = connections.take(pa.array(inside)), connections.take(pa.array(outside))

    truth = day.observed.traffic.connections[ids[inside]]
    balanced = day.observed.topology.kind[truth["translator"]] == NLB
    sizes = [near.column(f"{measure}_{way}").to_numpy() for measure in ("bytes", "packets") for way in ("sent", "received")]
    gateways = translator_ids(day).dictionary_encode().indices.to_numpy()[truth["translator"]]
    groups = mixed(gateways, truth["responder"], truth["responder_port"], truth["protocol"], *sizes)
    candidates = np.where(balanced, 1, _alike(groups, near.column("opened_at").cast(pa.int64()).to_numpy()))

    ends = {}
    for name, legs, ordinary, behind_balancer in (
        ("inside", near, "initiator", "responder"),
        ("nat", far, "initiator", "responder"),
        ("remote", near, "responder", "initiator"),
    ):
        for part in ("addr", "port"):
            either = (legs.column(f"{end}_{part}").combine_chunks() for end in (behind_balancer, ordinary))
            ends[f"{name}_{part}"] = pc.if_else(pa.array(balanced), *either)
    return pa.table(
        {
            "connection": near.column("connection"),
            "outside_connection": far.column("connection"),
            "nat_id": near.column("nat_id"),
            "nat_kind": near.column("nat_kind"),
            **ends,
            "protocol": near.column("protocol"),
            "bytes_out": near.column("bytes_sent"),
            "bytes_in": near.column("bytes_received"),
            "first_start": near.column("first_start"),
            "last_end": near.column("last_end"),
            "near_midnight": near.column("near_midnight"),
            "late_records": near.column("late_records"),
            "candidates": candidates,
            "distinguishable": candidates == 1,
        }
    )


def _alike(groups: Column, starts: Column) -> Column:
    """How many rows of each row's group lie in its chain of starts less than `ALIKE_WITHIN` apart."""
    if not len(groups):
        return np.empty(0, np.int64)
    order = np.lexsort((starts, groups))
    group, start = groups[order], starts[order]
    breaks = np.r_[True, (group[1:] != group[:-1]) | (start[1:] - start[:-1] > ALIKE_WITHIN)]
    chain = np.cumsum(breaks) - 1
    alike = np.empty(len(groups), np.int64)
    alike[order] = np.bincount(chain)[chain]
    return alike
