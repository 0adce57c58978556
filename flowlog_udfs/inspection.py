"""What lies under a source for one day, without Spark: accounts, Regions, flow logs, formats, sizes and empty hours.

Only keys are listed, and the head of one object for each flow log is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq

from flowlog_udfs.columns import DAMAGE
from flowlog_udfs.errors import ObjectError
from flowlog_udfs.formats import LogFormat, plan_formats
from flowlog_udfs.keys import DayScope, ListedObject, list_day, open_source
from flowlog_udfs.storage import Storage


@dataclass(frozen=True)
class FlowLogFound:
    """One flow log's objects of a day. `hours` are objects by hour of publication; `late` of them lie in the next day's first hours."""

    account_id: str
    region: str
    flow_log_id: str
    layouts: tuple[str, ...]
    log_format: LogFormat | None
    objects: int
    late: int
    size_bytes: int
    first_published: datetime
    last_published: datetime
    hours: tuple[int, ...]
    empty_hours: tuple[int, ...]


@dataclass(frozen=True)
class Inspection:
    """What a source holds for a day; `skipped` objects lie among the others and are not flow logs."""

    source: str
    day: date
    flow_logs: tuple[FlowLogFound, ...]
    skipped: int

    @property
    def objects(self) -> int:
        """All objects of the day."""
        return sum(one.objects for one in self.flow_logs)

    @property
    def size_bytes(self) -> int:
        """Their size as stored."""
        return sum(one.size_bytes for one in self.flow_logs)


def inspect_day(source: str, day: date, *, late_hours: int, now: datetime) -> Inspection:
    """List a day as its run would; an hour is empty if nothing was published in it and `now` is past it.

    Raises `UsageError` for a source that is none, and `StorageError` where it cannot be listed.
    """
    storage, prefix = open_source(source)
    listing = list_day(storage, DayScope(prefix, day, late_hours))
    by_flow_log: dict[tuple[str, str, str], list[ListedObject]] = defaultdict(list)
    for listed in listing.objects:
        by_flow_log[listed.key.account_id, listed.key.region, listed.key.flow_log_id].append(listed)
    formats = plan_formats(storage, listing.objects, {})
    found = [_found(objects, formats, storage, day, now) for _, objects in sorted(by_flow_log.items())]
    return Inspection(source, day, tuple(found), listing.skipped)


def _found(objects: Sequence[ListedObject], formats: dict[str, LogFormat], storage: Storage, day: date, now: datetime) -> FlowLogFound:
    key = objects[0].key
    published = [one.key.published_at for one in objects]
    hours = [0] * 24
    for time in published:
        hours[time.hour if time.date() == day else 23] += 1
    over = [datetime(day.year, day.month, day.day, tzinfo=timezone.utc) + timedelta(hours=hour + 1) <= now for hour in range(24)]
    return FlowLogFound(
        key.account_id,
        key.region,
        key.flow_log_id,
        tuple(sorted({one.key.layout for one in objects})),
        formats.get(key.flow_log_id) or _parquet_format(objects, storage),
        len(objects),
        sum(time.date() > day for time in published),
        sum(one.stored.size_bytes for one in objects),
        min(published),
        max(published),
        tuple(hours),
        tuple(hour for hour in range(24) if over[hour] and not hours[hour]),
    )


def _parquet_format(objects: Sequence[ListedObject], storage: Storage) -> LogFormat | None:
    """The columns of the smallest Parquet object; None where it cannot be read."""
    parquet = [one.stored for one in objects if one.stored.key.endswith(".parquet")]
    if not parquet:
        return None
    smallest = min(parquet, key=lambda one: (one.size_bytes, one.key))
    try:
        with storage.open(smallest.key) as stream:
            return LogFormat.from_parquet(pq.read_schema(pa.BufferReader(stream.read())))
    except (ObjectError, *DAMAGE):
        return None
