"""Each byte once: of all interfaces that logged a direction of a connection, the one whose rows count, for each stretch of time.

The sender's interface comes first, then the receiver's, then one whose side is unknown, then a middlebox. Where another saw more than 1 %
and more than 2 packets more, that one is used and the difference is the shortfall. A stretch of time that the chosen interface did not see
is taken from the next one. What nobody saw is never imputed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowlog_udfs.columns import Flags, Groups, Ints, sort_by
from flowlog_udfs.episodes import CLOCK_TOLERANCE

SENDER, RECEIVER, UNKNOWN_SIDE, TRANSIT = range(4)
"""What an interface is to a row: it belongs to the sending end, to the receiving end, to one of them, or to neither."""
SHORTFALL_SHARE, SHORTFALL_PACKETS = 0.01, 2
STRETCHES = 3
"""How many interfaces may share one direction of one episode, one after the other."""


@dataclass(frozen=True)
class Chosen:
    """For each row whether it counts; for each stream (episode and direction) by how many packets its observer fell short."""

    counts: Flags
    shortfall: Ints


def choose(stream: Ints, observer: Ints, role: Ints, packets: Ints, start: Ints, end: Ints) -> Chosen:
    """Choose the rows that count. `stream` numbers the episodes' directions from 0; rows may be in any order."""
    streams = int(stream.max()) + 1 if len(stream) else 0
    counts = np.zeros(len(stream), dtype=bool)
    shortfall = np.zeros(streams, np.int64)
    waiting = np.arange(len(stream))
    for turn in range(STRETCHES):
        if not len(waiting):
            break
        order = waiting[sort_by(stream[waiting], observer[waiting], start[waiting])]
        views = Groups.of(stream[order], observer[order])
        best, fell_short = _best_view(stream[order][views.starts], role[order], packets[order], views)
        is_best = views.spread(best)
        counts[order[is_best]] = True
        if turn == 0:
            shortfall[stream[order][views.starts][best]] = fell_short[best]
        waiting = _outside(order, is_best, stream, start, end)
    return Chosen(counts, shortfall)


def _best_view(stream: Ints, role: Ints, packets: Ints, views: Groups) -> tuple[Flags, Ints]:
    """Which view of each stream counts, and by how much the preferred one fell short of it."""
    rank, seen = views.min(role), views.sum(packets)
    per_stream = Groups.of(stream)
    # The preferred view: least rank, then most packets, then the first observer.
    preference = np.lexsort((np.arange(len(stream)), -seen, rank, stream))
    preferred = preference[per_stream.starts]
    most = np.lexsort((np.arange(len(stream)), rank, -seen, stream))[per_stream.starts]
    more = seen[most] - seen[preferred]
    is_short = (more > SHORTFALL_PACKETS) & (more > SHORTFALL_SHARE * seen[preferred])
    best = np.zeros(len(stream), dtype=bool)
    best[np.where(is_short, most, preferred)] = True
    fell_short = np.zeros(len(stream), np.int64)
    fell_short[np.where(is_short, most, preferred)] = np.where(is_short, more, 0)
    return best, fell_short


def _outside(order: Ints, is_best: Flags, stream: Ints, start: Ints, end: Ints) -> Ints:
    """The rows of other observers that lie wholly outside the time that the best one saw, clocks allowed for."""
    sorted_streams = Groups.of(stream[order])
    never = np.iinfo(np.int64).max
    first = sorted_streams.min(np.where(is_best, start[order], never))
    last = sorted_streams.max(np.where(is_best, end[order], -1))
    before = end[order] < sorted_streams.spread(first) - CLOCK_TOLERANCE
    after = start[order] > sorted_streams.spread(last) + CLOCK_TOLERANCE
    return order[~is_best & (before | after)]
