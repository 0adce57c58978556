"""The arguments of a sample, for the job and the command that make one."""

from __future__ import annotations

import argparse

from flowlog_udfs.arguments import day
from flowlog_udfs.sample.day import FORMATS, PROFILES, SampleRequest


def add_sample_arguments(parser: argparse.ArgumentParser) -> None:
    """Add all that a `SampleRequest` holds."""
    parser.add_argument("--output", required=True, metavar="DIR|s3://…", help="where AWSLogs/, truth/, inventory.json and policy.toml go")
    parser.add_argument("--day", required=True, type=day, metavar="YYYY-MM-DD", help="the first day (UTC)")
    parser.add_argument("--days", type=int, default=1, help="how many days in a row")
    parser.add_argument("--history", type=int, default=0, metavar="N", help="N smaller days before the first, of the same places")
    parser.add_argument("--history-connections", type=int, default=1_500, metavar="N", help="about how many connections each of these has")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--connections", type=int, default=20_000, help="about how many connections")
    size.add_argument("--records", type=int, help="about how many records, instead")
    parser.add_argument("--objects", type=int, help="at least about so many objects a day; without, one for each flow log and 5 minutes")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal samples")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="default", help="bench: one flow log, 24 objects a day")
    parser.add_argument("--clean", action="store_const", const="clean", dest="profile", help="a day that breaks no rule: --profile clean")
    parser.add_argument("--format", choices=("text", "parquet", "mixed"), default="mixed", help="of the objects")
    parser.add_argument("--fields", choices=sorted(FORMATS), default="all", help="one log format for all, or each flow log its own")
    parser.add_argument(
        "--idle-rows",
        action=argparse.BooleanOptionalAction,
        help="a NODATA row for every interval without traffic, as AWS writes (default: for profiles default and clean, without --records)",
    )


def sample_given(given: argparse.Namespace) -> SampleRequest:
    """The request that these arguments make."""
    names = ("output", "day", "days", "history", "history_connections", "connections", "records", "objects", "seed", "profile", "fields")
    idle_rows = given.idle_rows if given.idle_rows is not None else given.records is None and given.profile in ("default", "clean")
    return SampleRequest(file_format=given.format, idle_rows=idle_rows, **{name: getattr(given, name) for name in names})
