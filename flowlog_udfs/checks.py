"""What must hold of a day before it is published: nothing mislaid, and the limits of the configuration kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowlog_udfs.config import IngestConfig
from flowlog_udfs.errors import ReconciliationError, StorageError
from flowlog_udfs.keys import Listing
from flowlog_udfs.objects import FAILED, ObjectRow
from flowlog_udfs.parts import PartFile
from flowlog_udfs.s3_faults import DENIED

LARGEST_DAY = 2**62
"""The most bytes or packets of a day: all sums of a day are of some of its records, so none of them reaches what a BIGINT holds."""


def reconcile(listing: Listing, objects: Sequence[ObjectRow], parts: Mapping[str, Sequence[PartFile]]) -> None:
    """Every listed object has one row, every line of it is accounted for, and every record and reject is in a part file.

    `parts` are the part files by table name. Raises `ReconciliationError` otherwise.
    """
    listed = [one.stored.key for one in listing.objects]
    if [row.key for row in objects] != listed:
        raise ReconciliationError(f"{len(listed)} objects were listed, {len(objects)} came back; nothing was replaced")
    unbalanced = [row.key for row in objects if not row.is_balanced]
    if unbalanced:
        raise ReconciliationError(f"{unbalanced[0]}: lines do not add up (and {len(unbalanced) - 1} more objects); nothing was replaced")
    for count, names in (("records", ("records", "records_tgw")), ("rejects", ("rejects",))):
        counted = sum(getattr(row, count) for row in objects)
        written = sum(part.rows for name in names for part in parts.get(name, ()))
        if counted != written:
            raise ReconciliationError(f"{counted} {count} were read, {written} written; nothing was replaced")


def refuse_denied(objects: Sequence[ObjectRow]) -> None:
    """Raise `StorageError` where S3 refused access to every object: that says nothing of them."""
    if all((row.error or "").startswith(DENIED) for row in objects):
        raise StorageError(
            f"S3 refused access to all {len(objects)} objects of the day; nothing was replaced. "
            "Allow s3:GetObject on the source, and kms:Decrypt where it is encrypted by a key of KMS"
        )


def broken_limit(objects: Sequence[ObjectRow], config: IngestConfig) -> str | None:
    """Why the day must not be published, or None: the limits of `[ingest]`, and `LARGEST_DAY`."""
    failed = sum(row.status == FAILED for row in objects)
    if failed > config.max_failed_share * len(objects):
        return f"{failed} of {len(objects)} objects failed, more than [ingest] max_failed_share = {config.max_failed_share}"
    rejects = sum(row.rejects for row in objects)
    lines = sum(row.records + row.rejects + row.other_day for row in objects)
    if rejects > config.max_rejected_share * lines:
        return f"{rejects} of {lines} lines were rejected, more than [ingest] max_rejected_share = {config.max_rejected_share}"
    for measure in ("bytes", "packets"):
        if sum(getattr(row, measure) for row in objects) > LARGEST_DAY:
            most = max(objects, key=lambda row: getattr(row, measure))
            return f"the day's {measure} add up to more than {LARGEST_DAY}, and nobody moves so much; most are in {most.key}"
    return None
