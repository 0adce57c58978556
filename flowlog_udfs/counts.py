"""What the steps of a day counted, by name: the figures of logs and metrics (`metrics.METRICS` says what each means)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from flowlog_udfs.lines import BAD_ENCODING, TOKEN_COUNT, TOO_LONG
from flowlog_udfs.values import BAD_ADDRESS, BAD_NUMBER, BAD_VALUE

if TYPE_CHECKING:
    from flowlog_udfs.ingest import Ingested
    from flowlog_udfs.initiation import Initiation
    from flowlog_udfs.reporting import Reported
    from flowlog_udfs.totals import Totals
    from flowlog_udfs.translation import Translation

Count: TypeAlias = "float | Mapping[str, float]"
"""One figure, or one for each kind."""
REASONS = (TOKEN_COUNT, BAD_NUMBER, BAD_ADDRESS, BAD_VALUE, TOO_LONG, BAD_ENCODING)


def ingest_counts(done: Ingested, now: datetime) -> dict[str, Count]:
    """Objects, lines and records; how long before `now` the newest record ended."""
    failed = len(done.failed)
    counts: dict[str, Count] = {
        "objects": {"read": len(done.objects) - failed, "failed": failed, "skipped": done.skipped},
        "object_bytes": done.total("size_bytes"),
        "lines": done.total("lines"),
        "records": done.total("records"),
        "logged_bytes": done.total("bytes"),
        "rejects": {reason: done.reject_reasons[reason] for reason in REASONS},
        "late_records": sum(done.misfiled.values()),
    }
    return counts | ({"record_lag_seconds": (now - done.newest_end).total_seconds()} if done.newest_end else {})


def initiation_counts(done: Initiation) -> dict[str, Count]:
    """Connections by state."""
    return {"connections": dict(done.by_state), "redelivered_records": done.redelivered}


def translation_counts(done: Translation) -> dict[str, Count]:
    """NAT mappings by method."""
    return {"nat_mappings": dict(done.by_method)}


def totals_counts(done: Totals) -> dict[str, Count]:
    """The account of bytes by subnet."""
    buckets = {bucket: value for (scope, measure, bucket), value in done.account.items() if (scope, measure) == ("subnet", "bytes")}
    return {"subnet_account_bytes": {bucket: value for bucket, value in buckets.items() if bucket != "raw"}}


def report_counts(done: Reported) -> dict[str, Count]:
    """Open findings by severity, rules by outcome."""
    verdict = done.document["verdict"]
    return {"findings": dict(verdict["open"]), "rules": dict(verdict["rules"])}
