"""Stage 4, `nat`: who is behind which translated address; rows of table `nat_mappings`, and `nat_id`, `nat_leg` on connections."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .connections import Table
from .legs import EPISODE, Leg, find_legs, find_pairs, seen_once
from .rows import TRANSIT, End, Row
from .world import Known

NAT_KINDS = ("nat_gateway", "regional_nat_gateway")


def nat(rows: Sequence[Row], table: Table, known: Known, config: Mapping[str, Any]) -> Table:
    """Find the translations of every observer that forwards, and fill `nat_id` and `nat_leg` of `table`.

    Only rows that are no duplicates count, and of a translator only the rows that itself logged: both legs then show the same packets.
    Where it logged a direction both coming in and going out, the rows coming in count.

    Translators: observers with rows in transit, or of a NAT kind. nat_id is the resource-id of a regional NAT gateway, else the interface;
    without resource-id the inventory's gateway of the public address, else `VPC/public address`.
    Inside leg: an episode with rows in transit at the translator; inside is the peer's end (the one that is not hidden), remote the other.
    At a transit gateway and at middleboxes that translate nothing the inside is the connection's initiator (lower end if none is known).
    Outside leg: an episode with own rows of the translator (not in transit), in which the translator's end is not the responder by flags
    (syn, syn-ack, syn+syn-ack, carried). Own end is any address that the translator logged as its own.

    Pairs. Both legs of one translator with equal protocol, remote address (NAT64 stripped) and port (which must be known), whose starts and
    whose ends lie within `pairing_seconds`, and
      1. exact: equal packets both ways, bytes both ways (not for NAT64) and flags both ways;
      2. near, among legs that exact pairs left over: packets differ by at most 2 each way, bytes by at most 60 for each packet of
         difference (not for NAT64), and in each way that differs the leg with more packets shows RST.
    candidates k of a pair: the greater of the number of outside legs that fit the inside leg and of inside legs that fit the outside leg.
    Confidence 0.95 for k = 1, else 1/k; near pairs 0.8 at most. One row for each pair; the pairs of an inside leg with k above
    `max_candidates` are one row without NAT port, for the greatest of their k; its address is that of all outside legs of the talk, if they
    share one. A talk is all legs of one translator with equal protocol, remote address (NAT64 stripped) and port.
    A regional NAT gateway without resource-id: inside legs cannot tell which address they leave by. If the VPC shows one such address, or
    all shown are one gateway's in the inventory, they are that gateway's. Else pairs are taken only where k = 1, never between several.
    Unpaired inside legs of a NAT kind, or of a talk that has outside legs: one row with nat_port NULL and candidates 0; nat_addr the only
    own address, if there is only one.

    Other rows: hops (method `hop`): for every other episode in transit; nat_port is the inside port, nothing is translated. Pods
    (`packet-level`): an end whose node shows its own address instead. Load balancers (`client-preserved`): a connection to a network load
    balancer and one from the same client end to another address of the network, both initiated by the client, starting within
    `pairing_seconds`; inside is the target; candidates and confidence as above, 0.8 at most if packets differ. The talk is here the
    client's end and the protocol.

    On connections: the inside leg has nat_leg `inside` (also unpaired), the outside leg `outside` if paired, or if it was initiated by a
    translator of a NAT kind; inside wins where a connection is both; hops and pods leave both NULL. Load balancers: front `outside`,
    target `inside`.
    """
    by_episode: dict[EPISODE, dict[str, Any]] = {_name(row): row for row in table}
    live = [
        row for row in rows if row.has_ends and row.episode and row.subnet_bucket not in ("duplicate_subscription", "duplicate_delivery")
    ]
    at: dict[str, list[Row]] = defaultdict(list)
    for row in live:
        at[row.observer].append(row)
    mappings: Table = []
    for observer, group in sorted(at.items()):
        in_transit = [row for row in group if row.role == TRANSIT]
        kind = next((row.stands_for for row in in_transit), None) or next((row.kind for row in group if row.kind in NAT_KINDS), None)
        if kind:
            mappings += _translator(observer, str(kind), group, by_episode, known, config)
        mappings += _pods(observer, group, by_episode)
    mappings += _balancers(live, by_episode, config)
    return sorted(mappings, key=lambda row: [str(row[name]) for name in row])


def _name(row: Mapping[str, Any]) -> EPISODE:
    ends = [End(row["initiator_addr"], row["initiator_port"]), End(row["responder_addr"], row["responder_port"])]
    low, high = sorted(ends, key=lambda end: end.order)
    return (row["network"], low, high, row["protocol"]), row["episode"]


def _initiator(row: Mapping[str, Any]) -> End:
    return End(row["initiator_addr"], row["initiator_port"])


def _translator(
    observer: str, kind: str, group: Sequence[Row], by_episode: Mapping[EPISODE, dict[str, Any]], known: Known, config: Mapping[str, Any]
) -> Table:
    flagged = ("syn", "syn-ack", "syn+syn-ack", "carried")

    def own_end(episode: EPISODE, rows: Sequence[Row]) -> End:
        return rows[0].local

    def inside(episode: EPISODE, rows: Sequence[Row]) -> End:
        return rows[0].peer

    own_rows = [row for row in group if row.role not in (TRANSIT, "unknown") and row.stands_for is None]
    insides = find_legs(seen_once(row for row in group if row.role == TRANSIT), inside)
    outsides = [
        leg
        for leg in find_legs(own_rows, own_end)
        if by_episode[leg.episode]["basis"] not in flagged or _initiator(by_episode[leg.episode]) == leg.near
    ]
    nameless = observer.startswith("@")
    addresses = {row.local.address for row in own_rows}
    gateways = {known.gateway_of_public.get(str(address), f"{_vpc(group)}/{address}") for address in addresses}
    one_gateway = not nameless or len(gateways) == 1

    def nat_id(address: str | None) -> str | None:
        if not nameless:
            return observer
        if address is not None:
            return known.gateway_of_public.get(address, f"{_vpc(group)}/{address}")
        return next(iter(gateways)) if one_gateway and gateways else None

    pairs = find_pairs(insides, outsides, config)
    if not one_gateway:
        pairs = [pair for pair in pairs if pair[2] == 1]
    talks = {leg.remote for leg in outsides}
    interface = group[0].record.get("interface_id")
    table: Table = []
    paired = {id(leg) for pair in pairs for leg in pair[:2]}
    crowds: dict[int, int] = {}
    for leg, outer, count, method in pairs:
        name = nat_id(outer.near.address)
        if count > config["max_candidates"]:
            crowds[id(leg)] = max(count, crowds.get(id(leg), 0))
        else:
            table.append(_row(name, kind, interface, outer.near, leg.near, leg.far, leg, count, method, _confidence(method, count)))
        _mark(by_episode[outer.episode], name, "outside")
        _mark(by_episode[leg.episode], name, "inside")
    for leg, _, _, method in pairs:
        if count := crowds.pop(id(leg), None):
            shared = {outer.near.address for outer in outsides if outer.remote == leg.remote}
            near = End(next(iter(shared)) if len(shared) == 1 else None, None)
            sure = _confidence(method, count)
            table.append(_row(nat_id(near.address), kind, interface, near, leg.near, leg.far, leg, count, method, sure))
    for leg in insides:
        if id(leg) in paired:
            continue
        if kind in NAT_KINDS or leg.remote in talks:
            shown = {row.shown_local for row in group if row.role == TRANSIT and row.shown_local != row.local.address} or addresses
            address = next(iter(shown)) if len(shown) == 1 else None
            name = nat_id(address if nameless else None)
            table.append(_row(name, kind, interface, End(address, None), leg.near, leg.far, leg, 0, "unpaired", 1.0))
            _mark(by_episode[leg.episode], name, "inside")
        else:
            table.append(_hop(leg, kind, interface, group, by_episode[leg.episode]))
    for leg in outsides:
        row = by_episode[leg.episode]
        if id(leg) not in paired and kind in NAT_KINDS and row["basis"] != "none" and _initiator(row) == leg.near:
            _mark(row, nat_id(leg.near.address), "outside")
    return table


def _confidence(method: str, count: int) -> float:
    return min(0.95 if count == 1 else 1 / count, 0.8 if method == "near" else 1)


def _vpc(group: Sequence[Row]) -> str:
    return group[0].place["vpc_id"] or group[0].network


def _mark(connection: dict[str, Any], nat_id: str | None, leg: str) -> None:
    if connection["nat_leg"] is None or (connection["nat_leg"] == "outside" and leg == "inside"):
        connection["nat_id"], connection["nat_leg"] = nat_id, leg


def _row(
    nat_id: str | None,
    kind: str,
    interface: str | None,
    nat: End,
    inside: End,
    remote: End,
    leg: Leg,
    candidates: int,
    method: str,
    sure: float,
) -> dict[str, Any]:
    return {
        "nat_id": nat_id,
        "nat_kind": kind,
        "nat_interface_id": interface,
        "nat_addr": nat.address,
        "nat_port": nat.port,
        "inside_addr": inside.address,
        "inside_port": inside.port,
        "remote_addr": remote.address,
        "remote_port": remote.port,
        "protocol": leg.episode[0][3],
        "bytes_out": leg.amounts[2],
        "bytes_in": leg.amounts[3],
        "first_start": leg.start,
        "last_end": leg.end,
        "candidates": candidates,
        "method": method,
        "confidence": sure,
    }


def _hop(leg: Leg, kind: str, interface: str | None, group: Sequence[Row], connection: Mapping[str, Any]) -> dict[str, Any]:
    inside = _initiator(connection)
    rows = seen_once(row for row in group if (row.key, row.episode) == leg.episode and row.role == TRANSIT)
    turned = find_legs(rows, lambda *_: inside)[0]
    shown = {row.shown_local for row in group if row.role == TRANSIT and row.shown_local != row.local.address}
    address = min((text for text in shown if text), default=None)
    return _row(interface, kind, interface, End(address, inside.port), inside, turned.far, turned, 1, "hop", 1.0)


def _pods(observer: str, group: Sequence[Row], by_episode: Mapping[EPISODE, dict[str, Any]]) -> Table:
    rows = [row for row in group if row.stands_for == "pod" and row.role != TRANSIT]
    table = []
    for leg in find_legs(rows, lambda _, found: found[0].local):
        shown = next(row.shown_local for row in rows if (row.key, row.episode) == leg.episode)
        near = End(shown, leg.near.port)
        interface = rows[0].record.get("interface_id")
        table.append(_row(observer, "pod", interface, near, leg.near, leg.far, leg, 1, "packet-level", 1.0))
    return table


def _balancers(live: Sequence[Row], by_episode: Mapping[EPISODE, dict[str, Any]], config: Mapping[str, Any]) -> Table:
    owned = {(row.key, row.episode): row for row in live if row.kind == "network_load_balancer" and row.role not in (TRANSIT, "unknown")}
    fronts = [
        (by_episode[name], row)
        for name, row in sorted(owned.items(), key=lambda item: (item[0][0][1].order, item[0][0][2].order, item[0][1]))
        if by_episode[name]["basis"] != "none" and _initiator(by_episode[name]) != row.local
    ]
    edges = []
    for front, row in fronts:
        for back in by_episode.values():
            same = all(back[name] == front[name] for name in ("network", "protocol", "initiator_addr", "initiator_port"))
            other = back["responder_addr"] != front["responder_addr"] and back["basis"] != "none"
            if same and other and abs(back["first_start"] - front["first_start"]) <= config["pairing_seconds"]:
                edges.append((front, back, row))
    table = []
    crowds: dict[int, int] = {}
    for front, back, row in edges:
        count = max(sum(edge[0] is front for edge in edges), sum(edge[1] is back for edge in edges))
        alike = all(front[f"packets_{way}"] == back[f"packets_{way}"] for way in ("sent", "received"))
        confidence = (0.95 if alike else 0.8) if count == 1 else 1 / count
        nat_end = End(front["responder_addr"], front["responder_port"])
        if count > config["max_candidates"]:
            crowds[id(back)] = max(count, crowds.get(id(back), 0))
        else:
            table.append(_relayed(back, row.observer, nat_end, count, confidence))
        _mark(front, row.observer, "outside")
        _mark(back, row.observer, "inside")
    for _, back, _ in edges:
        if count := crowds.pop(id(back), 0):
            talk = [
                (front, row) for front, row in fronts if _initiator(front) == _initiator(back) and front["protocol"] == back["protocol"]
            ]
            names, addresses = {row.observer for _, row in talk}, {front["responder_addr"] for front, _ in talk}
            nat_end = End(next(iter(addresses)) if len(addresses) == 1 else None, None)
            table.append(_relayed(back, next(iter(names)) if len(names) == 1 else None, nat_end, count, 1 / count))
    return table


def _relayed(back: Mapping[str, Any], balancer: str | None, nat: End, candidates: int, sure: float) -> dict[str, Any]:
    leg = Leg(
        _name(back),
        End(back["responder_addr"], back["responder_port"]),
        _initiator(back),
        (back["packets_received"], back["packets_sent"], back["bytes_received"], back["bytes_sent"]),
        (None, None),
        back["first_start"],
        back["last_end"],
    )
    return _row(balancer, "load_balancer", balancer, nat, leg.near, leg.far, leg, candidates, "client-preserved", sure)
