"""A day's connections to table `ocsf_network_activity`, and to JSON lines where they are asked for."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

import flowlog_udfs
from flowlog_udfs.columns import mixed, shared_codes
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.exchange import BLOB_COLUMNS, blobs, exchange
from flowlog_udfs.initiation import ROWS_PER_PARTITION
from flowlog_udfs.ocsf.events import MAPPING_COLUMNS, events
from flowlog_udfs.ocsf.pseudonymous import pseudonymous
from flowlog_udfs.ocsf.schema import OCSF_TABLE
from flowlog_udfs.parts import PartFile
from flowlog_udfs.presence import INTERFACES_TABLE
from flowlog_udfs.pseudonyms import Pseudonyms
from flowlog_udfs.scan import Scanned, row_groups, scan
from flowlog_udfs.storage import Storage
from flowlog_udfs.tables import Warehouse
from flowlog_udfs.translation import NAT_MAPPINGS_TABLE

_PART = pa.struct([("key", pa.string()), ("size_bytes", pa.int64()), ("rows", pa.int64()), ("statistics", pa.string())])
_OUTCOME = pa.schema([("events", pa.int64()), ("parts", pa.list_(_PART)), ("lines", pa.string())])
_ENDS = {"connections": ("initiator", "responder"), "mappings": ("inside", "remote")}
CHUNK_ROWS = 20_000


def export_day(
    spark: SparkSession,
    warehouse: Warehouse,
    day: date,
    now: datetime,
    lines: tuple[Storage, str] | None = None,
    pseudonyms: Pseudonyms | None = None,
) -> int:
    """Replace the day in `ocsf_network_activity` from `connections` and `nat_mappings`; returns the number of events.

    `lines` is where `day=D/part-NNNNN.jsonl.gz` go besides, the same bytes on every run. With `pseudonyms` events bear these, and go to
    `lines` only. Raises `DayLimitError` when the day has no connections yet.
    """
    if not warehouse.has_day(CONNECTIONS_TABLE, day):
        raise DayLimitError(f"{day}: table connections has no such day; run attribute_initiators first")
    regions = _regions(warehouse, day)
    if pseudonyms:
        regions = {pseudonyms.resource(name): region for name, region in regions.items()}
    groups = {name: row_groups(warehouse, table, day) for name, table in _TABLES.items()}
    partitions = sum(one.rows for one in groups["connections"]) // ROWS_PER_PARTITION + 2

    def cut(name: str, columns: tuple[str, ...]) -> Any:
        def kernel(scanned: Scanned) -> Iterator[pa.RecordBatch]:
            for _, read in scanned:
                # Here already, so that neither which file an event is in nor its place there tells of the originals.
                rows = pseudonymous(read, pseudonyms) if pseudonyms else read
                yield from blobs(name, rows, _hashes(rows, *_ENDS[name]), partitions)

        table = _TABLES[name]
        return scan(spark, warehouse, groups[name], table.schema, columns, kernel, BLOB_COLUMNS)

    def make(partition: int, inputs: dict[str, pa.Table]) -> pa.Table:
        if "connections" not in inputs:
            return _OUTCOME.empty_table()
        made = events(inputs["connections"], inputs.get("mappings", _NO_MAPPINGS), regions, flowlog_udfs.__version__)
        parts = [] if pseudonyms else [asdict(part) for part in warehouse.write_rows(OCSF_TABLE, day, made)]
        staged = _write_lines(made, lines, partition) if lines else None
        return pa.Table.from_pylist([{"events": made.num_rows, "parts": parts, "lines": staged}], _OUTCOME)

    sources = [cut("connections", tuple(CONNECTIONS_TABLE.schema.names)), cut("mappings", MAPPING_COLUMNS)]
    outcome = exchange(sources, make, _OUTCOME).toArrow().to_pylist()
    if not pseudonyms:
        inputs, carried_from = warehouse.origin(CONNECTIONS_TABLE, day) or ("", None)
        parts = [PartFile(**part) for row in outcome for part in row["parts"]]
        warehouse.replace_day(OCSF_TABLE, day, parts, inputs=inputs, now=now, carried_from=carried_from)
    if lines:
        storage, prefix = lines
        storage.replace_folder(f"{prefix}day={day}/", sorted(row["lines"] for row in outcome))
    return sum(row["events"] for row in outcome)


_TABLES = {"connections": CONNECTIONS_TABLE, "mappings": NAT_MAPPINGS_TABLE}
_NO_MAPPINGS = pa.schema([NAT_MAPPINGS_TABLE.schema.field(name) for name in MAPPING_COLUMNS]).empty_table()


def _hashes(rows: pa.Table, one: str, other: str) -> Any:
    """A hash of each pair of addresses, the same whichever stands first and on every machine."""
    (first, second), words = shared_codes(rows.column(f"{one}_addr"), rows.column(f"{other}_addr"))
    hashed = np.array([*(zlib.crc32(word.encode()) for word in words.to_pylist()), 0], np.uint64)
    pair = hashed[first], hashed[second]
    return mixed(np.minimum(*pair), np.maximum(*pair))


def _regions(warehouse: Warehouse, day: date) -> dict[str, str]:
    keys = sorted(key for one, key in warehouse.part_keys(INTERFACES_TABLE) if one == day)
    rows = [row for part in warehouse.rows(INTERFACES_TABLE, keys, ["interface_id", "region"]) for row in part.to_pylist()]
    return {row["interface_id"]: row["region"] for row in rows if row["interface_id"] and row["region"]}


def _write_lines(made: pa.Table, lines: tuple[Storage, str], partition: int) -> str:
    """One event a line, members without a value left out; staged until all parts of the day are there."""
    storage, prefix = lines
    local = storage.scratch / f"part-{partition:05}.jsonl.gz"
    with local.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
        for chunk in made.to_batches(max_chunksize=CHUNK_ROWS):
            for event in chunk.to_pylist():
                packed.write(json.dumps(without_nulls(event), separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    key = f"{prefix}_staged/{local.name}"
    storage.put(Path(local), key)
    return key


def without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    """An event without members that have no value."""
    kept = ((name, without_nulls(one) if isinstance(one, dict) else one) for name, one in value.items() if one is not None)
    return {name: one for name, one in kept if one != {}}
