"""Mutated objects through a whole task: nothing of a damaged object is kept, nothing of the others is lost, memory and time are bounded."""

from __future__ import annotations

import io
import multiprocessing
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime, timezone

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing.gzip_and_parquet import parquet_object, text_object

from flowlog_udfs.columns import total
from flowlog_udfs.formats import DEFAULT_FORMAT, plan_formats
from flowlog_udfs.ingest import _WRITTEN_BY_TASKS, _ingest_task
from flowlog_udfs.keys import ListedObject, parse_key
from flowlog_udfs.objects import LISTED_COLUMNS, ObjectRow, ReadPlan
from flowlog_udfs.selection import LISTED_VALUES
from flowlog_udfs.storage import StoredObject
from flowlog_udfs.tables import Warehouse

TASK_OBJECTS = 25
MEMORY = 3 << 30
"""Address space of the process that reads: several times what a task takes, most of it libraries."""
SECONDS_A_TASK = 30


class Bucket(dict[str, bytes]):
    """A storage of objects by key."""

    def open(self, key: str, etag: str | None = None) -> io.BytesIO:
        return io.BytesIO(self[key])

    def head(self, key: str, size: int) -> bytes:
        return self[key][:size]


def key_of(number: int, extension: str) -> str:
    folder = "AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/10/"
    return f"{folder}123456789012_vpcflowlogs_us-east-1_fl-{number % 7}_20260310T0005Z_{number:08x}{extension}"


def try_task(number: int) -> Counter[str]:
    """Read mutated objects as one task; raises where anything but the objects themselves is at fault."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    bucket = Bucket()
    for place in range(TASK_OBJECTS):
        seed = np.random.default_rng((number, place))
        is_text = place % 2 == 0
        bucket[key_of(place, ".log.gz" if is_text else ".log.parquet")] = (text_object if is_text else parquet_object)(seed)
    now = datetime(2026, 3, 10, 0, 6, tzinfo=timezone.utc)
    listed = [ListedObject(StoredObject(key, "", len(bucket[key]), now), parse_key(key)) for key in sorted(bucket)]
    plan = ReadPlan(date(2026, 3, 10), plan_formats(bucket, listed, {}), DEFAULT_FORMAT, 1 << 30)
    columns = zip(*map(LISTED_VALUES, listed), strict=True)
    batch = pa.record_batch(
        [pa.array(list(column), kind.type) for column, kind in zip(columns, LISTED_COLUMNS, strict=True)], LISTED_COLUMNS
    )
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse.open(folder)
        outcomes = pa.Table.from_batches(list(_ingest_task([batch], storage=bucket, warehouse=warehouse, plan=plan))).to_pylist()
        rows = [ObjectRow.from_dict(one["object"]) for one in outcomes if one["object"]]
        tables: dict[str, list[pa.Table]] = {name: [] for name in _WRITTEN_BY_TASKS}
        for one in outcomes:
            if one["part"]:
                with open(f"{folder}/{one['part']['key']}", "rb") as part:
                    tables[one["table"]].append(pq.read_table(part))
    assert time.process_time() - began < SECONDS_A_TASK
    assert [row.key for row in rows] == sorted(bucket)
    written = {name: Counter(key for part in parts for key in part.column("object_key").to_pylist()) for name, parts in tables.items()}
    for part in (part for parts in tables.values() for part in parts):
        part.validate(full=True)
    for row in rows:
        counts = (row.lines, row.headers, row.blank, row.records, row.rejects, row.other_day)
        assert row.is_balanced
        assert row.records == written["records"][row.key] + written["records_tgw"][row.key]
        assert row.rejects == written["rejects"][row.key]
        assert row.other_day == row.other_days.total()
        assert (row.status == "failed") == (row.error is not None)
        if row.error:
            assert (counts, row.bytes, row.packets, row.row_sketch, row.other_days) == ((0,) * 6, 0, 0, [], Counter())
            assert "\n" not in row.error
        else:
            assert len(row.sha256 or "") == 64
    assert sum(row.bytes for row in rows) == sum(
        total(part.column("bytes")) for name in ("records", "records_tgw") for part in tables[name]
    )
    return Counter(row.status for row in rows)


@pytest.mark.slow
def test_mutated_objects_fail_alone(soak: bool, tried: Callable[[str, int], None]) -> None:
    tasks = (10_000 if soak else 300) // TASK_OBJECTS
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = sum(pool.map(try_task, range(tasks)), Counter())
    assert found.total() == tasks * TASK_OBJECTS
    assert min(found.values()) > found.total() / 10
    tried("objects mutated", found.total())
    tried("mutated objects refused whole", found["failed"])
