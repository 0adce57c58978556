"""Each byte once: of all interfaces that logged a direction of a connection, the one whose rows count, for each stretch of time.

The sender's interface comes first, then the receiver's, then one whose side is unknown, then a middlebox. Where another saw more than 1 %
and more than 2 packets more, that one is used and the difference is the shortfall. The others count only for the time in which all before
them were not logged at all. What nobody saw is never imputed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flowlog_udfs.columns import Flags, Groups, Ints
from flowlog_udfs.episodes import CLOCK_TOLERANCE
from flowlog_udfs.interfaces import NEVER, Stretches
from flowlog_udfs.observed import TRANSIT, Rows
from flowlog_udfs.sorting import sort_by

SHORTFALL_SHARE, SHORTFALL_PACKETS = 0.01, 2


@dataclass(frozen=True)
class Watch:
    """When each observer was logged at all: stretches of all observers one after the other, in doubled seconds."""

    observer: Ints
    start: Ints
    end: Ints
    _span: int

    @classmethod
    def of(cls, watched: Sequence[Stretches]) -> Watch:
        """The stretches of the observers, by their place."""
        start, end = 2 * np.concatenate([NEVER, *watched], axis=1)
        observer = np.repeat(np.arange(len(watched)), [one.shape[1] for one in watched])
        return cls(observer, start, end, int(end.max(initial=0)) + 8 * CLOCK_TOLERANCE)

    def next(self, observer: Ints, middle: Ints) -> Ints:
        """The first stretch of all that ends at or after each (doubled) time: it names the hole that the time may lie in."""
        return np.searchsorted(self.observer * self._span + self.end, observer * self._span + np.minimum(middle, self._span - 1))

    def covers(self, observer: Ints, middle: Ints, tolerance: int = 0) -> Flags:
        """Whether each time lies in a stretch of its observer, widened by a tolerance in seconds on both sides."""
        after = self.next(observer, middle)
        here = np.append(self.observer, -1)[after] == observer
        covered = here & (np.append(self.start, 0)[after] - 2 * tolerance <= middle)
        before = np.maximum(after - 1, 0)
        if tolerance and len(self.observer):
            covered |= (after > 0) & (self.observer[before] == observer) & (self.end[before] + 2 * tolerance >= middle)
        return covered


@dataclass(frozen=True)
class Chosen:
    """For each row whether it counts; for each stream (episode and direction) by how much its preferred observer fell short."""

    counts: Flags
    shortfall_packets: Ints
    shortfall_bytes: Ints


def choose(rows: Rows, stream: Ints, watch: Watch) -> Chosen:
    """Choose the rows that count. `stream` numbers the episodes' directions from 0; rows may be in any order.

    A middlebox that translates nothing logs each packet twice, so what comes in and what goes out are two views of it.
    """
    role = rows.role
    way = ((role == TRANSIT) & rows.at_source).astype(np.int64)
    order = sort_by(stream, role, rows.observer, way)
    views = Groups.of(stream[order], role[order], rows.observer[order], way[order])
    view = np.empty(rows.count, np.int64)
    view[order] = views.ids
    first = order[views.starts]
    packets, octets = views.sum(rows.packets[order]), views.sum(rows.octets[order])
    of_stream, observer = stream[first], rows.observer[first]
    rank, used, preferred, streams = _ranked(of_stream, role[first], observer, way[first], packets)

    counts = (rank == 0)[view]
    middle = rows.start + rows.end
    others = np.flatnonzero(~counts)
    leader = observer[used][np.searchsorted(of_stream[used], stream[others])]
    waiting = others[~watch.covers(leader, middle[others])]
    if len(waiting):
        by_rank = sort_by(of_stream, rank)
        leads = np.searchsorted(of_stream[by_rank], stream[waiting])
        places = rank[view[waiting]]
        for turn in range(1, int(places.max()) + 1):
            mine, lead = waiting[places == turn], leads[places == turn]
            for earlier in range(turn):
                kept = _fills(view[mine], middle[mine], observer[by_rank[lead + earlier]], watch)
                mine, lead = mine[kept], lead[kept]
            counts[mine] = True

    lacking = np.zeros((2, streams), np.int64)
    changed = np.flatnonzero(used != preferred)
    if len(changed):
        short = np.full(len(rank), -1)
        short[used[changed]] = changed
        mine = np.flatnonzero(short[view] >= 0)
        at = short[view[mine]]
        seen = watch.covers(observer[preferred[at]], middle[mine], CLOCK_TOLERANCE)
        for row, (amount, total) in enumerate(((rows.packets, packets), (rows.octets, octets))):
            while_watched = np.bincount(at, weights=np.where(seen, amount[mine], 0), minlength=len(used)).astype(np.int64)[changed]
            lacking[row, of_stream[preferred[changed]]] = np.maximum(while_watched - total[preferred[changed]], 0)
    return Chosen(counts, lacking[0], lacking[1])


def _ranked(stream: Ints, role: Ints, observer: Ints, way: Ints, packets: Ints) -> tuple[Ints, Ints, Ints, int]:
    """The place of each view in its stream's order; the views in use and the preferred ones; how many streams there may be."""
    preference = sort_by(stream, role, -packets, observer, way)
    groups = Groups.of(stream[preference])
    preferred = preference[groups.starts]
    by_size = sort_by(stream, -packets, role, observer, way)
    most = by_size[groups.starts]
    more = packets[most] - packets[preferred]
    is_short = (more > SHORTFALL_PACKETS) & (more > SHORTFALL_SHARE * packets[preferred])
    used = np.where(is_short, most, preferred)
    place = np.empty(len(stream), np.int64)
    place[preference] = np.arange(len(stream)) - groups.spread(groups.starts)
    of_used = np.empty(len(stream), np.int64)
    of_used[preference] = groups.spread(place[used])
    rank = np.where(place == of_used, 0, place + (place < of_used))
    return rank, used, preferred, int(stream.max()) + 1 if len(stream) else 0


def _fills(view: Ints, middle: Ints, before: Ints, watch: Watch) -> Flags:
    """Whether each row lies in a hole of the observer before: a time in which that was not logged at all.

    Clocks may be two minutes apart, so a hole counts only if one of the view's rows in it lies further than that from what was logged.
    """
    outside = ~watch.covers(before, middle)
    far = outside & ~watch.covers(before, middle, CLOCK_TOLERANCE)
    hole = watch.next(before, middle)
    order = sort_by(view, hole)
    groups = Groups.of(view[order], hole[order])
    result = np.empty(len(view), dtype=bool)
    result[order] = outside[order] & groups.spread(groups.any(far[order]))
    return result
