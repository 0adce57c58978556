"""Rows of one five-tuple to episodes: a five-tuple used again is another connection.

Episodes are cut at each observer alone and then matched, because the clocks of two interfaces may be two minutes apart: an event at one
never orders an event at another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowlog_udfs.columns import Flags, Groups, Ints, sort_by
from flowlog_udfs.tcp_flags import closes, opens

CLOCK_TOLERANCE = 120
"""Seconds by which two interfaces may differ about the same packets."""
SAME_WINDOW = 10
"""Seconds within which the second direction of a window may start after the first."""


@dataclass(frozen=True)
class Timeline:
    """Rows sorted by (key, observer, start): who saw what when. `flags` is -1 where the format has none or they do not apply."""

    key: Ints
    observer: Ints
    forward: Flags
    start: Ints
    end: Ints
    flags: Ints


def episodes(rows: Timeline, idle: Ints) -> Ints:
    """The episode of each row, from 1 within its key; `idle` is each row's idle limit in seconds.

    A window with SYN opens the next episode after one with FIN or RST in the same conversation. After an idle time longer than the limit
    any window opens it that has SYN or no flags at all: a window with flags but no SYN continues what was there.
    """
    places = Groups.of(rows.key, rows.observer)
    openings = _openings(rows, places, idle)
    # Rows that start with the opening row belong to the new episode, whichever direction is sorted first.
    ties = Groups.of(rows.key, rows.observer, rows.start)
    inclusive = places.running_sum(openings) + openings
    local = ties.spread(ties.max(inclusive))
    return _matched(rows, places, local) + 1


def _openings(rows: Timeline, places: Groups, idle: Ints) -> Flags:
    syn, closing = opens(rows.flags), closes(rows.flags)
    seen_until = places.running_max(rows.end)
    previous = np.empty_like(seen_until)
    previous[1:] = seen_until[:-1]
    is_first = np.zeros(len(seen_until), dtype=bool)
    is_first[places.starts] = True
    previous[is_first] = rows.start[is_first]
    after_idle = ~is_first & (rows.start - previous > idle) & (syn | (rows.flags < 0))

    # Closings that started before each row; rows that start together do not see each other's.
    ties = Groups.of(rows.key, rows.observer, rows.start)
    closed_before = ties.spread(places.running_sum(closing)[ties.starts])
    reuse = syn & _closed_since_last_syn(rows, places, syn, closed_before)
    return _one_per_window(rows, places, after_idle | reuse)


def _closed_since_last_syn(rows: Timeline, places: Groups, syn: Flags, closed_before: Ints) -> Flags:
    """Whether a closing lies between a row and the last SYN in its own direction (or that direction's first row)."""
    order = sort_by(places.ids, rows.forward, rows.start)
    streams = Groups.of(places.ids[order], rows.forward[order])
    position = np.arange(len(order))
    last_syn = np.maximum.accumulate(np.where(syn[order], position, -1))
    before = np.concatenate(([-1], last_syn[:-1]))
    first = streams.spread(streams.starts)
    since = np.where(before >= first, closed_before[order][np.maximum(before, 0)], 0)
    closed = (position > first) & (closed_before[order] > since)
    result = np.empty(len(order), dtype=bool)
    result[order] = closed
    return result


def _one_per_window(rows: Timeline, places: Groups, candidates: Flags) -> Flags:
    """Drop the second direction's opening of the same window."""
    found = np.flatnonzero(candidates)
    if len(found) < 2:
        return candidates
    former, latter = found[:-1], found[1:]
    reach = np.maximum(rows.end[former], rows.start[former] + SAME_WINDOW)
    same_window = rows.start[latter] <= reach
    repeated = (places.ids[former] == places.ids[latter]) & (rows.forward[former] != rows.forward[latter]) & same_window
    kept = candidates.copy()
    kept[latter[repeated]] = False
    return kept


def _matched(rows: Timeline, places: Groups, local: Ints) -> Ints:
    """Episodes of all observers of a key in the numbering of the one that saw most of them."""
    counts = places.max(local) + 1
    key_of_place = rows.key[places.starts]
    keys = Groups.of(key_of_place)
    most = keys.spread(keys.max(counts))
    if (counts == most).all():
        return local
    # The reference of a key is its first observer with the most episodes; each of its episodes starts at a known time.
    is_most = counts == most
    reference = is_most & (keys.running_sum(is_most) == 0)
    in_reference = places.spread(reference)
    cuts = Groups.of(rows.key[in_reference], local[in_reference])
    cut_key = rows.key[in_reference][cuts.starts]
    cut_start = cuts.min(rows.start[in_reference]) - CLOCK_TOLERANCE
    # One sorted axis for all keys: the key, then the time.
    base = int(rows.start.min()) - 2 * CLOCK_TOLERANCE
    span = int(rows.start.max()) - base + 1
    axis = cut_key * span + (cut_start - base)
    first_cut = np.searchsorted(cut_key, rows.key)
    blocks = Groups.of(rows.key, rows.observer, local)
    block_start = blocks.spread(blocks.min(rows.start))
    by_time = np.searchsorted(axis, rows.key * span + (block_start - base), side="right") - 1 - first_cut
    return np.where(places.spread(is_most), local, np.maximum(by_time, 0))
