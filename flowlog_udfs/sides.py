"""Who saw a record, and from where: the observer's own side, whether it only passes the packets on, and the subnet it stands in.

In: a batch of records and what is known of the day. Out: `Seen`, one entry a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from flowlog_udfs.addresses import PrefixTable, is_link_local, is_multicast
from flowlog_udfs.columns import Flags, Ints, codes, equals, is_among
from flowlog_udfs.ends import Ends
from flowlog_udfs.fields import EGRESS, INGRESS
from flowlog_udfs.interfaces import Interface, Survey
from flowlog_udfs.inventory import NAT_GATEWAY, TRANSIT_GATEWAY, Inventory, Subnet
from flowlog_udfs.observed import RECEIVER, SENDER, UNKNOWN_SIDE
from flowlog_udfs.owners import Owners, owners
from flowlog_udfs.peers import PeerScopes
from flowlog_udfs.sorting import distinct
from flowlog_udfs.subscriptions import Subscription
from flowlog_udfs.survey import observers

_LARGEST_SUBNET = {4: 16, 6: 44}
"""No subnet of a VPC is larger than this prefix. Source: AWS, "Subnet CIDR blocks" (IPv6: /44)."""


@dataclass(frozen=True)
class Vantage:
    """What is known of a day before its records are looked at: interfaces, flow logs, subnets' ranges, peer scopes."""

    survey: Survey
    logs: Mapping[str, Subscription]
    scopes: PeerScopes
    subnets: tuple[Subnet, ...] = ()

    @classmethod
    def of(cls, survey: Survey, logs: Mapping[str, Subscription], scopes: PeerScopes, inventory: Inventory | None) -> Vantage:
        """The vantage with an inventory's subnets."""
        return cls(survey, logs, scopes, inventory.subnets if inventory else ())

    @cached_property
    def owners(self) -> Owners:
        """The observer that owns an address of a network."""
        return owners(self.survey.interfaces.values())

    @cached_property
    def subnet_ranges(self) -> tuple[Mapping[str | None, int], PrefixTable]:
        """The group of each subnet in a table of their ranges; subnets without any have none."""
        listed = [subnet for subnet in self.subnets if subnet.cidrs]
        table = PrefixTable.build_grouped({group: [(cidr, 0) for cidr in subnet.cidrs] for group, subnet in enumerate(listed)})
        return {subnet.subnet_id: group for group, subnet in enumerate(listed)}, table

    @cached_property
    def ranges_of_vpcs(self) -> tuple[list[str], PrefixTable, dict[str | None, int]]:
        """Subnet ids, a table that finds the place of the subnet that holds an address of a VPC, and each VPC's group in the table.

        Group 0 has the subnets of all VPCs; where two hold the same range there, it tells nothing.
        """
        names = [subnet.subnet_id for subnet in self.subnets]
        groups: dict[str | None, int] = {None: 0}
        held: dict[int, dict[str, int]] = {0: {}}
        twice: set[str] = set()
        for place, subnet in enumerate(self.subnets):
            group = groups.setdefault(subnet.vpc_id, len(groups))
            for cidr in subnet.cidrs:
                held.setdefault(group, {})[cidr] = place
                if held[0].setdefault(cidr, place) != place:
                    twice.add(cidr)
        held[0] = {cidr: place for cidr, place in held[0].items() if cidr not in twice}
        return names, PrefixTable.build_grouped({group: ranges.items() for group, ranges in held.items()}), groups


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch of records as its observers saw it: one entry a record."""

    vantage: Vantage
    ends: Ends
    interfaces: list[Interface]
    observer: Ints
    own: _Own
    side: Ints
    is_regional: Flags
    bare: Flags

    @classmethod
    def of(cls, records: pa.Table, vantage: Vantage) -> Seen:
        """Who saw each record, and on which side it stands; never guessed."""
        ends = Ends.of(records)
        observer, names = codes(observers(records))
        interfaces = [vantage.survey.interfaces[name] for name in names.to_pylist()]
        regional = np.array([one.is_regional for one in interfaces], dtype=bool)[observer]
        own = _Own(interfaces, observer, ends)
        differs, other = ends.source_differs, ends.target_differs
        side = np.where(differs & ~other, SENDER, np.where(other & ~differs, RECEIVER, UNKNOWN_SIDE))
        from_own, to_own = own.has(ends.shown_source), own.has(ends.shown_target)
        by_address = np.where(from_own & ~to_own, SENDER, np.where(to_own & ~from_own, RECEIVER, UNKNOWN_SIDE))
        side = np.where(side == UNKNOWN_SIDE, by_address, side)
        if regional.any():
            side = np.where(regional, _side_at_regional(ends, own), side)
        side = np.where(equals(records.column("flow_direction"), EGRESS), SENDER, side)
        side = np.where(equals(records.column("flow_direction"), INGRESS), RECEIVER, side)
        bare = np.asarray(records.column("pkt_srcaddr").is_null()) & np.asarray(records.column("pkt_dstaddr").is_null())
        return cls(vantage, ends, interfaces, observer, own, side, regional, bare)

    def take(self, chosen: Ints) -> Seen:
        """Some of the records."""
        ends, observer = self.ends.take(chosen), self.observer[chosen]
        own = _Own(self.interfaces, observer, ends)
        return Seen(self.vantage, ends, self.interfaces, observer, own, self.side[chosen], self.is_regional[chosen], self.bare[chosen])

    @property
    def local(self) -> Ints:
        """The packet-level address on the observer's side."""
        return np.where(self.side == SENDER, self.ends.source, self.ends.target)

    @property
    def peer(self) -> Ints:
        """The packet-level address of the other end."""
        return np.where(self.side == SENDER, self.ends.target, self.ends.source)

    @property
    def shown(self) -> Ints:
        """What the log shows for the address on the observer's side."""
        return np.where(self.side == SENDER, self.ends.shown_source, self.ends.shown_target)

    def of_interface(self, values: list[str | None]) -> tuple[Ints, pa.Array]:
        """A text that each interface has, for each record."""
        code, words = codes(pa.array(values, pa.string()))
        return code[self.observer], words

    def transit(self) -> tuple[Flags, Flags]:
        """Records whose packets are not the observer's own, and among them those whose end on its side stays hidden behind its address."""
        proxies = np.array([one.is_proxy for one in self.interfaces], dtype=bool)[self.observer]
        known = (self.side != UNKNOWN_SIDE) & self.ends.both
        own, local, shown = self.own, self.local, self.shown
        differs = known & ~self.is_regional & (local != shown) & ~own.has(local)
        transit = differs & proxies
        undecided = np.flatnonzero(differs & ~transit)
        transit[undecided] = self._is_foreign(undecided, local, shown)
        if self.is_regional.any():
            transit |= known & self.is_regional & self.ends.of_inside_leg & ~own.has(local)
        kinds = np.array([_hides(one) for one in self.interfaces], np.int64)[self.observer]
        plain = known & self.bare & ~self.ends.source_differs & ~self.ends.target_differs
        hidden = plain & ((kinds == _ALL) | ((kinds == _PRIVATE_PEERS) & self._private_peer()))
        return transit | hidden, hidden

    def _private_peer(self) -> Flags:
        routed_nowhere = np.append(is_link_local(*self.ends.packed) | is_multicast(*self.ends.packed), False)
        return (self.ends.private | routed_nowhere)[self.peer]

    def _is_foreign(self, rows: Ints, local: Ints, shown: Ints) -> Flags:
        """Of records whose local address differs from the one shown: whether it lies outside the interface's subnet.

        By the subnet's ranges; where they are not known: another interface owns the address, or no subnet could hold both.
        """
        (who, here, there), place = distinct(self.observer[rows], local[rows], shown[rows])
        high, low = self.ends.packed
        groups, ranges = self.vantage.subnet_ranges
        group = np.array([groups.get(one.place["subnet_id"], -1) for one in self.interfaces], np.int64)[who]
        outside = np.where(group >= 0, ranges.match(high[here], low[here], group) < 0, self._too_far(here, there))
        asked = np.flatnonzero((group < 0) & ~outside)
        outside[asked] = self._is_owned_by_others(who[asked], here[asked])
        return outside[place]

    def _is_owned_by_others(self, who: Ints, address: Ints) -> Flags:
        owned_by, words = self.vantage.owners, self.ends.words.to_pylist()
        asked = ((self.interfaces[one], words[other]) for one, other in zip(who.tolist(), address.tolist(), strict=True))
        return np.array([owned_by.get((one.network, word), one) is not one for one, word in asked], dtype=bool)

    def _too_far(self, one: Ints, other: Ints) -> Flags:
        """Whether no subnet is large enough to hold both addresses."""
        high, low = self.ends.packed
        ipv4 = self.ends.ipv4[one]
        apart4 = (low[one] ^ low[other]) >> np.uint64(32 - _LARGEST_SUBNET[4]) != 0
        apart6 = (high[one] ^ high[other]) >> np.uint64(64 - _LARGEST_SUBNET[6]) != 0
        return (ipv4 != self.ends.ipv4[other]) | np.where(ipv4, apart4, apart6)

    def subnet(self) -> tuple[Ints, pa.Array]:
        """The subnet that holds the own address as logged, where the interface's is not known but its VPC's ranges are."""
        lost = np.array([one.place["subnet_id"] is None for one in self.interfaces], dtype=bool)
        found = np.full(len(self.observer), -1)
        names, table, groups = self.vantage.ranges_of_vpcs
        rows = np.flatnonzero(lost[self.observer] & (self.side != UNKNOWN_SIDE) & (self.shown >= 0)) if names and lost.any() else found[:0]
        if len(rows):
            group = np.array([groups.get(one.place["vpc_id"], -1) for one in self.interfaces])[self.observer[rows]]
            high, low = self.ends.packed
            found[rows] = table.match(high[self.shown[rows]], low[self.shown[rows]], group)
        return found, pa.array(names, pa.string())


class _Own:
    """Which addresses are whose own, ready for columns of codes."""

    def __init__(self, interfaces: list[Interface], observer: Ints, ends: Ends) -> None:
        self._observer, self._ends, self._words = observer, ends, len(ends.words)
        self._code_of = {word: code for code, word in enumerate(ends.words.to_pylist())}
        self._pairs = self._sorted_pairs((place, one.own) for place, one in enumerate(interfaces))
        ranges = {place: [(cidr, 0) for cidr in one.ranges] for place, one in enumerate(interfaces) if one.ranges}
        self._ranges = PrefixTable.build_grouped(ranges) if ranges else None
        self._remotes = self._sorted_pairs((place, one.remotes) for place, one in enumerate(interfaces))

    def _sorted_pairs(self, found: Iterable[tuple[int, Iterable[str]]]) -> Ints:
        """Interface and address as one number each."""
        code_of = self._code_of
        return np.sort(
            np.array([place * self._words + code_of[one] for place, those in found for one in those if one in code_of], np.int64)
        )

    def has(self, address: Ints) -> Flags:
        """Whether each address is the observer's own."""
        found = (address >= 0) & is_among(self._observer * self._words + address, self._pairs)
        if self._ranges is not None:
            high, low = self._ends.packed
            found |= (address >= 0) & (self._ranges.match(high[address], low[address], self._observer) >= 0)
        return found

    def has_remote(self, address: Ints) -> Flags:
        """Whether each address is one that the regional gateway's inside legs speak with."""
        return (address >= 0) & is_among(self._observer * self._words + address, self._remotes)


def _side_at_regional(ends: Ends, own: _Own) -> Ints:
    """A regional gateway stands between client and internet: inside legs turn their internet side to it.

    Outside, its own end is one that it is known to own, else the one that no inside leg speaks with while one speaks with the other.
    """
    from_inside = ends.translated[ends.target] | (ends.private[ends.source] & ~ends.translated[ends.source])
    inside = np.where(from_inside, RECEIVER, SENDER)
    outside = np.full(len(ends.source), UNKNOWN_SIDE)
    for here, there in ((own.has_remote(ends.target), own.has_remote(ends.source)), (own.has(ends.source), own.has(ends.target))):
        outside = np.where(here & ~there, SENDER, np.where(there & ~here, RECEIVER, outside))
    return np.where(ends.of_inside_leg, inside, outside)


_NOTHING, _PRIVATE_PEERS, _ALL = range(3)


def _hides(one: Interface) -> int:
    """Which rows of an interface hide an end behind its address, in a format without packet-level addresses."""
    if one.interface_id is None:
        return _NOTHING
    return {TRANSIT_GATEWAY: _ALL, NAT_GATEWAY: _PRIVATE_PEERS}.get(one.kind or "", _NOTHING)
