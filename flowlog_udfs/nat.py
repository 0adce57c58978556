"""Who is behind which translated address: the legs that translators logged, paired, as rows of table `nat_mappings`.

Episodes are paired, not records. The two legs of a translated connection meet the same remote end at the same translator, start and end
within two minutes of each other, and carry the same packets, bytes and flags each way; the windows in which they were logged need not
coincide. Where k legs fit, each is one of k candidates. A leg without a partner still tells who talked to whom.

In: rows of `LEGS`, in whole talks (`talk_hashes`). Out: rows of `NAT_MAPPINGS`, and of `MARKS` for the connections they are made of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.addresses import packed, without_nat64
from flowlog_udfs.columns import Flags, Groups, Ints, codes, equals, is_among, mixed, numbers, shared_codes, texts
from flowlog_udfs.connections import NAT_LEGS
from flowlog_udfs.inventory import NAT_GATEWAY, REGIONAL_NAT_GATEWAY
from flowlog_udfs.nat_pairs import HOP, LEFT, METHODS, NEAR, PACKET_LEVEL, Legs, Pairs, balanced, joined, translated
from flowlog_udfs.sorting import sort_by

_TEXT = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("us", "UTC")

INSIDE, OUTSIDE, POD, FRONT, BACK = range(5)
"""Sorts of legs: from a NAT's inside, from its own address, behind a node's address, to a balancer, to a balancer's target."""

LEGS = pa.schema(
    [
        ("connection", pa.int64()),
        ("observer", _TEXT),  # the translator as logged: interface, a regional gateway's id, or `@VPC/..` where it has no name
        ("nat_id", _TEXT),  # null where the leg cannot tell which gateway it passed
        ("nat_kind", _TEXT),
        ("nat_interface_id", _TEXT),
        ("leg", pa.int8()),
        ("single_gateway", pa.bool_()),  # false: the observer is several regional gateways that cannot be told apart
        ("near_addr", _TEXT),  # the inside, or the translator's own end; of balancers the one that the client connects to
        ("near_port", pa.int32()),  # -1: none, as for the far one
        ("far_addr", _TEXT),  # the remote end; of balancers the client
        ("far_port", pa.int32()),
        ("protocol", pa.int32()),
        ("nat_addr", _TEXT),  # what the translator shows on this leg: its own end, its address towards the inside, the node's address
        ("outward", pa.bool_()),  # whether the near end initiated; null where nobody is known to have
        ("initiator_is_far", pa.bool_()),  # the connection names the far end first: the inside, where nothing is translated
        ("packets_out", pa.int64()),  # from the near end to the far one
        ("packets_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("bytes_in", pa.int64()),
        ("flags_out", pa.int32()),  # TCP flags OR-ed; -1: none logged
        ("flags_in", pa.int32()),
        ("start", pa.int64()),  # Unix seconds
        ("end", pa.int64()),
        ("is_plain", pa.bool_()),  # the connection has its translation already, and needs no mark
    ]
)

NAT_MAPPINGS = pa.schema(
    [
        ("nat_id", _TEXT),
        ("nat_kind", _TEXT),
        ("nat_interface_id", _TEXT),
        ("nat_addr", _TEXT),
        ("nat_port", pa.int32()),
        ("inside_addr", _TEXT),
        ("inside_port", pa.int32()),
        ("remote_addr", _TEXT),
        ("remote_port", pa.int32()),
        ("protocol", pa.int32()),
        ("bytes_out", pa.int64()),  # as the inside leg logged them, and so the times
        ("bytes_in", pa.int64()),
        ("first_start", _TIME),
        ("last_end", _TIME),
        ("candidates", pa.int64()),
        ("method", _TEXT),
        ("confidence", pa.float64()),
    ]
)
MARKS = pa.schema([("connection", pa.int64()), ("nat_id", pa.string()), ("nat_leg", pa.string())])

UNPAIRED = METHODS[LEFT]
NAT_KINDS = (NAT_GATEWAY, REGIONAL_NAT_GATEWAY)
SURE, NEARLY_SURE = 0.95, 0.8
"""Confidence in the only pair that fits: exactly, or but for packets that one side did not log."""

MICROSECONDS = 1_000_000
_OF_TRANSLATOR = ("nat_id", "nat_kind", "nat_interface_id", "nat_addr")


def talk_hashes(legs: pa.Table) -> npt.NDArray[np.uint64]:
    """A hash of each leg's talk, the same on every machine; legs that may be paired have one talk.

    That is the observer, the protocol and the remote end, with the IPv4 address inside a NAT64 one (RFC 6052). Of balancers it is the
    client's end and the protocol only, as the two legs are logged at different interfaces.
    """
    observer, names = codes(legs.column("observer"))
    hashed = [int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True) for name in names.to_pylist()]
    is_balanced = np.isin(numbers(legs.column("leg"), -1), (FRONT, BACK))
    translator = np.where(is_balanced, -1, np.array([*hashed, 0], np.int64)[observer])
    high, low = without_nat64(*packed(legs.column("far_addr")))
    return mixed(translator, high, low, numbers(legs.column("far_port"), -1), numbers(legs.column("protocol"), -1), is_balanced)


def map_legs(legs: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Rows of `NAT_MAPPINGS` and of `MARKS` from whole talks of `LEGS`; the order of the legs changes nothing.

    An inside leg has a row for each outside leg that fits it, with confidence 0.95 for the only one, 1/k for one of k, and 0.8 at most
    where packets are missing; above `MAX_CANDIDATES` one row without NAT port, whose address is that of all outside legs of the talk, or
    null. Of several gateways that cannot be told apart only the sole partner is taken. An inside leg left over is `unpaired` at a NAT and
    wherever the talk has an outside leg, else a `hop`. A pod's leg is its node's translation (`packet-level`), and a connection to a
    balancer's target that of the connection to the balancer (`client-preserved`).

    Marks: inside legs of a translation, their outside legs, and outside legs that a NAT opened itself, unless they are plain; inside goes
    before outside, then the first `nat_id` by name.
    """
    view = _View.of(legs)
    found = joined(translated(view.legs, *view.of_sorts(INSIDE, OUTSIDE)), balanced(view.legs, *view.of_sorts(BACK, FRONT)))
    found = _without_doubt(view, found)
    rows = [_pair_rows(view, found), _crowd_rows(view, found), *_single_rows(view, found)]
    return _mappings(view, rows), _marks(view, found, rows)


@dataclass(frozen=True, eq=False)
class _View:
    """The legs in an order of their own, so that whatever is first is first however they came."""

    table: pa.Table
    legs: Legs
    sort: Ints
    is_nat: Flags
    translator: Mapping[str, Ints]  # codes of the columns that name it

    @classmethod
    def of(cls, table: pa.Table) -> _View:
        talk, times = talk_hashes(table).view(np.int64), [numbers(table.column(name), -1) for name in ("start", "end")]
        order = sort_by(*times, talk, *(numbers(table.column(name), -1) for name in ("leg", "connection")))
        table, talk = table.take(order).combine_chunks(), talk[order]

        def column(name: str) -> Ints:
            return numbers(table.column(name), -1)

        far, addresses = codes(table.column("far_addr"))
        high, low = packed(addresses)
        is_nat64 = np.append(without_nat64(high, low)[0] != high, False)[far]
        legs = Legs(
            talk=talk,
            connection=column("connection"),
            near=codes(table.column("near_addr"))[0],
            far_port=column("far_port"),
            is_nat64=is_nat64,
            packets=(column("packets_out"), column("packets_in")),
            octets=(column("bytes_out"), column("bytes_in")),
            flags=(column("flags_out"), column("flags_in")),
            start=column("start"),
            end=column("end"),
        )
        is_nat = np.logical_or.reduce([equals(table.column("nat_kind"), kind) for kind in NAT_KINDS])
        return cls(table, legs, column("leg"), is_nat, {name: codes(table.column(name))[0] for name in _OF_TRANSLATOR})

    def column(self, name: str) -> Ints:
        return numbers(self.table.column(name), -1)

    def of_sorts(self, *sorts: int) -> list[Ints]:
        return [np.flatnonzero(self.sort == sort) for sort in sorts]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows to be of `nat_mappings`: the leg with the inside and the remote end, the translator's codes, and how sure it is."""

    leg: Ints
    translator: Mapping[str, Ints]
    nat_port: Ints
    candidates: Ints
    method: Ints
    confidence: npt.NDArray[np.float64]
    is_turned: Flags  # the far end is the inside


def _without_doubt(view: _View, found: Pairs) -> Pairs:
    """Pairs without those between gateways that cannot be told apart, but for sole partners."""
    is_single = view.column("single_gateway") == 1
    kept = np.flatnonzero((is_single[found.inside] & is_single[found.outside]) | (found.candidates == 1))
    crowded = np.flatnonzero(is_single[found.crowded])
    is_paired = found.is_paired & is_single
    is_paired[found.inside[kept]] = True
    is_paired[found.outside[kept]] = True
    pairs = {name: getattr(found, name)[kept] for name in ("inside", "outside", "candidates", "method")}
    crowd = {name: getattr(found, name)[crowded] for name in ("crowded", "crowd", "crowd_method")}
    return Pairs(**pairs, **crowd, is_paired=is_paired)


def _pair_rows(view: _View, found: Pairs) -> _Rows:
    translator = {name: column[found.outside] for name, column in view.translator.items()}
    is_alike = np.logical_and.reduce([way[found.inside] == way[found.outside] for way in view.legs.packets])
    single = np.where(is_alike & (found.method != NEAR), SURE, NEARLY_SURE)
    confidence = np.where(found.candidates == 1, single, 1 / np.maximum(found.candidates, 1))
    turned = np.zeros(len(found.inside), dtype=bool)
    return _Rows(found.inside, translator, view.column("near_port")[found.outside], found.candidates, found.method, confidence, turned)


def _crowd_rows(view: _View, found: Pairs) -> _Rows:
    """One row for an inside leg with many partners; of the translator it says what all outside legs of the talk say."""
    at = np.flatnonzero(np.isin(view.sort, (OUTSIDE, FRONT)))
    at = at[np.argsort(view.legs.talk[at], kind="stable")]
    talks = Groups.of(view.legs.talk[at])
    talk = np.searchsorted(view.legs.talk[at][talks.starts], view.legs.talk[found.crowded])
    translator = {}
    for name, column in view.translator.items():
        low, high = talks.min(column[at])[talk], talks.max(column[at])[talk]
        translator[name] = np.where(low == high, low, -1)
    none = np.full(len(talk), -1)
    return _Rows(found.crowded, translator, none, found.crowd, found.crowd_method, 1 / np.maximum(found.crowd, 1), none == 0)


def _single_rows(view: _View, found: Pairs) -> list[_Rows]:
    """Rows of legs without a partner, and of pods."""
    inside, outside, pods = view.of_sorts(INSIDE, OUTSIDE, POD)
    left = inside[~found.is_paired[inside]]
    is_translated = view.is_nat[left] | is_among(view.legs.talk[left], np.unique(view.legs.talk[outside]))
    near_port, far_port = view.column("near_port"), view.column("far_port")
    is_turned = view.column("initiator_is_far") == 1
    rows = []
    for method, at in ((LEFT, left[is_translated]), (HOP, left[~is_translated]), (PACKET_LEVEL, pods)):
        turned = is_turned[at] & (method == HOP)
        port = np.full(len(at), -1) if method == LEFT else np.where(turned, far_port[at], near_port[at])
        candidates = np.full(len(at), 0 if method == LEFT else 1)
        translator = {name: column[at] for name, column in view.translator.items()}
        rows.append(_Rows(at, translator, port, candidates, np.full(len(at), method), np.ones(len(at)), turned))
    return rows


def _mappings(view: _View, parts: Sequence[_Rows]) -> pa.Table:
    """Rows of `NAT_MAPPINGS` in the order of their legs: by the inside leg's start."""

    def whole(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    # Parts are ordered in themselves, and the sort keeps that.
    order = np.argsort(whole("leg"), kind="stable")
    leg, turned = whole("leg")[order], whole("is_turned")[order]

    def either(name: str, other: str) -> Ints:
        return np.where(turned, view.column(other)[leg], view.column(name)[leg])

    (near, far), addresses = shared_codes(view.table.column("near_addr"), view.table.column("far_addr"))
    columns: dict[str, Any] = {
        "inside_addr": texts(np.where(turned, far[leg], near[leg]), addresses),
        "inside_port": _known(either("near_port", "far_port")),
        "remote_addr": texts(np.where(turned, near[leg], far[leg]), addresses),
        "remote_port": _known(either("far_port", "near_port")),
        "nat_port": _known(whole("nat_port")[order]),
        "protocol": _known(view.column("protocol")[leg]),
        "bytes_out": either("bytes_out", "bytes_in"),
        "bytes_in": either("bytes_in", "bytes_out"),
        "first_start": view.legs.start[leg] * MICROSECONDS,
        "last_end": view.legs.end[leg] * MICROSECONDS,
        "candidates": whole("candidates")[order],
        "method": texts(whole("method")[order], pa.array(METHODS)),
        "confidence": whole("confidence")[order],
    }
    for name in _OF_TRANSLATOR:
        found = np.concatenate([part.translator[name] for part in parts])[order]
        columns[name] = texts(found, codes(view.table.column(name))[1])
    return pa.table([pa.array(columns[field.name]).cast(field.type) for field in NAT_MAPPINGS], NAT_MAPPINGS)


def _known(values: Ints) -> pa.Array:
    return pa.array(values, mask=values < 0)


def _marks(view: _View, found: Pairs, parts: Sequence[_Rows]) -> pa.Table:
    """One row of `MARKS` for each connection with a leg of a translation that it does not know yet."""
    inside = []
    for part in parts:
        is_leg = ~np.isin(part.method, (HOP, PACKET_LEVEL))
        inside.append((part.leg[is_leg], part.translator["nat_id"][is_leg]))
    opened = (view.sort == OUTSIDE) & view.is_nat & (view.column("outward") == 1)
    at = np.flatnonzero(opened | (np.isin(view.sort, (OUTSIDE, FRONT)) & found.is_paired))
    leg, name = (np.concatenate(column) for column in zip(*inside, (at, view.translator["nat_id"][at]), strict=True))
    is_outside = np.arange(len(leg)) >= len(leg) - len(at)
    new = view.column("is_plain")[leg] != 1
    leg, name, is_outside = leg[new], name[new], is_outside[new]
    words = codes(view.table.column("nat_id"))[1]
    # By name, and no name last: code -1 picks the last rank.
    rank = np.append(np.argsort(np.argsort(np.array(words.to_pylist(), dtype=str), kind="stable")), len(words))
    connection = view.legs.connection[leg]
    order = sort_by(connection, is_outside, rank[name])
    chosen = order[Groups.of(connection[order]).starts]
    columns = [
        pa.array(connection[chosen]),
        texts(name[chosen], words).cast(pa.string()),
        pa.array(NAT_LEGS).take(pa.array(is_outside[chosen].astype(np.int64))),
    ]
    return pa.table(columns, MARKS)
