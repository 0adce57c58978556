"""The analytics in plain Python: slow and obvious, the answer against which Spark's is checked.

In: records of one day as dicts with the columns of table `records` (absent = missing or None), an inventory in the shape of EC2's answers,
settings (`world.DEFAULTS`), yesterday's evidence (`carry`), and the formats of flow logs by id where they are known. Out: `Analysis`, the
rows of the tables as dicts, times as Unix seconds. No order of the records changes anything but the order of `rows`.

Each stage is one module; its function's docstring gives the rule as an algorithm:

    endpoints -> observations (with episodes) -> connections (with initiator) -> nat -> subnets

Decisions where the rules leave room, all of them in the docstrings in full:

 1. Interfaces of one flow log, and flow logs that share an interface, are in one VPC, so rows without VPC share a network over flow logs.
 2. IPv4 alone is judged by "several peers"; private against public is never evidence of the own side.
 3. In transit is a property of a row (its local packet-level address is foreign), not of an interface: a NAT's own connections are its own.
    Where no inventory has the subnet's ranges, only what no subnet could hold or what another interface owns is foreign.
 4. Overlap is judged at the middle of a row against the runs of the higher flow log, bridged over two windows; SKIPDATA covers nothing.
    What actions a flow log shows is read from its rows there, so that nothing is dropped which the higher one would not have shown.
 5. Redelivery compares with the larger of two objects, so a one-row object is never a redelivery of a large one.
 6. Observation points are chosen per direction of an episode: packets of the whole episode decide, times only fill what nobody else logged.
 7. Clocks of two interfaces are never compared closer than 120 s; events are ordered at one interface and flow log only.
 8. Silence ends an episode for rows without flags (and UDP); TCP rows with flags need a SYN, for without one the connection goes on.
 9. Connections count middlebox rows that nobody else saw, so bucket transit_only of scope connection stays empty.
10. Late rejects stand in the rejected columns and are counted (records) in `late_rejects`; verdict, state and times ignore them.
11. A SYN-ACK answered by nothing but resets is as unsolicited as one answered by nothing.
12. One-sided TCP without flags: its sender initiated, unless the ports make the sender a server; then nobody did.
13. Proven servers are known by address and port, whatever the protocol: an accepted SYN-ACK to an end whose SYN was seen that day.
14. A head start for ICMP is 60 s, the shortest window, at one interface.
15. Carried evidence is for TCP, holds for the first episode of the day only, and that must begin within 12 minutes of midnight.
16. Canonical order of ends: by address (IPv4 as mapped IPv6), then port.
17. nat_id is the translator's interface (regional: resource-id), with or without inventory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Any

from .connections import Table, carry, connections
from .endpoints import endpoints
from .nat import nat
from .observations import observations
from .rows import Row
from .scopes import scopes
from .subnets import reconciliation, subnet_bytes
from .world import Known, Record, settings

DAY = 86_400


@dataclass
class Analysis:
    """All that a day's analytics say: one entry of `rows` for each record, in their order, and the tables."""

    rows: list[Row]
    connections: Table
    nat_mappings: Table
    subnet_bytes: Table
    reconciliation: Table
    carried: dict[str, Table]

    @property
    def records(self) -> Table:
        """What the stages found out about each record."""
        return [
            {
                "src": row.source.address,
                "dst": row.target.address,
                "observer": row.observer,
                "network": row.network,
                "own": row.own,
                "direction": row.direction,
                "role": row.role,
                "kind": row.kind,
                "stands_for": row.stands_for,
                "vpc_id": row.place["vpc_id"],
                "subnet_id": row.place["subnet_id"],
                "az_id": row.place["az_id"],
                "subnet_bucket": row.subnet_bucket,
                "connection_bucket": row.connection_bucket,
                "episode": row.episode or None,
            }
            for row in self.rows
        ]

    def tables(self) -> dict[str, Table]:
        """All tables by name."""
        names = ("records", "connections", "nat_mappings", "subnet_bytes", "reconciliation")
        return {name: getattr(self, name) for name in names}


def analyse(
    records: Sequence[Record],
    inventory: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    carried: Mapping[str, Any] | None = None,
    formats: Mapping[str, Sequence[str]] | None = None,
    day: date | None = None,
) -> Analysis:
    """Run all stages over the records of one day; without `day` it is the day of most records."""
    known, setting, formats = Known.read(inventory), settings(config), formats or {}
    midnight = _midnight(day) if day else Counter(day_of(record) * DAY for record in records).most_common(1)[0][0] if records else 0
    rows = endpoints(records, known, setting, formats)
    shortfall = observations(rows, known, setting, formats, midnight)
    table = connections(rows, shortfall, known, setting, carried, midnight)
    mappings = nat(rows, table, known, setting)
    scopes(rows, table, known, setting, formats)
    by_subnet = subnet_bytes(rows, table, known, setting, formats)
    return Analysis(rows, table, mappings, by_subnet, reconciliation(rows), carry(table, midnight + DAY, setting))


def day_of(record: Record) -> int:
    """The UTC day, counted from 1970, of a record's start, else of its end, else of its object's key."""
    for name in ("start", "end"):
        if record.get(name) is not None:
            return int(record[name]) // DAY
    stamp = str(record.get("object_key") or "").rsplit("/", 1)[-1].split("_")
    published = datetime.strptime(stamp[4], "%Y%m%dT%H%MZ") if len(stamp) > 4 else datetime(1970, 1, 1)
    return int(published.replace(tzinfo=timezone.utc).timestamp()) // DAY


def too_late(records: Sequence[Record], day: date, late_hours: int) -> list[str]:
    """Keys of objects with rows of `day` that a run of that day does not list: published later than `late_hours` into the next day."""
    limit = _midnight(day) + DAY + late_hours * 3600
    found = set()
    for record in records:
        key = str(record["object_key"])
        stamp = key.rsplit("/", 1)[-1].split("_")[4]
        published = datetime.strptime(stamp, "%Y%m%dT%H%MZ").replace(tzinfo=timezone.utc).timestamp()
        if day_of(record) * DAY == _midnight(day) and published >= limit:
            found.add(key)
    return sorted(found)


def _midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=timezone.utc).timestamp())
