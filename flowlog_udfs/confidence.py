"""How often the port rules are right, by connections whose flags tell: the flags are hidden, the rules asked, the answers compared.

In: rows of `connections` of a day, in parts of any size. Out: an `Agreement` for each basis. A first pass gathers what must be known of the
whole day (`clues`, `concluded`), a second judges (`counted`); the counts of parts add up (`agreements`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import SparkSession

from flowlog_udfs.addresses import packed
from flowlog_udfs.clues import FAN_IN_PEERS
from flowlog_udfs.columns import Flags, Groups, Ints, codes, equals, is_among, mixed, numbers, shared_codes
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.exchange import BLOB_COLUMNS, blobs, exchange
from flowlog_udfs.observed import end_hashes
from flowlog_udfs.protocols import TCP
from flowlog_udfs.scan import Scanned, row_groups, scan
from flowlog_udfs.services import EPHEMERAL_FROM, NO_SIDE, PORT_BASES, SIDE_A, SIDE_B, SYSTEM_PORTS_BELOW, PortRules
from flowlog_udfs.sorting import sort_by
from flowlog_udfs.tables import Warehouse

Hashes = npt.NDArray[np.uint64]

FLAGGED = ("syn", "syn-ack", "syn+syn-ack")
"""The bases of connections whose flags tell who initiated."""
RULES = ("sole-sender", "known-server", "well-known-port", "ephemeral-port", "fan-in", "port-order")
"""What is left without flags, in the order in which attribution asks."""
SOLE_SENDER, KNOWN_SERVER, WELL_KNOWN_PORT, EPHEMERAL_PORT, FAN_IN, PORT_ORDER = RULES
IN_TURN, WITHOUT_SERVERS, ALONE = ASKED = ("in turn", "without servers", "alone")
"""Ways to ask: as attribution does; as it must where no flow log shows flags, so that no server is proven; each rule by itself."""
HIGHEST = {basis: 59 if basis == PORT_ORDER else 90 for basis in RULES}
"""In percent: the day that is judged is not the day that was measured. The lower port stays a guess."""
FEWEST = 100
"""Fewer connections than that measure nothing: each would move the figure by more than a point."""
ROWS_PER_PARTITION = 1_000_000

_PACKETS = {way: (f"packets_{way}", f"rejected_packets_{way}") for way in ("sent", "received")}
READ = (
    *(f"{end}_{name}" for end in ("initiator", "responder") for name in ("addr", "port", "interface_id")),
    *(name for names in _PACKETS.values() for name in names),
    *("network", "protocol", "initiator_kind", "state", "basis", "confidence", "proven"),
)
"""The columns of `connections` that are needed."""

CLUES = pa.schema([("clue", pa.string()), ("end", pa.int64()), ("connections", pa.int64()), ("interface", pa.string())])
"""Of a `SERVER` how many connections prove it; of a `PROXY` its interface."""
VISITS = pa.schema([("end", pa.uint64()), ("peer", pa.uint64()), ("spoke", pa.bool_()), ("heard", pa.bool_())])
SERVER, VISITED, PROXY = "server", "visited", "proxy"
COUNTS = pa.schema([("asked", pa.string()), ("basis", pa.string()), ("connections", pa.int64()), ("right", pa.int64())])


@dataclass(frozen=True)
class Known:
    """What the whole day tells: ends that answered a SYN, in order, and in how many connections; ends that many visit; proxies."""

    servers: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))
    proofs: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    fan_in: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))
    proxies: frozenset[str] = frozenset()

    @classmethod
    def of(cls, found: pa.Table) -> Known:
        """Rows of `CLUES` of the whole day, each server and each end that many visit once."""
        end, count = (numbers(found.column(name), 0) for name in ("end", "connections"))
        order = np.argsort(end.view(np.uint64), kind="stable")
        servers, fan_in = (order[equals(found.column("clue"), clue)[order]] for clue in (SERVER, VISITED))
        return cls(
            servers=end[servers].view(np.uint64),
            proofs=count[servers],
            fan_in=end[fan_in].view(np.uint64),
            proxies=frozenset(found.column("interface").drop_null().to_pylist()),
        )

    def proofs_of(self, ends: Hashes) -> Ints:
        """How many connections prove each end a server."""
        found = is_among(ends, self.servers)
        proofs = np.zeros(len(ends), np.int64)
        proofs[found] = self.proofs[np.searchsorted(self.servers, ends[found])]
        return proofs


@dataclass(frozen=True)
class Pairs:
    """Connections as pairs of ends, of which `a` is the one with the lower hash: nothing but `a_initiated` tells who initiated.

    Pairs of columns are (of a, of b). `spoke` is who sent packets that were accepted, `sent` who sent any; `seen_by_owner` says that an
    interface of one of the ends logged it, which would have logged the other direction too.
    """

    end: tuple[Hashes, Hashes]
    port: tuple[Ints, Ints]
    spoke: tuple[Flags, Flags]
    sent: tuple[Flags, Flags]
    wide: tuple[Flags, Flags]
    proven: tuple[Flags, Flags]
    protocol: Ints
    seen_by_owner: Flags
    flagged: Flags
    a_initiated: Flags

    @classmethod
    def of(cls, connections: pa.Table, proxies: frozenset[str] = frozenset()) -> Pairs:
        """Rows of `connections`, columns `READ`; `proxies` are interfaces of NAT gateways, load balancers and the like."""
        network, networks = codes(connections.column("network"))
        hashed = np.array([*(zlib.crc32(name.encode()) for name in networks.to_pylist()), 0], np.int64)[network]
        addresses, words = shared_codes(connections.column("initiator_addr"), connections.column("responder_addr"))
        high, low = packed(words)
        port = [numbers(connections.column(f"{end}_port"), -1) for end in ("initiator", "responder")]
        end = [end_hashes(hashed, high[address], low[address], number) for address, number in zip(addresses, port, strict=True)]
        a_initiated = end[0] < end[1]
        owner = [codes(connections.column(f"{end}_interface_id")) for end in ("initiator", "responder")]
        wide = [np.array([*(name in proxies for name in names.to_pylist()), False], dtype=bool)[code] for code, names in owner]
        packets = {name: numbers(connections.column(name), 0) > 0 for names in _PACKETS.values() for name in names}
        spoke = [packets[accepted] for accepted, _ in _PACKETS.values()]
        sent = [packets[accepted] | packets[rejected] for accepted, rejected in _PACKETS.values()]
        proven = numbers(connections.column("proven"), 0) == 1
        basis, bases = codes(connections.column("basis"))
        by_flags = np.array([*(name in FLAGGED for name in bases.to_pylist()), False], dtype=bool)[basis]

        def sides(initiator: npt.NDArray[Any], responder: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
            return np.where(a_initiated, initiator, responder), np.where(a_initiated, responder, initiator)

        return cls(
            end=sides(*end),
            port=sides(*port),
            spoke=sides(*spoke),
            sent=sides(*sent),
            # A regional NAT gateway has no interface.
            wide=sides(wide[0] | equals(connections.column("initiator_kind"), "proxy"), wide[1]),
            proven=sides(np.zeros(len(proven), dtype=bool), proven),
            protocol=numbers(connections.column("protocol"), -1),
            seen_by_owner=((owner[0][0] >= 0) | (owner[1][0] >= 0)) & ~equals(connections.column("state"), "partial"),
            flagged=by_flags & (np.asarray(connections.column("confidence")) == 1) & (end[0] != end[1]),
            a_initiated=a_initiated,
        )


def clues(connections: pa.Table, ports: PortRules) -> tuple[pa.Table, pa.Table]:
    """First pass, of any part of a day: rows of `CLUES`, but `VISITED`, and of `VISITS`. Both are brought together by their `end`."""
    pairs = Pairs.of(connections)
    servers = np.concatenate([end[proven] for end, proven in zip(pairs.end, pairs.proven, strict=True)])
    servers, proofs = np.unique(servers, return_counts=True)
    interface, names = codes(connections.column("initiator_interface_id"))
    at_proxy = interface[equals(connections.column("initiator_kind"), "proxy") & (interface >= 0)]
    proxies = names.take(pa.array(np.unique(at_proxy))).cast(pa.string())
    found = [_clues(SERVER, servers, proofs), _clues(PROXY, np.zeros(len(proxies), np.uint64), interface=proxies)]

    told, by_service = _told(pairs, ports)
    chosen = told & (by_service == NO_SIDE)
    end = [mixed(end[chosen], pairs.protocol[chosen]) for end in pairs.end]
    spoke = [spoke[chosen] for spoke in pairs.spoke]
    both_ways = [np.concatenate(sides) for sides in (end, end[::-1], spoke, spoke[::-1])]
    return pa.concat_tables(found), pa.table(both_ways, schema=VISITS)


def concluded(found: pa.Table, visits: pa.Table) -> pa.Table:
    """All rows of `CLUES` and `VISITS` of some ends to the clues of the whole day."""
    sums = found.group_by(["clue", "end", "interface"]).aggregate([("connections", "sum")])
    merged = sums.rename_columns([name.removesuffix("_sum") for name in sums.column_names]).select(CLUES.names).cast(CLUES)
    end, peer = (visits.column(name).to_numpy() for name in ("end", "peer"))
    order = sort_by(end, peer)
    pairs = Groups.of(end[order], peer[order])
    spoke, heard = (pairs.any(numbers(visits.column(name), 0)[order] == 1) for name in ("spoke", "heard"))
    ends = Groups.of(end[order][pairs.starts])
    many = end[order][pairs.starts][ends.starts][ends.sum(spoke & heard) >= FAN_IN_PEERS]
    return pa.concat_tables([merged, _clues(VISITED, many)])


def counted(connections: pa.Table, known: Known, ports: PortRules) -> pa.Table:
    """Second pass, of any part of a day: rows of `COUNTS`: for each way to ask what each rule decided, and what of that was right."""
    pairs = Pairs.of(connections, known.proxies)
    opinions, unsolicited = _opinions(pairs, known, ports)
    rows = []
    for asked in ASKED:
        # A sender that its port makes a server answers what nobody saw; attribution then names no initiator.
        left = pairs.flagged & (True if asked == ALONE else ~unsolicited)
        for basis in RULES:
            if (asked, basis) == (WITHOUT_SERVERS, KNOWN_SERVER):
                continue
            decided = left & (opinions[basis] != NO_SIDE)
            right = decided & ((opinions[basis] == SIDE_B) == pairs.a_initiated)
            rows.append((asked, basis, int(decided.sum()), int(right.sum())))
            left = left if asked == ALONE else left & ~decided
    return pa.table([pa.array(column) for column in zip(*rows, strict=True)], schema=COUNTS)


@dataclass(frozen=True)
class Share:
    """Connections that a rule decided, and of how many of them it named the end that initiated."""

    connections: int = 0
    right: int = 0

    def __str__(self) -> str:
        return f"{self.right:,} of {self.connections:,}" + (f" {self.right / self.connections:7.2%}" if self.connections else "        -")


@dataclass(frozen=True)
class Agreement:
    """How often a basis was right, for each way to ask."""

    basis: str
    shares: Mapping[str, Share]

    @property
    def confidence(self) -> float | None:
        """The share of right answers, rounded down to whole percents, at most `HIGHEST`; None where nothing was measured.

        What counts is the share among the connections that are left to a rule: asked alone it also decides the easy ones, which stronger
        rules take. Known servers take nothing from the port rules, for where all flags are seen they would take nearly everything. A sole
        sender whose flags tell has sent a SYN, so that their agreement proves nothing.
        """
        share = self.shares[IN_TURN if self.basis == KNOWN_SERVER else WITHOUT_SERVERS]
        if self.basis == SOLE_SENDER or share.connections < FEWEST:
            return None
        return min(share.right * 100 // share.connections, HIGHEST[self.basis]) / 100


def agreements(counts: pa.Table) -> list[Agreement]:
    """Rows of `COUNTS` of all parts of a day as one agreement for each basis, in the order of `RULES`."""
    sums = counts.group_by(["basis", "asked"]).aggregate([("connections", "sum"), ("right", "sum")]).to_pylist()
    shares = {(row["basis"], row["asked"]): Share(row["connections_sum"], row["right_sum"]) for row in sums}
    return [Agreement(basis, {asked: shares.get((basis, asked), Share()) for asked in ASKED}) for basis in RULES]


def measure_day(spark: SparkSession, warehouse: Warehouse, day: date, ports: PortRules) -> list[Agreement]:
    """The agreement of each basis on a day of table `connections`; raises `DayLimitError` where there is none."""
    groups = row_groups(warehouse, CONNECTIONS_TABLE, day)
    if not groups:
        raise DayLimitError(f"{day}: table connections has no such day; run attribute_initiators first")
    partitions = sum(group.rows for group in groups) // ROWS_PER_PARTITION + 1

    def gather(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, connections in scanned:
            for name, rows in zip(("clues", "visits"), clues(connections, ports), strict=True):
                yield from blobs(name, rows, rows.column("end").to_numpy().view(np.uint64), partitions)

    def conclude(_: int, inputs: dict[str, pa.Table]) -> pa.Table:
        return concluded(inputs.get("clues", CLUES.empty_table()), inputs.get("visits", VISITS.empty_table()))

    gathered = scan(spark, warehouse, groups, CONNECTIONS_TABLE.schema, READ, gather, BLOB_COLUMNS)
    known = Known.of(exchange([gathered], conclude, CLUES).toArrow())

    def count(scanned: Scanned) -> Iterator[pa.RecordBatch]:
        for _, connections in scanned:
            yield from counted(connections, known, ports).to_batches()

    return agreements(scan(spark, warehouse, groups, CONNECTIONS_TABLE.schema, READ, count, COUNTS).toArrow())


def _opinions(pairs: Pairs, known: Known, ports: PortRules) -> tuple[dict[str, Ints], Flags]:
    """The responder by each rule, asked of every connection without regard to the others; and whose sole sender's port is a server's."""
    told, by_service = _told(pairs, ports)
    sole = (pairs.sent[0] ^ pairs.sent[1]) & pairs.seen_by_owner
    sender = np.where(pairs.sent[0], SIDE_A, SIDE_B)
    unsolicited = sole & (pairs.protocol == TCP) & (by_service == sender)
    itself = [proven.astype(np.int64) for proven in pairs.proven]
    proofs = [known.proofs_of(end) - own for end, own in zip(pairs.end, itself, strict=True)]
    many = [is_among(mixed(end, pairs.protocol), known.fan_in) for end in pairs.end]
    client = [port >= np.where(wide, SYSTEM_PORTS_BELOW, EPHEMERAL_FROM) for port, wide in zip(pairs.port, pairs.wide, strict=True)]
    return {
        SOLE_SENDER: np.where(sole & ~unsolicited, SIDE_A + SIDE_B - sender, NO_SIDE),
        KNOWN_SERVER: _the_one(proofs[0] > 0, proofs[1] > 0),
        WELL_KNOWN_PORT: by_service,
        EPHEMERAL_PORT: np.where(told, _the_one(client[1], client[0]), NO_SIDE),
        FAN_IN: np.where(told, _the_one(many[0], many[1]), NO_SIDE),
        PORT_ORDER: np.where(told, _the_one(pairs.port[0] < pairs.port[1], pairs.port[1] < pairs.port[0]), NO_SIDE),
    }, unsolicited


def _the_one(on_a: Flags, on_b: Flags) -> Ints:
    """The side that has a property which the other lacks."""
    return np.where(on_a == on_b, NO_SIDE, np.where(on_a, SIDE_A, SIDE_B))


def _told(pairs: Pairs, ports: PortRules) -> tuple[Flags, Ints]:
    """Which connections' ports can tell anything, and the responder of those that a service's port decides."""
    verdict = ports.judge(np.maximum(pairs.port[0], 0), np.maximum(pairs.port[1], 0), pairs.protocol)
    told = (verdict.responder != NO_SIDE) & (pairs.port[0] >= 0) & (pairs.port[1] >= 0)
    decided = told & (verdict.basis == PORT_BASES.index(WELL_KNOWN_PORT))
    return told, np.where(decided, verdict.responder, NO_SIDE)


def _clues(clue: str, ends: Hashes, proofs: Ints | None = None, interface: pa.Array | None = None) -> pa.Table:
    count = len(ends)
    proven = pa.nulls(count, pa.int64()) if proofs is None else pa.array(proofs)
    names = pa.nulls(count, pa.string()) if interface is None else interface
    return pa.table([pa.array([clue] * count, pa.string()), pa.array(ends.view(np.int64)), proven, names], schema=CLUES)
