"""The kinds of traffic that break a rule of the policy, or look as if: a few connections of each on every day, whatever the sample's size.

What a kind plants is said beside it, as a `Case`. Remote addresses are of a documentation range, so that no other traffic has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from flowlog_udfs.sample.odd import BYTES_OF_SYN, REFUSED, REJECTED, UNANSWERED, opening
from flowlog_udfs.sample.ordinary import DAY, SESSIONLESS
from flowlog_udfs.sample.topology import Column, ipv4
from flowlog_udfs.sample.traffic import (
    ACCEPTED,
    BLOCKED,
    NO_REASON,
    NOT_ENCRYPTED,
    REFUSED_AT_RECEIVER,
    RST,
    SYN,
    TCP,
    UDP,
    Draw,
    Table,
    Traffic,
    TrafficKind,
    connect,
    flow,
    route,
)
from flowlog_udfs.sample.translated import translate

End = str | tuple[str, int]
"""An address of the internet, or an own interface: the role and the place in it."""

SWEEPER, SCANNER, APPROVED_RESOLVER, VENDOR, NEW_PEER = "198.51.100.9", "203.0.113.77", "203.0.113.153", "203.0.113.44", "203.0.113.199"
USUAL_PEERS = ("203.0.113.101", "203.0.113.102", "203.0.113.103")
SWEPT, SCANNED_PORTS, LARGE = 60, 40, 700_000_000
"""At how many hosts besides those of the default VPCs a sweep knocks, at how many ports a scan, and the bytes of a large transfer."""


@dataclass(frozen=True)
class Case:
    """What a kind of traffic plants: a finding of a rule about the `subject`'s end, or about the `pair`, which has the responder's VPC.

    Where `expires` is given an exception covers it, up to so many days after the sample's last. With `never` the rule must not name the
    `subject`'s address, whatever it looks like. `many_peers` is whether the other end is a different one each time.
    """

    rule: str
    subject: str = "responder"
    expires: int | None = None
    never: bool = False
    many_peers: bool = False

    @property
    def names_peer(self) -> bool:
        """Whether the finding must name the other end too."""
        return not (self.never or self.many_peers)


def ends(draw: Draw, size: int, initiator: End, responder: End) -> dict[str, Column | int]:
    """The columns of both ends."""
    columns: dict[str, Column | int] = {}
    for name, end in (("initiator", initiator), ("responder", responder)):
        if isinstance(end, str):
            columns[name] = ipv4(end)
        else:
            role = draw.topology.roles[end[0]]
            columns |= draw.own(np.repeat(role[end[1] % len(role)], size), name)
    return columns


def talking(port: int, initiator: End, responder: End, protocol: int = TCP) -> Callable[[Draw, int], Traffic]:
    """Conversations of two ends, some on every day."""

    def draw_them(draw: Draw, size: int) -> Traffic:
        """Established connections, or for UDP questions with answers."""
        rows = size * draw.days
        connections = connect(rows, protocol=protocol, responder_port=port, **ends(draw, rows, initiator, responder))
        connections["state"] = SESSIONLESS if protocol == UDP else 0
        flows = draw.conversation(draw.each_day(size), draw.seconds(rows, most=600), flags=protocol == TCP)
        return Traffic(connections, flows, route(connections))

    return draw_them


def knocking(
    port: int, initiator: End, responder: End, verdict: int = ACCEPTED, reason: int = NO_REASON, ports: int = 1
) -> Callable[[Draw, int], Traffic]:
    """Openings that nobody answers, or that `verdict` refuses; at `ports` in a row from `port` on."""

    def draw_them(draw: Draw, size: int) -> Traffic:
        """Connections that do not come about."""
        rows = size * draw.days * ports
        state = UNANSWERED if verdict == ACCEPTED else REJECTED
        connections = connect(rows, state=state, reason=reason, **ends(draw, rows, initiator, responder))
        connections["responder_port"] = port + np.arange(rows) % ports
        start = np.repeat(draw.each_day(size), ports) + np.arange(rows) % ports
        return Traffic(connections, opening(draw, start, verdict), route(connections))

    return draw_them


def sweep(draw: Draw, size: int) -> Traffic:
    """One source with one port at one port of every host, every day: fan-in of refused peers makes nobody a server."""
    # Those of both default VPCs are always among them: the same addresses, and yet not the same hosts.
    both, others = (
        np.concatenate([draw.topology.roles[role] for role in roles])
        for roles in (("default-1", "default-2"), ("web", "app", "db", "node", "lab", "shared", "regional"))
    )
    hosts = np.concatenate([both, draw.rng.permutation(others)])[: max(size, len(both) + SWEPT)]
    start = np.repeat(draw.each_day(1, 2, 21), len(hosts)) + np.tile(np.arange(len(hosts)) * 0.2, draw.days)
    swept = draw.own(np.tile(hosts, draw.days), "responder")
    connections = connect(len(start), state=REJECTED, initiator=ipv4(SWEEPER), initiator_port=40_950, responder_port=60_001, **swept)
    once = flow(np.arange(len(start)), verdict=REFUSED_AT_RECEIVER, every_flags=SYN, packets=1, bytes=44, start=start, end=start)
    return Traffic(connections, once, route(connections))


def health_checks(draw: Draw, size: int) -> Traffic:
    """A load balancer's node at one port of many hosts and pods, where nothing listens: it asks many hosts by trade."""
    topology = draw.topology
    hosts = np.concatenate([topology.roles[role] for role in ("app", "web", "db", "node", "lambda", "dns")])
    checked = np.concatenate([topology.address[hosts], topology.pods["address"]])
    interfaces = np.concatenate([hosts, topology.pods["interface"]])
    checked, interfaces = np.tile(checked[:size], draw.days), np.tile(interfaces[:size], draw.days)
    node = np.repeat(topology.roles["alb"][0], len(checked))
    connections = connect(
        len(checked), state=REFUSED, responder=checked, responder_interface=interfaces, responder_port=8_090, **draw.own(node, "initiator")
    )
    start, rows = draw.each_day(len(checked) // draw.days), np.arange(len(checked))
    asked = flow(rows, every_flags=SYN, packets=1, bytes=BYTES_OF_SYN, start=start, end=start)
    reset = flow(rows, reverse=True, every_flags=RST, packets=1, bytes=40, start=start + 0.01, end=start + 0.01)
    return Traffic(connections, np.concatenate([asked, reset]), route(connections))


def blocked(draw: Draw, size: int) -> Traffic:
    """Refused by VPC Block Public Access, whose rows have no bytes: some on every day."""
    size = max(size, draw.days)
    hosts = draw.own(draw.pick("hub-web", size), "responder")
    connections = connect(size, state=REJECTED, reason=BLOCKED, initiator=draw.clients(size), responder_port=443, **hosts)
    flows = opening(draw, np.concatenate([draw.each_day(1), draw.starts(size - draw.days)]), REFUSED_AT_RECEIVER)
    flows["bytes"] = 0
    return Traffic(connections, flows, route(connections))


def _behind_nat(draw: Draw, connections: Table, flows: Table) -> Traffic:
    return translate(draw, connections, flows, np.repeat(draw.topology.roles["regional-nat"][:1], len(connections)))


def mail(draw: Draw, size: int) -> Traffic:
    """Mail straight to the internet, through a NAT gateway."""
    rows = size * draw.days
    connections = connect(rows, responder_port=25, **ends(draw, rows, ("regional", 2), "203.0.113.25"))
    return _behind_nat(draw, connections, draw.conversation(draw.each_day(size), draw.seconds(rows)))


def upload(draw: Draw, size: int) -> Traffic:
    """Far more than usual to one address of the internet, on the last day only."""
    connections = connect(size, responder_port=443, **ends(draw, size, ("regional", 6), "203.0.113.200"))
    flows = draw.conversation(DAY * (draw.days - 1) + draw.rng.uniform(8_000, 70_000, size), np.full(size, 900.0))
    sent = ~flows["reverse"]
    flows["packets"][sent], flows["bytes"][sent] = LARGE // size // 1_400, LARGE // size
    return _behind_nat(draw, connections, flows)


def usual_peers(draw: Draw, size: int) -> Traffic:
    """A sensitive segment at its payment processors, the same on every day."""
    rows = size * draw.days
    connections = connect(rows, responder_port=443, **ends(draw, rows, ("vault-gate", 0), USUAL_PEERS[0]))
    connections["responder"] = np.tile([ipv4(peer) for peer in USUAL_PEERS], rows)[:rows]
    return Traffic(connections, draw.conversation(draw.each_day(size), draw.seconds(rows, most=600)), route(connections))


def new_peer(draw: Draw, size: int) -> Traffic:
    """The same at an address that it had never met, on the last day only."""
    connections = connect(size, responder_port=443, **ends(draw, size, ("vault-gate", 0), NEW_PEER))
    start = DAY * (draw.days - 1) + draw.rng.uniform(8_000, 70_000, size)
    return Traffic(connections, draw.conversation(start, draw.seconds(size, most=600)), route(connections))


ADMIN, UNANSWERED_ADMIN, SEGMENTATION, CLEARTEXT = "admin-from-internet", "admin-from-internet-unanswered", "segmentation", "cleartext"
ACROSS, DNS, REFUSED_INSIDE = "sensitive-across-segments", "dns-to-internet", "refused-from-inside"

_PLANTED: tuple[tuple[TrafficKind, tuple[Case, ...]], ...] = (
    (TrafficKind("sweep", sweep, 0.001), ()),
    (TrafficKind("blocked", blocked, 0.001), (Case("block-public-access", "pair", many_peers=True),)),
    (TrafficKind("ssh-from-internet", talking(22, "203.0.113.22", ("hub-web", 0)), 0, 3), (Case(ADMIN),)),
    (TrafficKind("rdp-from-internet", talking(3389, "203.0.113.33", ("hub-web", 1)), 0, 2), (Case(ADMIN),)),
    (TrafficKind("vendor-ssh", talking(22, VENDOR, ("hub-web", 2)), 0, 2), (Case(ADMIN, expires=90),)),
    # The server's port is the remote's: a reply from port 22 is no way in.
    (
        TrafficKind("ssh-to-internet", talking(22, ("hub-web", 3), "203.0.113.60"), 0, 3),
        (Case(ADMIN, "initiator", never=True), Case(ADMIN, never=True)),
    ),
    (
        TrafficKind("winrm-unanswered", knocking(5985, "203.0.113.23", ("hub-web", 0)), 0, 2),
        (Case(UNANSWERED_ADMIN), Case(ADMIN, "initiator", never=True)),
    ),
    (TrafficKind("database-from-internet", talking(5432, "203.0.113.54", ("regional", 3)), 0, 2), (Case("database-from-internet"),)),
    (TrafficKind("database-across-segments", talking(5432, ("ops", 0), ("db", 0)), 0, 3), (Case(ACROSS, "pair"),)),
    (TrafficKind("vault-unlisted", talking(9443, ("app", 0), ("vault", 0)), 0, 3), (Case(SEGMENTATION, "pair"),)),
    (
        TrafficKind("vault-listed", talking(5432, ("app", 1), ("vault", 1)), 0, 4, clean=True),
        (Case(SEGMENTATION, never=True), Case(ACROSS, never=True)),
    ),
    (TrafficKind("vault-export", talking(8443, ("db", 1), ("vault", 2)), 0, 2), (Case(SEGMENTATION, "pair", expires=90),)),
    (TrafficKind("vault-metrics", talking(9100, ("lambda", 0), ("vault", 2)), 0, 2), (Case(SEGMENTATION, "pair", expires=-1),)),
    (
        TrafficKind("vault-peers", usual_peers, 0, 6, clean=True),
        (Case("first-seen-peer", never=True), Case(SEGMENTATION, never=True)),
    ),
    (
        TrafficKind("vault-new-peer", new_peer, 0, 2, history=False),
        (Case("first-seen-peer", "initiator"), Case(SEGMENTATION, never=True)),
    ),
    (TrafficKind("telnet", talking(23, ("shared", 0), ("shared", 1)), 0, 2), (Case(CLEARTEXT),)),
    (TrafficKind("ftp", talking(21, ("app", 2), ("dns", 0)), 0, 2), (Case(CLEARTEXT),)),
    (TrafficKind("ldap", talking(389, ("app", 3), ("dns", 1)), 0, 2), (Case(CLEARTEXT),)),
    (TrafficKind("ldap-encrypted", talking(389, ("regional", 4), ("regional", 5)), 0, 2), (Case(CLEARTEXT, never=True),)),
    (TrafficKind("dns-to-internet", talking(53, ("hub-web", 0), "203.0.113.53", UDP), 0, 3), (Case(DNS, "initiator"),)),
    (TrafficKind("dns-approved", talking(53, ("hub-web", 1), APPROVED_RESOLVER, UDP), 0, 3), (Case(DNS, never=True),)),
    (TrafficKind("mail-to-internet", mail, 0, 2), (Case("mail-to-internet", "initiator"),)),
    (TrafficKind("smb-to-internet", talking(445, ("hub-web", 2), "203.0.113.45"), 0, 2), (Case("smb-to-internet", "initiator"),)),
    (TrafficKind("port-scan", knocking(1_000, SCANNER, ("hub-web", 1), REFUSED_AT_RECEIVER, ports=SCANNED_PORTS), 0, 1), ()),
    (TrafficKind("health-checks", health_checks, 0, 64), (Case("host-sweep", "initiator", never=True),)),
    (TrafficKind("search-refused", knocking(9200, ("app", 4), ("dns", 0), REFUSED_AT_RECEIVER), 0, 15), ()),
    (
        TrafficKind("not-encrypted", knocking(443, ("hub-web", 1), ("hub-endpoint", 0), REFUSED_AT_RECEIVER, NOT_ENCRYPTED), 0, 3),
        (Case("endpoint-encryption", "pair"), Case(REFUSED_INSIDE, "initiator", never=True)),
    ),
    (TrafficKind("upload", upload, 0, 2, history=False), ()),
)
"""Kinds with what each plants; scans, sweeps, refusals from inside and large transfers are counted over all traffic, see `planted`."""

VIOLATIONS = tuple(kind for kind, _ in _PLANTED)
"""The kinds that break rules, and their least number a day."""

CASES: Mapping[str, tuple[Case, ...]] = {kind.name: cases for kind, cases in _PLANTED}
"""What each of these kinds plants."""
