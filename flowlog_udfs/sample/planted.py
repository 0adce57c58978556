"""What a compliance report of a day must find, and what it must not: the truth about the rules of the default policy.

Rules about single connections have cases of their own (`violations.CASES`). Scans, sweeps, refusals from inside, gaps and missing things
are counted over all that was logged, ordinary traffic too, by the plainest means.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.sample.delivery import DAY, Delivered
from flowlog_udfs.sample.layout import coverage
from flowlog_udfs.sample.observation import STATUS_SKIPDATA
from flowlog_udfs.sample.topology import ENDPOINT, NAT, NLB, REGIONAL_NAT, TGW
from flowlog_udfs.sample.traffic import Table
from flowlog_udfs.sample.truth import Day
from flowlog_udfs.sample.truth_totals import LISTED_LATE
from flowlog_udfs.sample.violations import CASES, Case

OPEN, SUPPRESSED, EXPIRED, NEVER = "open", "suppressed", "expired", "never"
PLANTED = pa.schema(
    [
        ("rule", pa.string()),
        ("kind", pa.string()),  # of traffic, or of gap; null where the rule counts over everything
        ("vpc_id", pa.string()),  # null where there are several, or none
        ("subject_addrs", pa.list_(pa.string())),  # addresses or ids that the finding's subject or examples name
        ("status", pa.string()),  # never: no finding of the rule names these
    ]
)
PORTS, HOSTS, REFUSALS, DAYS_BEFORE = 20, 50, 10, 3
"""The default policy's limits: ports of a scan, hosts of a sweep, refusals from inside, and days before that must be known."""

SILENCE = 3_600
"""Seconds without a row of an interface between two; longer than two of the longest aggregation intervals."""

_PROXIES = (NAT, REGIONAL_NAT, TGW, NLB, ENDPOINT)
Planted = tuple[str, str | None, str | None, list[str], str]


@dataclass(frozen=True)
class PlantedTruth:
    """A day's truth about the rules; `last` is the number of the sample's last day, `objects` are those written of all days."""

    day: Day
    connections: pa.Table
    objects: Sequence[Delivered]
    last: int

    def table(self) -> pa.Table:
        """Rows of `PLANTED`."""
        rows = [
            *self.of_connections(),
            *self.of_spreading(),
            *self.of_refusals(),
            *self.of_transfers(),
            *self.of_gaps(),
            *self.of_missing(),
        ]
        columns = zip(*rows, strict=True) if rows else [()] * len(PLANTED)
        return pa.table([pa.array(list(column), field.type) for column, field in zip(columns, PLANTED, strict=True)], schema=PLANTED)

    def of_connections(self) -> Iterator[Planted]:
        """The cases of single kinds of traffic, one row for each subject."""
        kinds = pc.is_in(self.connections.column("kind"), pa.array(list(CASES)))
        told = set()
        for row in _distinct(self.connections.filter(kinds), ["kind", *_ENDS, "nat_leg"]):
            for case in CASES[row["kind"]] if row["nat_leg"] != "outside" else ():
                here, there = ("initiator", "responder") if case.subject == "initiator" else ("responder", "initiator")
                if (row["kind"], case, row[f"{here}_addr"]) in told:
                    continue
                told.add((row["kind"], case, row[f"{here}_addr"]))
                # Of several peers not all are among a finding's examples.
                named = [row[f"{here}_addr"], *([row[f"{there}_addr"]] if case.names_peer else [])]
                vpc = None if case.never else row[f"{here}_network"] or row[f"{there}_network"]
                if case.rule != "first-seen-peer" or case.never or self.day.number >= DAYS_BEFORE:
                    yield case.rule, row["kind"], vpc, named, self.status(case)

    def status(self, case: Case) -> str:
        """What becomes of a case on this day."""
        if case.never:
            return NEVER
        return OPEN if case.expires is None else SUPPRESSED if self.day.number <= self.last + case.expires else EXPIRED

    def of_spreading(self) -> Iterator[Planted]:
        """Scans and sweeps: connections that did not come about and whose opening was logged with its flag, from no proxy."""
        topology = self.day.observed.topology
        kinds = dict(zip(topology.texts("interface-id").to_pylist(), topology.kind.tolist(), strict=True))
        balancers = {interface.id for interface in topology.interfaces if interface.role == "alb"}
        proxies = balancers | {name for name, kind in kinds.items() if kind in _PROXIES and name}
        fruitless = self.connections.filter(
            pc.and_(
                pc.is_in(self.connections.column("state"), pa.array(["rejected", "unanswered", "refused_by_host"])),
                pc.and_(
                    self.connections.column("syn_logged"),
                    pc.invert(pc.is_in(self.connections.column("initiator_interface_id"), pa.array(sorted(proxies), pa.string()))),
                ),
            )
        )
        host = ["responder_network", "responder_addr"]
        for rule, together, over, least in (
            ("port-scan", host, ["protocol", "responder_port"], PORTS),
            ("host-sweep", ["protocol", "responder_port"], host, HOSTS),
        ):
            touched: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
            for row in _distinct(fruitless, ["initiator_network", "initiator_addr", *together, *over]):
                touched.setdefault(tuple(row[name] for name in ("initiator_network", "initiator_addr", *together)), []).append(row)
            for rows in touched.values():
                if len(rows) >= least:
                    vpcs = sorted({row["responder_network"] for row in rows if row["responder_network"]})
                    named = [rows[0]["initiator_addr"], *([rows[0]["responder_addr"]] if rule == "port-scan" else [])]
                    yield rule, None, vpcs[0] if len(vpcs) == 1 else None, named, OPEN

    def of_refusals(self) -> Iterator[Planted]:
        """Own initiators with many refused connections."""
        own = pc.and_(self.connections.column("initiator_network").is_valid(), self.connections.column("syn_logged"))
        refused = self.connections.filter(pc.and_(own, pc.equal(self.connections.column("action"), "REJECT")))
        counted = refused.group_by(["initiator_network", "initiator_addr"], use_threads=False).aggregate([([], "count_all")])
        for row in counted.to_pylist():
            if row["count_all"] >= REFUSALS:
                yield "refused-from-inside", None, row["initiator_network"], [row["initiator_addr"]], OPEN

    def of_transfers(self) -> Iterator[Planted]:
        """The subnet that sends far more than before, where enough days before are part of the sample."""
        uploads = self.connections.filter(pc.equal(self.connections.column("kind"), "upload"))
        if uploads.num_rows and self.day.number >= DAYS_BEFORE:
            topology = self.day.observed.topology
            subnet = topology.interfaces[int(topology.roles["regional"][0])].subnet
            assert subnet is not None
            yield "large-transfer", "upload", subnet.vpc.id, [subnet.id], OPEN

    def of_gaps(self) -> Iterator[Planted]:
        """Flow logs with lost records or empty hours, and interfaces whose rows stop and come back."""
        observed = self.day.observed
        ids = [log.id for log in observed.logs]
        vpcs = self._vpcs_of_logs()
        for log in np.unique(self._streams["log"][self._streams["status"] == STATUS_SKIPDATA]).tolist():
            yield "skipdata", None, vpcs[log], [ids[log]], OPEN
        hours = self._records["start"] // 3_600 - 24 * self.day.number
        published = [(parcel.log, parcel.published - self.day.number * DAY) for parcel in (one.parcel for one in self.objects)]
        for log in sorted({log for log, since in published if 0 <= since < DAY + LISTED_LATE}):
            if len(np.unique(hours[self._streams["log"] == log])) < 24:
                yield "coverage-gap", "empty-hours", vpcs[log], [ids[log]], OPEN
        for log in sorted(self._silent_logs()):
            yield "coverage-gap", "silence", vpcs[log], [ids[log]], OPEN

    def of_missing(self) -> Iterator[Planted]:
        """VPCs without any record, and in the others interfaces without."""
        topology = self.day.observed.topology
        seen = set(np.unique(self._streams["interface"]).tolist())
        seen_vpcs = {topology.interfaces[index].vpc.id for index in seen}
        for vpc in topology.vpcs:
            if vpc.id not in seen_vpcs:
                yield "expected-missing", None, vpc.id, [vpc.id], OPEN
        for index, interface in enumerate(topology.interfaces):
            if interface.subnet and interface.vpc.id in seen_vpcs and index not in seen:
                yield "expected-missing", None, interface.vpc.id, [interface.id], OPEN

    @cached_property
    def _records(self) -> Table:
        """The day's records that its run can read."""
        records: Table = self.day.records[~self.day.late[self.day.rows]]
        return records

    @cached_property
    def _streams(self) -> Table:
        streams: Table = self.day.observed.streams[self._records["stream"]]
        return streams

    def _vpcs_of_logs(self) -> Mapping[int, str | None]:
        topology, logs = self.day.observed.topology, self.day.observed.logs
        found = {}
        for number, watched in enumerate(coverage(topology, logs)):
            vpcs = {topology.interfaces[index].vpc.id for index in np.flatnonzero(watched).tolist()}
            found[number] = vpcs.pop() if len(vpcs) == 1 else None
        return found

    def _silent_logs(self) -> set[int]:
        """Flow logs of which an interface (or a regional NAT gateway) had no row of any status for an hour or more between two."""
        interfaces = self.day.observed.topology.interfaces
        names = [interface.fields.get("resource-id", interface.id) for interface in interfaces]
        observer = np.unique(names, return_inverse=True)[1]
        kept = self._streams["status"] != STATUS_SKIPDATA
        records, streams = self._records[kept], self._streams[kept]
        key = streams["log"].astype(np.int64) * len(names) + observer[streams["interface"]]
        order = np.lexsort((records["start"], key))
        silent = set()
        for rows in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
            start, end = records["start"][rows], records["end"][rows]
            if (start[1:] >= np.maximum.accumulate(end)[:-1] + SILENCE).any():
                silent.add(int(streams["log"][rows[0]]))
        return silent


_ENDS = ("initiator_addr", "initiator_network", "responder_addr", "responder_network")


def _distinct(rows: pa.Table, names: Iterable[str]) -> list[dict[str, Any]]:
    """The different values of some columns, in order of their first row."""
    found: list[dict[str, Any]] = rows.group_by(list(names), use_threads=False).aggregate([]).to_pylist()
    return found
