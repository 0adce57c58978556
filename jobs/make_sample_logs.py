"""Write sample flow logs, and the truth about them, into a folder or bucket."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from flowlog_udfs.arguments import Parser
from flowlog_udfs.errors import FlowlogError
from flowlog_udfs.sample import SampleRequest, make_sample
from flowlog_udfs.sample.arguments import add_sample_arguments, sample_given


def parse_arguments(argv: Sequence[str] | None) -> SampleRequest:
    """Read the command line; raises `UsageError` for what cannot be understood."""
    parser = Parser(prog="make_sample_logs.py", description=__doc__)
    add_sample_arguments(parser)
    return sample_given(parser.parse_args(argv))


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
