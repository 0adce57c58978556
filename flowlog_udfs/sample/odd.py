"""The kinds of traffic that are easily misread: refused, unanswered, unsolicited, used again, or alike to the last byte."""

from __future__ import annotations

import numpy as np

from flowlog_udfs.sample.ordinary import DAY, SESSIONLESS
from flowlog_udfs.sample.topology import Column, ipv4
from flowlog_udfs.sample.traffic import (
    ACCEPTED,
    FIN,
    ICMP,
    LINUX,
    REFUSED_AT_RECEIVER,
    REFUSED_AT_SENDER,
    RST,
    STATES,
    SYN,
    SYN_ACK,
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

REFUSED, UNANSWERED, REJECTED, UNSOLICITED = (STATES.index(state) for state in ("refused_by_host", "unanswered", "rejected", "unsolicited"))
BYTES_OF_SYN = 60
AGAIN_AFTER = 1_500.0
"""Seconds between two uses of a five-tuple: more than two aggregation intervals, so that every interface can tell them apart."""


def opening(draw: Draw, start: Column, verdict: int = ACCEPTED) -> Table:
    """Nothing but SYN packets, repeated as TCP repeats them: after 1, 3, 7 and up to 63 seconds."""
    attempts = draw.rng.integers(1, 7, len(start))
    end = start + np.where(attempts > 1, 2.0**attempts - 1, 0)
    return flow(
        np.arange(len(start)), verdict=verdict, every_flags=SYN, packets=attempts, bytes=attempts * BYTES_OF_SYN, start=start, end=end
    )


def scans(draw: Draw, size: int) -> Traffic:
    """Scanners of the internet at our public addresses, refused by security groups there."""
    topology = draw.topology
    public = np.concatenate(
        [topology.roles[role] for role in ("web", "bastion", "nat", "default-1", "default-2") if role in topology.roles]
    )
    connections = connect(
        size,
        state=REJECTED,
        initiator=ipv4("185.10.0.0") + draw.rng.integers(0, max(16, size // 200), size),
        responder_port=draw.one_of((22, 23, 3389, 445, 6379, 8080, 5900), (5, 5, 4, 3, 2, 2, 1), size),
        **draw.own(draw.rng.choice(public, size), "responder"),
    )
    return Traffic(connections, opening(draw, draw.starts(size), REFUSED_AT_RECEIVER), route(connections))


def refused_inside(draw: Draw, size: int) -> Traffic:
    """Between own hosts, refused at the receiver (the sender's row says ACCEPT) or already at the sender."""
    connections = connect(
        size,
        state=REJECTED,
        responder_port=draw.one_of((22, 3389, 5601), (3, 1, 2), size),
        **draw.own(draw.pick("app", size), "initiator"),
        **draw.own(draw.pick("db", size), "responder"),
    )
    verdict = np.where(np.arange(size) % 3 == 0, REFUSED_AT_SENDER, REFUSED_AT_RECEIVER)
    return Traffic(connections, opening(draw, draw.starts(size), verdict), route(connections))  # type: ignore[arg-type]


def lab_refusals(draw: Draw, size: int) -> Traffic:
    """Refused in the lab, whose accepted and rejected rows come from two flow logs."""
    one, other = draw.pick("lab", size), draw.pick("lab", size)
    one, other = one[one != other], other[one != other]
    connections = connect(len(one), state=REJECTED, responder_port=22, **draw.own(one, "initiator"), **draw.own(other, "responder"))
    return Traffic(connections, opening(draw, draw.starts(len(one)), REFUSED_AT_RECEIVER), route(connections))


def unanswered(draw: Draw, size: int) -> Traffic:
    """Let through and never answered: at instances, and at a NAT gateway's own interface, which maps nothing for it."""
    topology = draw.topology
    hosts = np.concatenate([topology.roles["nat"], draw.pick("web", max(size - 2, 1))])[:size]
    connections = connect(
        len(hosts), state=UNANSWERED, initiator=draw.clients(len(hosts)), responder_port=8_200, **draw.own(hosts, "responder")
    )
    return Traffic(connections, opening(draw, draw.starts(len(hosts))), route(connections))


def refused_by_host(draw: Draw, size: int) -> Traffic:
    """Let through, and answered with RST because nothing listens."""
    connections = connect(
        size,
        state=REFUSED,
        responder_port=8_081,
        **draw.own(draw.pick("app", size), "initiator"),
        **draw.own(draw.pick("db", size), "responder"),
    )
    start, rows = draw.starts(size), np.arange(size)
    asked = flow(rows, every_flags=SYN, packets=1, bytes=BYTES_OF_SYN, start=start, end=start)
    reset = flow(rows, reverse=True, every_flags=RST, packets=1, bytes=40, start=start + 0.01, end=start + 0.01)
    return Traffic(connections, np.concatenate([asked, reset]), route(connections))


def unsolicited(draw: Draw, size: int) -> Traffic:
    """Answers to forged questions: SYN-ACKs from the internet that nobody here asked for. Their sender is no initiator."""
    connections = connect(
        size,
        state=UNSOLICITED,
        initiator=draw.distinct(size),
        initiator_port=draw.one_of((80, 443), (1, 1), size),
        responder_port=draw.rng.integers(LINUX[0], LINUX[1], size),
        **draw.own(draw.pick("web", size), "responder"),
    )
    start = draw.starts(size)
    answer = flow(np.arange(size), verdict=REFUSED_AT_RECEIVER, every_flags=SYN_ACK, packets=1, bytes=44, start=start, end=start)
    return Traffic(connections, answer, route(connections))


def stray_datagrams(draw: Draw, size: int) -> Traffic:
    """UDP from the internet, port 53 among it, that is refused: only its sender ever sent."""
    connections = connect(
        size,
        protocol=UDP,
        state=REJECTED,
        initiator=draw.distinct(size),
        initiator_port=np.where(np.arange(size) % 2 == 0, 53, 40_000),
        responder_port=np.where(np.arange(size) % 2 == 0, 40_000, 1_900),
        **draw.own(draw.pick("web", size), "responder"),
    )
    start = draw.starts(size)
    once = flow(np.arange(size), verdict=REFUSED_AT_RECEIVER, packets=1, bytes=120, start=start, end=start)
    return Traffic(connections, once, route(connections))


def half_pings(draw: Draw, size: int) -> Traffic:
    """Pings whose replies a network ACL drops, wholly or in part, in the interval of the request."""
    connections = connect(
        size, protocol=ICMP, state=SESSIONLESS, initiator=draw.distinct(size), **draw.own(draw.pick("web", size), "responder")
    )
    start, rows = draw.starts(size), np.arange(size)
    partly = rows[::2]
    echo = flow(rows, packets=2, bytes=168, start=start, end=start + 1)
    dropped = flow(
        rows, reverse=True, verdict=REFUSED_AT_SENDER, packets=1 + rows % 2, bytes=84 * (1 + rows % 2), start=start + 0.01, end=start + 1
    )
    passed = flow(partly, reverse=True, packets=1, bytes=84, start=start[partly], end=start[partly])
    return Traffic(connections, np.concatenate([echo, dropped, passed]), route(connections))


def late_rejects(draw: Draw, size: int) -> Traffic:
    """Ordinary connections with one last packet after the close, which is refused and changes nothing."""
    connections = connect(size, initiator=draw.clients(size), responder_port=443, **draw.own(draw.pick("web", size), "responder"))
    start, seconds = draw.starts(size), draw.seconds(size)
    flows = draw.conversation(start, seconds, closing=RST)
    after = start + seconds + draw.rng.uniform(1, 90, size)
    last = flow(np.arange(size), verdict=REFUSED_AT_RECEIVER, late=True, every_flags=RST, packets=1, bytes=40, start=after, end=after)
    return Traffic(connections, np.concatenate([flows, last]), route(connections))


def used_again(draw: Draw, size: int) -> Traffic:
    """The same five-tuple twice, long enough apart that both connections can be told."""
    half = size // 2 + 1
    hosts, stores = draw.topology.roles["app"], draw.topology.roles["db"]
    rows = np.arange(half)
    connections = connect(
        half,
        initiator_port=LINUX[0] + rows // len(hosts) % 28_000,
        responder_port=9_042,
        **draw.own(hosts[rows % len(hosts)], "initiator"),
        **draw.own(np.repeat(stores[:1], half), "responder"),
    )
    # Begins early enough that both uses lie within one day.
    first = DAY * draw.rng.integers(0, draw.days, half) + draw.rng.uniform(700, DAY - 3 * AGAIN_AFTER, half)
    seconds = draw.seconds(half, most=300)
    parts = []
    for start in (first, first + seconds + AGAIN_AFTER):
        parts.append(Traffic(connections.copy(), draw.conversation(start, seconds), route(connections)))
    return Traffic.join(parts)


def nat_port_again(draw: Draw, size: int) -> Traffic:
    """One port of a NAT gateway to one remote, used by one instance and later by another."""
    half = size // 2 + 1
    rows = np.arange(half)
    first = DAY * draw.rng.integers(0, draw.days, half) + draw.rng.uniform(700, DAY - 3 * AGAIN_AFTER, half)
    seconds = draw.seconds(half, most=300)
    gateways = np.repeat(draw.topology.roles["nat"][:1], half)
    parts = []
    for start in (first, first + seconds + AGAIN_AFTER):
        connections = connect(half, responder=ipv4("203.0.113.80"), responder_port=443, **draw.own(draw.pick("app", half), "initiator"))
        pair = translate(draw, connections, draw.conversation(start, seconds), gateways)
        pair.connections["initiator_port"][half:] = 2_000 + rows % 60_000
        parts.append(pair)
    return Traffic.join(parts)


def look_alikes(draw: Draw, size: int) -> Traffic:
    """Up to five clients behind one NAT gateway doing the same at the same time; in every third group one is a byte larger."""
    groups = size // 3 + 1
    alike = draw.rng.integers(2, 6, groups)
    group, place = np.repeat(np.arange(groups), alike), np.concatenate([np.arange(count) for count in alike])
    hosts = draw.topology.roles["app"]
    clients = hosts[(draw.rng.integers(0, len(hosts), groups)[group] + place) % len(hosts)]
    connections = connect(len(group), responder=ipv4("203.0.113.5"), responder_port=443, **draw.own(clients, "initiator"))
    start = draw.starts(groups)[group] + draw.rng.uniform(0, 4, len(group))
    rows = np.arange(len(group))
    odd_one = (group % 3 == 0) & (place == 0)
    sent = flow(rows, packets=12, bytes=1_800 + odd_one, start=start, end=start + 20, first_flags=SYN, last_flags=FIN)
    back = flow(rows, reverse=True, packets=10, bytes=4_000, start=start + 0.05, end=start + 20, first_flags=SYN_ACK, last_flags=FIN)
    return translate(draw, connections, np.concatenate([sent, back]), np.repeat(draw.topology.roles["nat"][:1], len(group)))


def huge(draw: Draw, size: int) -> Traffic:
    """Backups to S3 of more than 2^31 bytes in a single record."""
    connections = connect(
        size, responder=draw.buckets(size), responder_port=443, path=7, **draw.own(draw.pick("regional", size), "initiator")
    )
    start = np.minimum(draw.starts(size), draw.end - 1_000)
    flows = draw.conversation(start, np.full(size, 300.0))
    sent = ~flows["reverse"]
    flows["packets"][sent] = draw.rng.integers(20_000_000, 40_000_000, size)
    flows["bytes"][sent] = flows["packets"][sent] * 1_300
    return Traffic(connections, flows, route(connections))


def half_day(draw: Draw, size: int) -> Traffic:
    """From a host that is logged from noon on, to hosts logged all day; none of it is open at noon. And a host whose clock is late."""
    noon = DAY / 2
    start = np.concatenate([draw.rng.uniform(600, noon - 4_000, size // 2), draw.rng.uniform(noon + 700, DAY - 4_000, size - size // 2)])
    client = draw.topology.roles["ops-half-day"].repeat(size)
    early = connect(size, responder_port=443, **draw.own(client, "initiator"), **draw.own(draw.pick("app", size), "responder"))
    late = connect(
        size, responder_port=5432, **draw.own(draw.pick("late-clock", size), "initiator"), **draw.own(draw.pick("db", size), "responder")
    )
    return Traffic.join(
        [
            Traffic(early, draw.conversation(start, draw.seconds(size)), route(early)),
            Traffic(late, draw.conversation(draw.starts(size), draw.seconds(size)), route(late)),
        ]
    )


ODD = (
    TrafficKind("scans", scans, 0.025, plain=True),
    TrafficKind("refused-inside", refused_inside, 0.004),
    TrafficKind("lab-refusals", lab_refusals, 0.001),
    TrafficKind("unanswered", unanswered, 0.002),
    TrafficKind("refused-by-host", refused_by_host, 0.002),
    TrafficKind("unsolicited", unsolicited, 0.002),
    TrafficKind("stray-datagrams", stray_datagrams, 0.002),
    TrafficKind("half-pings", half_pings, 0.001),
    TrafficKind("late-rejects", late_rejects, 0.004),
    TrafficKind("used-again", used_again, 0.004),
    TrafficKind("nat-port-again", nat_port_again, 0.001),
    TrafficKind("look-alikes", look_alikes, 0.003),
    TrafficKind("huge", huge, 0.00001, least=2),
    TrafficKind("half-day", half_day, 0.001),
)
"""The odd kinds and their shares of all connections."""
