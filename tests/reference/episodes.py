"""Stage 2a, `episodes`: a five-tuple used again is another connection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .rows import Key, Row
from .world import FIN, RST, SYN, TCP, UDP


def cut_episodes(rows: Sequence[Row], config: Mapping[str, Any]) -> None:
    """Number the episodes of each key (network, unordered ends, protocol) from 1 in order of time, into `Row.episode`.

    `rows` are the evidence: all records with ends but NODATA, SKIPDATA and redelivered ones; rows of overlapping flow logs take part. A
    point is an observer together with a flow log. Events at one interface never order events at another, so each point cuts for itself.

    A. A TCP row r with SYN (with ACK or not) opens an episode at its point if the rows before it there (start <= r.start - window_gap)
       - hold one with FIN or RST that is not older than the last SYN among them (by start) and that ended by r.start, or
       - all ended more than the idle time before r.start.
    B. A silence of all points of the key longer than the idle time (running maximum of end against the next start) opens an episode with
       the next row, unless TCP goes on: unless some row within the clock tolerance after the silence shows flags and none of them SYN.
    C. Cuts of one key that lie within the clock tolerance of each other (as a chain) are one cut. It falls for each point where the point's
       own earliest cut of the chain lies, for a point without one at the chain's earliest.
    D. The episode of a row is 1 + the number of cuts at or before its start at its point; episodes without a row that is more than evidence
       are dropped by the caller and the rest numbered anew.
    """
    by_key: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    for key, group in by_key.items():
        _cut(key, group, config)


def _cut(key: Key, rows: list[Row], config: Mapping[str, Any]) -> None:
    idle = config["idle_seconds_udp"] if key[3] == UDP else config["idle_seconds"]
    tolerance = config["clock_tolerance"]
    cuts: list[tuple[int, tuple[str, str] | None]] = []
    for row in rows:
        if key[3] in (TCP, None) and row.flags is not None and row.flags & SYN and _opens(row, rows, idle, config["window_gap"]):
            cuts.append((row.start, _point(row)))
    until: int | None = None
    for row in sorted(rows, key=lambda row: row.start):
        if until is not None and row.start - until > idle:
            after = [other.flags for other in rows if row.start <= other.start <= row.start + tolerance]
            flagged = [flags for flags in after if flags is not None]
            if not (key[3] in (TCP, None) and flagged and not any(flags & SYN for flags in flagged)):
                cuts.append((row.start, None))
        until = row.end if until is None else max(until, row.end)

    chains: list[list[tuple[int, tuple[str, str] | None]]] = []
    for cut in sorted(cuts, key=lambda cut: cut[0]):
        if chains and cut[0] - chains[-1][-1][0] <= tolerance:
            chains[-1].append(cut)
        else:
            chains.append([cut])
    for row in rows:
        row.episode = 1
        for chain in chains:
            mine = [time for time, point in chain if point == _point(row)]
            row.episode += row.start >= min(mine or [time for time, _ in chain])


def _opens(row: Row, rows: list[Row], idle: int, gap: int) -> bool:
    before = [other for other in rows if _point(other) == _point(row) and other.start <= row.start - gap]
    if not before:
        return False
    closing = [(other.start, other.end) for other in before if other.flags is not None and other.flags & (FIN | RST)]
    opening = [other.start for other in before if other.flags is not None and other.flags & SYN]
    if closing and max(closing)[1] <= row.start and max(closing)[0] >= max(opening, default=max(closing)[0]):
        return True
    return row.start - max(other.end for other in before) > idle


def _point(row: Row) -> tuple[str, str]:
    return row.observer, row.log
