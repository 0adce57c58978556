"""Overlapping subscriptions: rows of a flow log at times and places that a better one covers too.

Two flow logs may watch one interface, with intervals of one and of ten minutes. The one with more fields is believed (`Subscription.rank`);
a row of the other is a duplicate only inside the time that the better one covers there, and only if the better one shows its action at all.
Flags and packet-level addresses of duplicates remain evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from flowlog_udfs.columns import Flags, Groups, Ints, codes, numbers, spans
from flowlog_udfs.endpoints import actions
from flowlog_udfs.interfaces import NEVER, FlowLogTraits, Interface, Survey
from flowlog_udfs.observed import REJECTED, Rows
from flowlog_udfs.sorting import distinct, sort_by
from flowlog_udfs.subscriptions import Subscription


def covered(records: pa.Table, observer: Ints, interfaces: list[Interface], survey: Survey, logs: Mapping[str, Subscription]) -> Flags:
    """Records whose middle lies in a stretch of time in which a better flow log covers their interface."""
    result = np.zeros(len(observer), dtype=bool)
    crowded = np.array([len(one.flow_logs) > 1 and one.observer[0] != "@" for one in interfaces], dtype=bool)
    candidates = np.flatnonzero(crowded[observer])
    if not len(candidates):
        return result
    flow_log, names = codes(records.column("flow_log_id"))
    rejected = actions(records) == REJECTED
    middle = numbers(records.column("start"), 0) + numbers(records.column("end"), 0)
    pairs, place = distinct(observer[candidates], flow_log[candidates])
    for number, (who, which) in enumerate(zip(*pairs, strict=True)):
        mine = candidates[place == number]
        own = logs[names[which].as_py()]
        for other, stretches in interfaces[who].flow_logs.items():
            if logs[other].rank < own.rank and stretches.size:
                begins, ends = 2 * stretches
                at = np.maximum(np.searchsorted(begins, middle[mine], side="right") - 1, 0)
                inside = (begins[at] <= middle[mine]) & (middle[mine] <= ends[at])
                result[mine] |= inside & _shows(survey.flow_logs[other], rejected[mine])
    return result


def _shows(traits: FlowLogTraits, rejected: Flags) -> Flags:
    """Whether a flow log shows the action; one that shows neither in the whole day has a format without it."""
    nothing = not (traits.accepts or traits.rejects)
    return np.where(rejected, traits.rejects or nothing, traits.accepts or nothing)


def lives(survey: Survey, logs: Mapping[str, Subscription]) -> Ints:
    """First and last second of each flow log, by rank: (2, flow logs)."""
    result = np.zeros((2, len(logs)), np.int64)
    for name, log in logs.items():
        start, end = np.concatenate([one.flow_logs.get(name, NEVER) for one in survey.interfaces.values()] or [NEVER], axis=1)
        result[:, log.rank] = (start.min(), end.max()) if len(start) else (1, 0)
    return result


def at_the_edges(rows: Rows, lives: Ints) -> Flags:
    """Duplicates that the time covered does not tell, because one flow log shows whole intervals and the other first and last packets.

    In: rows in order, those of covered times marked. A row of the same five-tuple, direction, interface and action in a better flow log
    that overlaps a row by more than half of the shorter of the two makes it a duplicate, and so does one that merely touches it during the
    life of that flow log.
    """
    result = rows.duplicate.copy()
    watching = np.zeros((len(rows.observers), lives.shape[1]), dtype=bool)
    watching[rows.observer, rows.flow_log] = True
    crowded = np.flatnonzero((watching.sum(axis=1) > 1)[rows.observer])
    keys = (rows.key, rows.observer, rows.forward.astype(np.int64), rows.action)
    order = crowded[sort_by(*(key[crowded] for key in keys), rows.start[crowded])]
    groups = Groups.of(*(key[order] for key in keys))
    several = groups.min(rows.flow_log[order]) != groups.max(rows.flow_log[order])
    order = order[groups.spread(several)]
    if not len(order):
        return result
    group = Groups.of(*(key[order] for key in keys)).ids
    start, end, rank = rows.start[order], np.maximum(rows.end[order], rows.start[order]), rows.flow_log[order]
    longest = int((end - start).max()) + 1
    base, span = int(start.min()), int(end.max()) - int(start.min()) + 2 * longest + 2
    axis = group * span + (start - base)
    asking = np.flatnonzero(~result[order])
    first = np.searchsorted(axis, group[asking] * span + np.maximum(start[asking] - base - longest, 0))
    last = np.searchsorted(axis, group[asking] * span + (end[asking] - base), side="right")
    which, other = spans(first, last)
    mine = asking[which]
    better = (rank[other] < rank[mine]) & (end[other] >= start[mine])
    mine, other = mine[better], other[better]
    until, other_until = np.maximum(end[mine], start[mine] + 1), np.maximum(end[other], start[other] + 1)
    common = np.minimum(until, other_until) - np.maximum(start[mine], start[other])
    by_half = (common > 0) & (2 * common > np.minimum(until - start[mine], other_until - start[other]))
    middle = start[mine] + end[mine]
    alive = (2 * lives[0, rank[other]] <= middle) & (middle <= 2 * lives[1, rank[other]])
    result[order[mine[by_half | alive]]] = True
    return result
