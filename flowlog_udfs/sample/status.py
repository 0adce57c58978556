"""Rows about interfaces rather than traffic: NODATA where a flow log saw none in an interval, SKIPDATA where it lost some, and silence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowlog_udfs.sample.layout import FlowLog, coverage
from flowlog_udfs.sample.observation import RECORD, STATUS_NODATA, STATUS_SKIPDATA, STREAM, window_grid
from flowlog_udfs.sample.topology import Column, Topology
from flowlog_udfs.sample.traffic import Table

DAY = 86_400
SILENT_FROM, SILENT_UNTIL = 9 * 3_600, 9 * 3_600 + 6_000
"""Seconds of every day between which the silenced interface has no rows of any status."""


@dataclass(frozen=True)
class StatusPlan:
    """How many SKIPDATA rows a day there are, whether one interface falls silent, and whether all idle intervals have NODATA rows.

    Without `idle` only interfaces that never have traffic do: a sample of many records is not to be drowned in rows about nothing.
    """

    skipped: int = 0
    silence: bool = False
    idle: bool = False


def status_rows(
    topology: Topology, logs: tuple[FlowLog, ...], streams: Table, records: Table, rng: np.random.Generator, days: int, plan: StatusPlan
) -> tuple[Table, Table]:
    """Streams and records to be appended to those of the traffic; their `stream` is counted from 0."""
    watched, quiet = coverage(topology, logs), topology.roles.get("quiet", np.empty(0, np.int32))
    busy = _windows(topology, logs, streams, records)
    skipping = rng.choice(topology.roles["app"], (days, plan.skipped))
    more_streams: list[tuple[object, ...]] = []
    more_records: list[Table] = []

    def append(interface: int, number: int, status: int, starts: Column, length: int) -> None:
        record = np.zeros(len(starts), RECORD)
        record["stream"], record["start"], record["end"] = len(more_streams), starts, starts + length - 1
        more_records.append(record)
        more_streams.append((-1, -1, interface, -1, number, status, False, False))

    for number, log in enumerate(logs):
        for interface in np.flatnonzero(watched[number]).tolist():
            length = 60 if topology.interfaces[interface].nitro else log.interval
            phase = topology.interfaces[interface].phase % length
            windows = np.arange(-1, days * DAY // length)
            windows = windows[(phase + windows * length >= log.begins) & (phase + windows * length < log.ends)]
            for day in np.flatnonzero(skipping == interface) // max(plan.skipped, 1):
                of_day = windows[(phase + windows * length) // DAY == day]
                if len(of_day):
                    lost = rng.choice(of_day, 1)
                    append(interface, number, STATUS_SKIPDATA, phase + lost * length, length)
                    windows = np.setdiff1d(windows, lost)
            if plan.idle or interface in quiet:
                starts = phase + np.setdiff1d(windows, busy.get((number, interface), windows[:0])) * length
                if plan.silence and interface == quiet[-1]:
                    starts = starts[(starts % DAY < SILENT_FROM) | (starts % DAY >= SILENT_UNTIL)]
                append(interface, number, STATUS_NODATA, starts, length)
    return np.array(more_streams, STREAM), np.concatenate([np.empty(0, RECORD), *more_records])


def _windows(topology: Topology, logs: tuple[FlowLog, ...], streams: Table, records: Table) -> dict[tuple[int, int], Column]:
    """By flow log and interface, the numbers of the aggregation windows that have rows."""
    of_record = streams[records["stream"]]
    length, phase = window_grid(topology, logs, of_record)
    window = (records["start"] - phase) // length
    log, interface = of_record["log"].astype(np.int64), of_record["interface"].astype(np.int64)
    order = np.lexsort((window, interface, log))
    log, interface, window = log[order], interface[order], window[order]
    first = np.flatnonzero(np.r_[True, (log[1:] != log[:-1]) | (interface[1:] != interface[:-1])]) if len(order) else np.empty(0, np.int64)
    parts = np.split(window, first[1:]) if len(first) else []
    return {(int(log[at]), int(interface[at])): np.unique(part) for at, part in zip(first, parts, strict=True)}
