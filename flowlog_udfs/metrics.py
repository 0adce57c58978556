"""The figures of a run for those who watch it: Prometheus text, or CloudWatch's embedded metric format (EMF).

All are gauges of the last run: a run is over before anybody could ask it. None is labelled by day or run, which would make a new time
series of each; EMF has both as properties, by which logs are searched.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flowlog_udfs.errors import StorageError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from flowlog_udfs.counts import Count

METRICS_FORMATS = ("prometheus", "emf")
NAMESPACE = "flowlog"
STANDARD_OUTPUT = Path("-")


@dataclass(frozen=True)
class Metric:
    """A figure: its name, what it means, its unit in CloudWatch's words, what its kinds are called, and whether those of days add up."""

    name: str
    meaning: str
    unit: str = "Count"
    label: str | None = None
    adds: bool = True


METRICS = (
    Metric("exit_status", "Exit status of the run: 0 done, 1 wrong use, 2 the day breaks a limit, 3 storage or engine", "None", adds=False),
    Metric("run_timestamp_seconds", "When the run ended, Unix time", "Seconds", adds=False),
    Metric("run_seconds", "How long the run took", "Seconds", adds=False),
    Metric("step_seconds", "How long a step took, of all days of the run", "Seconds", "step"),
    Metric("day_timestamp_seconds", "Midnight of the newest day that the run was asked for, Unix time", "Seconds", adds=False),
    Metric("days", "Days of the run, by what became of them", label="outcome"),
    Metric("objects", "Flow log objects, by what became of them; skipped are no flow logs", label="state"),
    Metric("object_bytes", "Bytes of flow log objects as stored", "Bytes"),
    Metric("lines", "Lines of flow log objects"),
    Metric("records", "Records read"),
    Metric("logged_bytes", "Bytes that the records tell of", "Bytes"),
    Metric("rejects", "Lines that are no records, by reason", label="reason"),
    Metric("late_records", "Records of other days, filed where the runs of those days do not look"),
    Metric("record_lag_seconds", "From the end of the newest record to the start of the run", "Seconds", adds=False),
    Metric("connections", "Connections, by state", label="connection_state"),
    Metric("redelivered_records", "Records that were delivered twice and count once"),
    Metric("nat_mappings", "NAT mappings, by method", label="method"),
    Metric("subnet_account_bytes", "Bytes read, by bucket of the account of subnets", "Bytes", "bucket"),
    Metric("findings", "Open findings, by severity", label="severity"),
    Metric("rules", "Rules, by outcome", label="rule_outcome"),
    Metric("report_lag_seconds", "From the end of the day to its report", "Seconds", adds=False),
    Metric("verified_tables", "Tables compared by --verify, by result", label="result"),
    Metric("merged_files", "Small part files that maintenance merged"),
    Metric("removed_files", "Files that maintenance removed, by why", label="why"),
    Metric("removed_bytes", "Bytes of files that maintenance removed", "Bytes"),
    Metric("vcpu_seconds", "vCPUs that the run holds, as [cost] vcpus says, times its seconds", "Seconds", adds=False),
    Metric(
        "estimated_cost",
        "vcpu_seconds at [cost] vcpu_hour_price, in the currency of that price; storage and requests apart",
        "None",
        adds=False,
    ),
)
_BY_NAME = {metric.name: metric for metric in METRICS}


class Measured:
    """What a run measured so far: of each metric its values by kind (`""` where it has none)."""

    def __init__(self) -> None:
        self.values: dict[str, dict[str, float]] = {}

    def add(self, counts: Mapping[str, Count]) -> None:
        """Take the counts of a step, or of the run."""
        for name, count in counts.items():
            held = self.values.setdefault(name, {})
            for kind, value in count.items() if isinstance(count, Mapping) else [("", count)]:
                held[kind] = value + held.get(kind, 0) if _BY_NAME[name].adds else value

    def in_order(self) -> Iterator[tuple[Metric, str, float]]:
        """All values, metric by metric."""
        for metric in METRICS:
            for kind, value in sorted(self.values.get(metric.name, {}).items()):
                yield metric, kind, value

    def counts(self) -> dict[str, Count]:
        """All values by name."""
        return {name: held.get("", held) for name, held in self.values.items()}


def write_metrics(path: Path, form: str, measured: Measured, *, warehouse: str, run_id: str, day: str | None, now: datetime) -> None:
    """Write what a run measured to a file, or to standard output for `-`; raises `StorageError` when it cannot be written.

    Prometheus text replaces the file in one step, as node_exporter's textfile collector wants; EMF adds lines, as to a log.
    """
    if form == "emf":
        lines = "".join(f"{json.dumps(one)}\n" for one in emf(measured, warehouse=warehouse, run_id=run_id, day=day, now=now))
        if path == STANDARD_OUTPUT:
            print(lines, end="", flush=True)
            return
        try:
            with path.open("a", encoding="utf-8") as log:
                log.write(lines)
        except OSError as error:
            raise StorageError(f"--metrics {path}: cannot be written: {error.strerror}") from error
        return
    from prometheus_client import generate_latest, write_to_textfile

    registry = prometheus(measured, warehouse=warehouse)
    if path == STANDARD_OUTPUT:
        sys.stdout.write(generate_latest(registry).decode())
        sys.stdout.flush()
        return
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise StorageError(f"--metrics {path}: cannot be written: {error.strerror}") from error


def prometheus(measured: Measured, *, warehouse: str) -> CollectorRegistry:
    """What a run measured as gauges, each labelled with its warehouse: two jobs of one machine may measure the same."""
    from prometheus_client import CollectorRegistry, Gauge

    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for metric, kind, value in measured.in_order():
        labels = {"warehouse": warehouse} | ({metric.label: kind} if metric.label else {})
        if metric.name not in gauges:
            gauges[metric.name] = Gauge(f"flowlog_{metric.name}", metric.meaning, list(labels), registry=registry)
        gauges[metric.name].labels(**labels).set(value)
    return registry


def emf(measured: Measured, *, warehouse: str, run_id: str, day: str | None, now: datetime) -> Iterator[dict[str, object]]:
    """One document for each set of dimensions (CloudWatch User Guide, "Specification: Embedded metric format")."""
    documents: dict[tuple[str | None, str], list[tuple[Metric, float]]] = defaultdict(list)
    for metric, kind, value in measured.in_order():
        documents[metric.label, kind].append((metric, value))
    for (label, kind), found in documents.items():
        dimensions = {"warehouse": warehouse} | ({label: kind} if label else {})
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [list(dimensions)],
            "Metrics": [{"Name": metric.name, "Unit": metric.unit} for metric, _ in found],
        }
        yield {
            "_aws": {"Timestamp": int(now.timestamp() * 1000), "CloudWatchMetrics": [directive]},
            **dimensions,
            "run_id": run_id,
            "day": day,
            **{metric.name: value for metric, value in found},
        }
