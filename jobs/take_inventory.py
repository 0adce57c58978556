"""Take a snapshot of the networks of one account or several, for `--inventory`; needs ec2:Describe* of what `flowlog_udfs/ec2.py` lists."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError

from flowlog_udfs.arguments import Parser
from flowlog_udfs.errors import FlowlogError, StorageError, UsageError
from flowlog_udfs.inventory import describe_inventory
from flowlog_udfs.s3_endpoint import refuse_plain_http


def main(argv: Sequence[str] | None = None) -> int:
    """Ask EC2 in every Region given, with every profile given, and write one file; the exit status is 0, or the error's."""
    parser = Parser(prog="take_inventory.py", description=__doc__)
    parser.add_argument("--region", action="append", required=True, help="Region to describe (repeatable)")
    parser.add_argument("--profile", action="append", help="profile of the AWS configuration, one for each account (repeatable)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="where the snapshot goes")
    try:
        given = parser.parse_args(argv)
        clients = []
        for profile in given.profile or [None]:
            try:
                session = boto3.Session(profile_name=profile)
                clients += [(region, session.client("ec2", region_name=region)) for region in given.region]
            except BotoCoreError as error:
                raise UsageError(f"--profile {profile}, --region {' '.join(given.region)}: {error}") from error
        for _, client in clients:
            refuse_plain_http(client.meta.endpoint_url)
        inventory = describe_inventory(clients, datetime.now(timezone.utc))
        try:
            given.output.write_text(inventory.to_json(), encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{given.output}: {error.strerror}") from error
    except FlowlogError as error:
        print(f"flowlog: {error}", file=sys.stderr)
        return error.exit_status
    print(f"{given.output}: {len(inventory.vpcs)} VPCs, {len(inventory.subnets)} subnets, {len(inventory.interfaces)} interfaces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
