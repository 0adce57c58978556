"""The flow log objects that a source holds of a day: listed, planned, dealt to tasks; and their records straight from there.

The driver lists the day's prefixes (or reads a list of keys), learns the format of each flow log from one of its objects, and cuts the
objects into tasks of even size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from functools import partial
from operator import attrgetter

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from flowlog_udfs.config import Config
from flowlog_udfs.errors import DayLimitError, ObjectError
from flowlog_udfs.exchange import Kernel, even_tasks, run_tasks, task_items
from flowlog_udfs.formats import LogFormat, plan_formats
from flowlog_udfs.key_lists import known_day
from flowlog_udfs.keys import DayScope, FlowLogKey, ListedObject, Listing, list_day, open_source
from flowlog_udfs.objects import LISTED_COLUMNS, ObjectRow, ReadPlan, read_object
from flowlog_udfs.records import RECORDS
from flowlog_udfs.storage import Storage, StoredObject
from flowlog_udfs.tables import logical_schema

SMALLEST_TASK_BYTES = 4 << 20
OBJECT_BYTES = 64 << 10
"""What an object weighs beside its bytes: to open and parse an empty one takes as long as so many bytes of a large one."""

LISTED_VALUES = attrgetter(*(f"stored.{one.name}" for one in fields(StoredObject)), *(f"key.{one.name}" for one in fields(FlowLogKey)))


@dataclass(frozen=True)
class Selection:
    """Which part of a source to read; empty sets take all that is found. `keys` is the list that tells its objects, None for a listing.

    `only` are the keys of objects to read of those that are found, None for all.
    """

    source: str
    day: date
    accounts: frozenset[str] = frozenset()
    regions: frozenset[str] = frozenset()
    keys: str | None = None
    only: frozenset[str] | None = None


def read_flow_logs(spark: SparkSession, source: str, day: date, config: Config | None = None) -> DataFrame:
    """The day's VPC flow log records straight from a source, with the columns of table `records`; no table is read or written.

    For notebooks: lazily evaluated, so each action reads the source again. Rows that are rejects, and objects that cannot be read whole,
    are left out; `ingest_day` is what accounts for them. Raises `DayLimitError` when there is nothing to read.
    """
    config = config or Config()
    storage, listing, plan = prepare(Selection(source, day), config)
    rows_of = partial(_record_batches, storage=storage, plan=plan)
    return in_tasks(spark, listing, config.ingest.task_bytes, rows_of, RECORDS)


def list_source(selection: Selection, config: Config, also: frozenset[str] = frozenset()) -> tuple[Storage, Listing]:
    """The source, and what it holds of the day, `also` these keys; raises `UsageError` for a folder that is not there."""
    storage, prefix = open_source(selection.source)
    scope = DayScope(prefix, selection.day, config.ingest.late_hours, selection.accounts, selection.regions, also)
    listing = known_day(selection.keys, storage, scope) if selection.keys else list_day(storage, scope)
    if selection.only is not None:
        listing = replace(listing, objects=tuple(one for one in listing.objects if one.stored.key in selection.only))
    return storage, listing


def prepare(selection: Selection, config: Config, also: frozenset[str] = frozenset()) -> tuple[Storage, Listing, ReadPlan]:
    """The source, what it holds of the day, and how that is to be read; raises `DayLimitError` for nothing."""
    storage, listing = list_source(selection, config, also)
    if not listing.objects:
        raise DayLimitError(
            f"{selection.keys or selection.source}: no flow log objects for {selection.day}; nothing was replaced. "
            "Check the day, --account and --region, and that the source holds AWSLogs/"
        )
    formats = plan_formats(storage, listing.objects, config.formats)
    cloudwatch_format = LogFormat.parse(config.ingest.cloudwatch_format)
    return storage, listing, ReadPlan(selection.day, formats, cloudwatch_format, config.ingest.max_object_bytes)


def in_tasks(spark: SparkSession, listing: Listing, task_bytes: int, kernel: Kernel, out: pa.Schema) -> DataFrame:
    """The listed objects through `kernel`, in tasks of even size; lazily."""
    tasks = even_object_tasks(listing.objects, task_bytes)
    return run_tasks(spark, task_items(tasks, LISTED_VALUES, LISTED_COLUMNS), kernel, out)


def even_object_tasks(objects: Sequence[ListedObject], task_bytes: int) -> list[list[ListedObject]]:
    """Objects in order of key, in tasks of about as many bytes."""
    in_order = sorted(objects, key=attrgetter("stored.key"))
    return even_tasks(in_order, lambda one: one.stored.size_bytes + OBJECT_BYTES, heaviest=task_bytes, smallest=SMALLEST_TASK_BYTES)


def _record_batches(batches: Iterable[pa.RecordBatch], *, storage: Storage, plan: ReadPlan) -> Iterator[pa.RecordBatch]:
    """A task of `read_flow_logs`: each whole object's records."""
    for batch in batches:
        for listed in batch.to_pylist():
            try:
                chunks = list(read_object(storage, ObjectRow(**listed), plan))
            except ObjectError:
                continue
            for chunk in chunks:
                if chunk.rows is not None and not chunk.is_tgw:
                    yield from chunk.rows.cast(logical_schema(RECORDS)).to_batches()
