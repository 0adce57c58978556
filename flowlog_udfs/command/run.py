"""`flowlog run`: days of flow logs to tables and reports."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from flowlog_udfs.arguments import STEP_NAMES, Parser, add_day_arguments
from flowlog_udfs.command.output import Output
from flowlog_udfs.command.submission import add_submission, job_words, submit

HELP = "turn days of flow logs into tables and reports (jobs/run_day.py)"
EXAMPLE = "flowlog run --source s3://my-log-bucket --warehouse s3://my-tables/flowlog --from 2026-03-01 --to 2026-03-10"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the job, and Spark's."""
    add_day_arguments(parser, STEP_NAMES, backfills=True)
    add_submission(parser)


def execute(given: argparse.Namespace, output: Output) -> int:
    """Submit the job; as JSON, its status and what the ledger says of each day."""
    from flowlog_udfs.day_arguments import days_given

    # Wrong files and values are told here already: Spark takes seconds to start.
    days = days_given(given)
    steps = 1 if given.verify else STEP_NAMES.index(given.until) + 1 if given.until else len(STEP_NAMES)
    status = submit("run_day", _job_words(given), steps * len(days), given, output)
    if output.as_json:
        output.show({"status": status, "days": [entry(one.warehouse, one.selection.day) for one in days]}, _nothing_more)
    return status


def entry(warehouse: Any, day: Any) -> dict[str, Any]:
    """What the ledger says of a day: its latest version, or nothing but the day."""
    from flowlog_udfs.ledger import versions
    from flowlog_udfs.report.publishing import report_url

    latest = versions(warehouse, day)[-1:]
    return {"day": day, **(latest[0] | {"report": report_url(warehouse, day)} if latest else {"digest": None, "report": None})}


def _job_words(given: argparse.Namespace) -> list[str]:
    own = Parser(add_help=False, allow_abbrev=False)
    add_submission(own)
    own.add_argument("--json", action="store_true")
    return job_words(given.words, own)


def _nothing_more(console: Console) -> None:
    """The job has said it all."""
