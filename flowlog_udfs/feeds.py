"""Which results a flow log's format can feed: a `LogFormat` in, one `Feed` for each result out.

A format can never be changed, so this is worth asking before a flow log is created (`create_command`).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from flowlog_udfs.fields import CONNECTION_FIELDS, FIELDS
from flowlog_udfs.formats import LogFormat
from flowlog_udfs.policy.assessments import Known, needs
from flowlog_udfs.policy.model import Policy

YES, PARTLY, NO = "yes", "partly", "no"


@dataclass(frozen=True)
class Result:
    """What flowlog computes, the fields that it takes, and what is left of it (`how`, in words `without`) where one is lacking.

    Nothing is left where one of `vital` is.
    """

    name: str
    fields: tuple[str, ...]
    how: str
    without: str
    vital: tuple[str, ...] = ()


RESULTS = (
    Result("who talked to whom", CONNECTION_FIELDS, NO, "connections cannot be told apart"),
    Result("who initiated", ("tcp-flags",), PARTLY, "by ports and known servers only, never above confidence 0.9", CONNECTION_FIELDS),
    Result(
        "how a connection ended", ("tcp-flags", "action"), PARTLY, "no handshake, reset or close is seen, or no verdict", CONNECTION_FIELDS
    ),
    Result("what was refused", ("action",), NO, "accepted and refused packets look the same"),
    Result(
        "what is behind a NAT",
        ("interface-id", "pkt-srcaddr", "pkt-dstaddr"),
        PARTLY,
        "rows of a NAT gateway hide the far end; only the clients' own rows tell, and pods stay behind their node",
        CONNECTION_FIELDS,
    ),
    Result("which translator it was", ("interface-type", "resource-id"), PARTLY, "by an inventory, or because it forwards for others"),
    Result("bytes of each subnet", ("subnet-id", "vpc-id"), PARTLY, "only with an inventory of interfaces", ("bytes", "interface-id")),
    Result("which way packets went", ("flow-direction",), PARTLY, "by the interface's own address, unknown where none stands out"),
    Result("whose instance it is", ("instance-id", "account-id"), PARTLY, "only with an inventory"),
    Result(
        "internet or AWS",
        ("pkt-src-aws-service", "pkt-dst-aws-service"),
        PARTLY,
        "public peers stay unclassified unless settings name AWS's ip-ranges.json",
    ),
    Result("what was lost", ("log-status",), NO, "rows that say records were lost (SKIPDATA) cannot be told"),
    Result("why it was refused", ("reject-reason",), NO, "block public access and encryption controls cannot be told from security groups"),
    Result("what the network encrypts", ("encryption-status",), NO, "cleartext protocols are judged by port alone"),
)
"""The results in the order of the report."""


@dataclass(frozen=True)
class Feed:
    """Whether a format feeds a result: yes, partly or no; which fields it lacks, and what that means (None for yes)."""

    result: str
    answer: str
    lacking: tuple[str, ...]
    meaning: str | None


def feeds(log_format: LogFormat) -> list[Feed]:
    """What a flow log of this format feeds, one entry for each of `RESULTS`; a Transit Gateway's feeds its table of records only."""
    if log_format.is_tgw:
        return [
            Feed(result.name, NO, (), "Transit Gateway records go to table records_tgw; connections are made of VPC flow logs")
            for result in RESULTS
        ]
    return [_feed(result, log_format) for result in RESULTS]


def unassessed(log_format: LogFormat, policy: Policy) -> dict[str, tuple[str, ...]]:
    """The enabled rules of a policy that records of this format can never pass, each with the fields that it lacks."""
    nothing = Known({}, days_before=max((getattr(rule.what, "least_days", 0) for rule in policy.rules), default=0))
    wanted = {rule.id: needs(rule, policy, nothing).fields - set(log_format.names) for rule in policy.enabled}
    return {rule: tuple(sorted(lacking)) for rule, lacking in wanted.items() if lacking}


_LATER = {"instance-id", "type", "region", "az-id", "traffic-path"}
"""Fields that no result needs, and that every reader asks for."""
RECOMMENDED = LogFormat(
    tuple(
        one.name
        for one in FIELDS
        if one.version == 2 or one.name in _LATER or any(one.name in (*result.fields, *result.vital) for result in RESULTS)
    )
)
"""The shortest format that feeds every result."""


def create_command(log_format: LogFormat, resources: Sequence[str], destination: str) -> str:
    """The AWS CLI command that creates such a flow log for VPCs, to a bucket's ARN; source: AWS CLI, `ec2 create-flow-logs`.

    One-minute intervals and folders by hour: the first are worth their price wherever somebody asks who was first.
    """
    lines = [
        "aws ec2 create-flow-logs --resource-type VPC",
        f"--resource-ids {shlex.join(resources)}",
        "--traffic-type ALL --max-aggregation-interval 60",
        f"--log-destination-type s3 --log-destination {shlex.quote(destination)}",
        "--destination-options FileFormat=plain-text,HiveCompatiblePartitions=false,PerHourPartition=true",
        f"--log-format {shlex.quote(str(log_format))}",
    ]
    return " \\\n    ".join(lines)


def _feed(result: Result, log_format: LogFormat) -> Feed:
    if fatal := tuple(name for name in result.vital if name not in log_format.names):
        return Feed(result.name, NO, fatal, "it cannot be computed without")
    lacking = tuple(name for name in result.fields if name not in log_format.names)
    return Feed(result.name, result.how, lacking, result.without) if lacking else Feed(result.name, YES, (), None)
