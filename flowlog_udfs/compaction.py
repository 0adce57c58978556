"""Small part files of a table's day written anew as few: the same rows, in the same form.

Of a Delta table only small files are merged, in one commit that a reader sees no change in. Of a Parquet table, whose day is replaced
whole, all of a day's are, where they are small on average.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
from deltalake import DeltaTable

from flowlog_udfs import delta
from flowlog_udfs.errors import ReconciliationError, StorageError
from flowlog_udfs.parts import PART_BYTES, PartFile
from flowlog_udfs.tables import Table, Warehouse

SMALL_BYTES = PART_BYTES // 4
"""Below this a part file is small. What is merged passes it, the last file of a day apart, so that a second run finds nothing to do."""


@dataclass(frozen=True)
class Merged:
    """Part files of a day that became fewer."""

    day: date
    files: int
    size_bytes: int


def mergeable(warehouse: Warehouse, table: Table, days: Iterable[date] | None) -> dict[date, dict[str, int]]:
    """The keys of files to merge, by day, with their sizes (`days` None: of every day)."""
    wanted = None if days is None else set(days)
    found: dict[date, dict[str, int]] = defaultdict(dict)
    for day, key, size in warehouse.part_sizes(table):
        if wanted is None or day in wanted:
            found[day][key] = size
    chosen = {day: _small(files, warehouse.table_format == "delta") for day, files in sorted(found.items())}
    return {day: files for day, files in chosen.items() if len(files) > 1}


def _small(files: Mapping[str, int], one_by_one: bool) -> dict[str, int]:
    if one_by_one:
        return {key: size for key, size in files.items() if size < SMALL_BYTES}
    return dict(files) if sum(files.values()) < SMALL_BYTES * len(files) else {}


def merge_day(warehouse: Warehouse, table: Table, day: date, now: datetime) -> Merged | None:
    """Merge a day's small files; None where there is nothing to do, or files have columns that this release does not know.

    Raises `ReconciliationError` when rows went missing on the way, `StorageError` when other runs keep committing; nothing is replaced
    then.
    """
    for _ in range(delta.COMMIT_TRIES):
        snapshot = delta.open_table(warehouse.uri(table), warehouse.options()) if warehouse.table_format == "delta" else None
        files = mergeable(warehouse, table, [day]).get(day)
        if not files:
            return None
        written = _written_anew(warehouse, table, day, files)
        if written is None:
            return None
        if snapshot is None:
            if mergeable(warehouse, table, [day]).get(day) == files:
                warehouse.replace_day(table, day, written, inputs="", now=now)
                return Merged(day, len(files), sum(files.values()))
        elif _swapped(warehouse, table, day, snapshot, files, written, now):
            return Merged(day, len(files), sum(files.values()))
        warehouse.discard(written)
    raise StorageError(f"{table.name}: other runs kept replacing {day}; run again when they are done")


def _swapped(
    warehouse: Warehouse,
    table: Table,
    day: date,
    snapshot: DeltaTable,
    files: Mapping[str, int],
    written: Iterable[PartFile],
    now: datetime,
) -> bool:
    folder = warehouse.folder(table)
    gone = {key.removeprefix(folder): size for key, size in files.items()}
    there = {path for one, path, _ in delta.snapshot_files(snapshot) if one == day}
    added = [delta.add_action(part.key.removeprefix(folder), part.size_bytes, day, part.statistics, now) for part in written]
    return gone.keys() <= there and delta.swap_files(snapshot, day, gone, added, warehouse.run_id, now)


def _written_anew(warehouse: Warehouse, table: Table, day: date, files: Iterable[str]) -> list[PartFile] | None:
    writer, rows = warehouse.writer(table, day), 0
    try:
        for part in warehouse.rows(table, sorted(files), None):
            if set(part.column_names) - set(table.schema.names):
                writer.discard()
                return None
            rows += part.num_rows
            writer.write(conformed(part, table.schema))
        written = writer.close()
    except BaseException:
        writer.discard()
        raise
    if sum(part.rows for part in written) != rows:
        warehouse.discard(written)
        raise ReconciliationError(f"{table.name}: {rows} rows of {day} were read, not as many written; nothing was replaced")
    return written


def conformed(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of a part file in the schema that tasks write: text as a dictionary again, columns that an older release lacks as NULL."""
    columns = [
        rows.column(field.name).cast(field.type) if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
