"""The upkeep of a warehouse: small files merged, what nobody needs removed, checkpoints written, old commits cleaned away.

No row changes, no report and no sign-off is touched, and no state within the retention is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from flowlog_udfs import delta, delta_log, leftovers
from flowlog_udfs.catalog import TABLES
from flowlog_udfs.compaction import Merged, merge_day, mergeable
from flowlog_udfs.counts import Count
from flowlog_udfs.errors import UsageError
from flowlog_udfs.ledger import RUNS_TABLE, SIGNOFFS_TABLE
from flowlog_udfs.leftovers import Leftover
from flowlog_udfs.tables import Table, Warehouse

EVIDENCE = (RUNS_TABLE.name, SIGNOFFS_TABLE.name)
"""Tables that nothing but their own writers ever writes to."""
LONGEST_RETENTION = 36_500


@dataclass(frozen=True)
class Upkeep:
    """What was done for a table (`name` empty: for the warehouse), or with `dry_run` what would be."""

    name: str
    merged: Sequence[Merged] = ()
    removed: Sequence[Leftover] = ()
    commits_cleaned: int = 0
    checkpoint: bool = False
    interrupted: Sequence[str] = field(default_factory=tuple)
    dry_run: bool = False
    without_log: bool = False

    def counts(self) -> dict[str, Count]:
        """For logs and metrics."""
        return {
            "merged_files": sum(one.files for one in self.merged),
            "removed_files": dict(Counter(one.why for one in self.removed)),
            "removed_bytes": sum(one.size_bytes for one in self.removed),
        }

    def lines(self) -> Iterator[str]:
        """For a person: nothing where there was nothing to do."""
        name, would = self.name or "warehouse", "would be " if self.dry_run else ""
        if self.merged:
            files, days = sum(one.files for one in self.merged), len(self.merged)
            yield f"{name}: {files:,} small files of {days:,} days, {sum(one.size_bytes for one in self.merged):,} bytes, {would}merged"
        for why, count in sorted(Counter(one.why for one in self.removed).items()):
            size = sum(one.size_bytes for one in self.removed if one.why == why)
            yield f"{name}: {count:,} files ({why}), {size:,} bytes, {would}removed"
        if self.dry_run:
            yield from (f"  {one.key}  {one.size_bytes:,} bytes  {one.why}" for one in self.removed)
        if self.checkpoint:
            yield f"{name}: checkpoint {would}written"
        if self.commits_cleaned:
            yield f"{name}: {self.commits_cleaned:,} old commits cleaned from the log"
        if self.without_log:
            yield f"warning    {name}: no commit of a Delta table is there, so nothing was touched; if its log was lost, bring it back"
        for day in self.interrupted:
            yield f"warning    {name}: {day} was being replaced when its run was killed; run that day again"


def refuse_wrong_retention(retain_days: int | None) -> None:
    """Raise `UsageError` for a retention that would cut the window for which evidence is kept, or that no clock reaches."""
    if retain_days is not None and not delta.RETENTION_DAYS <= retain_days <= LONGEST_RETENTION:
        raise UsageError(
            f"--retain-days {retain_days}: former states are kept for {delta.RETENTION_DAYS} days or longer, as evidence; "
            f"give {delta.RETENTION_DAYS} or more, at most {LONGEST_RETENTION}, or leave it out"
        )


def maintain(
    warehouse: Warehouse, days: Sequence[date] | None, *, retain_days: int | None, dry_run: bool, now: datetime
) -> Iterator[Upkeep]:
    """Keep up every table that is there, one after the other; only of `days` (None: of all) are files merged.

    Raises `UsageError` for a wrong retention, for tables of the other format, and where there are none; `StorageError` when other runs keep
    committing.
    """
    refuse_wrong_retention(retain_days)
    names = set(warehouse.storage.folders(warehouse.prefix))
    there = [entry.table for entry in TABLES if entry.table.name in names]
    if not there:
        raise UsageError(f"{warehouse.url}: no table of flowlog is there; is the path right?")
    for table in there:
        warehouse.refuse_other_format(table)
    for table in there:
        yield _keep_up(warehouse, table, days, retain_days, dry_run, now)
    found = list(leftovers.scratch(warehouse, now))
    if not dry_run:
        warehouse.storage.delete(one.key for one in found)
    yield Upkeep("", removed=found, dry_run=dry_run)


def _keep_up(
    warehouse: Warehouse, table: Table, days: Sequence[date] | None, retain_days: int | None, dry_run: bool, now: datetime
) -> Upkeep:
    is_delta = warehouse.table_format == "delta"
    interrupted = leftovers.interrupted(warehouse, table)
    if is_delta:
        opened = delta.open_table(warehouse.uri(table), warehouse.options())
        if opened is None:
            return Upkeep(table.name, without_log=True, dry_run=dry_run)
        if not dry_run:
            delta.keep_properties(opened, delta.properties(table.skipping_columns, retain_days or delta.RETENTION_DAYS))
    small = {} if table.name in EVIDENCE else mergeable(warehouse, table, days)
    if dry_run:
        merged = [Merged(day, len(files), sum(files.values())) for day, files in small.items()]
    else:
        merged = [done for day in small if (done := merge_day(warehouse, table, day, now))]
    former = leftovers.former_states(warehouse, table, retain_days) if is_delta else []
    if former and not dry_run:
        leftovers.vacuum(warehouse, table, retain_days)
    expired = {one.key for one in former}
    orphans = () if table.name in EVIDENCE else leftovers.orphans(warehouse, table, now)
    lost = [one for one in orphans if one.key not in expired]
    cleaned, checkpoint = 0, is_delta and delta_log.wants_checkpoint(warehouse.storage, warehouse.folder(table))
    if not dry_run:
        warehouse.storage.delete(one.key for one in lost)
        opened = delta.open_table(warehouse.uri(table), warehouse.options()) if is_delta else None
        if opened and checkpoint:
            opened.create_checkpoint()
        cleaned = delta_log.clean(warehouse, table, now) if opened else 0
    return Upkeep(table.name, merged, [*former, *lost], cleaned, checkpoint, interrupted, dry_run)
