"""Stage 3a: who initiated an episode, by the strongest evidence there is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .rows import TRANSIT, End, Row
from .world import ACK, ESP, GRE, ICMP, ICMPV6, PSH, RST, SYN, TCP, UDP, Known

SYN_ACK = SYN | ACK
TUNNEL_PORTS = (4789, 6081)


class Answer(NamedTuple):
    """The initiating end, or None; basis and confidence; whether nobody asked for what was seen."""

    initiator: End | None
    basis: str = "none"
    confidence: float = 0.0
    unsolicited: bool = False


@dataclass
class Knowledge:
    """What is known beyond the episode: carried evidence, ends proven to answer, ends that many talk to."""

    carried: Mapping[Any, Mapping[str, Any]]  # by key
    servers: Collection[tuple[str, End]]
    fan_in: Collection[tuple[str, End, Any]]
    noisy_logs: Collection[str]  # flow logs that show every flag
    wide: Collection[tuple[Any, End]]  # by key: ends at NAT gateways and load balancers that logged it, whose own ports start at 1024
    forwarders: Collection[str]  # observers that pass on what others say, as far as is known, or by what they carried
    settings: Mapping[str, Any]
    known: Known
    owners: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)  # by network and address: place, interface_id, kind


def noisy(rows: Sequence[Row]) -> set[str]:
    """Flow logs that show PSH, URG, or ACK without SYN on any row of the day: there a SYN and an ACK may be two packets."""
    flagged = ((row.log, row.flags) for row in rows if row.flags is not None)
    return {log for log, flags in flagged if flags & (PSH | 32) or flags & SYN_ACK == ACK}


def is_tunnel(key: Any) -> bool:
    """VXLAN, Geneve, ESP, GRE: the outer ends initiate nothing."""
    _, low, high, protocol = key
    return protocol in (ESP, GRE) or (protocol == UDP and (low.port in TUNNEL_PORTS or high.port in TUNNEL_PORTS))


def other_way_observable(rows: Sequence[Row], known: Known) -> bool:
    """Whether an interface of ours would have logged the missing direction: one that owns an end (or may: unknown side) and that has a flow
    log which is not said to show rejected traffic only. A middlebox need not see both ways."""
    return any(row.role != TRANSIT and known.traffic.get(row.log) != "REJECT" for row in rows)


def flag_claims(rows: Sequence[Row], key: Any, knowledge: Knowledge) -> dict[End, dict[str, list[Row]]]:
    """For each end the rows that say it initiated: its own SYN without ACK, and the other end's SYN-ACK.

    A SYN-ACK counts if the other direction has a row that is not a mere reset (RST without SYN), or if it cannot be observed; and never
    in a flow log that shows every flag.
    """
    _, low, high, protocol = key
    claims: dict[End, dict[str, list[Row]]] = {low: {"syn": [], "syn-ack": []}, high: {"syn": [], "syn-ack": []}}
    if protocol not in (TCP, None):
        return claims
    for row in rows:
        if row.flags is None:
            continue
        if row.flags & SYN_ACK == SYN:
            claims[row.source]["syn"].append(row)
        if row.flags & SYN_ACK == SYN_ACK and row.log not in knowledge.noisy_logs:
            back = [other.flags for other in rows if other.source == row.target and other.forward != row.forward]
            flagged = [flags for flags in back if flags is not None]
            answered = any(not flags & RST or flags & SYN for flags in flagged) if flagged else bool(back)
            if answered or (not back and not other_way_observable(rows, knowledge.known)):
                claims[row.target]["syn-ack"].append(row)
    return claims


def initiator(key: Any, number: int, rows: Sequence[Row], knowledge: Knowledge) -> Answer:
    """The rules in order of strength; `rows` are all evidence of the episode, overlapping flow logs' rows included.

    0. Tunnels: none.
    a. Flags (TCP). Claims for one end only: it initiated; basis by which kinds of row there are (`syn`, `syn-ack`, `syn+syn-ack`),
       confidence `flags`. Only SYN-ACKs, from both ends: none. Claims for both: the one whose first row starts earlier at a common point
       (observer and flow log; the smallest such point at which the starts differ) with confidence `contradicted`; no such point: none.
    b. Carried: the key is in yesterday's evidence, this is its first episode, and it starts within `carry_seconds` of midnight.
    c. Only one end ever sent, and the other direction is observable.
       TCP with flags on any row: none, unsolicited (with a SYN it would have ended at a). TCP without flags: unsolicited too if the ports
       (rule e) call the sender the server, else its sender. Every other protocol: its sender. Basis `sole-sender`.
       ICMP sent by both: the end whose first row, at one point, starts at least `shortest_window` seconds before the other's; if points
       differ: none. Basis `sole-sender`, confidence `icmp`. Nothing else is tried for ICMP.
    d. Exactly one end is a known server: (network, address, port) of the responder of an episode of yesterday whose SYN-ACK counted, or of
       an end that today, in whatever episode, sent an accepted SYN-ACK to an end whose SYN was seen too.
    e. Ports differ and exactly one is in the list of services for the protocol; else exactly one is below 1024 (and above 0): its end
       responds. Not for equal ports, nor without ports.
    f. Exactly one port is ephemeral (from 32768, at NAT gateways and load balancers from 1024): its end initiated.
    g. Exactly one end has `fan_in_peers` or more peers that it spoke with (accepted packets both ways, of the same protocol) over ports
       that rule e does not decide: there an end with many peers may be the client of many servers.
    h. The lower port responds. Not for equal ports, nor without ports.
    """
    _, low, high, protocol = key
    sure = knowledge.settings["confidence"]
    other = {low: high, high: low}
    if is_tunnel(key):
        return Answer(None)

    claims = flag_claims(rows, key, knowledge)
    by_end = {end: [row for kind in claims[end].values() for row in kind] for end in (low, high)}
    if by_end[low] and by_end[high] and low != high:
        return _contradicted(low, high, claims, by_end, sure)
    for end in (low, high):
        if by_end[end]:
            return Answer(end, "+".join(kind for kind in ("syn", "syn-ack") if claims[end][kind]), sure["flags"])

    if key in knowledge.carried and number == 1:
        evidence = knowledge.carried[key]
        if min(row.start for row in rows) < evidence["midnight"] + knowledge.settings["carry_seconds"]:
            return Answer(low if evidence["initiator"] == low else high, "carried", evidence["confidence"])

    senders = {row.source for row in rows}
    port_server = by_service(low, high, protocol, knowledge.settings["services"])
    if len(senders) == 1 and other_way_observable(rows, knowledge.known):
        (sender,) = senders
        flagged = any(row.flags is not None for row in rows)
        if protocol == TCP and (flagged or port_server == sender):
            return Answer(None, unsolicited=True)
        return Answer(sender, "sole-sender", sure["icmp"] if protocol in (ICMP, ICMPV6) else sure["sole-sender"])
    if protocol in (ICMP, ICMPV6):
        return _by_head_start(low, high, rows, knowledge.settings["shortest_window"], sure["icmp"])

    network = key[0]
    proven = [end for end in (low, high) if (network, end) in knowledge.servers]
    if len(proven) == 1:
        return Answer(other[proven[0]], "known-server", sure["known-server"])
    if not has_two_ports(low, high):
        return Answer(None)
    if port_server:
        return Answer(other[port_server], "well-known-port", sure["well-known-port"])
    ephemeral = [end for end in (low, high) if end.port is not None and end.port >= (1024 if (key, end) in knowledge.wide else 32768)]
    if len(ephemeral) == 1:
        return Answer(ephemeral[0], "ephemeral-port", sure["ephemeral-port"])
    visited = [end for end in (low, high) if (network, end, protocol) in knowledge.fan_in]
    if len(visited) == 1:
        return Answer(other[visited[0]], "fan-in", sure["fan-in"])
    return Answer(max((low, high), key=lambda end: end.port or 0), "port-order", sure["port-order"])


def _contradicted(low: End, high: End, claims: Any, by_end: Any, sure: Mapping[str, float]) -> Answer:
    if not claims[low]["syn"] and not claims[high]["syn"]:
        return Answer(None)
    first = {
        end: {
            point: min(row.start for row in by_end[end] if (row.observer, row.log) == point)
            for point in {(r.observer, r.log) for r in by_end[end]}
        }
        for end in (low, high)
    }
    for point in sorted(first[low].keys() & first[high].keys()):
        if first[low][point] != first[high][point]:
            end = low if first[low][point] < first[high][point] else high
            return Answer(end, "+".join(kind for kind in ("syn", "syn-ack") if claims[end][kind]), sure["contradicted"])
    return Answer(None)


def has_two_ports(low: End, high: End) -> bool:
    """Whether both ends have a port and these differ: only then can ports tell the ends apart."""
    return low.port is not None and high.port is not None and low.port != high.port


def by_service(low: End, high: End, protocol: int | None, services: Collection[tuple[int, int]]) -> End | None:
    """The end that rule e calls the server, if it decides."""
    if low.port == high.port:
        return None
    listed = [end for end in (low, high) if (protocol, end.port) in services]
    if len(listed) == 1:
        return listed[0]
    system = [end for end in (low, high) if end.port is not None and 0 < end.port < 1024]
    return system[0] if len(system) == 1 else None


def _by_head_start(low: End, high: End, rows: Sequence[Row], window: int, confidence: float) -> Answer:
    early = set()
    for point in {(row.observer, row.log) for row in rows}:
        first = {end: [row.start for row in rows if (row.observer, row.log) == point and row.source == end] for end in (low, high)}
        if first[low] and first[high]:
            lead = min(first[high]) - min(first[low])
            if abs(lead) >= window:
                early.add(low if lead > 0 else high)
    return Answer(early.pop(), "sole-sender", confidence) if len(early) == 1 else Answer(None)
