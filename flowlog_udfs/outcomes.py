"""What became of each episode: the verdict and who gave it, the state, the attempts, and who closed it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowlog_udfs.columns import Flags, Groups, Ints
from flowlog_udfs.initiators import TCP, Answers, Evidence
from flowlog_udfs.observations import RECEIVER, TRANSIT
from flowlog_udfs.observed import Rows
from flowlog_udfs.tcp_flags import closes, finishes, is_syn, is_syn_ack, resets

ACTIONS = ("ACCEPT", "REJECT", "MIXED")
VERDICTS_BY = ("receiver", "transit", "sender")
STATES = ("established", "refused_by_host", "unanswered", "rejected", "unsolicited", "partial")
ESTABLISHED, REFUSED_BY_HOST, UNANSWERED, REJECTED, UNSOLICITED, PARTIAL = range(len(STATES))
CLOSED_BY = ("initiator", "responder", "reset")

_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Outcomes:
    """One entry for each episode; places in `ACTIONS`, `VERDICTS_BY`, `STATES`, `CLOSED_BY`, the last -1 where nobody is known to have."""

    action: Ints
    verdict_by: Ints
    state: Ints
    late_rejects: Ints
    attempts: Ints
    handshakes: Ints
    closed_by: Ints


def outcomes(rows: Rows, groups: Groups, sent: Flags, answers: Answers, seen: Evidence) -> Outcomes:
    """Work out the outcomes of episodes; `sent` rows are the initiator's (or `lo`'s where nobody is known to be)."""
    late = _late_rejects(rows, groups)
    action, verdict_by = _verdicts(rows, groups, sent, late)
    views = Groups.of(groups.ids, rows.observer)
    per_episode = Groups.of(groups.ids[views.starts])
    syn, syn_ack = is_syn(rows.flags), is_syn_ack(rows.flags)
    return Outcomes(
        action=action,
        verdict_by=verdict_by,
        state=_states(rows, groups, sent, action, answers, seen),
        late_rejects=groups.sum(late),
        attempts=per_episode.max(views.sum(syn & sent)),
        handshakes=per_episode.max(views.sum(syn_ack & ~sent)),
        closed_by=_closed_by(rows, groups, sent, views, per_episode),
    )


def _late_rejects(rows: Rows, groups: Groups) -> Flags:
    """Refused packets from the closing window on: stragglers of a connection that is over (AWS, "Flow log records", `action`)."""
    closing = np.where(closes(rows.flags) & ~rows.rejected, rows.start, _NEVER)
    return rows.rejected & (rows.start >= groups.spread(groups.min(closing)))


def _verdicts(rows: Rows, groups: Groups, sent: Flags, late: Flags) -> tuple[Ints, Ints]:
    """The action of the observers nearest the receiver of each direction, and who they are to the direction that was sent."""
    # Nearest the receiver first: the receiver's interface, one on the way (or of an unknown side), the sender's.
    nearness = np.where(rows.role == RECEIVER, 0, np.where(rows.role >= TRANSIT - 1, 1, 2))
    judged = ~late & ~rows.only_evidence
    accepted = np.zeros(len(groups), dtype=bool)
    refused = np.zeros(len(groups), dtype=bool)
    nearest_by_way = []
    for way in (sent, ~sent):
        nearest = groups.min(np.where(judged & way, nearness, 3))
        speaks = judged & way & (nearness == groups.spread(nearest))
        accepted |= groups.any(speaks & ~rows.rejected)
        refused |= groups.any(speaks & rows.rejected)
        nearest_by_way.append(nearest)
    action = np.where(accepted & refused, 2, np.where(refused, 1, 0))
    # With only late rejects left, that is what was seen.
    nothing = ~accepted & ~refused
    action[nothing] = 1
    verdict_by = np.where(nearest_by_way[0] < 3, nearest_by_way[0], np.minimum(nearest_by_way[1], 2))
    return action, verdict_by


def _states(rows: Rows, groups: Groups, sent: Flags, action: Ints, answers: Answers, seen: Evidence) -> Ints:
    tcp = rows.protocol[groups.starts] == TCP
    accepted = ~rows.rejected
    both_ways = groups.any(accepted & sent) & groups.any(accepted & ~sent)
    answered = groups.any(is_syn_ack(rows.flags) & ~sent & accepted) & (seen.lo_sent & seen.hi_sent | seen.only_transit)
    refused = (
        tcp & groups.any(is_syn(rows.flags) & sent) & groups.any(resets(rows.flags) & ~sent) & ~groups.any(is_syn_ack(rows.flags) & ~sent)
    )
    one_way = ~(seen.lo_sent & seen.hi_sent)
    state = np.full(len(groups), UNANSWERED)
    # The last that applies holds.
    state[one_way & seen.only_transit] = PARTIAL
    state[answers.unsolicited] = UNSOLICITED
    state[(action == 1) & ~answers.unsolicited] = REJECTED
    state[both_ways | answered] = ESTABLISHED
    state[refused] = REFUSED_BY_HOST
    return state


def _closed_by(rows: Rows, groups: Groups, sent: Flags, views: Groups, per_episode: Groups) -> Ints:
    """The side whose FIN lies in an earlier window than the other's, at one interface; else a reset, else nobody known."""
    fin = finishes(rows.flags)
    begins = [views.min(np.where(fin & way, rows.start, _NEVER)) for way in (sent, ~sent)]
    ends = [views.min(np.where(fin & way, rows.end, _NEVER)) for way in (sent, ~sent)]
    both = (begins[0] < _NEVER) & (begins[1] < _NEVER)
    initiator = per_episode.any(both & (ends[0] <= begins[1]) & (begins[0] < begins[1]))
    responder = per_episode.any(both & (ends[1] <= begins[0]) & (begins[1] < begins[0]))
    finished = groups.any(fin & sent) & groups.any(fin & ~sent)
    closed = np.full(len(groups), -1)
    closed[groups.any(resets(rows.flags)) & ~finished] = 2
    closed[initiator & ~responder] = 0
    closed[responder & ~initiator] = 1
    return closed
