"""Stage 3, `connections`: rows of table `connections`, one for each episode, and what is carried to the next day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .initiator import SYN_ACK, Answer, Knowledge, by_service, flag_claims, has_two_ports, initiator, is_tunnel, noisy
from .outcomes import at_one_point, closed_by, mark_late, state_of, verdict_of
from .rows import RECEIVER, SENDER, TRANSIT, End, Key, Row
from .world import FIN, FORWARDING, RST, SYN, TCP, TERMINATING, Known

EVIDENCE_ONLY = "duplicate_subscription"
OWNER = ("account_id", "vpc_id", "subnet_id", "instance_id")
Table = list[dict[str, Any]]


def connections(
    rows: Sequence[Row],
    shortfall: Mapping[Any, tuple[int, int]],
    known: Known,
    config: Mapping[str, Any],
    carried: Mapping[str, Any] | None,
    midnight: int,
) -> Table:
    """One row per episode, in the columns of design 3.2 up to `traffic_class` (NAT columns empty: stage 4 fills them), and some more:
    `network`, `is_open` (no FIN or RST seen), `proven` (the responder's SYN-ACK counted), `shortfall_bytes`, `shortfall_packets`.

    Two passes, because what an end did in one episode is evidence in another: `servers` and `fan_in` come from the first pass over all.
    """
    groups: dict[tuple[Key, int], list[Row]] = defaultdict(list)
    for row in rows:
        if row.has_ends and row.episode:
            groups[row.key, row.episode].append(row)
    knowledge = _knowledge(rows, groups, known, config, carried, midnight)
    table = []
    for (key, number), group in sorted(groups.items(), key=lambda item: _order(item[0])):
        answer = initiator(key, number, group, knowledge)
        table.append(_connection(key, number, group, answer, shortfall, knowledge, carried))
    return table


def _order(name: tuple[Key, int]) -> tuple[Any, ...]:
    (network, low, high, protocol), number = name
    return network, low.order, high.order, -1 if protocol is None else protocol, number


def _knowledge(
    rows: Sequence[Row],
    groups: Mapping[tuple[Key, int], list[Row]],
    known: Known,
    config: Mapping[str, Any],
    carried: Mapping[str, Any] | None,
    midnight: int,
) -> Knowledge:
    yesterday = carried or {"connections": [], "servers": []}
    open_then = {}
    for item in yesterday["connections"]:
        ends = [End(item["initiator_addr"], item["initiator_port"]), End(item["responder_addr"], item["responder_port"])]
        low, high = sorted(ends, key=lambda end: end.order)
        open_then[item["network"], low, high, item["protocol"]] = {
            "initiator": ends[0],
            "confidence": item["confidence"],
            "state": item["state"],
            "midnight": midnight,
        }
    forwarders = {row.observer for row in rows if row.role == TRANSIT and row.stands_for in FORWARDING}
    wide = {(row.key, row.local) for row in rows if row.own != "unknown" and row.role != TRANSIT and _is_proxy(row.kind)}
    knowledge = Knowledge(open_then, set(), set(), noisy(rows), wide, forwarders, config, known, _owners(rows, known, config))
    servers = {(item["network"], End(item["addr"], item["port"])) for item in yesterday["servers"]}
    asked, answered = set(), set()
    accepted: dict[tuple[str, End, End, Any], set[bool]] = defaultdict(set)
    for (key, _), group in groups.items():
        network, low, high, protocol = key
        for row in group:
            if row.flags is not None and row.flags & SYN_ACK == SYN:
                asked.add((key, row.source))
            if row.flags is not None and row.flags & SYN_ACK == SYN_ACK and not row.rejected and row.log not in knowledge.noisy_logs:
                answered.add((key, row.source))
            if not row.rejected and has_two_ports(low, high) and by_service(low, high, protocol, config["services"]) is None:
                accepted[network, low, high, protocol].add(row.forward)
    servers |= {(key[0], end) for key, end in answered if (key, key[2] if end == key[1] else key[1]) in asked}
    peers: dict[tuple[str, End, Any], set[End]] = defaultdict(set)
    for (network, low, high, protocol), ways in accepted.items():
        if ways == {True, False}:
            peers[network, low, protocol].add(high)
            peers[network, high, protocol].add(low)
    knowledge.servers = servers
    knowledge.fan_in = {end for end, found in peers.items() if len(found) >= config["fan_in_peers"]}
    return knowledge


def _owners(rows: Sequence[Row], known: Known, config: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Whose an address of a network is: of the one interface that shows it as its own, or that the inventory lists with it. For ends that
    no row of their own interface shows."""
    networks = known.networks(config["links"], {row.place["vpc_id"] for row in rows if row.place["vpc_id"]})
    claims: dict[tuple[str, str], dict[str, dict[str, Any]]] = defaultdict(dict)
    logged = {row.observer: row for row in rows if row.record.get("interface_id")}
    for name, row in logged.items():
        owner = {**row.place, "interface_id": name, "kind": row.kind, "listed": name in known.interfaces}
        for address in row.owned | known.interfaces.get(name, {}).get("addresses", set()):
            claims[row.network, address][name] = owner
    for name, listed in known.interfaces.items():
        vpc = listed["vpc_id"] or known.subnets.get(listed["subnet_id"] or "", {}).get("vpc_id")
        for address in listed["addresses"] if name not in logged else ():
            owner = {place: listed.get(place) for place in OWNER} | {"vpc_id": vpc, "interface_id": name, "kind": listed["kind"]}
            claims[networks.get(vpc, vpc) or "", address][name] = {**owner, "listed": True}
    return {end: next(iter(found.values())) for end, found in claims.items() if len(found) == 1}


def _is_proxy(kind: str | None) -> bool:
    return kind in FORWARDING or kind in TERMINATING


def _connection(
    key: Key,
    number: int,
    group: Sequence[Row],
    answer: Answer,
    shortfall: Mapping[Any, tuple[int, int]],
    knowledge: Knowledge,
    carried: Mapping[str, Any] | None,
) -> dict[str, Any]:
    network, low, high, protocol = key
    first, second = (high, low) if answer.initiator == high and high != low else (low, high)
    real = [row for row in group if row.subnet_bucket != EVIDENCE_ONLY]
    mark_late(real)
    volumes, verdicts = {}, {}
    for way, source in (("sent", first), ("received", second)):
        one_way = [row for row in real if row.forward == (source == low or low == high)] if low != high else (real if way == "sent" else [])
        volume, verdict = verdict_of(one_way, knowledge.known)
        verdicts[way] = verdict
        for name, value in volume.items():
            volumes[f"{name}_{way}"] = value
    passed = {way: verdicts[way]["accepted"] for way in verdicts}
    refused = {way: verdicts[way]["rejected"] for way in verdicts}
    on_time = [row for row in real if not row.late] or real
    has_time = [row for row in on_time if row.record.get("start") is not None or row.record.get("end") is not None]
    claims = flag_claims(group, key, knowledge)
    state = state_of(group, answer, first, second, passed, refused, claims, knowledge)
    owners = {end: [row for row in real if row.role in (SENDER, RECEIVER) and row.local == end] for end in (first, second)}
    result: dict[str, Any] = {
        "initiator_addr": first.address,
        "initiator_port": first.port,
        "responder_addr": second.address,
        "responder_port": second.port,
        "protocol": protocol,
        "episode": number,
    }
    for side, end in (("initiator", first), ("responder", second)):
        owner = min(owners[end], key=lambda row: row.observer, default=None)
        told = (
            owner.place | {"interface_id": owner.record.get("interface_id")} if owner else knowledge.owners.get((network, end.address), {})
        )
        for name in (*OWNER, "interface_id"):
            result[f"{side}_{name}"] = told.get(name)
    result |= {
        "initiator_kind": _kind(owners[first], knowledge.owners.get((network, first.address)), answer, knowledge),
        **volumes,
        "late_rejects": sum(row.late for row in real),
        "first_start": min((row.start for row in has_time), default=None),
        "last_end": max((row.end for row in has_time), default=None),
        "records": len(real),
        "observation_points": len({row.observer for row in real}),
        "interfaces": sorted({row.record["interface_id"] for row in real if row.record.get("interface_id")}),
        "action": "MIXED" if any(passed.values()) and any(refused.values()) else "ACCEPT" if any(passed.values()) else "REJECT",
        "verdict_by": next((verdicts[way]["by"] for way in ("sent", "received") if verdicts[way]["by"]), None),
        "state": state,
        "attempts": at_one_point(row for row in group if row.source == first and row.flags is not None and row.flags & SYN_ACK == SYN),
        "handshakes": at_one_point(
            row for row in group if row.source == second and row.flags is not None and row.flags & SYN_ACK == SYN_ACK
        ),
        "closed_by": closed_by(group, first, second),
        "basis": answer.basis,
        "confidence": answer.confidence,
        "nat_id": None,
        "nat_leg": None,
        "traffic_class": "tunnel" if is_tunnel(key) else None,
        "network": network,
        "is_open": not any(row.flags is not None and row.flags & (FIN | RST) for row in group),
        "proven": "syn-ack" in answer.basis and answer.confidence == knowledge.settings["confidence"]["flags"],
    }
    if state == "unanswered" and answer.basis == "carried":
        result["state"] = knowledge.carried[key]["state"]
    for place, name in enumerate(("shortfall_packets", "shortfall_bytes")):
        result[name] = sum(shortfall.get((key, number, way), (0, 0))[place] for way in (True, False))
    return result


def _kind(owners: Sequence[Row], known_owner: Mapping[str, Any] | None, answer: Answer, knowledge: Knowledge) -> str:
    """proxy: the initiator's interface is a load balancer, endpoint or NAT, or has rows in transit and no instance; host: an instance is
    known there, or the inventory lists the interface as something else; unknown: no interface of ours, nothing known of it, or nobody known
    to have initiated."""
    if answer.initiator is None or not (owners or known_owner):
        return "unknown"
    if not owners and known_owner:
        is_proxy = _is_proxy(known_owner["kind"]) or known_owner["interface_id"] in knowledge.forwarders
        is_host = known_owner["instance_id"] or known_owner["listed"]
        return "proxy" if is_proxy else "host" if is_host else "unknown"
    if any(_is_proxy(row.kind) or row.observer in knowledge.forwarders for row in owners):
        return "proxy"
    hosts = any(row.place["instance_id"] or row.observer in knowledge.known.interfaces for row in owners)
    return "host" if hosts else "unknown"


def carry(table: Sequence[Mapping[str, Any]], midnight_after: int, config: Mapping[str, Any]) -> dict[str, Table]:
    """The evidence handed to the next day, given the day's connections and the midnight that ends the day.

    `connections`: the last episode of each TCP five-tuple, if its initiator is known by flags or was carried itself, no FIN or RST was
    seen, and it was last seen within `carry_seconds` of midnight. `servers`: ends proven to answer by a SYN-ACK of this very day.
    """
    last: dict[Any, Mapping[str, Any]] = {}
    for row in table:
        ends = frozenset({(row["initiator_addr"], row["initiator_port"]), (row["responder_addr"], row["responder_port"])})
        name = (row["network"], ends, row["protocol"])
        if name not in last or last[name]["episode"] < row["episode"]:
            last[name] = row
    kept = (
        "network",
        "initiator_addr",
        "initiator_port",
        "responder_addr",
        "responder_port",
        "protocol",
        "confidence",
        "state",
        "last_end",
    )
    open_rows = [
        {name: row[name] for name in kept}
        for row in last.values()
        if row["protocol"] == TCP
        and row["basis"] in ("syn", "syn-ack", "syn+syn-ack", "carried")
        and row["is_open"]
        and (row["last_end"] or 0) >= midnight_after - config["carry_seconds"]
    ]
    proven = sorted({(row["network"], row["responder_addr"], row["responder_port"]) for row in table if row["proven"]})
    servers = [{"network": network, "addr": address, "port": port} for network, address, port in proven]
    return {"connections": open_rows, "servers": servers}
