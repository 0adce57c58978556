"""What became of each episode: its state, the attempts and handshakes, and who closed it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowlog_udfs.attribution import Attributed, Knowledge
from flowlog_udfs.columns import Flags, Groups, Ints
from flowlog_udfs.episodes import WINDOW_GAP
from flowlog_udfs.initiators import CARRIED, HI
from flowlog_udfs.observed import Rows
from flowlog_udfs.protocols import TCP
from flowlog_udfs.tcp_flags import finishes, is_syn, is_syn_ack, resets
from flowlog_udfs.verdicts import Verdicts, late_rejects, verdicts

ACTIONS = ("ACCEPT", "REJECT", "MIXED")
STATES = ("established", "refused_by_host", "unanswered", "rejected", "unsolicited", "partial")
ESTABLISHED, REFUSED_BY_HOST, UNANSWERED, REJECTED, UNSOLICITED, PARTIAL = range(len(STATES))
CLOSED_BY = ("initiator", "responder", "reset")


@dataclass(frozen=True)
class Outcomes:
    """One entry for each episode: both directions' verdicts, places in `ACTIONS`, `STATES`, `CLOSED_BY` (-1: nobody known), and counts.

    `late` and `sent` are of rows: refused after the close, and sent by the initiator (by `lo` where nobody is known to have initiated).
    """

    late: Flags
    sent: Flags
    way_there: Verdicts
    way_back: Verdicts
    action: Ints
    verdict_by: Ints
    state: Ints
    attempts: Ints
    handshakes: Ints
    closed_by: Ints


def outcomes(done: Attributed, known: Knowledge) -> Outcomes:
    """Work out the outcomes of a partition's episodes."""
    rows, groups = done.rows, done.groups
    first = groups.starts
    itself = (rows.lo[first] == rows.hi[first]) & (rows.lo_port[first] == rows.hi_port[first])
    sent = (rows.forward ^ groups.spread(done.answers.initiator == HI)) | groups.spread(itself)
    late = late_rejects(rows, groups)
    there, back = (verdicts(rows, groups, way, done.counts, late, known.may_show_answers) for way in (sent, ~sent))
    accepted, refused = there.accepted | back.accepted, there.refused | back.refused
    points = Groups.of(groups.ids, rows.observer, rows.flow_log)
    per_episode = Groups.of(groups.ids[points.starts])
    return Outcomes(
        late=late,
        sent=sent,
        way_there=there,
        way_back=back,
        action=np.where(accepted & refused, 2, np.where(accepted, 0, 1)),
        verdict_by=np.where(there.by >= 0, there.by, back.by),
        state=_states(done, known, sent, late, there.accepted, back.accepted),
        attempts=per_episode.max(points.sum(is_syn(rows.flags) & sent)),
        handshakes=per_episode.max(points.sum(is_syn_ack(rows.flags) & (~sent | groups.spread(itself)))),
        closed_by=_closed_by(rows, groups, sent, points, per_episode),
    )


def _states(done: Attributed, known: Knowledge, sent: Flags, late: Flags, there: Flags, back: Flags) -> Ints:
    rows, groups, seen = done.rows, done.groups, done.evidence
    one_sender = ~(groups.any(rows.forward) & groups.any(~rows.forward))
    replies = ~sent & ~late & (rows.flags >= 0)
    only_resets = groups.any(replies) & ~groups.any(replies & ~(resets(rows.flags) & ~is_syn_ack(rows.flags)))
    asked = groups.any(is_syn(rows.flags) & sent)
    is_tcp = rows.protocol[groups.starts] == TCP
    # The last that applies holds.
    state = np.full(len(groups), UNANSWERED)
    open_before = (done.answers.basis == CARRIED) & (done.was_open >= 0)
    if open_before.any():
        state[open_before] = known.carried.state[done.was_open[open_before]]
    state[one_sender & ~seen.observable] = PARTIAL
    state[(there & back) | groups.any(seen.answering & ~sent & ~rows.rejected)] = ESTABLISHED
    state[is_tcp & asked & only_resets & back] = REFUSED_BY_HOST
    state[~there & ~back] = REJECTED
    state[done.answers.unsolicited] = UNSOLICITED
    return state


def _closed_by(rows: Rows, groups: Groups, sent: Flags, points: Groups, per_episode: Groups) -> Ints:
    """The side whose first FIN lies in an earlier window than the other's at one point, at none the reverse.

    Else, unless both sides' FINs were seen at one point, a reset that was let pass; else nobody known.
    """
    fin = finishes(rows.flags)
    none = rows.count
    start, end = np.append(rows.start, 0), np.append(rows.end, 0)
    one, other = (points.min(np.where(fin & way, np.arange(none), none)) for way in (sent, ~sent))
    both = (one < none) & (other < none)

    def earlier(this: Ints, that: Ints) -> Flags:
        return per_episode.any(both & (end[this] <= start[that]) & (start[this] <= start[that] - WINDOW_GAP))

    initiator, responder = earlier(one, other), earlier(other, one)
    closed = np.full(len(groups), -1)
    closed[groups.any(resets(rows.flags) & ~rows.rejected) & ~per_episode.any(both)] = 2
    closed[initiator & ~responder] = 0
    closed[responder & ~initiator] = 1
    return closed
