"""What traffic is made of: whole connections, the flows of packets in them, and the interfaces that see them pass.

A traffic kind is a function that draws a `Traffic` of whole connections; `ordinary.py` and `odd.py` hold the kinds. All times are
seconds from midnight (UTC) of the first day, addresses are numbers as in `topology.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowlog_udfs.sample.topology import DISTINCT_CLIENTS, INTERNET_RANGES, IPV6_CLIENTS, Column, Topology, ipv4

Table = NDArray[np.void]

FIN, SYN, RST, SYN_ACK = 1, 2, 4, 18
ICMP, TCP, UDP, GRE, ESP, ICMP6 = 1, 6, 17, 47, 50, 58
ACCEPTED, REFUSED_AT_SENDER, REFUSED_AT_RECEIVER = 0, 1, 2
"""The fate of a flow; a refused one is not seen beyond the interface that refused it."""

FORWARD, REVERSE, BOTH = 1, 2, 3
"""Which flows of a connection an interface sees."""

LINUX, WINDOWS, BALANCER = (32_768, 60_999), (49_152, 65_535), (1_024, 65_535)
"""Ranges of ephemeral ports; NAT gateways, load balancers and Lambda use the last. Source: AWS, "Network ACLs", ephemeral ports."""

STATES = ("established", "refused_by_host", "unanswered", "rejected", "unsolicited", "sessionless")
REJECT_REASONS = (None, "BPA", "EC")
"""VPC Block Public Access, whose rows have no bytes, and encryption controls at a VPC endpoint. Source: AWS, "Flow log records"."""
NO_REASON, BLOCKED, NOT_ENCRYPTED = range(3)

INITIATOR_END, IN_TRANSIT, RESPONDER_END = 0, 1, 2
"""The part of an interface in a connection."""

CONNECTION = np.dtype(
    [
        ("kind", "u1"),
        ("state", "u1"),
        ("protocol", "u1"),
        ("initiator", "i8"),
        ("initiator_port", "i4"),  # 0: still to be given one of port_low..port_high
        ("initiator_interface", "i4"),  # -1: not ours
        ("responder", "i8"),
        ("responder_port", "i4"),
        ("responder_interface", "i4"),
        ("port_low", "i4"),
        ("port_high", "i4"),
        ("outside", "i4"),  # the leg beyond the translation; -1: none
        ("translator", "i4"),  # the interface that translates; -1: none
        ("path", "u1"),  # traffic-path towards the responder; 0: as the topology says
        ("reason", "u1"),  # the place in REJECT_REASONS of why AWS itself refused it
    ]
)
FLOW = np.dtype(
    [
        ("connection", "i4"),
        ("reverse", "?"),  # from responder to initiator
        ("verdict", "u1"),
        ("late", "?"),  # refused because the connection was over
        ("first_flags", "u1"),
        ("every_flags", "u1"),
        ("last_flags", "u1"),
        ("packets", "i8"),
        ("bytes", "i8"),
        ("start", "f8"),
        ("end", "f8"),
    ]
)
SIGHTING = np.dtype(
    [
        ("connection", "i4"),
        ("interface", "i4"),
        ("hop", "u1"),  # place on the way from initiator to responder
        ("part", "u1"),
        ("sends_forward", "?"),  # forward packets leave the interface here (egress)
        ("sees", "u1"),
    ]
)


@dataclass(frozen=True)
class Traffic:
    """A block of connections with their flows and sightings; `connection` and `outside` are row numbers within the block."""

    connections: Table
    flows: Table
    sightings: Table

    @classmethod
    def join(cls, parts: Sequence[Traffic]) -> Traffic:
        """Put blocks one after the other, renumbering what refers to connections."""
        offsets = np.cumsum([0, *(len(part.connections) for part in parts)])[:-1]
        connections = np.concatenate([np.empty(0, CONNECTION), *(part.connections for part in parts)])
        flows = np.concatenate([np.empty(0, FLOW), *(part.flows for part in parts)])
        sightings = np.concatenate([np.empty(0, SIGHTING), *(part.sightings for part in parts)])
        connections["outside"] += np.where(
            connections["outside"] >= 0, np.repeat(offsets, [len(part.connections) for part in parts]).astype(np.int32), 0
        )
        flows["connection"] += np.repeat(offsets, [len(part.flows) for part in parts]).astype(np.int32)
        sightings["connection"] += np.repeat(offsets, [len(part.sightings) for part in parts]).astype(np.int32)
        return cls(connections, flows, sightings)


@dataclass(frozen=True)
class TrafficKind:
    """A kind of traffic: `share` of all connections, never fewer than `least`; `clean` kinds break no rule of any policy.

    `history` kinds are drawn for smaller days before the sample's own too.
    """

    name: str
    draw: Callable[[Draw, int], Traffic]
    share: float
    least: int = 4
    clean: bool = False
    plain: bool = False
    history: bool = True


@dataclass(frozen=True)
class Middle:
    """An interface between the two ends. `outward` ones send forward packets out; others receive them."""

    interfaces: Column | int
    outward: bool = False
    sees: int = BOTH


def connect(size: int, **columns: Any) -> Table:
    """Rows of `CONNECTION`: TCP between hosts that are not ours, unless `columns` say otherwise."""
    block = np.zeros(size, CONNECTION)
    for name in ("initiator_interface", "responder_interface", "outside", "translator"):
        block[name] = -1
    block["protocol"] = TCP
    block["port_low"], block["port_high"] = LINUX
    for name, values in columns.items():
        block[name] = values
    return block


def flow(connections: Column | int, **columns: Any) -> Table:
    """Rows of `FLOW`, one for each row number given."""
    block = np.zeros(np.size(connections), FLOW)
    block["connection"] = connections
    for name, values in columns.items():
        block[name] = values
    return block


def route(connections: Table, middles: Sequence[Middle] = ()) -> Table:
    """The sightings of connections: at the ends that are ours, and at `middles` in order from the initiator."""
    size = len(connections)
    ends = (
        (connections["initiator_interface"], INITIATOR_END, True, BOTH),
        *((middle.interfaces, IN_TRANSIT, middle.outward, middle.sees) for middle in middles),
        (connections["responder_interface"], RESPONDER_END, False, BOTH),
    )
    block = np.zeros((len(ends), size), SIGHTING)
    for hop, (interfaces, part, sends_forward, sees) in enumerate(ends):
        row = block[hop]
        row["connection"], row["interface"], row["hop"] = np.arange(size), interfaces, hop
        row["part"], row["sends_forward"], row["sees"] = part, sends_forward, sees
    seen = block.T.ravel()
    ours: Table = seen[seen["interface"] >= 0]
    return ours


@dataclass(frozen=True)
class Draw:
    """All that a traffic kind draws from: its own random numbers, the places, and the stretch of time to fill."""

    rng: np.random.Generator
    topology: Topology
    begin: float
    end: float
    days: int
    population: int
    clean: bool

    def pick(self, role: str, size: int) -> Column:
        """Interfaces of a role."""
        chosen: Column = self.rng.choice(self.topology.roles[role], size)
        return chosen

    def own(self, interfaces: Column, end: str) -> dict[str, Column]:
        """The columns of an end (`initiator` or `responder`) at its interface's primary address."""
        return {end: self.topology.address[interfaces], f"{end}_interface": interfaces}

    def starts(self, size: int) -> Column:
        """Starts spread over the whole stretch of time, busier by day than by night."""
        steady, busy = self.rng.uniform(0, 1, size), self.rng.triangular(0, 0.58, 1, size)
        day = np.where(self.rng.random(size) < 0.5, steady, busy)
        whole = np.floor(self.rng.random(size) * self.days)
        return self.begin + (self.end - self.begin) * (whole + day) / self.days

    def each_day(self, size: int, first: float = 1.0, last: float = 22.5) -> Column:
        """Starts of `size` connections on every day, between the hours `first` and `last`: far enough from midnight to be of one day."""
        return self.rng.uniform(first * 3_600, last * 3_600, (self.days, size)).ravel() + np.repeat(np.arange(self.days) * 86_400.0, size)

    def one_of(self, values: Sequence[int], weights: Sequence[float], size: int) -> Column:
        """Values with the given weights."""
        chosen: Column = self.rng.choice(np.array(values), size, p=np.array(weights) / sum(weights))
        return chosen

    def clients(self, size: int) -> Column:
        """Addresses of the internet, some of them many times."""
        pool = self._internet(max(500, self.population // 50), 1)
        return np.take(pool, (len(pool) * self.rng.random(size) ** 1.5).astype(int))

    def remotes(self, size: int) -> Column:
        """Servers of the internet, a few of them popular and a part of them in AWS."""
        pool = self._internet(max(500, self.population // 100), 2)
        in_aws = self._within(("3.208.0.0/12", "13.32.0.0/15", "54.239.0.0/17"), len(pool), 3)
        pool = np.where(np.arange(len(pool)) % 5 == 0, in_aws, pool)
        return np.take(pool, (len(pool) * self.rng.random(size) ** 2).astype(int))

    def buckets(self, size: int) -> Column:
        """Addresses of S3."""
        return ipv4("52.216.0.0") + self.rng.integers(16, 4_000, size)

    def distinct(self, size: int) -> Column:
        """Addresses of the internet that are each drawn once by a kind of traffic."""
        first = int(DISTINCT_CLIENTS[0])
        room = DISTINCT_CLIENTS.num_addresses // 16
        return first + int(self.rng.integers(16)) * room + self.rng.permutation(size) % room

    def clients6(self, size: int) -> Column:
        """IPv6 addresses of the internet."""
        return ~self.rng.integers(0, IPV6_CLIENTS, size)

    def pairs(self, role: str, other: str, size: int) -> tuple[Column, Column]:
        """At most `size` pairs of different interfaces of two roles, no unordered pair twice."""
        one, two = np.meshgrid(self.topology.roles[role], self.topology.roles[other], indexing="ij")
        every = np.stack([one.ravel(), two.ravel()], axis=1)
        every = every[every[:, 0] < every[:, 1]] if role == other else every
        chosen = self.rng.permutation(len(every))[:size]
        return every[chosen, 0], every[chosen, 1]

    def seconds(self, size: int, median: float = 2.0, spread: float = 1.3, most: float = 3_000) -> Column:
        """Durations, log-normal."""
        return np.clip(self.rng.lognormal(np.log(median), spread, size), 0.3, most)

    def packets(self, size: int, median: float, spread: float = 1.0) -> Column:
        """Numbers of packets, log-normal, at least 4: opening, one exchange and close."""
        return np.maximum(self.rng.lognormal(np.log(median), spread, size).astype(np.int64), 4)

    def conversation(
        self,
        start: Column,
        seconds: Column,
        *,
        sent: float = 10,
        received: float = 12,
        payload: tuple[int, int] = (150, 600),
        flags: bool = True,
        closing: int = FIN,
        idle: float = 50,
    ) -> Table:
        """Two flows for each start: opened and closed with flags if TCP, and never silent for longer than `idle` seconds."""
        size = len(start)
        delay = self.rng.uniform(0.001, 0.12, size)
        both = []
        for reverse, median, load in ((False, sent, payload[0]), (True, received, payload[1])):
            packets = np.maximum(self.packets(size, median), np.ceil(seconds / idle).astype(np.int64) + 1)
            mean_load = np.clip(self.rng.lognormal(np.log(load), 0.6, size), 1, 1_440)
            both.append(
                flow(
                    np.arange(size),
                    reverse=reverse,
                    packets=packets,
                    bytes=packets * 40 + (packets * mean_load).astype(np.int64),
                    start=start + delay * reverse,
                    # One side in eight says goodbye long before the other.
                    end=start + seconds - seconds * 0.4 * (self.rng.random(size) < 0.125) * reverse,
                    first_flags=(SYN_ACK if reverse else SYN) * flags,
                    last_flags=closing * flags,
                )
            )
        return np.concatenate(both)

    def _internet(self, size: int, stream: int) -> Column:
        return self._within(INTERNET_RANGES, size, stream)

    def _within(self, ranges: Sequence[str], size: int, stream: int) -> Column:
        # The pools are the same for every kind of traffic: known clients and popular servers return.
        rng = np.random.default_rng([self.population, stream])
        low = np.array([ipv4(cidr.split("/")[0]) for cidr in ranges])
        bits = np.array([32 - int(cidr.split("/")[1]) for cidr in ranges])
        which = rng.integers(0, len(ranges), size)
        return low[which] + (rng.random(size) * 2.0 ** bits[which]).astype(np.int64)
