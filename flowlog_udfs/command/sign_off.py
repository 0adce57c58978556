"""`flowlog sign-off`: a reviewer's decision on a day's report."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone

from flowlog_udfs.arguments import add_warehouse, day
from flowlog_udfs.command.output import Output

HELP = "record a reviewer's decision on a day's report, for good"
EXAMPLE = (
    "flowlog sign-off --warehouse s3://my-tables/flowlog --day 2026-03-10 --reviewer 'A. Auditor' --decision accepted "
    "--disposition 4f1c0a9b7d2e6831='vendor, see NET-18'"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose decision on which version, and what is said of single findings."""
    add_warehouse(parser)
    parser.add_argument("--day", required=True, type=day, help="UTC day, YYYY-MM-DD")
    parser.add_argument("--reviewer", required=True, metavar="NAME", help="who decides")
    parser.add_argument("--decision", required=True, choices=("accepted", "rejected"))
    parser.add_argument("--digest", help="version of the report, by the first characters of its digest (default: the latest)")
    parser.add_argument(
        "--disposition", action="append", default=[], type=_disposition, metavar="ID=TEXT", help="what is said of a finding (repeatable)"
    )
    parser.add_argument("--ticket", help="ticket of the review")
    parser.add_argument("--comment", help="free text")


def execute(given: argparse.Namespace, output: Output) -> int:
    """Add one row to table `signoffs`."""
    from flowlog_udfs.ledger import sign_off
    from flowlog_udfs.tables import Warehouse

    row = sign_off(
        Warehouse.open(given.warehouse, given.table_format),
        given.day,
        reviewer=given.reviewer,
        decision=given.decision,
        now=datetime.now(timezone.utc),
        digest=given.digest,
        dispositions=dict(given.disposition),
        ticket=given.ticket,
        comment=given.comment,
    )
    line = f"{given.day}: version {row['digest'][:12]} {row['decision']} by {row['reviewer']}"
    output.show({"day": given.day, **row, "dispositions": dict(row["dispositions"])}, lambda console: console.print(line, markup=False))
    return 0


def _disposition(text: str) -> tuple[str, str]:
    finding, sign, said = text.partition("=")
    if not (finding and sign and said):
        raise argparse.ArgumentTypeError(f"{text!r}: write FINDING_ID=TEXT")
    return finding, said
