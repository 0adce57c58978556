"""`flowlog formats`: what a flow log's format means, what it can feed, and how to create one that feeds everything."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from rich.console import Console

from flowlog_udfs import feeds
from flowlog_udfs.command.output import Output, print_table
from flowlog_udfs.errors import UsageError
from flowlog_udfs.fields import BY_NAME, FIELDS
from flowlog_udfs.formats import LogFormat
from flowlog_udfs.policy.loading import load_policy

HELP = "explain a format, say what it can feed, and print the command that creates a recommended one"
EXAMPLE = "flowlog formats '${version} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} ${bytes} ${start} ${end} ${action}'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The format, and for whom one is recommended."""
    parser.add_argument("format", nargs="?", metavar="FORMAT", help="'${field} …' tokens or a header line (default: all fields there are)")
    parser.add_argument("--policy", metavar="FILE", help="policy.toml whose rules are asked about (default: built-in rules)")
    parser.add_argument("--vpc", action="append", metavar="ID", help="VPC of the command that is printed (repeatable)")
    parser.add_argument(
        "--destination", default="arn:aws:s3:::my-log-bucket", metavar="ARN", help="bucket or prefix of the command that is printed"
    )


def execute(given: argparse.Namespace, output: Output) -> int:
    """Explain the format; raises `UsageError` for one that is none."""
    log_format = _read(given.format)
    fed, policy = feeds.feeds(log_format), load_policy(given.policy)
    unassessed = feeds.unassessed(log_format, policy)
    command = feeds.create_command(feeds.RECOMMENDED, given.vpc or ["vpc-0123456789abcdef0"], given.destination)
    fields = [_field(name) for name in log_format.names]
    document = {
        "fields": fields,
        "feeds": [asdict(one) for one in fed],
        "rules_not_assessed": unassessed,
        "recommended": {"format": str(feeds.RECOMMENDED), "command": command},
    }

    def view(console: Console) -> None:
        rows = [(one["name"], one["version"], one["type"], one["meaning"]) for one in fields]
        print_table(console, ("field", "version", "type", "meaning"), rows, wrapped=("meaning",))
        console.print()
        answers = [(one.result, one.answer, ", ".join(one.lacking), one.meaning or "") for one in fed]
        print_table(console, ("result", "fed", "lacking", "so"), answers, wrapped=("lacking", "so"))
        if unassessed:
            console.print(f"\nrules that no such flow log can pass: {', '.join(unassessed)}", markup=False)
        console.print("\nA format that feeds everything, for VPCs whose logs go to a bucket:\n")
        console.print(command, markup=False)

    output.show(document, view)
    return 0


def _read(text: str | None) -> LogFormat:
    if text is None:
        return LogFormat(tuple(one.name for one in FIELDS))
    if "$" in text:
        return LogFormat.parse(text)
    found = LogFormat.from_header(text)
    if found is None:
        raise UsageError(f"{text!r} is neither a format nor a header line; write '${{field}} …' in single quotes, or a header line")
    return found


def _field(name: str) -> dict[str, Any]:
    known = BY_NAME.get(name)
    if known is None:
        return {"name": name, "version": "unknown", "type": "STRING", "meaning": "newer than this release: kept in extra_fields"}
    return {"name": name, "version": known.version, "type": known.type, "meaning": known.meaning}
