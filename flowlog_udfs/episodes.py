"""Rows of one five-tuple to episodes: a five-tuple used again is another connection.

An event at one point of capture (an interface and a flow log) never orders an event at another, for the clocks of two interfaces may be two
minutes apart. So each point cuts for itself, and cuts that lie close together are one.
"""

from __future__ import annotations

import numpy as np

from flowlog_udfs.columns import Flags, Groups, Ints
from flowlog_udfs.observed import Rows
from flowlog_udfs.protocols import has_flags
from flowlog_udfs.sorting import sort_by
from flowlog_udfs.tcp_flags import closes, opens

CLOCK_TOLERANCE = 120
"""Seconds by which two interfaces may differ about the same packets."""
WINDOW_GAP = 30
"""Rows of one interface that start further apart than this, in seconds, are of different windows."""


def episodes(rows: Rows, idle: Ints) -> Ints:
    """The episode of each row, from 1 within its five-tuple; rows are in order (`Rows.in_order`), `idle` is each row's limit in seconds.

    A TCP row with SYN opens an episode at its point if, among the rows of the windows before it there, one closed (FIN or RST) after the
    last SYN and was over, or if all were over for longer than the idle time. A silence of all points longer than that opens one too, unless
    TCP goes on: the rows after it show flags, but no SYN. Cuts within `CLOCK_TOLERANCE` of each other, as a chain, are one cut, which falls
    for each point where its own lies, and for a point without one where the first does.
    """
    points = Groups.of(rows.key, rows.observer, rows.flow_log)
    opening = _openings(rows, points, idle)
    by_time = sort_by(rows.key, rows.start)
    silent = by_time[_after_silence(rows, by_time, idle)]
    at = np.concatenate((opening, silent))
    result = np.ones(rows.count, np.int64)
    if not len(at):
        return result
    point = np.concatenate((points.ids[opening], np.full(len(silent), -1)))
    order = sort_by(rows.key[at], rows.start[at])
    at, point = at[order], point[order]
    time, key = rows.start[at], rows.key[at]
    breaks = np.ones(len(at), dtype=bool)
    breaks[1:] = (key[1:] != key[:-1]) | (time[1:] - time[:-1] > CLOCK_TOLERANCE)
    chain = np.cumsum(breaks) - 1
    first = np.flatnonzero(breaks)

    axis = _Axis(rows.start)
    passed = np.searchsorted(axis(key[first], time[first]), axis(rows.key, rows.start), side="right")
    before_key = np.searchsorted(key[first], rows.key)
    result += passed - before_key
    # Where the last chain passed has a cut of the row's own point, that one counts.
    own = np.flatnonzero(point >= 0)
    own = own[sort_by(chain[own], point[own], time[own])]
    own = own[Groups.of(chain[own], point[own]).starts]
    pairs, times = chain[own] * len(points) + point[own], time[own]
    asked = np.where(passed > before_key, (passed - 1) * len(points) + points.ids, -1)
    found = np.minimum(np.searchsorted(pairs, asked), max(len(pairs) - 1, 0))
    if len(pairs):
        result -= (pairs[found] == asked) & (rows.start < times[found])
    return result


class _Axis:
    """Times of many keys on one sorted axis."""

    def __init__(self, times: Ints) -> None:
        self._base = int(times.min()) - 2 * CLOCK_TOLERANCE if len(times) else 0
        self._span = int(times.max()) - self._base + 4 * CLOCK_TOLERANCE if len(times) else 1

    def __call__(self, key: Ints, time: Ints) -> Ints:
        return key * self._span + (time - self._base)


def _openings(rows: Rows, points: Groups, idle: Ints) -> Ints:
    """Places of rows with SYN that open an episode at their point."""
    asks = np.flatnonzero(opens(rows.flags))
    if not len(asks):
        return asks
    axis = _Axis(rows.start)
    place = axis(points.ids, rows.start)
    before = np.searchsorted(place, axis(points.ids[asks], rows.start[asks] - WINDOW_GAP), side="right") - 1
    asks, before = (chosen[before >= points.starts[points.ids[asks]]] for chosen in (asks, before))
    last_syn = points.last_where(opens(rows.flags))[before]
    last_close = points.last_where(closes(rows.flags))[before]
    until = points.running_max(rows.end)[before]
    start = rows.start[asks]
    was_closed = (last_close >= 0) & (rows.end[last_close] <= start)
    was_closed &= (last_syn < 0) | (rows.start[last_close] >= rows.start[last_syn])
    return asks[was_closed | (start - until > idle[asks])]


def _after_silence(rows: Rows, order: Ints, idle: Ints) -> Ints:
    """Places in `order` (by five-tuple and start) of the rows that end a silence and open an episode."""
    start, flags, key = rows.start[order], rows.flags[order], rows.key[order]
    keys = Groups.of(key)
    until = keys.running_max(rows.end[order])
    silent = np.zeros(len(order), dtype=bool)
    silent[1:] = (key[1:] == key[:-1]) & (start[1:] - until[:-1] > idle[order][1:])
    at = np.flatnonzero(silent)
    if not len(at):
        return at
    axis = _Axis(start)
    after = np.searchsorted(axis(key, start), axis(key[at], start[at] + CLOCK_TOLERANCE), side="right")
    flagged, asking = (_count(chosen, at, after) for chosen in (flags >= 0, opens(flags)))
    goes_on = has_flags(rows.protocol[order][at]) & (flagged > 0) & (asking == 0)
    return at[~goes_on]


def _count(chosen: Flags, first: Ints, last: Ints) -> Ints:
    """How many are chosen in each range."""
    total = np.concatenate(([0], np.cumsum(chosen)))
    return total[last] - total[first]
