"""`flowlog demo`: from nothing to a report."""

from __future__ import annotations

import argparse
import webbrowser
from datetime import date, timedelta
from pathlib import Path

from flowlog_udfs.arguments import STEP_NAMES, add_engine, day
from flowlog_udfs.command.output import Output
from flowlog_udfs.command.run import entry
from flowlog_udfs.command.submission import add_submission, submit

HELP = "make a sample day and smaller days before it, run them whole, and end with a report"
EXAMPLE = "flowlog demo --output /tmp/flowlog-demo --open"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where it goes, and how large it is."""
    parser.add_argument("--output", default="flowlog-demo", metavar="DIR", help="folder of logs/ and warehouse/ (default: flowlog-demo)")
    parser.add_argument("--day", type=day, default=date(2026, 3, 10), help="the day (default: 2026-03-10)")
    parser.add_argument("--connections", type=int, default=20_000, metavar="N", help="about how many connections (default: 20,000)")
    parser.add_argument("--history", type=int, default=4, metavar="N", help="how many smaller days before it (default: 4)")
    parser.add_argument("--open", action="store_true", help="open the report in a browser")
    add_engine(parser)
    add_submission(parser)


def execute(given: argparse.Namespace, output: Output) -> int:
    """Make the sample, submit the job for all of its days but the second, and say where the report is.

    The second day's run is left out like one that nobody started: the hole that it leaves in the ledger is for the report to find.
    """
    from flowlog_udfs.sample import SampleRequest, make_sample
    from flowlog_udfs.tables import Warehouse

    logs, warehouse = Path(given.output, "logs"), Path(given.output, "warehouse")
    request = SampleRequest(str(logs), given.day, history=given.history, connections=given.connections, idle_rows=True)
    with output.aside.status("making sample logs"):
        made = make_sample(request)
    output.aside.print(f"{logs}: {made.records:,} records in {made.objects:,} objects", markup=False)
    words = ["--source", str(logs), "--warehouse", str(warehouse), "--engine", given.engine]
    words += ["--inventory", str(logs / "inventory.json"), "--policy", str(logs / "policy.toml")]
    first, status = request.first_day, 0
    if first + timedelta(days=1) < given.day:
        status = submit("run_day", [*words, "--day", str(first)], len(STEP_NAMES), given, output)
        first += timedelta(days=2)
    if status == 0:
        span = ["--from", str(first), "--to", str(given.day)]
        status = submit("run_day", [*words, *span], len(STEP_NAMES) * ((given.day - first).days + 1), given, output)
    last = entry(Warehouse.open(str(warehouse)), given.day)
    if status == 0:
        output.show({"status": status, **last}, lambda console: console.print(f"open {last['report']} in a browser", markup=False))
    if given.open and last["report"]:
        webbrowser.open(f"file://{last['report']}")
    return status
