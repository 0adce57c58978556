"""The verdict on each direction of an episode, and what was sent under it.

The observer nearest the receiver judges: ACCEPT seen only at the sender means that the packets left the sender. What the judge refused is
taken out of what the rows that count accepted, so that a refused byte stands once, and as refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowlog_udfs.columns import Flags, Groups, Ints
from flowlog_udfs.observed import RECEIVER, TRANSIT, Rows
from flowlog_udfs.sorting import sort_by
from flowlog_udfs.tcp_flags import closes

VERDICTS_BY = ("receiver", "transit", "sender")
_NEVER = np.iinfo(np.int64).max


def late_rejects(rows: Rows, groups: Groups) -> Flags:
    """Refused packets from the closing window on, at one observer: stragglers of a connection that is over.

    Source: AWS, "Flow log records", `action`. They stand in the rejected columns and change neither verdict nor state.
    """
    views = Groups.of(groups.ids, rows.observer)
    closing = np.where(closes(rows.flags) & ~rows.rejected & ~rows.duplicate, rows.start, _NEVER)
    return rows.rejected & ~rows.duplicate & (rows.start >= views.spread(views.min(closing)))


@dataclass(frozen=True)
class Verdicts:
    """One direction of each episode: volumes by verdict, whether anything was accepted or refused in time, and who says so (-1: nobody)."""

    packets: Ints
    octets: Ints
    rejected_packets: Ints
    rejected_octets: Ints
    accepted: Flags
    refused: Flags
    by: Ints


def verdicts(rows: Rows, groups: Groups, way: Flags, counts: Flags, late: Flags, may_show_accept: Flags) -> Verdicts:
    """Judge the direction of the rows in `way`; `counts` are the observation points' rows, `may_show_accept` is of flow logs by rank."""
    of_way = way & ~rows.duplicate
    counted, judging = counts & way, of_way & ~late
    nearness = np.where(rows.role == RECEIVER, 0, np.where(rows.role == TRANSIT, 1, 2))
    nearest = groups.min(np.where(judging, nearness, len(VERDICTS_BY)))
    near = judging & (nearness == groups.spread(nearest))
    by_judge = near & (rows.observer == groups.spread(_judges(rows, groups, near)))
    says = by_judge & ~counts
    said = groups.any(says)
    counts_itself = groups.any(counted & by_judge)
    refuses_all = said & ~groups.any(says & ~rows.rejected) & groups.any(says & may_show_accept[rows.flow_log]) & ~counts_itself
    volumes = []
    for amount in (rows.packets, rows.octets):
        accepted = groups.sum(np.where(counted & ~rows.rejected, amount, 0))
        rejected = groups.sum(np.where(counted & rows.rejected, amount, 0))
        refused = groups.sum(np.where(says & rows.rejected, amount, 0))
        moved = np.where(refuses_all, accepted, np.minimum(accepted, refused))
        volumes += [accepted - moved, rejected + moved]
    none_left = said & (volumes[0] == 0) & groups.any(counted & ~rows.rejected & (rows.packets > 0))
    in_time = counted & ~late
    return Verdicts(
        packets=volumes[0],
        rejected_packets=volumes[1],
        octets=volumes[2],
        rejected_octets=volumes[3],
        accepted=groups.any(in_time & ~rows.rejected) & ~refuses_all & ~none_left,
        refused=groups.any((in_time | says) & rows.rejected),
        by=np.where(nearest < len(VERDICTS_BY), nearest, -1),
    )


def _judges(rows: Rows, groups: Groups, near: Flags) -> Ints:
    """Of the observers nearest the receiver the one with most packets, then the first by name; -1 without one."""
    result = np.full(len(groups), -1)
    chosen = np.flatnonzero(near)
    if len(chosen):
        ids = groups.ids[chosen]
        # Rows of an episode are in the order of their observers.
        views = Groups.of(ids, rows.observer[chosen])
        episode, observer = ids[views.starts], rows.observer[chosen][views.starts]
        order = sort_by(episode, -views.sum(rows.packets[chosen]), observer)
        first = Groups.of(episode[order]).starts
        result[episode[order][first]] = observer[order][first]
    return result
