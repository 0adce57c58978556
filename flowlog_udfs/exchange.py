"""Arrow kernels on Spark: work cut into tasks, and rows exchanged between them as whole Arrow tables.

Spark schedules, retries and moves; the kernels are plain functions on Arrow tables. Rows travel through Spark's shuffle as columnar blobs
(Arrow IPC), a few per task and partition, so that the JVM copies bytes instead of converting rows.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from flowlog_udfs import engines
from flowlog_udfs.columns import as_array, codes, joined, texts
from flowlog_udfs.sorting import sort_by
from flowlog_udfs.tables import spark_schema

Item = TypeVar("Item")
Kernel = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

_BLOBS = pa.schema([("partition", pa.int32()), ("input", pa.string()), ("blob", pa.binary())])


def even_tasks(items: Sequence[Item], weight: Callable[[Item], int], *, heaviest: int, smallest: int) -> list[list[Item]]:
    """Items dealt to tasks of even weight, the same for the same items in the same order.

    As many tasks as keep each near `heaviest`; at least one per core of the driver while tasks stay above `smallest`.
    """
    weights = [weight(item) for item in items]
    total = sum(weights)
    wanted = max(total // heaviest + 1, min(os.cpu_count() or 1, total // smallest + 1))
    tasks: list[list[Item]] = [[] for _ in range(max(1, min(wanted, len(items))))]
    loads = [(0, task) for task in range(len(tasks))]
    for place in sorted(range(len(items)), key=weights.__getitem__, reverse=True):
        load, task = loads[0]
        tasks[task].append(items[place])
        heapq.heapreplace(loads, (load + weights[place], task))
    return tasks


def task_items(tasks: Sequence[Sequence[Item]], values: Callable[[Item], Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """The items of all tasks as rows of `schema`, whose columns `values` gives in order, each with the number of its task."""
    numbered = schema.insert(0, pa.field("task", pa.int64()))
    rows = [(number, *values(item)) for number, task in enumerate(tasks) for item in task]
    # By column, not by row as `Table.from_pylist` takes it: a day may have a million items, and only the driver does this.
    columns = zip(*rows, strict=True) if rows else [()] * len(numbered)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, numbered, strict=True)], schema=numbered)


def run_tasks(spark: SparkSession, items: pa.Table, kernel: Kernel, out: pa.Schema) -> DataFrame:
    """Run `kernel` once per task of `task_items` over the task's items, lazily: in a Spark partition of its own; on an engine with `slots`,
    one task after the other in each of these.
    """
    tasks = (pc.max(items.column("task")).as_py() or 0) + 1
    if slots := engines.slots(spark):
        return _dealt(spark, items, min(slots, tasks), kernel, spark_schema(out))
    # A broadcast join onto a range puts each task into the partition of its number, without a shuffle.
    numbers = spark.range(0, tasks, 1, tasks).withColumnRenamed("id", "task")
    rows = numbers.join(F.broadcast(spark.createDataFrame(items)), "task").drop("task")
    return rows.mapInArrow(kernel, spark_schema(out))


def _dealt(spark: SparkSession, items: pa.Table, slots: int, kernel: Kernel, out: StructType) -> DataFrame:
    """The tasks of `items` dealt to so many partitions. They travel with the kernel: only a range is cut as it is told for sure."""
    packed = _to_blob(items)

    def in_turn(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = _from_blob(pa.py_buffer(packed))
        task = rows.column("task").to_numpy()
        for slot in (number for batch in batches for number in batch.column(0).to_pylist()):
            for mine in np.unique(task[task % slots == slot]):
                yield from kernel(rows.filter(pa.array(task == mine)).drop_columns("task").to_batches())

    held = engines.Held(in_turn)
    return spark.range(0, slots, 1, slots).mapInArrow(lambda batches: held(batches), out)


def blobs(name: str, rows: pa.Table, hashes: npt.NDArray[np.uint64], partitions: int) -> Iterator[pa.RecordBatch]:
    """Cut rows by the top bits of their hash into one blob per partition, as input `name` of the exchange."""
    targets = ((hashes >> np.uint64(32)) % np.uint64(partitions)).astype(np.int64)
    order = sort_by(targets)
    bounds = np.searchsorted(targets[order], np.arange(partitions + 1))
    sorted_rows = rows.take(pa.array(order))
    for partition in range(partitions):
        first, last = int(bounds[partition]), int(bounds[partition + 1])
        if last > first:
            yield pa.record_batch([[partition], [name], [_to_blob(_narrowed(sorted_rows.slice(first, last - first)))]], schema=_BLOBS)


def exchange(sources: Sequence[DataFrame], kernel: Callable[[int, dict[str, pa.Table]], pa.Table], out: pa.Schema) -> DataFrame:
    """Bring the blobs of each partition together and run `kernel(partition, inputs by name)` on them; lazily.

    The kernel must not depend on the order of rows: tasks finish in any order.
    """
    united = sources[0]
    for source in sources[1:]:
        united = united.unionByName(source)

    def gather(key: tuple[pa.Scalar, ...], group: pa.Table) -> pa.Table:
        return kernel(key[0].as_py(), _inputs(group)).cast(out)

    if engines.slots(united.sparkSession):
        held = engines.Held(gather)
        return united.groupBy("partition").applyInArrow(lambda key, group: held(key, group), spark_schema(out))
    return united.groupBy("partition").applyInArrow(gather, spark_schema(out))


BLOB_COLUMNS = _BLOBS
"""What the map side of an exchange yields."""


def _narrowed(rows: pa.Table) -> pa.Table:
    """The same rows in fewer bytes: whole numbers as short as their values allow, dictionaries with the words in use only."""
    columns = []
    for column in rows.columns:
        values = as_array(column)
        if pa.types.is_dictionary(values.type):
            code, words = codes(values)
            used = np.zeros(len(words) + 1, dtype=bool)
            used[code] = True
            place = np.append(np.cumsum(used[:-1]) - 1, -1)
            values = texts(place[code], words.filter(pa.array(used[:-1])))
            indices = _shortest(values.indices)
            columns.append(pa.DictionaryArray.from_arrays(indices, values.dictionary))
        else:
            columns.append(_shortest(values) if pa.types.is_signed_integer(values.type) else values)
    return pa.table(columns, names=rows.column_names)


def _shortest(values: pa.Array) -> pa.Array:
    extremes = pc.min_max(values)
    low, high = extremes["min"].as_py() or 0, extremes["max"].as_py() or 0
    for bits, kind in ((7, pa.int8()), (15, pa.int16()), (31, pa.int32())):
        if -(1 << bits) <= low and high < 1 << bits:
            return values.cast(kind)
    return values


def _widened(rows: pa.Table) -> pa.Table:
    """The inverse of `_narrowed` up to the width of numbers: tables of one input then have one schema."""
    wide = []
    for field in rows.schema:
        kind = field.type
        if pa.types.is_dictionary(kind):
            kind = pa.dictionary(pa.int32(), kind.value_type)
        elif pa.types.is_signed_integer(kind):
            kind = pa.int64()
        wide.append(field.with_type(kind))
    return rows.cast(pa.schema(wide))


def _inputs(group: pa.Table) -> dict[str, pa.Table]:
    """The tables of a partition by input, each with one dictionary per text column, and whole numbers as 64-bit ones."""
    tables: dict[str, list[pa.Table]] = {}
    for name, blob in zip(group.column("input").to_pylist(), group.column("blob"), strict=True):
        tables.setdefault(name, []).append(_widened(_from_blob(blob.as_buffer())))
    return {name: joined(pieces) for name, pieces in tables.items()}


def _to_blob(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return bytes(sink.getvalue())


def _from_blob(blob: pa.Buffer) -> pa.Table:
    with pa.ipc.open_stream(blob) as reader:
        return reader.read_all()
