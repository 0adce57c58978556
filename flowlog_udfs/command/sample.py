"""`flowlog sample`: sample logs and the truth about them."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from flowlog_udfs.command.output import Output, megabytes
from flowlog_udfs.sample import make_sample
from flowlog_udfs.sample.arguments import add_sample_arguments, sample_given

HELP = "write sample flow logs, and the truth about them, into a folder or bucket (jobs/make_sample_logs.py)"
EXAMPLE = "flowlog sample --output /tmp/logs --day 2026-03-10 --connections 5000"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the job."""
    add_sample_arguments(parser)


def execute(given: argparse.Namespace, output: Output) -> int:
    """Make the sample and say what it holds."""
    with output.aside.status("making sample logs"):
        made = make_sample(sample_given(given))
    counts = f"{made.connections:,} connections, {made.records:,} records in {made.objects:,} objects, {megabytes(made.size_bytes)}"
    output.show({"output": given.output, **asdict(made)}, lambda console: console.print(f"{given.output}: {counts}", markup=False))
    return 0
