"""Figures of a comparison: medians of runs with start-up taken out, ratios, and the page that shows them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.measure import Cost

TASK_NAMES = {
    "a": "raw to a columnar table",
    "b": "raw to hourly totals of subnets",
    "c": "raw to connections with initiator",
    "d": "the whole day: all three",
    "floor": "inflating the objects with isal, and nothing else",
}
FORMAT_NAMES = {
    "announcement": "21 fields of AWS's announcement, gzip text",
    "v5": "29 fields up to version 5, gzip text",
    "parquet": "29 fields up to version 5, Parquet",
}


@dataclass(frozen=True)
class Figure:
    """Medians of one engine's runs of one task. CPU and wall seconds are those beyond start-up, which is what a tiny day costs.

    `worker_bytes` is the largest Python worker's of a JVM; 0 without one.
    """

    cpu_per_million: float
    wall_seconds: float
    peak_bytes: int
    worker_bytes: int
    startup_cpu: float
    startup_wall: float
    runs: int

    @classmethod
    def of(cls, tiny: Sequence[Cost], whole: Sequence[Cost], records: int) -> Figure:
        """From runs of the tiny and of the whole day; `records` is by how many the whole day has more."""
        startup_cpu, startup_wall = (median(tiny, name) for name in ("cpu_seconds", "wall_seconds"))
        cpu = (median(whole, "cpu_seconds") - startup_cpu) / records * 1e6
        wall = median(whole, "wall_seconds") - startup_wall
        peak, worker = (round(median(whole, name)) for name in ("peak_bytes", "worker_bytes"))
        return cls(cpu, wall, peak, worker, startup_cpu, startup_wall, len(whole))


@dataclass(frozen=True)
class Section:
    """All figures of one format and size, by engine and task; a missing one has its reason in `reasons`."""

    format: str
    records: int
    size_bytes: int
    figures: Mapping[tuple[str, str], Figure]
    agreed: Sequence[str] = ()
    reasons: Mapping[tuple[str, str], str] | None = None


def median(costs: Sequence[Cost], figure: str) -> float:
    """The median of one figure of several runs."""
    return statistics.median(getattr(cost, figure) for cost in costs)


def ratio(value: float, base: float | None) -> str:
    """A value as a multiple of a base; empty where start-up hides one of them."""
    return f"{value / base:.2f}" if base and base > 0 and value > 0 else ""


def beyond_startup(value: float, digits: int) -> str:
    """A figure from which start-up was taken; runs of start-up differ by more than some engines take for a day."""
    return f"{value:.{digits}f}" if value > 0 else "none beyond start-up"


def table(section: Section, engines: Sequence[str], tasks: Sequence[str]) -> str:
    """One row for each task and engine; ratios are to the first engine, below 1 where it is cheaper than that."""
    first = engines[0]
    heads = [
        "task",
        "engine",
        "CPU-s per million",
        f"× {first}",
        "wall s",
        f"× {first}",
        "peak MiB",
        "worker MiB",
        "start-up CPU-s",
        "start-up s",
        "runs",
    ]
    lines = [f"| {' | '.join(heads)} |", f"|---|---|{'---:|' * (len(heads) - 2)}"]
    for task in tasks:
        base = section.figures.get((first, task))
        for engine in engines:
            found = section.figures.get((engine, task))
            if found is None:
                reason = (section.reasons or {}).get((engine, task))
                lines += [f"| {task} | {engine} | {reason} |{' |' * (len(heads) - 3)}"] if reason else []
                continue
            cells = [
                beyond_startup(found.cpu_per_million, 2),
                ratio(found.cpu_per_million, base and base.cpu_per_million),
                beyond_startup(found.wall_seconds, 1),
                ratio(found.wall_seconds, base and base.wall_seconds),
                f"{found.peak_bytes / 2**20:,.0f}",
                f"{found.worker_bytes / 2**20:,.0f}" if found.worker_bytes else "",
                f"{found.startup_cpu:.1f}",
                f"{found.startup_wall:.1f}",
                str(found.runs),
            ]
            lines.append(f"| {task} | {engine} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page(preface: Sequence[str], sections: Sequence[Section], engines: Sequence[str], tasks: Sequence[str], notes: Sequence[str]) -> str:
    """The whole of RESULTS.md."""
    parts = ["# flowlog beside its peers", *preface, "\n".join(f"- {task}: {TASK_NAMES[task]}" for task in tasks), *notes]
    for section in sections:
        parts.append(f"## {section.records:,} records, {FORMAT_NAMES[section.format]} ({section.size_bytes / 1e6:,.0f} MB)")
        parts.append(table(section, engines, tasks))
        parts += ["All tables agree:", "\n".join(f"- {line}" for line in section.agreed)] if section.agreed else []
    return "\n\n".join(parts) + "\n"
