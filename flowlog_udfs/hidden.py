"""Ends that hide behind the address of the interface that logged them, brought to light by rows that show them.

A format without `pkt-srcaddr` and `pkt-dstaddr` puts the interface's own address where the packet had another: the client's row at a NAT
gateway looks like a talk with the gateway. A richer flow log of the same interface shows the packet's end, and so does the row of the
interface that owns it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from flowlog_udfs.columns import Flags, Ints, mixed, spans
from flowlog_udfs.episodes import CLOCK_TOLERANCE
from flowlog_udfs.observed import UNKNOWN_SIDE, Rows
from flowlog_udfs.sorting import sort_by


def unveiled(rows: Rows) -> Rows:
    """The rows with hidden ends replaced by what other rows show, where these agree on one end; five-tuples are not numbered yet.

    First the rows of a richer flow log of the same interface, of any time that day; then, at a NAT or transit gateway, the owners' rows of
    the same peer, ports, protocol and direction within `CLOCK_TOLERANCE`.
    """
    bare = np.flatnonzero(rows.bare)
    if not len(bare):
        return rows
    rich = np.flatnonzero((rows.side != UNKNOWN_SIDE) & ~rows.bare & np.isin(rows.observer, np.unique(rows.observer[bare])))
    bare_talk = _talk(rows, bare, _shown(rows, bare), rows.local_is_lo[bare])
    rich_talk = _talk(rows, rich, _shown(rows, rich), rows.local_is_lo[rich])
    found = _agreed(rows, bare, mixed(bare_talk, rows.observer[bare]), rich, mixed(rich_talk, rows.observer[rich]), rows.local_is_lo[rich])
    rows = _revealed(rows, *found, as_seen=True)

    veiled = np.flatnonzero(rows.bare & rows.transit & (rows.shown < 0))
    if not len(veiled):
        return rows
    owned = np.flatnonzero(~rows.transit)
    # Of an owner's row either end may be the hidden one: the sender where the veiled row's own side sent, else the receiver.
    asked = _talk(rows, veiled, None, rows.local_is_lo[veiled])
    answers = np.concatenate((owned, owned))
    sender_is_mine = np.repeat((True, False), len(owned))
    mine_is_lo = rows.forward[answers] == sender_is_mine
    offered = _talk(rows, answers, None, mine_is_lo, sender_is_mine)
    useful = np.isin(offered, asked)
    return _revealed(rows, *_agreed(rows, veiled, asked, answers[useful], offered[useful], mine_is_lo[useful], nearby=True), as_seen=False)


def _shown(rows: Rows, chosen: Ints) -> Ints:
    """The address in the log for the end on the observer's side."""
    return np.where(rows.shown[chosen] >= 0, rows.shown[chosen], _address(rows, chosen, rows.local_is_lo[chosen]))


def _address(rows: Rows, chosen: Ints, is_lo: Flags) -> Ints:
    return np.where(is_lo, rows.lo[chosen], rows.hi[chosen])


def _talk(rows: Rows, chosen: Ints, shown: Ints | None, mine_is_lo: Flags, mine_sent: Flags | None = None) -> npt.NDArray[np.uint64]:
    """A hash of all that a row says but for the packet-level address of one end: its port, the peer, the direction, the network."""
    port = np.where(mine_is_lo, rows.lo_port[chosen], rows.hi_port[chosen])
    peer_port = np.where(mine_is_lo, rows.hi_port[chosen], rows.lo_port[chosen])
    peer = _address(rows, chosen, ~mine_is_lo)
    sent = rows.at_source[chosen] if mine_sent is None else mine_sent
    known = np.zeros(len(chosen), np.int64) if shown is None else shown
    return mixed(rows.network[chosen], rows.protocol[chosen], port, peer, peer_port, sent, known)


def _agreed(
    rows: Rows,
    asking: Ints,
    asked: npt.NDArray[np.uint64],
    answering: Ints,
    offered: npt.NDArray[np.uint64],
    mine_is_lo: Flags,
    *,
    nearby: bool = False,
) -> tuple[Ints, Ints, Flags]:
    """Rows that get an answer, a row that gives it, and which end of that it is; only where all answers name one address."""
    order = np.argsort(offered, kind="stable")
    offered, answering, mine_is_lo = offered[order], answering[order], mine_is_lo[order]
    which, at = spans(np.searchsorted(offered, asked), np.searchsorted(offered, asked, side="right"))
    asker, answer = asking[which], answering[at]
    if nearby:
        close = (rows.start[answer] <= rows.end[asker] + CLOCK_TOLERANCE) & (rows.start[asker] <= rows.end[answer] + CLOCK_TOLERANCE)
        other = rows.observer[answer] != rows.observer[asker]
        kept = close & other & (_address(rows, answer, mine_is_lo[at]) != _address(rows, asker, rows.local_is_lo[asker]))
        which, at, answer = which[kept], at[kept], answer[kept]
    if not len(which):
        nothing = which[:0]
        return nothing, nothing, nothing.astype(bool)
    address = _address(rows, answer, mine_is_lo[at])
    order = sort_by(which, address)
    which, address, answer, at = which[order], address[order], answer[order], at[order]
    first = np.flatnonzero(np.concatenate(([True], which[1:] != which[:-1])))
    last = np.append(first[1:], len(which)) - 1
    single = first[address[first] == address[last]]
    return asking[which[single]], answer[single], mine_is_lo[at[single]]


def _revealed(rows: Rows, chosen: Ints, answer: Ints, mine_is_lo: Flags, *, as_seen: bool) -> Rows:
    """The chosen rows with the answer's end in place of their own; `as_seen` takes over what the same interface was to it."""
    address = _address(rows, answer, mine_is_lo)
    differs = address != _address(rows, chosen, rows.local_is_lo[chosen])
    chosen, answer, address, mine_is_lo = chosen[differs], answer[differs], address[differs], mine_is_lo[differs]
    if not len(chosen):
        return rows
    shown, transit = rows.shown.copy(), rows.transit.copy()
    if as_seen:
        shown[chosen] = _address(rows, chosen, rows.local_is_lo[chosen])
        transit[chosen] = rows.transit[answer]
    end = np.where(mine_is_lo, rows.lo_end[answer], rows.hi_end[answer])
    return replace(rows.with_local(chosen, address, end), shown=shown, transit=transit)
