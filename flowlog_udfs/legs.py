"""The legs that translators log: for each connection and each middlebox, node or balancer that saw it, what passed there.

In: attributed episodes. Out: rows of `nat.LEGS`, from which `nat` finds the pairs, and for each connection the translation that is plain
without pairing: a NAT gateway's inside legs, and outside legs that the gateway opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.addresses import is_private, packed
from flowlog_udfs.attribution import Attributed
from flowlog_udfs.columns import Flags, Groups, Ints, codes, is_among, joined, texts
from flowlog_udfs.connections import INSIDE as INSIDE_LEG
from flowlog_udfs.connections import OUTSIDE as OUTSIDE_LEG
from flowlog_udfs.connections import connection_ids
from flowlog_udfs.initiators import BY_BOTH, BY_SYN, BY_SYN_ACK, CARRIED, HI, LO, UNKNOWN
from flowlog_udfs.interfaces import Interface
from flowlog_udfs.inventory import (
    NAT_GATEWAY,
    NETWORK_LOAD_BALANCER,
    REGIONAL_NAT_GATEWAY,
    TERMINATING_KINDS,
    TRANSIT_GATEWAY,
    Inventory,
)
from flowlog_udfs.nat import BACK, FRONT, INSIDE, LEGS, NAT_KINDS, OUTSIDE, POD
from flowlog_udfs.observed import UNKNOWN_SIDE
from flowlog_udfs.outcomes import Outcomes
from flowlog_udfs.sorting import distinct

OTHER, LOAD_BALANCER = "other", "load_balancer"
_FLAGGED = (BY_SYN, BY_SYN_ACK, BY_BOTH, CARRIED)


@dataclass(frozen=True)
class Gateways:
    """Which regional NAT gateway holds a public address, and the addresses that each observer without a name showed as its own."""

    of_address: Mapping[str, str]
    shown: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, inventory: Inventory | None, interfaces: Mapping[str, Interface]) -> Gateways:
        """From the inventory's regional gateways and the day's interfaces."""
        gateways = inventory.nat_gateways if inventory else ()
        named = {address: one.nat_gateway_id for one in gateways if one.kind == REGIONAL_NAT_GATEWAY for address in one.public_addresses}
        return cls(named, {name: one.own | one.shown for name, one in interfaces.items() if one.is_regional})

    def name(self, one: Interface, address: str | None) -> str | None:
        """The id of the translator: its interface or resource id, else the inventory's name of its address, else `VPC/address`.

        Without an address only an observer that is a single gateway has a name.
        """
        if one.observer[0] != "@":
            return one.observer
        if address is not None:
            return self.of_address.get(address, f"{one.place['vpc_id'] or one.network}/{address}")
        names = {self.name(one, own) for own in self.shown.get(one.observer, ())}
        return names.pop() if len(names) == 1 else None

    def is_single(self, one: Interface) -> bool:
        """Whether all that an observer logged is one gateway's."""
        return one.observer[0] != "@" or len({self.name(one, own) for own in self.shown.get(one.observer, ())}) <= 1


@dataclass(frozen=True, eq=False)
class Legs:
    """Rows of `nat.LEGS`, and by episode the `nat_id` and leg (-1: none) that are plain without pairing."""

    table: pa.Table
    nat_ids: pa.Array
    nat_legs: Ints


def find_legs(
    done: Attributed,
    came_to: Outcomes,
    interfaces: Mapping[str, Interface],
    gateways: Gateways,
    balanced: npt.NDArray[np.uint64],
) -> Legs:
    """The legs of a partition. `balanced` are clients' ends (hashes) that a network load balancer was seen to serve."""
    rows = done.rows
    listed = [interfaces[name] for name in rows.observers.to_pylist()]
    translates = np.array([one.kind in NAT_KINDS or one.passes_on for one in listed], dtype=bool)[rows.observer]
    known = ~rows.duplicate & (rows.side != UNKNOWN_SIDE)
    own = known & ~rows.transit
    pod = own & (rows.shown >= 0)
    parts = [
        _at_observers(done, listed, gateways, INSIDE, known & rows.transit),
        _at_observers(done, listed, gateways, OUTSIDE, own & ~pod & translates),
        _at_observers(done, listed, gateways, POD, pod),
        _balanced(done, came_to, listed, balanced),
    ]
    table = joined([part.table for part in parts])
    nat_ids, legs = _plain(parts[:2], len(done.groups))
    return Legs(table, nat_ids, legs)


@dataclass(frozen=True, eq=False)
class _Part:
    """Legs of one sort: their episodes, and whether the translator's name and leg go to the connection without pairing."""

    table: pa.Table
    episode: Ints
    is_plain: Flags


def _at_observers(done: Attributed, listed: list[Interface], gateways: Gateways, leg: int, chosen: Flags) -> _Part:
    """One leg for each episode and observer of the chosen rows. Out is from the near end: the inside's, or the translator's own."""
    rows = done.rows
    if leg == INSIDE:
        chosen = _seen_once(done, chosen)
    at = np.flatnonzero(chosen)
    few = rows.take(at)
    ids = done.groups.ids[at]
    groups = Groups.of(ids, few.observer)
    first = groups.starts
    episode, observer = ids[first], few.observer[first]
    near_is_lo = few.local_is_lo[first] ^ (leg == INSIDE)
    out = few.forward == groups.spread(near_is_lo)
    answers = done.answers
    initiator, basis = answers.initiator[episode], answers.basis[episode]
    outward = np.where(initiator == UNKNOWN, -1, initiator == np.where(near_is_lo, LO, HI))
    kept = np.ones(len(first), dtype=bool)
    if leg == OUTSIDE:
        kept = ~(np.isin(basis, _FLAGGED) & (outward == 0))
    near, far = (np.where(near_is_lo == is_lo, few.lo[first], few.hi[first]) for is_lo in (True, False))
    near_port, far_port = (np.where(near_is_lo == is_lo, few.lo_port[first], few.hi_port[first]) for is_lo in (True, False))
    local = np.where(leg == INSIDE, far, near)
    shown = few.shown[first]
    nat_addr = near if leg == OUTSIDE else shown
    kinds = _kinds(listed, observer, local, few.addresses, leg)
    names = _names(gateways, listed, observer, nat_addr if leg == OUTSIDE else np.full(len(first), -1), few.addresses)
    interface_ids = codes(pa.array([one.interface_id for one in listed], pa.string()))
    single = np.array([gateways.is_single(one) for one in listed], dtype=bool)[observer]
    is_nat = np.asarray(kinds.indices) < len(NAT_KINDS)
    is_plain = is_nat & np.asarray(names.is_valid()) & ((leg == INSIDE) | (outward == 1))
    columns = {
        "connection": connection_ids(done)[episode],
        "observer": texts(observer, few.observers),
        "nat_id": names,
        "nat_kind": kinds,
        "nat_interface_id": texts(interface_ids[0][observer], interface_ids[1]),
        "leg": np.full(len(first), leg),
        "single_gateway": single,
        "near_addr": texts(near, few.addresses),
        "near_port": near_port,
        "far_addr": texts(far, few.addresses),
        "far_port": far_port,
        "protocol": few.protocol[first],
        "nat_addr": texts(nat_addr, few.addresses),
        "outward": pa.array(outward == 1, mask=outward < 0),
        "packets_out": groups.sum(np.where(out, few.packets, 0)),
        "packets_in": groups.sum(np.where(out, 0, few.packets)),
        "bytes_out": groups.sum(np.where(out, few.octets, 0)),
        "bytes_in": groups.sum(np.where(out, 0, few.octets)),
        "flags_out": _flags(groups, few.flags, out),
        "flags_in": _flags(groups, few.flags, ~out),
        "start": groups.min(few.start),
        "end": groups.max(few.end),
        "initiator_is_far": np.where(initiator == UNKNOWN, ~near_is_lo, outward == 0),
        "is_plain": is_plain,
    }
    return _Part(_legs(columns).filter(pa.array(kept)), episode[kept], is_plain[kept])


def _names(gateways: Gateways, listed: list[Interface], observer: Ints, address: Ints, addresses: pa.Array) -> pa.DictionaryArray:
    """The translator's name, for each distinct observer and address once."""
    (who, shown), place = distinct(observer, address)
    found = [gateways.name(listed[one], addresses[word].as_py() if word >= 0 else None) for one, word in zip(who, shown, strict=True)]
    code, words = codes(pa.array(found, pa.string()))
    return texts(code[place], words)


def _seen_once(done: Attributed, chosen: Flags) -> Flags:
    """Rows in transit, each direction as it came in; as it went out where it was only seen so."""
    rows = done.rows
    incoming = chosen & ~rows.at_source
    result = chosen.copy()
    views = Groups.of(done.groups.ids, rows.observer)
    for way in (rows.forward, ~rows.forward):
        came_in = views.spread(views.any(incoming & way))
        result &= ~(way & came_in & rows.at_source)
    return result


def _kinds(listed: list[Interface], observer: Ints, local: Ints, addresses: pa.Array, leg: int) -> pa.DictionaryArray:
    """The kind of translator in the words of `nat_mappings`; a guess by what passes it, where nothing says what it is.

    What passes a transit gateway keeps its addresses, so a middlebox's own leg is a NAT's.
    """
    words = (*NAT_KINDS, TRANSIT_GATEWAY, LOAD_BALANCER, "pod", OTHER)
    private = np.append(is_private(*packed(addresses)), False)
    said = []
    for one in listed:
        kind = one.kind if one.kind in (*NAT_KINDS, TRANSIT_GATEWAY) else None
        if kind is None and one.is_proxy:
            kind = LOAD_BALANCER if one.kind in TERMINATING_KINDS else OTHER
        said.append(words.index(kind) if kind else words.index(OTHER) if one.instance_id else -1)
    found = np.array(said, np.int64)[observer]
    guessed = np.where(private[local] & (leg == INSIDE), words.index(TRANSIT_GATEWAY), words.index(NAT_GATEWAY))
    chosen = np.full(len(observer), words.index("pod")) if leg == POD else np.where(found >= 0, found, guessed)
    return texts(chosen, pa.array(words))


def _balanced(done: Attributed, came_to: Outcomes, listed: list[Interface], balanced: npt.NDArray[np.uint64]) -> _Part:
    """Connections to network load balancers, and those of the same clients to what may be their targets."""
    rows, groups, answers = done.rows, done.groups, done.answers
    first = groups.starts
    is_balancer = np.array([one.kind == NETWORK_LOAD_BALANCER for one in listed], dtype=bool)[rows.observer]
    responder_is_lo = groups.spread(answers.initiator == HI)
    serves = is_balancer & ~rows.transit & ~rows.duplicate & (rows.side != UNKNOWN_SIDE) & (rows.local_is_lo == responder_is_lo)
    is_front = groups.any(serves) & (answers.initiator != UNKNOWN)
    client = np.where(answers.initiator == LO, rows.lo_end[first], rows.hi_end[first])
    is_back = ~is_front & (answers.initiator != UNKNOWN) & is_among(client, balanced)
    chosen = np.flatnonzero(is_front | is_back)
    front = is_front[chosen]
    none = len(rows.observers)
    observer = np.where(front, groups.min(np.where(serves, rows.observer, none))[chosen], -1)
    near_is_lo = answers.initiator[chosen] == HI
    start = first[chosen]
    there, back = came_to.way_there, came_to.way_back
    names = texts(observer, rows.observers)
    columns = {
        "connection": connection_ids(done)[chosen],
        "observer": names,
        "nat_id": names,
        "nat_kind": texts(np.zeros(len(chosen), np.int64), pa.array([LOAD_BALANCER])),
        "nat_interface_id": names,
        "leg": np.where(front, FRONT, BACK),
        "single_gateway": np.ones(len(chosen), dtype=bool),
        "near_addr": texts(np.where(near_is_lo, rows.lo[start], rows.hi[start]), rows.addresses),
        "near_port": np.where(near_is_lo, rows.lo_port[start], rows.hi_port[start]),
        "far_addr": texts(np.where(near_is_lo, rows.hi[start], rows.lo[start]), rows.addresses),
        "far_port": np.where(near_is_lo, rows.hi_port[start], rows.lo_port[start]),
        "protocol": rows.protocol[start],
        "nat_addr": texts(np.where(near_is_lo, rows.lo[start], rows.hi[start]), rows.addresses),
        "outward": pa.array(np.zeros(len(chosen), dtype=bool)),
        "packets_out": back.packets[chosen],
        "packets_in": there.packets[chosen],
        "bytes_out": back.octets[chosen],
        "bytes_in": there.octets[chosen],
        "flags_out": np.full(len(chosen), -1),
        "flags_in": np.full(len(chosen), -1),
        "start": groups.min(rows.start)[chosen],
        "end": groups.max(rows.end)[chosen],
        "initiator_is_far": np.ones(len(chosen), dtype=bool),
        "is_plain": np.zeros(len(chosen), dtype=bool),
    }
    return _Part(_legs(columns), chosen, np.zeros(len(chosen), dtype=bool))


def _flags(groups: Groups, flags: Ints, way: Flags) -> Ints:
    """The flags of one direction OR-ed; -1 where no row has any."""
    shown = way & (flags >= 0)
    return np.where(groups.any(shown), groups.bits(np.where(shown, flags, 0)), -1)


def _legs(columns: Mapping[str, pa.Array | npt.NDArray[np.generic]]) -> pa.Table:
    arrays = []
    for field in LEGS:
        values = columns[field.name]
        array = values if isinstance(values, pa.Array) else pa.array(values)
        arrays.append(array if array.type == field.type else array.cast(field.type))
    return pa.table(arrays, schema=LEGS)


def _plain(parts: list[_Part], episodes: int) -> tuple[pa.Array, Ints]:
    """The translation of each episode that needs no pairing: inside before outside, then the first by name."""
    legs = np.full(episodes, -1)
    names = np.full(episodes, None, dtype=object)
    for part, leg in zip(parts[::-1], (OUTSIDE_LEG, INSIDE_LEG), strict=True):
        at = np.flatnonzero(part.is_plain)
        # The first of an episode's observers by name is written last.
        at = at[::-1]
        names[part.episode[at]] = np.array(part.table.column("nat_id").cast(pa.string()).to_pylist(), dtype=object)[at]
        legs[part.episode[at]] = leg
    return pa.array(names, pa.string()), legs
