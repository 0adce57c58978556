"""Files below a warehouse that no reader needs: of former states past their retention, and of runs that were killed.

A part file that no commit names is a running writer's until it is old: nothing is removed that is younger than `ORPHAN_AGE`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import DeltaError

from flowlog_udfs import delta, delta_log
from flowlog_udfs.errors import StorageError
from flowlog_udfs.s3_faults import reason
from flowlog_udfs.tables import STAGED, Table, Warehouse

ORPHAN_AGE = timedelta(days=7)
"""No run of a day takes as long as this to commit what it has written."""
FORMER, ORPHAN, SCRATCH = "former state", "orphan", "scratch"
VERIFYING = "_verify-"
"""How the folders begin in which `run_day --verify` works a day out anew."""


@dataclass(frozen=True)
class Leftover:
    """A file that may go, and why."""

    key: str
    size_bytes: int
    why: str


def former_states(warehouse: Warehouse, table: Table, retain_days: int | None) -> list[Leftover]:
    """Files of a Delta table that its readers let go of longer ago than its retention, or than `retain_days` where that is longer."""
    opened = delta.open_table(warehouse.uri(table), warehouse.options())
    gone = opened.vacuum(retention_hours=_hours(opened, retain_days), dry_run=True) if opened else []
    if not gone:
        return []
    folder = warehouse.folder(table)
    sizes = {stored.key: stored.size_bytes for stored in warehouse.storage.objects(folder)}
    keys = (f"{folder}{path}" for path in sorted(gone))
    return [Leftover(key, sizes[key], FORMER) for key in keys if key in sizes]


def vacuum(warehouse: Warehouse, table: Table, retain_days: int | None) -> None:
    """Remove the former states of `former_states`, as delta-rs does it: with a note in the table's history."""
    opened = delta.open_table(warehouse.uri(table), warehouse.options())
    if opened is None:
        return
    notes = CommitProperties(custom_metadata={delta.RUN_KEY: warehouse.run_id} if warehouse.run_id else {})
    try:
        opened.vacuum(retention_hours=_hours(opened, retain_days), dry_run=False, commit_properties=notes)
    except DeltaError as error:
        raise StorageError(f"{warehouse.uri(table)}: cannot be vacuumed: {reason(error)}") from error


def _hours(table: DeltaTable, retain_days: int | None) -> int:
    """The longest of what is asked for, what the table keeps, and what evidence needs."""
    kept = delta.interval(table.metadata().configuration.get(delta.FILES_RETENTION, ""))
    return -int(-max(kept, timedelta(days=max(retain_days or 0, delta.RETENTION_DAYS))).total_seconds() // 3600)


def orphans(warehouse: Warehouse, table: Table, now: datetime) -> Iterator[Leftover]:
    """Old part files of a table that no commit names, or that were staged for a day and never came to stand there."""
    folder = warehouse.folder(table)
    if warehouse.table_format == "parquet":
        standing = set(warehouse.storage.folders(folder))
        for name in sorted(standing):
            # Where a run was killed between two renames, what it has set aside is all there is of the day.
            is_aside = name.startswith(("_fresh-", "_former-")) and name.partition("-")[2] in standing
            if name == STAGED or is_aside:
                yield from _old(warehouse, f"{folder}{name}/", now, ORPHAN)
        return
    found = [one for one in _old(warehouse, folder, now, ORPHAN) if one.key.startswith(f"{folder}day=") and one.key.endswith(".parquet")]
    if found:
        named = delta_log.named_paths(warehouse.storage, folder)
        yield from (one for one in found if one.key.removeprefix(folder) not in named)


def interrupted(warehouse: Warehouse, table: Table) -> list[str]:
    """Days of a Parquet table that a run took away and did not put back: to be run again."""
    names = set(warehouse.storage.folders(warehouse.folder(table))) if warehouse.table_format == "parquet" else set()
    aside = {name.partition("-")[2] for name in names if name.startswith(("_fresh-", "_former-"))}
    return sorted(name.removeprefix("day=") for name in aside - names)


def scratch(warehouse: Warehouse, now: datetime) -> Iterator[Leftover]:
    """What killed runs left outside the tables: unfinished part files on a folder, and warehouses in which a day was being verified."""
    for name in warehouse.storage.folders(warehouse.prefix):
        if name == ".scratch" or name.startswith(VERIFYING):
            yield from _old(warehouse, f"{warehouse.prefix}{name}/", now, SCRATCH)


def _old(warehouse: Warehouse, prefix: str, now: datetime, why: str) -> Iterator[Leftover]:
    for stored in warehouse.storage.objects(prefix):
        if stored.last_modified < now - ORPHAN_AGE:
            yield Leftover(stored.key, stored.size_bytes, why)
