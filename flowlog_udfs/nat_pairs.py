"""Which two legs are two sides of one translated connection: pairs of an inside and an outside leg that fit each other.

Legs fit where they are of one talk, started within `TOLERANCE` of each other, and agree in what both sides must have seen. The legs of a
talk that agree are sorted by start, so each leg's partners lie in one window. Windows of at most `WIDEST` legs are looked through pair by
pair. A crowd, such as health checks or a resolver's answers, has wider windows: two legs that both have one count as fitting by start
alone, as there are far more than `MAX_CANDIDATES` of them anyway, and no pair of a crowd is ever written out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import product

import numpy as np

from flowlog_udfs.columns import Flags, Ints, is_among, mixed, spans
from flowlog_udfs.sorting import sort_by
from flowlog_udfs.tcp_flags import resets

Fits = Callable[[Ints, Ints], Flags]

TOLERANCE = 120
"""Seconds by which the two legs may start, and end, apart: two aggregation windows of a minute, or clocks that differ."""
MAX_CANDIDATES = 8
"""With more partners than that a pair says nothing of the port, only that there was a translation."""
WIDEST = 256
"""Partners in a leg's window that are looked at one by one."""
LOST_PACKETS = 2
"""By how many packets legs may differ each way: a reset after a time-out is logged on one leg only."""
PACKET_BYTES = 60
"""The most bytes of a RST that one side did not log: the headers of IPv6 and TCP without options."""
EDGES_AT_ONCE = 1 << 22
"""Pairs held in memory while they are looked at."""

METHODS = ("exact", "alike", "near", "client-preserved", "packet-level", "hop", "unpaired")
EXACT, ALIKE, NEAR, CLIENT_PRESERVED, PACKET_LEVEL, HOP, LEFT = range(len(METHODS))


@dataclass(frozen=True, eq=False)
class Legs:
    """What pairing compares, one entry a leg; out is from the near to the far end, times are Unix seconds, -1 is unknown."""

    talk: Ints  # a hash
    connection: Ints
    near: Ints  # a code of the near address
    far_port: Ints
    is_nat64: Flags  # the headers of the two sides differ in size, so bytes do not compare
    packets: tuple[Ints, Ints]  # out, in
    octets: tuple[Ints, Ints]
    flags: tuple[Ints, Ints]
    start: Ints
    end: Ints


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of legs by place, with how many partners fit (the more of both sides') and a place in `METHODS`.

    An inside leg with a partner among more than `MAX_CANDIDATES` is in `crowded`, once, with the greatest number of them. `is_paired` tells
    of every leg whether it has a partner.
    """

    inside: Ints
    outside: Ints
    candidates: Ints
    method: Ints
    crowded: Ints
    crowd: Ints
    crowd_method: Ints
    is_paired: Flags


def translated(legs: Legs, inside: Ints, outside: Ints) -> Pairs:
    """Pair the inside legs of NATs with their outside legs, by what both logged; those that nothing fits exactly, by what nearly fits.

    Exact: equal packets, bytes (not for NAT64) and flags both ways. Near: packets differ by at most `LOST_PACKETS` each way, bytes by at
    most `PACKET_BYTES` for each of them, and in a way that differs the leg with more shows a RST.
    """
    inside, outside = (at[legs.far_port[at] >= 0] for at in (inside, outside))
    exact = _paired(len(legs.talk), _exact(legs, *_in_talk(legs, inside, outside)), EXACT, ALIKE)
    inside, outside = (at[~exact.is_paired[at]] for at in (inside, outside))
    return joined(exact, _paired(len(legs.talk), _near(legs, *_in_talk(legs, inside, outside)), NEAR, NEAR))


def balanced(legs: Legs, back: Ints, front: Ints) -> Pairs:
    """Pair connections of clients to targets with those of the same client's end to a balancer, another address, by their starts."""

    def fits(target: Ints, balancer: Ints) -> Flags:
        return legs.near[target] != legs.near[balancer]

    back, front = _in_talk(legs, back, front)
    one = _Join.of(legs, (back, legs.talk[back]), (front, legs.talk[front]), fits)
    return _paired(len(legs.talk), [one], CLIENT_PRESERVED, CLIENT_PRESERVED)


def joined(one: Pairs, other: Pairs) -> Pairs:
    """Pairs of different legs of one table, as one."""
    both = {field.name: np.concatenate((getattr(one, field.name), getattr(other, field.name))) for field in fields(Pairs)}
    return Pairs(**{**both, "is_paired": one.is_paired | other.is_paired})


def _in_talk(legs: Legs, inside: Ints, outside: Ints) -> tuple[Ints, Ints]:
    """Legs whose talk has both sides; a NAT that logs one side only costs nothing."""
    with_inside, with_outside = np.unique(legs.talk[inside]), np.unique(legs.talk[outside])
    return inside[is_among(legs.talk[inside], with_outside)], outside[is_among(legs.talk[outside], with_inside)]


def _exact(legs: Legs, inside: Ints, outside: Ints) -> list[_Join]:
    joins = []
    for is_nat64 in (False, True):
        sizes = legs.packets if is_nat64 else (*legs.packets, *legs.octets)
        compared = (legs.talk, *sizes, *legs.flags)
        some = inside[legs.is_nat64[inside] == is_nat64]
        keyed = [(at, _hashed(*(column[at] for column in compared))) for at in (some, outside)]
        joins.append(_Join.of(legs, keyed[0], keyed[1], _ends_fit(legs)))
    return joins


def _near(legs: Legs, inside: Ints, outside: Ints) -> list[_Join]:
    """One join for each difference in packets, so that legs of other sizes, however many, are not even looked at."""
    differences = range(-LOST_PACKETS, LOST_PACKETS + 1)
    has_reset = [resets(flags) for flags in legs.flags]
    joins = []
    for more in product(differences, differences):  # packets that the inside leg has more than the outside one, out and in
        some, others = inside, outside
        for way in (0, 1):
            some = some[has_reset[way][some]] if more[way] > 0 else some
            others = others[has_reset[way][others]] if more[way] < 0 else others
        for is_nat64 in (False, True):
            chosen = some[legs.is_nat64[some] == is_nat64]
            if not (len(chosen) and len(others)):
                continue
            # Where a way's packets are equal its bytes are too, and may be part of the key.
            sizes = [] if is_nat64 else [legs.octets[way] for way in (0, 1) if more[way] == 0]
            keyed = [
                (at, _hashed(legs.talk[at], *(legs.packets[way][at] - less[way] for way in (0, 1)), *(column[at] for column in sizes)))
                for at, less in ((chosen, more), (others, (0, 0)))
            ]
            slack = None if is_nat64 else (PACKET_BYTES * abs(more[0]), PACKET_BYTES * abs(more[1]))
            joins.append(_Join.of(legs, keyed[0], keyed[1], _ends_fit(legs, slack)))
    return joins


def _hashed(*columns: Ints) -> Ints:
    return mixed(*columns).view(np.int64)


def _ends_fit(legs: Legs, slack: tuple[int, int] | None = None) -> Fits:
    """Whether two legs of one key end together and are different connections, and their bytes differ by `slack` at most, out and in."""

    def fits(one: Ints, other: Ints) -> Flags:
        found = (np.abs(legs.end[one] - legs.end[other]) <= TOLERANCE) & (legs.connection[one] != legs.connection[other])
        for octets, most in zip(legs.octets, slack or (), strict=False):
            found &= np.abs(octets[one] - octets[other]) <= most
        return found

    return fits


@dataclass(frozen=True, eq=False)
class _Side:
    """The legs of one side, sorted by key and start, and the window of each among the other side's."""

    legs: Ints
    first: Ints
    last: Ints

    def chunks(self, chosen: Flags) -> Iterator[tuple[Ints, Ints]]:
        """Pairs of a chosen leg and a place in its window, few enough at once."""
        at = np.flatnonzero(chosen & (self.last > self.first))
        total = np.cumsum(self.last[at] - self.first[at])
        cuts = np.searchsorted(total, np.arange(EDGES_AT_ONCE, total[-1] if len(at) else 0, EDGES_AT_ONCE))
        for some in np.split(at, cuts):
            which, place = spans(self.first[some], self.last[some])
            yield self.legs[some[which]], place

    def crowd(self, other: _Side, is_wide: Flags) -> Ints:
        """How many legs with a wide window are in the window of each leg that has one itself."""
        before = np.concatenate(([0], np.cumsum(is_wide[other.legs])))
        return np.where(is_wide[self.legs], before[self.last] - before[self.first], 0)


@dataclass(frozen=True, eq=False)
class _Join:
    """Legs of both sides that may be pairs: they share a key and started within `TOLERANCE`; `fits` says which of them are."""

    inside: _Side
    outside: _Side
    fits: Fits

    @classmethod
    def of(cls, legs: Legs, inside: tuple[Ints, Ints], outside: tuple[Ints, Ints], fits: Fits) -> _Join:
        keys, times = np.intersect1d(inside[1], outside[1]), np.unique(legs.start)
        sides = []
        for at, key in (inside, outside):
            shared = is_among(key, keys)
            at, key = at[shared], key[shared]
            order = sort_by(key, legs.start[at])
            sides.append((at[order], np.searchsorted(keys, key[order]) * (len(times) + 1)))
        # Starts as ranks: key and start then fit into one number, whatever times a log may claim.
        ranked = [group + np.searchsorted(times, legs.start[at]) for at, group in sides]
        windows = []
        for (at, group), other in zip(sides, ranked[::-1], strict=True):
            low = np.searchsorted(times, legs.start[at] - TOLERANCE)
            high = np.searchsorted(times, legs.start[at] + TOLERANCE, side="right")
            windows.append(_Side(at, np.searchsorted(other, group + low), np.searchsorted(other, group + high)))
        return cls(windows[0], windows[1], fits)

    def edges(self, is_wide: Flags) -> Iterator[tuple[Ints, Ints]]:
        """Pairs that fit, of which at least one leg has no wide window; each once."""
        for inside, place in self.inside.chunks(~is_wide[self.inside.legs]):
            yield self._fitting(inside, self.outside.legs[place])
        for outside, place in self.outside.chunks(~is_wide[self.outside.legs]):
            inside = self.inside.legs[place]
            new = is_wide[inside]
            yield self._fitting(inside[new], outside[new])

    def _fitting(self, inside: Ints, outside: Ints) -> tuple[Ints, Ints]:
        found = self.fits(inside, outside)
        return inside[found], outside[found]


def _paired(rows: int, joins: Sequence[_Join], single: int, several: int) -> Pairs:
    """Count each leg's partners over joins that share no pair, then take the pairs that have few."""
    width = np.zeros(rows, np.int64)
    for join in joins:
        for side in (join.inside, join.outside):
            width[side.legs] += side.last - side.first
    is_wide = width > WIDEST
    partners = np.zeros(rows, np.int64)
    for join in joins:
        for edge in join.edges(is_wide):
            for at in edge:
                partners += np.bincount(at, minlength=rows) if len(at) else 0
        for side, other in ((join.inside, join.outside), (join.outside, join.inside)):
            partners[side.legs] += side.crowd(other, is_wide)

    # What was looked at is looked at again rather than kept: most pairs turn out to be one of many.
    found: list[tuple[Ints, Ints, Ints]] = [(np.empty(0, np.int64),) * 3]
    crowd = np.zeros(rows, np.int64)
    for join in joins:
        for inside, outside in join.edges(is_wide):
            candidates = np.maximum(partners[inside], partners[outside])
            few = candidates <= MAX_CANDIDATES
            found.append((inside[few], outside[few], candidates[few]))
            np.maximum.at(crowd, inside[~few], candidates[~few])
        unseen = join.inside.legs[join.inside.crowd(join.outside, is_wide) > 0]
        crowd[unseen] = np.maximum(crowd[unseen], np.maximum(partners[unseen], MAX_CANDIDATES + 1))
    inside, outside, candidates = (np.concatenate(part) for part in zip(*found, strict=True))
    crowded = np.flatnonzero(crowd)
    method = np.where(candidates == 1, single, several)
    return Pairs(inside, outside, candidates, method, crowded, crowd[crowded], np.full(len(crowded), several), partners > 0)
