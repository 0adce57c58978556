"""Write sample flow logs, and the truth about them, into a folder or bucket."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import date
from typing import NoReturn

from flowlog_udfs.errors import FlowlogError, UsageError
from flowlog_udfs.sample import FORMATS, PROFILES, SampleRequest, make_sample


class _Arguments(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{self.prog}: {message}; see --help")


def parse_arguments(argv: Sequence[str] | None) -> SampleRequest:
    """Read the command line; raises `UsageError` for what cannot be understood."""
    parser = _Arguments(prog="make_sample_logs.py", description=__doc__)
    parser.add_argument("--output", required=True, metavar="DIR|s3://…", help="where AWSLogs/, truth/, inventory.json and policy.toml go")
    parser.add_argument("--day", required=True, type=date.fromisoformat, metavar="YYYY-MM-DD", help="the first day (UTC)")
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
    given = parser.parse_args(argv)
    names = ("output", "day", "days", "history", "history_connections", "connections", "records", "objects", "seed", "profile", "fields")
    idle_rows = given.idle_rows if given.idle_rows is not None else given.records is None and given.profile in ("default", "clean")
    return SampleRequest(file_format=given.format, idle_rows=idle_rows, **{name: getattr(given, name) for name in names})


def main(argv: Sequence[str] | None = None) -> int:
    """Make the sample and say what it holds; the exit status is 0, or the error's."""
    began = time.monotonic()
    try:
        made = make_sample(request := parse_arguments(argv))
    except FlowlogError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    print(
        f"{request.output}: {made.connections:,} connections, {made.records:,} records in {made.objects:,} objects, "
        f"{made.size_bytes / 1e6:,.1f} MB, {time.monotonic() - began:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
