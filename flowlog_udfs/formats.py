"""Which fields a flow log writes, in which order: a `${...}` string, a header line, a Parquet footer or the EC2 API in, `LogFormat` out.

A flow log's format cannot change after its creation, so one header read per flow log id plans a whole day (`plan_formats`).
Source: AWS, "Flow log records" and "Work with flow logs" (VPC user guide); EC2 API, CreateFlowLogs and DescribeFlowLogs.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from flowlog_udfs.errors import ObjectError, UsageError
from flowlog_udfs.fields import BY_NAME, FIELDS, TGW_ONLY
from flowlog_udfs.keys import ListedObject
from flowlog_udfs.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa
    from mypy_boto3_ec2 import EC2Client

GZIP_MAGIC, PARQUET_MAGIC = b"\x1f\x8b", b"PAR1"
HEAD_BYTES = 65_536
"""How much of an object is read to find its header line; the longest possible header takes a fiftieth of it."""
HEADER_TRIES = 16

_TOKEN = re.compile(r"\$\{([a-z][a-z0-9-]*)\}")
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_WORD = re.compile(r"[^ \t\n\r\v\f]+")
"""What stands between the white space that separates values too; Python's own idea of it has more, such as 0x1f."""


@dataclass(frozen=True)
class LogFormat:
    """The hyphenated field names of a flow log, in its own order. Names newer than this release are kept as they are."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a format without fields or with one field twice."""
        repeated = [name for name, times in Counter(self.names).items() if times > 1]
        if not self.names or repeated:
            raise UsageError(f"log format: {'repeats ' + ', '.join(repeated) if repeated else 'has no fields'}; name each field once")

    @classmethod
    def parse(cls, text: str) -> LogFormat:
        """Read a format as `aws ec2 create-flow-logs --log-format` takes it; raises `UsageError` for anything but `${field}` tokens.

        >>> LogFormat.parse("${version} ${vpc-id} ${new-field}").unknown
        ('new-field',)
        """
        names = []
        for token in text.split():
            found = _TOKEN.fullmatch(token)
            if not found:
                raise UsageError(f"log format: {token!r} is not a field; write ${{field-id}} tokens separated by spaces")
            names.append(found[1])
        return cls(tuple(names))

    @classmethod
    def from_header(cls, line: str) -> LogFormat | None:
        """Read a header line; None when the line is not one.

        A header is nothing but distinct field names, at least half of them known: a record never is.

        >>> LogFormat.from_header("version account-id action").names
        ('version', 'account-id', 'action')
        >>> LogFormat.from_header("2 123456789012 ACCEPT")
        """
        names = _WORD.findall(line)
        if not names or len(set(names)) < len(names) or not all(_NAME.fullmatch(name) for name in names):
            return None
        known = sum(name in BY_NAME for name in names)
        return cls(tuple(names)) if 2 * known >= len(names) else None

    @classmethod
    def from_parquet(cls, schema: pa.Schema) -> LogFormat | None:
        """Read the columns of a Parquet flow log; None when fewer than half of them are flow log fields."""
        by_column = {field.column: name for name, field in BY_NAME.items()}
        names = tuple(by_column.get(column, column.replace("_", "-")) for column in schema.names)
        known = sum(name in BY_NAME for name in names)
        return cls(names) if names and 2 * known >= len(names) and len(set(names)) == len(names) else None

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """Names that this release does not know; their values go to `extra_fields`."""
        return tuple(name for name in self.names if name not in BY_NAME)

    @cached_property
    def is_tgw(self) -> bool:
        """Whether this is the format of a Transit Gateway flow log: it has a field that no VPC flow log has."""
        return not TGW_ONLY.isdisjoint(self.names)

    def header(self) -> str:
        """The header line of text objects."""
        return " ".join(self.names)

    def __str__(self) -> str:
        return " ".join(f"${{{name}}}" for name in self.names)


DEFAULT_FORMAT = LogFormat(tuple(field.name for field in FIELDS if field.version == 2))
"""AWS's default format: the fields of version 2."""


def read_format(head: bytes) -> LogFormat | None:
    """The format that the first bytes of a text object (gzip or plain) announce; None when they start with no header line."""
    if head.startswith(GZIP_MAGIC):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEAD_BYTES)
        except zlib.error:
            return None
    line = head.split(b"\n", 1)[0]
    return LogFormat.from_header(line.decode("utf-8-sig", "replace"))


def plan_formats(storage: Storage, objects: Iterable[ListedObject], known: Mapping[str, LogFormat]) -> dict[str, LogFormat]:
    """The format of each flow log that delivers text: from `known` (configuration), else from one header read of one of its objects.

    An object whose header cannot be read is passed over for the flow log's next one, up to `HEADER_TRIES`. Flow logs without any readable
    header are left out: their objects must carry a header of their own, or fail. Parquet objects tell their columns themselves.
    """
    by_flow_log: dict[str, list[str]] = defaultdict(list)
    for listed in objects:
        if not listed.stored.key.endswith(".parquet"):
            by_flow_log[listed.key.flow_log_id].append(listed.stored.key)

    def plan(flow_log_id: str) -> LogFormat | None:
        if flow_log_id in known:
            return known[flow_log_id]
        for key in by_flow_log[flow_log_id][:HEADER_TRIES]:
            try:
                found = read_format(storage.head(key, HEAD_BYTES))
            except ObjectError:
                continue
            if found:
                return found
        return None

    with ThreadPoolExecutor(16) as pool:
        plans = zip(by_flow_log, pool.map(plan, by_flow_log), strict=True)
        return {flow_log_id: found for flow_log_id, found in plans if found}


def describe_formats(ec2: EC2Client) -> dict[str, LogFormat]:
    """The formats of an account's flow logs by flow log id, from EC2 DescribeFlowLogs."""
    pages = ec2.get_paginator("describe_flow_logs").paginate()
    return {log["FlowLogId"]: LogFormat.parse(log["LogFormat"]) for page in pages for log in page["FlowLogs"]}
