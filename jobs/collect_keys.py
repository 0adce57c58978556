"""Collect the keys of new objects from S3 event notifications in an SQS queue, for `--keys` of a day's run.

python jobs/collect_keys.py --queue URL --keys s3://my-tables/flowlog-keys

It needs sqs:ReceiveMessage and sqs:DeleteMessage, and may run as often, and as many times at once, as you like: lists are only added to.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from flowlog_udfs.arguments import Parser
from flowlog_udfs.errors import FlowlogError
from flowlog_udfs.notifications import SqsQueue, collect
from flowlog_udfs.storage import open_storage

SHOWN_MESSAGES = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Move the events of a queue into lists of keys; the exit status is 0, or the error's."""
    parser = Parser(prog="collect_keys.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--queue", required=True, metavar="URL", help="SQS queue to which S3, an SNS topic or EventBridge sends the events")
    parser.add_argument("--keys", required=True, metavar="DIR", help="folder or s3://bucket/prefix of the lists, which are only added to")
    parser.add_argument("--seconds", type=float, metavar="N", help="go on for N seconds (default: until the queue is empty)")
    try:
        given = parser.parse_args(argv)
        done = collect(SqsQueue(given.queue), *open_storage(given.keys), clock=time.monotonic, seconds=given.seconds)
    except FlowlogError as error:
        print(f"flowlog: {error}", file=sys.stderr)
        return error.exit_status
    print(f"messages   {done.messages:,} taken from the queue, {len(done.strange):,} left there (no events of S3)")
    print(f"keys       {done.events.total():,} events written, {done.elsewhere:,} passed over (below no date of flow logs)")
    for day, count in sorted(done.events.items()):
        print(f"day        {day}: {count:,}")
    for message in list(done.strange)[:SHOWN_MESSAGES]:
        print(f"flowlog: message {message} is no event of S3 and stays in the queue", file=sys.stderr)
    if done.undeleted:
        print(f"flowlog: {done.undeleted} messages could not be deleted and will come again, which does no harm", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
