"""Who observed: every capturing interface of a day, what it belongs to, which addresses are its own, and when it was logged at all.

In: the surveys of all batches of records, the day's flow logs, and the inventory's word where there is one. Out: a `Survey`. An interface
is known by its id, a regional NAT gateway, which has none, by its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs import inventory as listed
from flowlog_udfs.inventory import FORWARDING_KINDS, REGIONAL_NAT_GATEWAY, TERMINATING_KINDS, Inventory
from flowlog_udfs.networks import Networks, network_without_vpc
from flowlog_udfs.subscriptions import Subscription
from flowlog_udfs.survey import NAMED, SHORTEST_GAP

Stretches = npt.NDArray[np.int64]
"""Stretches of time in order, without touching each other: a row of starts and one of ends, in Unix seconds."""
NEVER: Stretches = np.zeros((2, 0), np.int64)
PLACE = ("account_id", "region", "vpc_id", "az_id", "subnet_id")
"""Where an interface is, in the columns of table `subnet_bytes`."""

SHORT_INTERVAL, LONG_GAP = 60, 1200
"""A flow log whose rows all span at most a minute has intervals of a minute; any other may be silent for two of ten minutes."""
DAY = 86_400
_UNKNOWN_ACCOUNT = "unknown"


@dataclass(eq=False)
class Interface:
    """One observer of the day; texts are None where nothing says.

    `own` addresses and delegated `ranges` are its own; `flow_logs` holds the stretches of time in which each flow log covered it, `watched`
    those in which any did. `passes_on` tells that it carried packets of others, by their addresses; `shown` are the addresses that outside
    legs of regional NAT gateways that the rows do not name showed as their own.
    """

    observer: str
    place: dict[str, str | None]
    interface_id: str | None = None
    instance_id: str | None = None
    kind: str | None = None
    network: str = ""
    is_regional: bool = False
    is_listed: bool = False
    own: frozenset[str] = frozenset()
    ranges: tuple[str, ...] = ()
    remotes: frozenset[str] = frozenset()
    flow_logs: dict[str, Stretches] = field(default_factory=dict)
    watched: Stretches = field(default_factory=NEVER.copy)
    passes_on: bool = False
    shown: frozenset[str] = frozenset()

    @property
    def forwards(self) -> bool:
        """Whether it is known to pass on what others say: a NAT, a transit gateway, an inspecting balancer."""
        return self.kind in FORWARDING_KINDS

    @property
    def is_proxy(self) -> bool:
        """Whether nobody sits there: it forwards, or ends connections for others, like a load balancer or an endpoint."""
        return self.forwards or self.kind in TERMINATING_KINDS

    @property
    def opens_for_others(self) -> bool:
        """Whether what it opens is somebody else's: of a proxy, and of what passes on packets like a NAT and is no instance."""
        return self.is_proxy or (self.passes_on and not self.instance_id)


@dataclass(frozen=True)
class FlowLogTraits:
    """What the whole day's rows of a flow log betray: which actions it captures, and whether it shows every TCP flag."""

    accepts: bool
    rejects: bool
    every_flag: bool


@dataclass(frozen=True)
class Survey:
    """The interfaces of a day by observer, the traits of its flow logs, its networks, the rows and bytes of all records, and the interfaces
    that the inventory lists and no flow log captured.
    """

    interfaces: dict[str, Interface]
    flow_logs: dict[str, FlowLogTraits]
    networks: Networks
    rows: int = 0
    bytes: int = 0
    unlogged: tuple[Interface, ...] = ()


def merge(
    surveys: pa.Table,
    logs: Mapping[str, Subscription],
    midnight: int,
    inventory: Inventory | None = None,
    links: Sequence[Sequence[str]] = (),
) -> Survey:
    """Join the surveys of all batches of the day that begins at `midnight`, in Unix seconds.

    An address is an interface's own if the inventory, flow-direction or a differing packet-level address says so; if all that gives no IPv4
    address, the one that stands in every IPv4 row while the other end varies. With one peer and nothing else it stays unknown. All
    interfaces of a flow log are in one VPC, and so are flow logs that share an interface: rows whose VPC nothing else tells are there.
    """
    rows_of: dict[str, list[dict[str, Any]]] = defaultdict(list)
    traits: dict[str, list[bool]] = defaultdict(lambda: [False, False, False])
    rows = octets = 0
    for row, covered in zip(surveys.drop_columns(["stretches"]).to_pylist(), _stretches(surveys), strict=True):
        rows_of[row["observer"]].append(row | {"stretches": covered})
        rows, octets = rows + row["rows"], octets + row["bytes"]
        for place, trait in enumerate(("accepts", "rejects", "every_flag")):
            traits[row["flow_log_id"]][place] |= row[trait]
    known = _Known.of(inventory, midnight)
    found = {observer: known.interface(observer, surveyed, logs) for observer, surveyed in sorted(rows_of.items())}
    networks = _settle_networks(found, logs, inventory, links)
    unlogged = tuple(known.unlogged(name, networks) for name in sorted(known.interfaces.keys() - found.keys()))
    return Survey(found, {name: FlowLogTraits(*shown) for name, shown in sorted(traits.items())}, networks, rows, octets, unlogged)


@dataclass(frozen=True)
class _Known:
    """The inventory by id."""

    interfaces: Mapping[str, listed.Interface]
    subnets: Mapping[str, listed.Subnet]
    gateways: Sequence[listed.NatGateway]
    midnight: int

    @classmethod
    def of(cls, inventory: Inventory | None, midnight: int) -> _Known:
        if inventory is None:
            return cls({}, {}, (), midnight)
        return cls(
            {one.interface_id: one for one in inventory.interfaces},
            {one.subnet_id: one for one in inventory.subnets},
            tuple(one for one in inventory.nat_gateways if one.kind == REGIONAL_NAT_GATEWAY),
            midnight,
        )

    def interface(self, observer: str, rows: Sequence[Mapping[str, Any]], logs: Mapping[str, Subscription]) -> Interface:
        """An observer from its surveys and the inventory, its network apart."""
        named = {name: min((row[name] for row in rows if row[name] not in (None, _UNKNOWN_ACCOUNT)), default=None) for name in NAMED}
        stretches: dict[str, list[tuple[Stretches, int]]] = defaultdict(list)
        for row in rows:
            stretches[row["flow_log_id"]].append((row["stretches"], row["longest"]))
        first = min(logs[name].flow_log_id for name in stretches)
        said = self.interfaces.get(observer)
        place = {name: named[name] or (getattr(said, name, None) if said else None) for name in PLACE}
        subnet = self.subnets.get(place["subnet_id"] or "")
        if subnet:
            place |= {name: place[name] or getattr(subnet, name) for name in ("vpc_id", "az_id", "region")}
        place["account_id"] = place["account_id"] or logs[first].account_id
        place["region"] = place["region"] or logs[first].region
        is_regional = not named["interface_id"] and (bool(named["resource_id"]) or any(logs[name].names_interfaces for name in stretches))
        kind = REGIONAL_NAT_GATEWAY if is_regional else (said.kind if said else None) or named["interface_type"]
        return Interface(
            observer,
            place,
            interface_id=named["interface_id"],
            instance_id=named["instance_id"] or (said.instance_id if said else None),
            kind=kind,
            is_regional=is_regional,
            is_listed=said is not None,
            own=self._own(observer, rows, place["vpc_id"], is_regional),
            ranges=said.prefixes if said else (),
            remotes=frozenset(address for row in rows for address in row["remotes"]),
            flow_logs={name: _joined(found, self.midnight) for name, found in sorted(stretches.items())},
            watched=_joined(chain.from_iterable(stretches.values()), self.midnight),
        )

    def unlogged(self, interface_id: str, networks: Networks) -> Interface:
        """An interface of which only the inventory speaks."""
        said = self.interfaces[interface_id]
        subnet = self.subnets.get(said.subnet_id or "")
        vpc_id = said.vpc_id or (subnet.vpc_id if subnet else None)
        place = {"account_id": said.account_id, "vpc_id": vpc_id, "subnet_id": said.subnet_id}
        return Interface(
            interface_id,
            place,
            interface_id=interface_id,
            instance_id=said.instance_id,
            kind=said.kind,
            network=networks.name(vpc_id) if vpc_id else "",
            is_listed=True,
            own=frozenset({*said.addresses, *said.ipv6_addresses}),
        )

    def _own(self, observer: str, rows: Sequence[Mapping[str, Any]], vpc_id: str | None, is_regional: bool) -> frozenset[str]:
        declared = frozenset(address for row in rows for address in row["declared"])
        if is_regional:
            mine = (one for one in self.gateways if one.nat_gateway_id == observer or (observer[0] == "@" and one.vpc_id == vpc_id))
            return declared.union(*(one.public_addresses for one in mine))
        said = self.interfaces.get(observer)
        own = declared | {*said.addresses, *said.ipv6_addresses} if said else declared
        if observer[0] != "@" and all(":" in address for address in own):
            constant = [{*row["constant"]} for row in rows if row["has_ipv4"]]
            common = set.intersection(*constant) if constant else set()
            own |= common if len(common) == 1 else frozenset()
        return own


def _settle_networks(
    found: Mapping[str, Interface], logs: Mapping[str, Subscription], inventory: Inventory | None, links: Sequence[Sequence[str]]
) -> Networks:
    """Fill in the VPC where the company of an interface tells it, and the network of each; returns the networks."""
    companies = list(_companies(found))
    for members, _ in companies:
        vpc_ids = {vpc_id for one in members if (vpc_id := one.place["vpc_id"])}
        if len(vpc_ids) == 1:
            for one in members:
                one.place["vpc_id"] = one.place["vpc_id"] or min(vpc_ids)
    networks = Networks.build(inventory, links, {vpc_id for one in found.values() if (vpc_id := one.place["vpc_id"])})
    for members, first_log in companies:
        alone = network_without_vpc(logs[first_log].account_id, logs[first_log].region, first_log)
        for one in members:
            vpc_id = one.place["vpc_id"]
            one.network = networks.name(vpc_id) if vpc_id else alone
    return networks


def _companies(found: Mapping[str, Interface]) -> Iterator[tuple[list[Interface], str]]:
    """Interfaces connected by common flow logs, and the least of these flow logs."""
    at: dict[str, list[Interface]] = defaultdict(list)
    for one in found.values():
        for name in one.flow_logs:
            at[name].append(one)
    seen: set[str] = set()
    for name in sorted(at):
        if name in seen:
            continue
        members: dict[str, Interface] = {}
        waiting = [name]
        seen.add(name)
        while waiting:
            for one in at[waiting.pop()]:
                members[one.observer] = one
                waiting += [other for other in one.flow_logs if other not in seen]
                seen.update(one.flow_logs)
        yield list(members.values()), name


def _stretches(surveys: pa.Table) -> Iterator[Stretches]:
    """Those of each row of `survey.SURVEY`; to dicts they would be a hundred times as large."""
    column = surveys.column("stretches").combine_chunks()
    bounds = np.asarray(column.offsets)
    flat = np.array([np.asarray(column.values.field(name)) for name in ("start", "end")], np.int64)
    yield from (flat[:, first:last] for first, last in pairwise(bounds))


def _joined(found: Iterable[tuple[Stretches, int]], midnight: int) -> Stretches:
    """Stretches, each with its longest interval, in order; those that touch or overlap made one, bridged over two intervals.

    A row is of the day of its start, so what covers the day's first and last minutes may be a row of another day: there, too, silence of
    two intervals is bridged.
    """
    covering = [(stretches, longest) for stretches, longest in found if stretches.size]
    if not covering:
        return NEVER
    gap = SHORTEST_GAP if all(longest <= SHORT_INTERVAL for _, longest in covering) else LONG_GAP
    start, end = np.concatenate([stretches for stretches, _ in covering], axis=1)
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    begins = np.append(True, start[1:] > np.maximum.accumulate(end)[:-1] + gap)
    joined = np.array([start[begins], np.maximum.reduceat(end, np.flatnonzero(begins))])
    if joined[0, 0] <= midnight + gap:
        joined[0, 0] = min(joined[0, 0], midnight)
    if joined[1, -1] >= midnight + DAY - gap:
        joined[1, -1] = max(joined[1, -1], midnight + DAY + LONG_GAP)
    return joined
