"""The everyday kinds of traffic: clients of the internet, traffic inside and between VPCs, and what stands behind a translation."""

from __future__ import annotations

import numpy as np

from flowlog_udfs.sample.traffic import (
    BALANCER,
    BOTH,
    ESP,
    FORWARD,
    GRE,
    ICMP,
    ICMP6,
    LINUX,
    REVERSE,
    STATES,
    UDP,
    WINDOWS,
    Draw,
    Middle,
    Traffic,
    TrafficKind,
    connect,
    flow,
    route,
)

DAY = 86_400
SESSIONLESS = STATES.index("sessionless")
GATEWAY_ENDPOINT = 7
"""The traffic-path of a gateway endpoint."""


def web(draw: Draw, size: int) -> Traffic:
    """Clients of the internet at public instances."""
    server, windows = draw.pick("web", size), draw.rng.random(size) < 0.4
    ports = np.where(windows[:, None], WINDOWS, LINUX)
    connections = connect(
        size,
        initiator=draw.clients(size),
        responder_port=443 if draw.clean else draw.one_of((443, 80), (9, 1), size),
        port_low=ports[:, 0],
        port_high=ports[:, 1],
        **draw.own(server, "responder"),
    )
    return Traffic(
        connections, draw.conversation(draw.starts(size), draw.seconds(size), received=16, payload=(120, 900)), route(connections)
    )


def web6(draw: Draw, size: int) -> Traffic:
    """The same over IPv6."""
    server = draw.pick("web", size)
    connections = connect(
        size,
        initiator=draw.clients6(size),
        responder=draw.topology.address6[server],
        responder_interface=server,
        responder_port=443,
    )
    return Traffic(connections, draw.conversation(draw.starts(size), draw.seconds(size)), route(connections))


def inside(draw: Draw, size: int) -> Traffic:
    """Instances and their databases in one VPC, logged at both ends; the databases' interfaces show no instance."""
    connections = connect(
        size,
        responder_port=draw.one_of((5432, 3306, 6379, 9092), (5, 3, 3, 1), size),
        **draw.own(draw.pick("app", size), "initiator"),
        **draw.own(draw.pick("db", size), "responder"),
    )
    return Traffic(connections, draw.conversation(draw.starts(size), draw.seconds(size, 5), sent=14, received=14), route(connections))


def neighbours(draw: Draw, size: int) -> Traffic:
    """Instances of one default VPC, whose addresses are those of the other default VPC too, and of the small lab."""
    parts = []
    for role, port in (("default-1", 5432), ("default-2", 5432), ("lab", 8443)):
        share = size // 3 + 1
        one, other = draw.pick(role, share), draw.pick(role, share)
        one, other = one[one != other], other[one != other]
        connections = connect(len(one), responder_port=port, **draw.own(one, "initiator"), **draw.own(other, "responder"))
        parts.append(Traffic(connections, draw.conversation(draw.starts(len(one)), draw.seconds(len(one))), route(connections)))
    return Traffic.join(parts)


def transit(draw: Draw, size: int) -> Traffic:
    """Across a transit gateway: requests and replies enter the far VPC through different interfaces."""
    topology = draw.topology
    near = int(topology.roles["tgw-shared"][0])
    request, reply = int(topology.roles["tgw-hub-request"][0]), int(topology.roles["tgw-hub-reply"][0])
    connections = connect(
        size,
        responder_port=8443 if draw.clean else 80,
        **draw.own(draw.pick("shared", size), "initiator"),
        **draw.own(draw.pick("hub-web", size), "responder"),
    )
    hops = [Middle(near), Middle(request, outward=True, sees=FORWARD), Middle(reply, outward=True, sees=REVERSE)]
    return Traffic(connections, draw.conversation(draw.starts(size), draw.seconds(size)), route(connections, hops))


def peering(draw: Draw, size: int) -> Traffic:
    """From a peered VPC without flow logs: one end is logged, and none of it is the internet."""
    connections = connect(
        size, responder_port=443, **draw.own(draw.pick("ops", size), "initiator"), **draw.own(draw.pick("app", size), "responder")
    )
    return Traffic(connections, draw.conversation(draw.starts(size), draw.seconds(size)), route(connections))


def functions(draw: Draw, size: int) -> Traffic:
    """Lambda functions at a database: no instance at either end, and source ports from 1024 up."""
    connections = connect(
        size, responder_port=5432, **draw.own(draw.pick("lambda", size), "initiator"), **draw.own(draw.pick("db", size), "responder")
    )
    connections["port_low"], connections["port_high"] = BALANCER
    return Traffic(connections, draw.conversation(draw.starts(size), draw.seconds(size)), route(connections))


def services(draw: Draw, size: int) -> Traffic:
    """AWS's services: S3 by a gateway endpoint, another by an interface endpoint whose account is not known."""
    half = size // 2 + 1
    to_bucket = connect(half, responder=draw.buckets(half), responder_port=443, path=GATEWAY_ENDPOINT)
    to_endpoint = connect(half, responder_port=443, **draw.own(draw.pick("endpoint", half), "responder"))
    parts = []
    for connections in (to_bucket, to_endpoint):
        for name, values in draw.own(draw.pick("app", half), "initiator").items():
            connections[name] = values
        parts.append(Traffic(connections, draw.conversation(draw.starts(half), draw.seconds(half), sent=20), route(connections)))
    return Traffic.join(parts)


def names(draw: Draw, size: int) -> Traffic:
    """Questions to the company's own resolver."""
    connections = connect(
        size,
        protocol=UDP,
        state=SESSIONLESS,
        responder_port=53,
        **draw.own(draw.pick("app", size), "initiator"),
        **draw.own(draw.pick("dns", size), "responder"),
    )
    start, rows = draw.starts(size), np.arange(size)
    asked = flow(rows, packets=1, bytes=draw.rng.integers(56, 90, size), start=start, end=start)
    answered = flow(rows, reverse=True, packets=1, bytes=draw.rng.integers(90, 480, size), start=start + 0.01, end=start + 0.01)
    return Traffic(connections, np.concatenate([asked, answered]), route(connections))


def clocks(draw: Draw, size: int) -> Traffic:
    """NTP, whose two ports are equal, so that only the first sender could tell who asks."""
    asking, serving = draw.pairs("app", "dns", size)
    connections = connect(
        len(asking),
        protocol=UDP,
        state=SESSIONLESS,
        initiator_port=123,
        responder_port=123,
        **draw.own(asking, "initiator"),
        **draw.own(serving, "responder"),
    )
    flows = draw.conversation(
        draw.starts(len(asking)), draw.seconds(len(asking), 300, 0.5), sent=4, received=4, payload=(36, 36), flags=False
    )
    return Traffic(connections, flows, route(connections))


def pings(draw: Draw, size: int) -> Traffic:
    """Echo requests and replies between instances, and ICMPv6 from the internet."""
    one, other = draw.pairs("app", "app", size // 2 + 1)
    four = connect(len(one), protocol=ICMP, state=SESSIONLESS, **draw.own(one, "initiator"), **draw.own(other, "responder"))
    hosts = draw.rng.permutation(draw.topology.roles["web"])[: size // 2 + 1]
    six = connect(
        len(hosts),
        protocol=ICMP6,
        state=SESSIONLESS,
        initiator=~np.arange(len(hosts)),
        responder=draw.topology.address6[hosts],
        responder_interface=hosts,
    )
    parts = []
    for connections in (four, six):
        rows, start = np.arange(len(connections)), draw.starts(len(connections))
        packets = draw.rng.integers(2, 9, len(connections))
        echo = flow(rows, packets=packets, bytes=packets * 84, start=start, end=start + packets)
        reply = flow(rows, reverse=True, packets=packets, bytes=packets * 84, start=start + 0.02, end=start + packets + 0.02)
        parts.append(Traffic(connections, np.concatenate([echo, reply]), route(connections)))
    return Traffic.join(parts)


def tunnels(draw: Draw, size: int) -> Traffic:
    """ESP and GRE to other companies, VXLAN between nodes: there is no client, and the inner traffic is not seen."""
    third = size // 3 + 1
    router = np.repeat(draw.topology.roles["vpn"][:1], third)
    parts = []
    for protocol in (ESP, GRE):
        connections = connect(third, protocol=protocol, state=SESSIONLESS, initiator=draw.distinct(third), **draw.own(router, "responder"))
        parts.append(connections)
    one, other = draw.pairs("node", "node", third)
    ports = {"initiator_port": 49_152 + np.arange(len(one)) % 16_000, "responder_port": 4_789}
    parts.append(connect(len(one), protocol=UDP, state=SESSIONLESS, **ports, **draw.own(one, "initiator"), **draw.own(other, "responder")))
    return Traffic.join(
        [
            Traffic(
                block,
                draw.conversation(draw.starts(len(block)), draw.seconds(len(block), 1_200, 0.5), payload=(700, 700), flags=False),
                route(block),
            )
            for block in parts
        ]
    )


def long_lived(draw: Draw, size: int) -> Traffic:
    """Connections of many hours across the transit gateway: flags in their first and last interval only."""
    connections = connect(
        size,
        responder_port=5671,
        **draw.own(draw.pick("shared", size), "initiator"),
        **draw.own(draw.pick("app", size), "responder"),
    )
    hops = [Middle(int(draw.topology.roles["tgw-shared"][0])), Middle(int(draw.topology.roles["tgw-main"][0]), outward=True, sees=BOTH)]
    start, seconds = draw.starts(size), draw.seconds(size, 5_000, 0.9, 2.5 * DAY)
    return Traffic(connections, draw.conversation(start, seconds, sent=2_000, received=2_000, idle=20), route(connections, hops))


def over_midnight(draw: Draw, size: int) -> Traffic:
    """Connections that are open at a midnight, among them at the first, which opened before the sample begins."""
    connections = connect(
        size, responder_port=5432, **draw.own(draw.pick("app", size), "initiator"), **draw.own(draw.pick("db", size), "responder")
    )
    start = DAY * draw.rng.integers(0, draw.days + 1, size) - draw.rng.uniform(60, 1_500, size)
    return Traffic(connections, draw.conversation(start, draw.rng.uniform(1_600, 3_200, size)), route(connections))


ORDINARY = (
    TrafficKind("web", web, 0.20, clean=True, plain=True),
    TrafficKind("web6", web6, 0.02, clean=True),
    TrafficKind("inside", inside, 0.19, clean=True, plain=True),
    TrafficKind("neighbours", neighbours, 0.04, clean=True),
    TrafficKind("transit", transit, 0.03, clean=True),
    TrafficKind("peering", peering, 0.01, clean=True),
    TrafficKind("functions", functions, 0.02, clean=True),
    TrafficKind("services", services, 0.03, clean=True),
    TrafficKind("names", names, 0.07, clean=True, plain=True),
    TrafficKind("clocks", clocks, 0.002, clean=True),
    TrafficKind("pings", pings, 0.003, clean=True),
    TrafficKind("tunnels", tunnels, 0.001, clean=True),
    TrafficKind("long-lived", long_lived, 0.0003, clean=True),
    TrafficKind("over-midnight", over_midnight, 0.002, clean=True),
)
"""The everyday kinds and their shares of all connections."""
