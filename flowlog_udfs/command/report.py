"""`flowlog report`: a day's report made anew from its tables, or shown as it stands."""

from __future__ import annotations

import argparse
import webbrowser
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from flowlog_udfs.arguments import STEP_NAMES, Parser, add_day_arguments, file
from flowlog_udfs.command.output import Output, print_table
from flowlog_udfs.command.submission import add_submission, job_words, submit
from flowlog_udfs.errors import UsageError

if TYPE_CHECKING:
    from flowlog_udfs.day_arguments import DayArguments

HELP = "make a day's report from its tables, or show the one that stands (jobs/report_compliance.py)"
EXAMPLE = "flowlog report --warehouse s3://my-tables/flowlog --day 2026-03-10 --show"
SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those of the job, and how it is shown."""
    add_day_arguments(parser, STEP_NAMES[-1:])
    _add_own(parser)


def _add_own(parser: argparse.ArgumentParser) -> None:
    add_submission(parser)
    parser.add_argument("--show", action="store_true", help="make nothing: show the latest version (default: make a new version)")
    parser.add_argument(
        "--other-inputs", action="store_true", help="make a version without the policy or inventory that the latest was made with"
    )
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument(
        "--pseudonyms",
        metavar="KEYFILE",
        type=file,
        help="make no version: write a copy of the latest one for others to --output, its accounts, addresses, resources and people under "
        "pseudonyms by the key in this file",
    )
    parser.add_argument("--output", metavar="DIR|s3://…", help="folder or bucket prefix of the copy, day=D/report.html and report.json")


def execute(given: argparse.Namespace, output: Output) -> int:
    """Submit the job unless the standing report will do, then show verdict and findings; raises `DayLimitError` where there is none."""
    from flowlog_udfs.day_arguments import days_given
    from flowlog_udfs.report.publishing import latest_report, report_url

    (day,) = days_given(given)
    if given.pseudonyms or given.output:
        return _copy(day, given, output)
    status = 0
    if not given.show:
        if not given.other_inputs:
            _refuse_other_inputs(day, given)
        own = Parser(add_help=False, allow_abbrev=False)
        _add_own(own)
        own.add_argument("--json", action="store_true")
        status = submit("report_compliance", job_words(given.words, own), 1, given, output)
        if status and not given.fail_on:
            return status
    _show(latest_report(day.warehouse, day.selection.day), report_url(day.warehouse, day.selection.day), given, output)
    return status


def _copy(day: DayArguments, given: argparse.Namespace, output: Output) -> int:
    """Write the latest version under pseudonyms and show that; raises `UsageError` without a key or a place."""
    from flowlog_udfs.catalog import refuse_taken
    from flowlog_udfs.pseudonyms import Pseudonyms
    from flowlog_udfs.report.publishing import latest_report, publish_copy
    from flowlog_udfs.storage import open_storage

    if not (given.pseudonyms and given.output):
        raise UsageError("--pseudonyms KEYFILE and --output DIR go together; give both")
    pseudonyms, target = Pseudonyms.load(given.pseudonyms), open_storage(given.output)
    refuse_taken(day.warehouse, *target, "--output")
    _show(*publish_copy(target, latest_report(day.warehouse, day.selection.day), pseudonyms), given, output)
    return 0


def _show(document: Mapping[str, Any], url: str, given: argparse.Namespace, output: Output) -> None:
    names = ("day", "digest", "verdict", "findings", "signoffs")
    output.show({"report": url} | {name: document[name] for name in names}, lambda console: _view(document, url, console))
    if given.open:
        webbrowser.open(url if "://" in url else f"file://{url}")


def _refuse_other_inputs(day: DayArguments, given: argparse.Namespace) -> None:
    """Raise `UsageError` where the report that stands was made by a policy or an inventory that the command line has left out."""
    from flowlog_udfs.ledger import versions

    found = versions(day.warehouse, day.selection.day)
    if not found:
        return
    latest = found[-1]
    left_out = [] if given.policy or latest["policy_digest"] == day.policy.digest() else ["--policy"]
    left_out += ["--inventory"] if latest["inventory_digest"] and not given.inventory else []
    if left_out:
        raise UsageError(
            f"the report of {day.selection.day} was made with another policy or inventory; give {' and '.join(left_out)}, "
            "or --other-inputs to supersede it, or --show to look at it"
        )


def _view(document: Mapping[str, Any], url: str, console: Console) -> None:
    counted = [one for one in document["findings"] if one["status"] != "suppressed"]
    rows = [(one["severity"], one["rule"], one["subject"], one["summary"], one["finding_id"]) for one in counted[:SHOWN]]
    if rows:
        print_table(console, ("severity", "rule", "subject", "what", "finding"), rows, wrapped=("what",))
    if len(counted) > SHOWN:
        console.print(f"… and {len(counted) - SHOWN:,} more findings")
    console.print(f"{document['day']}: {document['verdict']['sentence']}", markup=False)
    console.print(f"{url} (version {document['digest'][:12]})", markup=False)
