"""`flowlog inspect`: what lies under a source for a day, without Spark."""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from rich.console import Console

from flowlog_udfs.arguments import day
from flowlog_udfs.command.output import Output, megabytes, print_table
from flowlog_udfs.config import load_config
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.feeds import NO, PARTLY, feeds
from flowlog_udfs.inspection import FlowLogFound, inspect_day

HELP = "say what flow logs there are for a day: accounts, Regions, formats, sizes and empty hours; starts no Spark"
EXAMPLE = "flowlog inspect s3://my-log-bucket --day 2026-03-10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where, and which day."""
    parser.add_argument("source", metavar="SOURCE", help="folder or s3://bucket[/prefix] that holds AWSLogs/")
    parser.add_argument("--day", required=True, type=day, help="UTC day, YYYY-MM-DD")
    parser.add_argument("--config", metavar="FILE", help="flowlog.toml (default: built-in settings)")


def execute(given: argparse.Namespace, output: Output) -> int:
    """List the day; the status is 2 where there is nothing, as a run's would be."""
    with output.aside.status(f"listing {given.source}"):
        found = inspect_day(given.source, given.day, late_hours=load_config(given.config).ingest.late_hours, now=datetime.now(timezone.utc))
    if not found.flow_logs:
        raise DayLimitError(f"{given.source}: no flow log object of {given.day} ({found.skipped:,} others lie there)")
    logs = [_as_document(one) for one in found.flow_logs]
    document = {
        "source": found.source,
        "day": found.day,
        "objects": found.objects,
        "size_bytes": found.size_bytes,
        "skipped": found.skipped,
        "flow_logs": logs,
    }

    def view(console: Console) -> None:
        rows = [
            (
                *(one.account_id, one.region, one.flow_log_id, ", ".join(one.layouts)),
                len(one.log_format.names) if one.log_format else "unknown",
                *(one.objects, megabytes(one.size_bytes), f"{one.first_published:%H:%M}", f"{one.last_published:%H:%M}"),
                _ranges(one.empty_hours),
            )
            for one in found.flow_logs
        ]
        columns = ("account", "Region", "flow log", "layout", "fields", "objects", "size", "first", "last", "empty hours")
        print_table(console, columns, rows)
        others = f", {found.skipped:,} objects that are not flow logs" if found.skipped else ""
        console.print(
            f"{found.day}: {found.objects:,} objects, {megabytes(found.size_bytes)}, {len(found.flow_logs)} flow logs{others}", markup=False
        )
        unfed = defaultdict(list)
        for log in logs:
            unfed[tuple(log["feeds_no"])].append(log["flow_log_id"])
        for results, names in unfed.items():
            if results:
                console.print(f"{', '.join(results)}: not told by {', '.join(names)}", markup=False)

    output.show(document, view)
    return 0


def _as_document(one: FlowLogFound) -> dict[str, Any]:
    """A flow log with what its format feeds partly, and what not at all."""
    fed = feeds(one.log_format) if one.log_format else []
    answers = {f"feeds_{way}": [feed.result for feed in fed if feed.answer == way] for way in (PARTLY, NO)}
    return asdict(one) | {"log_format": one.log_format and str(one.log_format)} | answers


def _ranges(hours: tuple[int, ...]) -> str:
    """Hours of a day as ranges, `0-11, 15`."""
    runs: list[list[int]] = []
    for hour in hours:
        if runs and hour == runs[-1][-1] + 1:
            runs[-1].append(hour)
        else:
            runs.append([hour])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
