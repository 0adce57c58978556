"""The two legs of a translated connection: which inside leg of a NAT is which outside leg.

Episodes are paired, not records. Both legs have the same NAT, protocol and remote end, start and end within two minutes of each other, and
carry the same packets and bytes each way; the windows in which they were logged need not coincide. `k` legs alike on either side are `k`
candidates for each, with a confidence of one in `k`. What is left on one side only is matched by time alone if there is just one choice.

In: rows of `LEGS`. Out: rows of `PAIRS`, by place in the legs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flowlog_udfs.columns import Flags, Groups, Ints, codes, numbers, sort_by

LEGS = pa.schema(
    [
        ("gateway", pa.dictionary(pa.int32(), pa.string())),  # the NAT: interface, or regional gateway
        ("protocol", pa.int32()),
        ("remote_addr", pa.dictionary(pa.int32(), pa.string())),
        ("remote_port", pa.int32()),
        ("is_inside", pa.bool_()),
        ("outward", pa.bool_()),  # whether the near end, inside or the NAT, initiated; null where unknown
        ("packets_out", pa.int64()),  # from the near end to the remote one
        ("packets_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("bytes_in", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("is_translated_family", pa.bool_()),  # NAT64: bytes differ by the headers, so they do not compare
    ]
)

SAME_SIZES, TIME_ALONE, UNPAIRED = "same-sizes", "time-alone", "unpaired"
METHODS = (SAME_SIZES, TIME_ALONE, UNPAIRED)

TOLERANCE = 120
"""Seconds by which the two legs may start, and end, apart."""
SURE, BY_TIME = 0.95, 0.8
SIZE_TOLERANCE = 0.1
"""By how much packets may differ where a leg lost some: a reset or a time-out is logged on one leg only."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of legs: places of the inside and the outside leg (-1: none found), how many were alike, method and confidence."""

    inside: Ints
    outside: Ints
    candidates: Ints
    method: Ints
    confidence: npt.NDArray[np.float64]


def pair(legs: pa.Table) -> Pairs:
    """Pair the legs of `LEGS`; every inside leg has at least one row, an unpaired one without an outside leg."""
    view = _Legs.of(legs)
    inside, outside, alike = _by_sizes(view)
    left = np.ones(len(view.start), dtype=bool)
    left[inside] = False
    left[outside] = False
    late_inside, late_outside = _by_time(view, left)
    left[late_inside] = False
    alone = np.flatnonzero(left & view.is_inside)
    sizes = (len(inside), len(late_inside), len(alone))
    return Pairs(
        inside=np.concatenate((inside, late_inside, alone)),
        outside=np.concatenate((outside, late_outside, np.full(len(alone), -1))),
        candidates=np.concatenate((alike, np.ones(len(late_inside), np.int64), np.zeros(len(alone), np.int64))),
        method=np.repeat(np.arange(len(METHODS)), sizes),
        confidence=np.concatenate((np.where(alike == 1, SURE, 1 / np.maximum(alike, 1)), np.full(sizes[1], BY_TIME), np.zeros(sizes[2]))),
    )


@dataclass(frozen=True)
class _Legs:
    """The legs as arrays; `talk` numbers the distinct (NAT, protocol, remote end, who initiated), `size` the distinct volumes."""

    talk: Ints
    size: Ints
    is_inside: Flags
    packets: Ints
    start: Ints
    end: Ints

    @classmethod
    def of(cls, legs: pa.Table) -> _Legs:
        def column(name: str) -> Ints:
            return numbers(legs.column(name), -1)

        talk = _numbered(
            codes(legs.column("gateway"))[0],
            column("protocol"),
            codes(legs.column("remote_addr"))[0],
            column("remote_port"),
            column("outward"),
        )
        compares_bytes = column("is_translated_family") != 1
        sizes = [np.where(compares_bytes, column(name), -1) for name in ("bytes_out", "bytes_in")]
        size = _numbered(talk, column("packets_out"), column("packets_in"), *sizes)
        packets = column("packets_out") + column("packets_in")
        return cls(talk, size, column("is_inside") == 1, packets, column("start"), column("end"))


def _numbered(*parts: Ints) -> Ints:
    order = sort_by(*parts)
    number = np.empty(len(order), np.int64)
    number[order] = Groups.of(*(part[order] for part in parts)).ids
    return number


def _by_sizes(view: _Legs) -> tuple[Ints, Ints, Ints]:
    """Legs of one talk and size whose times agree: all pairs of inside and outside legs within a cluster, and how many were alike."""
    order = sort_by(view.size, view.start)
    cluster = _clusters(view.size[order], view.start[order], view.end[order])
    return _pairs_within(order, cluster, view)


def _clusters(group: Ints, start: Ints, end: Ints) -> Ints:
    """Legs of a group that start within the tolerance of the one before, numbered; rows are sorted by group and start.

    Legs that start together but end apart are told apart by their ends.
    """
    chained = np.zeros(len(group), np.int64)
    chained[1:] = (group[1:] != group[:-1]) | (start[1:] - start[:-1] > TOLERANCE)
    by_start = np.cumsum(chained)
    again = sort_by(by_start, end)
    apart = np.zeros(len(group), np.int64)
    apart[1:] = (by_start[again][1:] != by_start[again][:-1]) | (end[again][1:] - end[again][:-1] > TOLERANCE)
    result = np.empty(len(group), np.int64)
    result[again] = np.cumsum(apart)
    return result


def _pairs_within(order: Ints, cluster: Ints, view: _Legs) -> tuple[Ints, Ints, Ints]:
    """Every inside leg with every outside leg of its cluster, where both sides have as many."""
    inside = order[view.is_inside[order]]
    outside = order[~view.is_inside[order]]
    in_cluster, out_cluster = cluster[view.is_inside[order]], cluster[~view.is_inside[order]]
    by_in, by_out = np.argsort(in_cluster, kind="stable"), np.argsort(out_cluster, kind="stable")
    inside, in_cluster, outside, out_cluster = inside[by_in], in_cluster[by_in], outside[by_out], out_cluster[by_out]
    first = np.searchsorted(out_cluster, in_cluster)
    partners = np.searchsorted(out_cluster, in_cluster, side="right") - first
    rivals = np.searchsorted(in_cluster, in_cluster, side="right") - np.searchsorted(in_cluster, in_cluster)
    # Unequal numbers mean that a leg is missing or belongs to another: each inside leg keeps all its candidates.
    alike = np.maximum(partners, rivals)
    repeats = np.where(partners > 0, partners, 0)
    offset = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return np.repeat(inside, repeats), outside[np.repeat(first, repeats) + offset], np.repeat(alike, repeats)


def _by_time(view: _Legs, left: Flags) -> tuple[Ints, Ints]:
    """One inside and one outside leg left in a stretch of time, alike in size but for what one leg lost."""
    legs = np.flatnonzero(left)
    order = legs[sort_by(view.talk[legs], view.start[legs])]
    cluster = _clusters(view.talk[order], view.start[order], view.end[order])
    inside, outside, alike = _pairs_within(order, cluster, view)
    near = np.abs(view.packets[inside] - view.packets[outside]) <= 1 + SIZE_TOLERANCE * view.packets[inside]
    single = (alike == 1) & near
    return inside[single], outside[single]
