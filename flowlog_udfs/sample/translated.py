"""The kinds of traffic whose addresses change on the way: behind NAT gateways, load balancers and the interfaces of nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowlog_udfs.sample.topology import Column
from flowlog_udfs.sample.traffic import BALANCER, LINUX, Draw, Middle, Table, Traffic, TrafficKind, connect, route


def translate(draw: Draw, inside: Table, flows: Table, gateways: Column, before: Sequence[Middle] = ()) -> Traffic:
    """Both legs of connections through NAT gateways: packets and bytes are the same, address and port outside are the gateway's.

    `before` are the interfaces passed on the way to the gateway.
    """
    size = len(inside)
    outside = inside.copy()
    for name, values in draw.own(gateways, "initiator").items():
        outside[name] = values
    outside["initiator_port"] = 0
    outside["port_low"], outside["port_high"] = BALANCER
    inside["translator"] = outside["translator"] = gateways
    inner = Traffic(inside, flows, route(inside, [*before, Middle(gateways)]))
    outer = Traffic(outside, flows.copy(), route(outside))
    joined = Traffic.join([inner, outer])
    joined.connections["outside"][:size] = size + np.arange(size)
    return joined


def application_balancer(draw: Draw, size: int) -> Traffic:
    """Clients at a load balancer that ends connections, and its own connections to targets, which it keeps and shares."""
    front = connect(size, initiator=draw.clients(size), responder_port=443, **draw.own(draw.pick("alb", size), "responder"))
    fronts = Traffic(front, draw.conversation(draw.starts(size), draw.seconds(size)), route(front))
    fewer = size // 3 + 1
    back = connect(
        fewer,
        responder_port=8443,
        **draw.own(draw.pick("alb", fewer), "initiator"),
        **draw.own(draw.pick("app", fewer), "responder"),
    )
    back["port_low"], back["port_high"] = BALANCER
    kept = draw.conversation(draw.starts(fewer), draw.seconds(fewer, 60), sent=60, received=80)
    return Traffic.join([fronts, Traffic(back, kept, route(back))])


def network_balancer(draw: Draw, size: int) -> Traffic:
    """Clients at a network load balancer; half of its targets see the client's own address and port."""
    kept, replaced = size - size // 2, size // 2
    balancer, target = draw.pick("nlb", kept), draw.pick("app", kept)
    client, port = draw.distinct(kept), LINUX[0] + np.arange(kept) * 7 % 28_000
    front = connect(kept, initiator=client, initiator_port=port, responder_port=443, **draw.own(balancer, "responder"))
    back = connect(kept, initiator=client, initiator_port=port, responder_port=8443, translator=balancer, **draw.own(target, "responder"))
    front["translator"] = balancer
    flows = draw.conversation(draw.starts(kept), draw.seconds(kept))
    preserved = Traffic.join([Traffic(back, flows, route(back)), Traffic(front, flows.copy(), route(front))])
    preserved.connections["outside"][:kept] = kept + np.arange(kept)
    balancer = draw.pick("nlb", replaced)
    front = connect(replaced, initiator=draw.clients(replaced), responder_port=8883, **draw.own(balancer, "responder"))
    back = connect(replaced, responder_port=8883, **draw.own(balancer, "initiator"), **draw.own(draw.pick("app", replaced), "responder"))
    back["port_low"], back["port_high"] = BALANCER
    flows = draw.conversation(draw.starts(replaced), draw.seconds(replaced))
    return Traffic.join([preserved, Traffic(front, flows, route(front)), Traffic(back, flows.copy(), route(back))])


def nat(draw: Draw, size: int) -> Traffic:
    """Private instances at servers of the internet through a zonal NAT gateway: two legs, four streams at the gateway."""
    connections = connect(
        size,
        responder=draw.remotes(size),
        responder_port=443 if draw.clean else draw.one_of((443, 80, 8443), (90, 7, 3), size),
        **draw.own(draw.pick("app", size), "initiator"),
    )
    flows = draw.conversation(draw.starts(size), draw.seconds(size), received=20, payload=(150, 1_000))
    return translate(draw, connections, flows, draw.pick("nat", size))


def regional_nat(draw: Draw, size: int) -> Traffic:
    """The same through a regional NAT gateway, which has no interface, no subnet and no private address."""
    connections = connect(size, responder=draw.remotes(size), responder_port=443, **draw.own(draw.pick("regional", size), "initiator"))
    return translate(draw, connections, draw.conversation(draw.starts(size), draw.seconds(size)), draw.pick("regional-nat", size))


def central_egress(draw: Draw, size: int) -> Traffic:
    """To the internet across a transit gateway and the hub's NAT gateway: two hops, of which only the second translates."""
    topology = draw.topology
    hops = [Middle(int(topology.roles["tgw-shared"][0])), Middle(int(topology.roles["tgw-hub-request"][0]), outward=True)]
    connections = connect(size, responder=draw.remotes(size), responder_port=443, **draw.own(draw.pick("shared", size), "initiator"))
    flows = draw.conversation(draw.starts(size), draw.seconds(size))
    return translate(draw, connections, flows, draw.pick("hub-nat", size), hops)


def pods(draw: Draw, size: int) -> Traffic:
    """Pods behind the interfaces of their nodes: called by the load balancer, calling databases and, through NAT, the internet."""
    third = size // 3 + 1
    chosen = draw.topology.pods[draw.rng.integers(0, len(draw.topology.pods), (3, third))]

    def pod(place: int, end: str) -> dict[str, Column]:
        return {end: chosen[place]["address"], f"{end}_interface": chosen[place]["interface"]}

    # Half of the balancer's own ports are lower than a node port, so the lower port is no sign of a server there.
    ports = draw.one_of((8443, 31_790), (3, 1), third)
    served = connect(third, responder_port=ports, **draw.own(draw.pick("alb", third), "initiator"), **pod(0, "responder"))
    served["port_low"], served["port_high"] = BALANCER
    asking = connect(third, responder_port=5432, **pod(1, "initiator"), **draw.own(draw.pick("db", third), "responder"))
    out = connect(third, responder=draw.remotes(third), responder_port=443, **pod(2, "initiator"))
    flows = [draw.conversation(draw.starts(third), draw.seconds(third)) for _ in range(3)]
    direct = [Traffic(block, its_flows, route(block)) for block, its_flows in zip((served, asking), flows, strict=False)]
    return Traffic.join([*direct, translate(draw, out, flows[2], draw.pick("nat", third))])


TRANSLATED = (
    TrafficKind("application-balancer", application_balancer, 0.06, clean=True),
    TrafficKind("network-balancer", network_balancer, 0.03, clean=True),
    TrafficKind("nat", nat, 0.13, clean=True, plain=True),
    TrafficKind("regional-nat", regional_nat, 0.05, clean=True),
    TrafficKind("central-egress", central_egress, 0.03, clean=True),
    TrafficKind("pods", pods, 0.04, clean=True),
)
"""The translated kinds and their shares of all connections."""
