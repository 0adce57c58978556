"""The day's analytics as functions of Arrow tables, one for each task of each pass: Spark only schedules them and moves their rows.

records --survey--> interfaces --clues--> knowledge --prepare--> observed rows --work_out--> connections, legs, tallies
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timezone

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs import tallies
from flowlog_udfs.addresses import is_private, packed
from flowlog_udfs.attribution import Attributed, Carried, Hashes, Knowledge, attribute
from flowlog_udfs.clues import BALANCED, FAN_IN, MIDDLEBOX, SERVER, SHOWN, sorted_hashes
from flowlog_udfs.columns import Flags, codes, equals, mixed, numbers
from flowlog_udfs.config import AttributionConfig
from flowlog_udfs.connections import connections
from flowlog_udfs.endpoints import actions, observe, peer_scopes, times
from flowlog_udfs.fields import NODATA, REJECT, SKIPDATA
from flowlog_udfs.interfaces import Interface, Survey
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.legs import Gateways, find_legs
from flowlog_udfs.observed import UNKNOWN_SIDE
from flowlog_udfs.outcomes import outcomes
from flowlog_udfs.overlap import covered, lives
from flowlog_udfs.owners import owners
from flowlog_udfs.peers import AwsRanges, KnownAddress, PeerScopes
from flowlog_udfs.services import PortRules
from flowlog_udfs.sides import Seen, Vantage

REDELIVERED = "redelivered"
"""The column, beside those of `endpoints.READ`, that marks records delivered before in another object; absent where there are none."""


@dataclass(frozen=True)
class Prepared:
    """A batch of records made ready: rows of `OBSERVED`, and the account (`TALLIES`) of the records that no connection has."""

    observed: pa.Table
    tallies: pa.Table


def prepare(records: pa.Table, vantage: Vantage) -> Prepared:
    """Observed rows of the records that tell of packets between two ends; the others are accounted for as they are."""
    seen = Seen.of(records, vantage)
    nothing = np.zeros(records.num_rows, dtype=bool)
    redelivered = numbers(records.column(REDELIVERED), 0) == 1 if REDELIVERED in records.column_names else nothing
    status = records.column("log_status")
    duplicate = covered(records, seen.observer, seen.interfaces, vantage.survey, vantage.logs)
    subnet = seen.subnet()
    has_subnet = np.array([one.place["subnet_id"] is not None for one in seen.interfaces], dtype=bool)[seen.observer] | (subnet[0] >= 0)
    bucket = np.where(seen.side == UNKNOWN_SIDE, tallies.NO_SIDE, np.where(has_subnet, tallies.COUNTED, tallies.NO_SUBNET))
    in_connection = np.full(records.num_rows, tallies.NO_ENDS)
    apart = ~seen.ends.both
    for chosen, name in (
        (duplicate, tallies.DUPLICATE_SUBSCRIPTION),
        (redelivered, tallies.DUPLICATE_DELIVERY),
        (equals(status, SKIPDATA), tallies.SKIPDATA),
        (equals(status, NODATA), tallies.NODATA),
    ):
        bucket, in_connection = np.where(chosen, name, bucket), np.where(chosen, name, in_connection)
        apart |= chosen & (name != tallies.DUPLICATE_SUBSCRIPTION)
    left_out, kept = np.flatnonzero(apart), np.flatnonzero(~apart)
    alone = records.take(pa.array(left_out))
    start, end = times(alone)
    none = np.zeros(len(left_out), np.int64)
    few = seen.take(left_out)
    counted = tallies.tally(
        seen.interfaces,
        few.observer,
        (subnet[0][left_out], subnet[1]),
        start=start,
        end=end,
        side=few.side,
        initiated_by=none + tallies.BY_UNKNOWN,
        scope=peer_scopes(alone, few, (subnet[0][left_out], subnet[1])).astype(np.int64),
        action=actions(alone),
        subnet_bucket=bucket[left_out],
        connection_bucket=in_connection[left_out],
        connection=none,
        octets=numbers(alone.column("bytes"), 0),
        packets=numbers(alone.column("packets"), 0),
        started=none == 1,
    )
    if len(left_out):
        records, seen, duplicate = records.take(pa.array(kept)), seen.take(kept), duplicate[kept]
    return Prepared(observe(records, seen, duplicate), counted)


def partition_hashes(observed: pa.Table) -> Hashes:
    """What rows must share to be worked out together: all rows of a five-tuple, and rows in which one of its ends hides.

    A hidden end's address is another in the row that hides it than in the owner's, so the hash is made of the other end and the ports: the
    private end where just one is, else the end with the higher port, which is the client's; of a row with a hidden end, its peer.
    """
    lo_port, hi_port = numbers(observed.column("lo_port"), -1), numbers(observed.column("hi_port"), -1)
    lo_private, hi_private = (_private(observed.column(name)) for name in ("lo_addr", "hi_addr"))
    on_lo = np.where(lo_private != hi_private, lo_private, lo_port >= hi_port)
    veiled = (numbers(observed.column("bare"), 0) == 1) & (numbers(observed.column("transit"), 0) == 1)
    if veiled.any():
        at_source = numbers(observed.column("side"), 0) == 0
        local_is_lo = (numbers(observed.column("forward"), 0) == 1) == at_source
        on_lo = np.where(veiled, ~local_is_lo, on_lo)
    lo_end, hi_end = (observed.column(name).to_numpy() for name in ("lo_end", "hi_end"))
    ports = np.minimum(lo_port, hi_port), np.maximum(lo_port, hi_port)
    return mixed(np.where(on_lo, lo_end, hi_end), *ports, numbers(observed.column("protocol"), -1))


def _private(column: pa.ChunkedArray | pa.Array) -> Flags:
    code, words = codes(column)
    return is_private(*packed(words))[code] if len(words) else np.zeros(len(code), dtype=bool)


def scopes_of(survey: Survey, inventory: Inventory | None, ranges: AwsRanges | None) -> PeerScopes:
    """Peer scopes with what the day's interfaces showed as their own."""
    own = [(one, address) for one in survey.interfaces.values() for address in sorted(one.own)]
    known = [KnownAddress(one.network, address, one.place["subnet_id"] or "") for one, address in own]
    dotted = [address for _, address in own if ":" not in address]
    private = is_private(*packed(pa.array(dotted, pa.string())))
    public = [address for address, is_one in zip(dotted, private, strict=True) if not is_one]
    return PeerScopes.build(survey.networks, inventory, ranges, known, public)


def midnight_of(day: date) -> int:
    """The first second of a UTC day."""
    return int(datetime.combine(day, time(), timezone.utc).timestamp())


def knowledge(
    vantage: Vantage, day: date, ports: PortRules, clues: Mapping[str, Hashes], yesterday: tuple[Carried, Hashes], config: AttributionConfig
) -> Knowledge:
    """What every partition is told; `yesterday` are the connections carried over midnight and the servers proven then."""
    logs = sorted(vantage.logs.values(), key=lambda log: log.rank)
    traits = vantage.survey.flow_logs
    carried, servers = yesterday
    return Knowledge(
        interfaces=vantage.survey.interfaces,
        may_show_answers=np.array([log.traffic != REJECT for log in logs], dtype=bool),
        shows_every_flag=np.array([log.flow_log_id in traits and traits[log.flow_log_id].every_flag for log in logs], dtype=bool),
        lives=lives(vantage.survey, vantage.logs),
        midnight=midnight_of(day),
        ports=ports,
        carried=carried,
        servers=np.union1d(clues["servers"], servers),
        fan_in=clues["fan_in"],
        balanced=clues["balanced"],
        # A regional NAT gateway has addresses, and no interface.
        owners=owners(one for one in (*vantage.survey.interfaces.values(), *vantage.survey.unlogged) if one.interface_id is not None),
        idle_seconds=config.idle_seconds,
        udp_idle_seconds=config.udp_idle_seconds,
    )


@dataclass(frozen=True)
class Whole:
    """What every partition is told of the day."""

    known: Knowledge
    gateways: Gateways

    @property
    def interfaces(self) -> Mapping[str, Interface]:
        """The day's observers."""
        return self.known.interfaces


def clued(found: pa.Table, interfaces: Mapping[str, Interface]) -> dict[str, Hashes]:
    """Rows of `clues.CLUES` as the fields of `Knowledge` that they fill; what they tell of an interface is filled in there."""
    for row in found.filter(found.column("observer").is_valid()).to_pylist():
        one = interfaces[row["observer"]]
        one.passes_on |= row["clue"] == MIDDLEBOX
        one.shown |= {row["address"]} if row["clue"] == SHOWN else frozenset()
    return {name: sorted_hashes(found, clue) for name, clue in (("servers", SERVER), ("fan_in", FAN_IN), ("balanced", BALANCED))}


@dataclass(frozen=True)
class WorkedOut:
    """A partition's rows of `connections`, `nat.LEGS` and `TALLIES`."""

    connections: pa.Table
    legs: pa.Table
    tallies: pa.Table

    @property
    def counted(self) -> tuple[int, int]:
        """Bytes that the connections hold, and bytes that the account says they hold."""
        columns = (f"{prefix}bytes_{way}" for prefix in ("", "rejected_") for way in ("sent", "received"))
        held = sum(int(pc.sum(self.connections.column(name)).as_py() or 0) for name in columns)
        account = equals(self.tallies.column("connection_bucket"), tallies.BUCKETS[tallies.COUNTED])
        return held, int(numbers(self.tallies.column("bytes"), 0)[account].sum())


def work_out(observed: pa.Table, whole: Whole) -> WorkedOut:
    """Attribute a partition's observed rows; the kernel does not depend on their order."""
    done: Attributed = attribute(observed, whole.known)
    came_to = outcomes(done, whole.known)
    legs = find_legs(done, came_to, whole.interfaces, whole.gateways, whole.known.balanced)
    return WorkedOut(
        connections(done, came_to, whole.interfaces, whole.known.owners, (legs.nat_ids, legs.nat_legs)),
        legs.table,
        tallies.tally_connections(done, whole.interfaces, whole.known.balanced),
    )
