"""Rows to Parquet part files with the statistics that a Delta commit wants: what a task writes and hands back to the driver."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flowlog_udfs.columns import joined, without_placeholders
from flowlog_udfs.storage import Storage

ROW_GROUP_BYTES = 64 << 20
"""Arrow bytes gathered before they are encoded as one row group: bounds a worker's memory."""
FEW_ROWS, SMALL_TABLES = 4_096, 256
"""Tables of fewer rows are merged, so many at a time: of a table with ten rows and sixty columns nearly all memory is overhead."""
PART_BYTES = 256 << 20
"""A part file is closed when it passes this size."""
TEXT_STATISTICS_CHARACTERS = 32
"""Bounds of longer texts are cut, as Delta's own are: to a prefix, with the last of all characters behind a maximum."""
LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class PartFile:
    """A Parquet file written for a table: its storage key, size in bytes, rows, and Delta's statistics as JSON."""

    key: str
    size_bytes: int
    rows: int
    statistics: str


class PartWriter:
    """Writes rows of one schema into part files `stem-….parquet` below `folder`, gathering small batches into large row groups."""

    def __init__(self, storage: Storage, folder: str, schema: pa.Schema, skipping_columns: Sequence[str], stem: str = "part") -> None:
        self._storage, self._folder, self._schema, self._stem = storage, folder, schema, stem
        self._statistics = [name for name in skipping_columns if name in schema.names]
        self._waiting: list[pa.Table] = []
        self._small: list[pa.Table] = []
        self._waiting_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._local: Path | None = None
        self._footer: list[Any] = []
        self._parts: list[PartFile] = []

    def write(self, rows: pa.Table) -> None:
        """Take rows; they reach the disk a row group at a time."""
        self._waiting_bytes += rows.nbytes
        if rows.num_rows < FEW_ROWS:
            self._small.append(rows)
            if len(self._small) >= SMALL_TABLES:
                self._merge_small()
        else:
            self._waiting.append(rows)
        if self._waiting_bytes >= ROW_GROUP_BYTES:
            self._write_row_group()

    def close(self) -> list[PartFile]:
        """Finish the last file and name all files written."""
        self._write_row_group()
        self._finish_part()
        return self._parts

    def discard(self) -> None:
        """Remove what was written: the rows were part of something that turned out damaged."""
        self._waiting.clear()
        self._small.clear()
        if self._writer and self._local:
            self._writer.close()
            self._local.unlink()
        self._storage.delete(part.key for part in self._parts)

    def _merge_small(self) -> None:
        if self._small:
            self._waiting.append(pa.concat_tables(self._small).combine_chunks())
            self._small.clear()

    def _write_row_group(self) -> None:
        self._merge_small()
        if not self._waiting:
            return
        # One dictionary per column and row group: where it changes, Arrow falls back to plain encoding.
        rows = without_placeholders(joined(self._waiting))
        self._waiting.clear()
        self._waiting_bytes = 0
        if self._writer is None:
            self._local = self._storage.scratch / f"{self._stem}-{uuid.uuid4()}.parquet"
            self._footer = []
            self._writer = pq.ParquetWriter(
                self._local,
                self._schema,
                compression="zstd",
                compression_level=1,
                write_statistics=self._statistics,  # type: ignore[arg-type]
                store_schema=False,
                metadata_collector=self._footer,
            )
        self._writer.write_table(rows, row_group_size=max(1, rows.num_rows))
        if self._local and self._local.stat().st_size >= PART_BYTES:
            self._finish_part()

    def _finish_part(self) -> None:
        if self._writer is None or self._local is None:
            return
        self._writer.close()
        footer = self._footer[0]
        key = f"{self._folder}{self._local.name}"
        part = PartFile(key, self._local.stat().st_size, footer.num_rows, _delta_statistics(footer, self._statistics))
        self._storage.put(self._local, key)
        self._parts.append(part)
        self._writer = self._local = None


def _delta_statistics(footer: pq.FileMetaData, columns: Sequence[str]) -> str:
    """Delta's per-file statistics, from a Parquet footer (Delta protocol, "Per-file Statistics")."""
    least: dict[str, Any] = {}
    most: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    index = {footer.schema.column(i).path: i for i in range(footer.num_columns)}
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    for name in columns:
        found = [group.column(index[name]).statistics for group in groups]
        if not all(statistics is not None and statistics.has_null_count for statistics in found):
            continue
        nulls[name] = sum(statistics.null_count for statistics in found)
        bounds = [statistics for statistics in found if statistics.has_min_max]
        has_bounds = all(statistics.has_min_max or statistics.num_values == 0 for statistics in found)
        if bounds and has_bounds:
            least[name] = _json_value(min(statistics.min for statistics in bounds))
            most[name] = _json_value(max(statistics.max for statistics in bounds), LAST_CHARACTER)
    return json.dumps({"numRecords": footer.num_rows, "minValues": least, "maxValues": most, "nullCount": nulls})


def _json_value(value: object, tail: str = "") -> object:
    """A bound in Delta's form: timestamps to the second, as flowlog's are, so that nothing is cut; long texts as a prefix and `tail`."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    if isinstance(value, str) and len(value) > TEXT_STATISTICS_CHARACTERS:
        return value[:TEXT_STATISTICS_CHARACTERS] + tail
    return value
