"""A day of 200,000 objects is planned by a few requests, one header for each flow log, and the memory of its list of objects."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pyarrow as pa
import pytest

from flowlog_udfs import selection
from flowlog_udfs.exchange import task_items
from flowlog_udfs.formats import DEFAULT_FORMAT, plan_formats
from flowlog_udfs.key_lists import KeyEvent, add_events, known_day
from flowlog_udfs.keys import DayScope, Listing, list_day
from flowlog_udfs.objects import LISTED_COLUMNS
from flowlog_udfs.s3_endpoint import S3Endpoint
from flowlog_udfs.storage import S3Storage, StoredObject, open_storage

pytestmark = pytest.mark.slow

DAY = date(2026, 3, 10)
FLOW_LOGS = 40
SLOTS = 288
"""Times of publication in a day, five minutes apart."""
BYTES_FOR_EACH = 1_500
"""Of the driver's memory, at the peak of planning, for each object of the day: key, tag, times and what points to them take about 700."""


def objects(day: date, number: int) -> Iterator[StoredObject]:
    """So many objects of a day, in order of their times."""
    for one in range(number):
        slot, place = divmod(one, number // SLOTS + 1)
        time = datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + slot * timedelta(minutes=5)
        name = f"123456789012_vpcflowlogs_us-east-1_fl-{place % FLOW_LOGS:017x}_{time:%Y%m%dT%H%M}Z_{one:08x}.log.gz"
        key = f"logs/AWSLogs/123456789012/vpcflowlogs/us-east-1/{day:%Y/%m/%d}/{name}"
        yield StoredObject(key, f"{one:032x}", 1_000 + one % 7_919, time)


class CountingBucket(S3Storage):
    """A bucket with so many objects a day that are made up when asked for; counts what is asked."""

    number = 0
    asked: list[str]

    @classmethod
    def of(cls, number: int) -> CountingBucket:
        bucket = cls("logs", S3Endpoint(None, "us-east-1"))
        object.__setattr__(bucket, "number", number)
        object.__setattr__(bucket, "asked", [])
        return bucket

    def folders(self, prefix: str) -> list[str]:
        self.asked.append(f"folders {prefix}")
        levels = {"logs/": "AWSLogs", "logs/AWSLogs/": "123456789012", "logs/AWSLogs/123456789012/vpcflowlogs/": "us-east-1"}
        return [levels[prefix]] if prefix in levels else []

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        self.asked.append(f"objects {prefix}")
        return objects(datetime.strptime(prefix[-11:], "%Y/%m/%d/").date(), self.number)

    def head(self, key: str, size: int) -> bytes:
        self.asked.append("head")
        return f"{DEFAULT_FORMAT.header()}\n".encode()


def planned(bucket: CountingBucket, tell: Callable[[CountingBucket], Listing]) -> tuple[int, int, list[str]]:
    """How many objects the day has, the driver's bytes for each at the peak of planning it, and what was asked of the bucket."""
    tracemalloc.start()
    listing = tell(bucket)
    formats = plan_formats(bucket, listing.objects, {})
    tasks = selection.even_object_tasks(listing.objects, 128 << 20)
    items = task_items(tasks, selection.LISTED_VALUES, LISTED_COLUMNS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(formats) == FLOW_LOGS
    assert items.num_rows == len(listing.objects)
    return len(listing.objects), peak // len(listing.objects), sorted(bucket.asked)


SCOPE = DayScope("logs/", DAY, 2)


def test_a_listed_day():
    few, many = (planned(CountingBucket.of(number), lambda bucket: list_day(bucket, SCOPE)) for number in (20_000, 200_000))
    print(f"{many[0]:,} objects listed, {many[1]} bytes for each")
    assert many[0] > 200_000
    assert max(few[1], many[1]) < BYTES_FOR_EACH
    assert few[2] == many[2]
    assert many[2].count("head") == FLOW_LOGS
    assert len([one for one in many[2] if one.startswith("objects")]) == 2


def test_a_day_of_known_keys(tmp_path: Path):
    storage, prefix = open_storage(str(tmp_path))
    for day in (DAY, DAY + timedelta(days=1)):
        events = [KeyEvent("logs", one.key, "created", one.last_modified, one.size_bytes, one.etag) for one in objects(day, 200_000)]
        for first in range(0, len(events), 10_000):
            # Each list holds some of the events of the one before again, as when a collector was stopped.
            add_events(storage, prefix, events[max(first - 1_000, 0) : first + 10_000])
    count, each, asked = planned(CountingBucket.of(0), lambda bucket: known_day(str(tmp_path), bucket, SCOPE))
    print(f"{count:,} objects from lists, {each} bytes for each")
    assert count == len(list_day(CountingBucket.of(200_000), SCOPE).objects)
    assert each < BYTES_FOR_EACH
    assert asked == ["head"] * FLOW_LOGS


def test_every_object_reaches_one_task(spark):
    def counted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield pa.RecordBatch.from_pydict({"objects": pa.array([sum(batch.num_rows for batch in batches)], pa.int64())})

    listing = list_day(CountingBucket.of(200_000), SCOPE)
    made = selection.in_tasks(spark, listing, 1 << 30, counted, pa.schema([("objects", pa.int64())]))
    counts = made.toArrow().column("objects").to_pylist()
    assert sum(counts) == len(listing.objects)
    assert max(counts) - min(counts) < 0.1 * max(counts)
