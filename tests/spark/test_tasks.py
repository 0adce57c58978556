"""How work reaches the kernels, on either engine: every task once, with its own items, and several at the same time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from flowlog_udfs import engines
from flowlog_udfs.exchange import BLOB_COLUMNS, blobs, exchange, run_tasks, task_items

ITEM = pa.schema([("key", pa.string())])
RUN = pa.schema([("keys", pa.list_(pa.string())), ("began", pa.float64()), ("ended", pa.float64())])


def items_of(keys: list[list[str]]) -> pa.Table:
    return task_items(keys, lambda key: (key,), ITEM)


def runs(spark: SparkSession, tasks: int) -> list[dict[str, Any]]:
    def told(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """One row for a run of the kernel: what it was given, and when. Not of the module: workers cannot import tests."""
        began = time.time()
        keys = [key for batch in batches for key in batch.column("key").to_pylist()]
        time.sleep(0.2)
        yield from pa.table([[keys], [began], [time.time()]], schema=RUN).to_batches()

    keys_of = [[f"{task}.{item}" for item in range(task % 3 + 1)] for task in range(tasks)]
    found = run_tasks(spark, items_of(keys_of), told, RUN).toArrow().to_pylist()
    assert sorted(sorted(one["keys"]) for one in found) == sorted(keys_of)
    return found


def at_once(found: list[dict[str, Any]]) -> int:
    return max(sum(other["began"] <= one["began"] < other["ended"] for other in found) for one in found)


@pytest.mark.parametrize("tasks", [1, 2, 7])
def test_every_task_runs_once_with_its_own_items(spark, tasks: int):
    runs(spark, tasks)


@pytest.mark.sail_only
def test_on_sail_as_many_tasks_run_at_once_as_there_are_slots(spark):
    # Cut into a partition for each, Sail would run all of them at the same time, and joined as Spark's are, one after the other.
    slots = engines.slots(spark)
    assert slots == int(os.environ["SAIL_EXECUTION__DEFAULT_PARALLELISM"])
    assert at_once(runs(spark, 3 * slots + 1)) == slots


def test_an_exchange_brings_each_partition_together_once(spark):
    def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            hashes = np.array([int(key.partition(".")[2]) << 32 for key in batch.column("key").to_pylist()], np.uint64)
            yield from blobs("rows", pa.Table.from_batches([batch]), hashes, 5)

    out = pa.schema([("partition", pa.int32()), ("keys", pa.list_(pa.string()))])

    def gather(partition: int, inputs: dict[str, pa.Table]) -> pa.Table:
        return pa.table([[partition], [sorted(inputs["rows"].column("key").to_pylist())]], schema=out)

    tasks = [[f"{task}.{number}" for number in range(4)] for task in range(3)]
    found = exchange([run_tasks(spark, items_of(tasks), cut, BLOB_COLUMNS)], gather, out).toArrow().to_pylist()
    assert sorted((one["partition"], one["keys"]) for one in found) == [
        (number, [f"{task}.{number}" for task in range(3)]) for number in range(4)
    ]


def test_what_a_kernel_knows_may_be_larger_than_a_plan(spark):
    known = np.random.default_rng(1).integers(0, 255, 140 << 20, dtype=np.uint8)
    total = int(known.sum())
    out = pa.schema([("total", pa.int64())])

    def cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from blobs("rows", pa.table({"total": [int(known.sum())]}), np.zeros(batch.num_rows, np.uint64), 1)

    def gather(_: int, inputs: dict[str, pa.Table]) -> pa.Table:
        return pa.table([[int(known.sum()), *inputs["rows"].column("total").to_pylist()]], schema=out)

    found = exchange([run_tasks(spark, items_of([["a"]]), cut, BLOB_COLUMNS)], gather, out).toArrow()
    assert found.to_pylist() == [{"total": total}] * 2
