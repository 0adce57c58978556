"""Part files of a table to Arrow batches inside Spark tasks: only the columns that a kernel needs, one row group at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession

from flowlog_udfs.analysis import REDELIVERED
from flowlog_udfs.exchange import even_tasks, run_tasks, task_items
from flowlog_udfs.storage import Storage, needed
from flowlog_udfs.tables import Table, Warehouse

ROWS_PER_TASK = 4_000_000
SMALLEST_ROWS = 100_000
_PART = pa.schema([("key", pa.string()), ("group", pa.int64()), ("rows", pa.int64()), ("redelivered", pa.binary())])


@dataclass(frozen=True)
class RowGroup:
    """A row group of a part file, how many rows it has, and which of them, a bit each, were delivered before in another object."""

    key: str
    group: int
    rows: int
    redelivered: bytes | None = None


Scanned = Iterator[tuple[RowGroup, pa.Table]]


def row_groups(warehouse: Warehouse, table: Table, day: date) -> list[RowGroup]:
    """The row groups of a day of a table, in order of key."""
    found = []
    for key in sorted(key for d, key in warehouse.part_keys(table) if d == day):
        with needed(warehouse.storage, key) as stream:
            footer = pq.read_metadata(stream if stream.seekable() else pa.BufferReader(stream.read()))
        found += [RowGroup(key, group, footer.row_group(group).num_rows) for group in range(footer.num_row_groups)]
    return found


def scan(
    spark: SparkSession,
    warehouse: Warehouse,
    groups: Sequence[RowGroup],
    schema: pa.Schema,
    columns: Sequence[str],
    kernel: Callable[[Scanned], Iterator[pa.RecordBatch]],
    out: pa.Schema,
) -> DataFrame:
    """Run `kernel` in tasks over the row groups, as tables of `columns` of a part file `schema`; lazily.

    A row group with redelivered rows has a column more, `REDELIVERED`.
    """
    storage = warehouse.storage
    wanted = pa.schema([schema.field(name) for name in columns])

    def over(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        found = (RowGroup(**item) for batch in batches for item in batch.to_pylist())
        yield from kernel((one, read_row_group(storage, one, wanted)) for one in found)

    tasks = even_tasks(groups, lambda group: group.rows, heaviest=ROWS_PER_TASK, smallest=SMALLEST_ROWS)
    return run_tasks(spark, task_items(tasks, astuple, _PART), over, out)


def read_row_group(storage: Storage, wanted: RowGroup, schema: pa.Schema) -> pa.Table:
    """Columns of one row group, text dictionary-encoded."""
    texts = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    with needed(storage, wanted.key) as stream:
        source = stream if stream.seekable() else pa.BufferReader(stream.read())
        rows = pq.ParquetFile(source, read_dictionary=texts).read_row_group(wanted.group, columns=schema.names, use_threads=False)
    rows = rows.select(schema.names)
    if wanted.redelivered is None:
        return rows
    bits = np.unpackbits(np.frombuffer(wanted.redelivered, np.uint8), count=wanted.rows).astype(bool)
    return rows.append_column(REDELIVERED, pa.array(bits))
