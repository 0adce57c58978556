"""One day from the prefix tree to tables `objects`, `records`, `records_tgw`, `rejects` and `coverage`.

Each task of the source's objects (`selection.py`) reads them once (`objects.read_object`), writes part files and hands back one row per
object and per file. The driver checks that every line is accounted for and replaces the day in each table.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

import flowlog_udfs
from flowlog_udfs.checks import broken_limit, reconcile, refuse_denied
from flowlog_udfs.config import Config
from flowlog_udfs.coverage import COVERAGE_TABLE, SIGHTINGS, coverage, handed_back, misfiled, sightings, summed
from flowlog_udfs.errors import ObjectError
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.objects import FAILED, OBJECT_COLUMNS, REJECT_COLUMNS, Chunk, ObjectRow, ReadPlan, read_object
from flowlog_udfs.parts import PartFile, PartWriter
from flowlog_udfs.records import RECORDS, RECORDS_TGW, SKIPPING_COLUMNS
from flowlog_udfs.selection import Selection, in_tasks, prepare
from flowlog_udfs.storage import Storage
from flowlog_udfs.tables import Table, Warehouse

OBJECTS = Table("objects", OBJECT_COLUMNS, ("flow_log_id", "published_at", "status"))
RECORDS_TABLE = Table("records", RECORDS, SKIPPING_COLUMNS)
RECORDS_TGW_TABLE = Table("records_tgw", RECORDS_TGW, SKIPPING_COLUMNS)
REJECTS = Table("rejects", REJECT_COLUMNS, ("reason",))
_WRITTEN_BY_TASKS = {table.name: table for table in (RECORDS_TABLE, RECORDS_TGW_TABLE, REJECTS)}

HELD_BYTES = 192 << 20
"""Bytes of one object's rows and rejects that are held back until it is known to be whole; a larger object gets part files of its own."""
HELD_SIGHTINGS = 256
"""Tables of sightings that a task holds before it adds them up."""
EARLIEST_FILED = timedelta(days=-1)
"""A row can be filed under the day before its own when clocks disagree, never earlier; later, without limit."""

_OUTCOME = pa.schema(
    [
        ("object", pa.struct(list(OBJECT_COLUMNS))),
        ("table", pa.string()),
        ("part", pa.struct([("key", pa.string()), ("size_bytes", pa.int64()), ("rows", pa.int64()), ("statistics", pa.string())])),
        ("seen", pa.struct(list(SIGHTINGS))),
    ]
)
"""What a task hands back: a row per object, a row per part file, and what it saw of each interface in each hour."""


@dataclass(frozen=True)
class Ingested:
    """What a day's ingest did: the rows of `objects`, counts over them, and whether the day broke a limit (and then why).

    `listed_at` is when an inventory of the bucket was taken whose keys were read, `newest_end` the last end of a record.
    """

    objects: list[ObjectRow]
    skipped: int
    reject_reasons: Counter[str]
    inputs: str
    broken_limit: str | None
    late_hours: int
    listed_at: datetime | None = None
    newest_end: datetime | None = None

    def total(self, count: str) -> int:
        """The sum of one of the counts of `ObjectRow`."""
        return sum(getattr(row, count) for row in self.objects)

    @property
    def failed(self) -> list[ObjectRow]:
        """The objects that could not be read whole."""
        return [row for row in self.objects if row.status == FAILED]

    @property
    def misfiled(self) -> Counter[date]:
        """Rows of other days, by day, that lie where the run of their day does not look (`ObjectRow.other_days` has all)."""
        return sum((misfiled(row, self.late_hours) for row in self.objects), Counter())


def ingest_day(
    spark: SparkSession, selection: Selection, warehouse: Warehouse, config: Config, inventory: Inventory | None, now: datetime
) -> Ingested:
    """Replace the day in `objects`, `records`, `records_tgw`, `rejects` and `coverage` with what the source holds of it.

    Past a limit of `[ingest]` only `objects`, `rejects` and `coverage` are replaced and `broken_limit` says why. Raises `DayLimitError` for
    an empty listing, which replaces nothing, and `ReconciliationError` when counts do not agree, which replaces nothing either.
    """
    storage, listing, plan = prepare(selection, config, also=held_elsewhere(warehouse, selection.day))
    warehouse.prove_writable()
    task = partial(_ingest_task, storage=storage, warehouse=warehouse, plan=plan)
    outcomes = in_tasks(spark, listing, config.ingest.task_bytes, task, _OUTCOME).toArrow()

    objects = sorted((ObjectRow.from_dict(row) for row in outcomes.column("object").to_pylist() if row), key=lambda row: row.key)
    parts: dict[str, list[PartFile]] = defaultdict(list)
    for name, part in zip(outcomes.column("table").to_pylist(), outcomes.column("part").to_pylist(), strict=True):
        if part:
            parts[name].append(PartFile(**part))
    reconcile(listing, objects, parts)
    refuse_denied(objects)

    inputs = _digest(selection, objects, config)
    broken = broken_limit(objects, config.ingest)
    kept = (REJECTS,) if broken else (RECORDS_TABLE, RECORDS_TGW_TABLE, REJECTS)
    own = pa.Table.from_pylist([row.to_dict() for row in objects], OBJECT_COLUMNS)
    seen = handed_back(outcomes.column("seen"))
    only = selection.accounts, selection.regions
    hours = config.ingest.late_hours
    covered = coverage(selection.day, objects, seen, late_hours=hours, skipped=listing.skipped, inventory=inventory, only=only)
    for one, rows in ((OBJECTS, own), (COVERAGE_TABLE, covered)):
        warehouse.replace_day(one, selection.day, warehouse.write_rows(one, selection.day, rows), inputs=inputs, now=now)
    for table in _WRITTEN_BY_TASKS.values():
        if table in kept:
            warehouse.replace_day(table, selection.day, parts[table.name], inputs=inputs, now=now)
        else:
            warehouse.discard(parts[table.name])
    reasons = _reject_reasons(warehouse, selection.day)
    newest = pc.max(covered.column("last_end")).as_py()
    return Ingested(objects, listing.skipped, reasons, inputs, broken, config.ingest.late_hours, listing.taken_at, newest)


def held_elsewhere(warehouse: Warehouse, day: date) -> frozenset[str]:
    """Keys of objects that runs of other days read and found to hold rows of `day`."""
    parts = [key for d, key in warehouse.part_keys(OBJECTS) if d != day and d >= day + EARLIEST_FILED]
    found: set[str] = set()
    for rows in warehouse.rows(OBJECTS, parts, ["key", "other_days"]):
        held = pc.map_lookup(rows.column("other_days"), pa.scalar(day), "first")
        found.update(rows.column("key").filter(held.is_valid()).to_pylist())
    return frozenset(found)


def _ingest_task(batches: Iterable[pa.RecordBatch], *, storage: Storage, warehouse: Warehouse, plan: ReadPlan) -> Iterator[pa.RecordBatch]:
    """Read a task's objects, write part files, hand back what became of them."""
    outcomes: list[dict[str, Any]] = []
    seen: list[pa.Table] = []
    shared = _Parts(warehouse, plan.day)
    for batch in batches:
        for listed in batch.to_pylist():
            row = ObjectRow(**listed)
            own = _Parts(warehouse, plan.day)
            held: list[Chunk] = []
            held_bytes = 0
            sighted: list[pa.Table] = []
            try:
                for chunk in read_object(storage, row, plan):
                    held.append(chunk)
                    sighted += [sightings(chunk.rows, row)] if chunk.rows is not None else []
                    held_bytes += chunk.nbytes
                    if held_bytes > HELD_BYTES:
                        own.write(row.key, held)
                        held, held_bytes = [], 0
            except ObjectError as error:
                own.discard()
                row.fail(str(error))
            else:
                (own if own.is_used else shared).write(row.key, held)
                outcomes += own.close()
                seen += sighted
                seen = [summed(seen)] if len(seen) > HELD_SIGHTINGS else seen
            outcomes.append({"object": row.to_dict()})
    outcomes += shared.close()
    outcomes += [{"seen": row} for row in summed(seen).to_pylist()]
    yield from pa.Table.from_pylist(outcomes, _OUTCOME).to_batches()


class _Parts:
    """The part files of one task (or of one large object), a writer for each table that gets rows."""

    def __init__(self, warehouse: Warehouse, day: date) -> None:
        self._warehouse, self._day = warehouse, day
        self._writers: dict[str, PartWriter] = {}

    @property
    def is_used(self) -> bool:
        return bool(self._writers)

    def write(self, object_key: str, chunks: Iterable[Chunk]) -> None:
        for chunk in chunks:
            if chunk.rows is not None:
                self._writer(RECORDS_TGW_TABLE if chunk.is_tgw else RECORDS_TABLE).write(chunk.rows)
            if chunk.rejects:
                rows = [{"object_key": object_key, **reject._asdict()} for reject in chunk.rejects]
                self._writer(REJECTS).write(pa.Table.from_pylist(rows, REJECT_COLUMNS))

    def close(self) -> list[dict[str, Any]]:
        return [{"table": name, "part": asdict(part)} for name, writer in self._writers.items() for part in writer.close()]

    def discard(self) -> None:
        for writer in self._writers.values():
            writer.discard()
        self._writers.clear()

    def _writer(self, table: Table) -> PartWriter:
        if table.name not in self._writers:
            self._writers[table.name] = self._warehouse.writer(table, self._day)
        return self._writers[table.name]


def _digest(selection: Selection, objects: Sequence[ObjectRow], config: Config) -> str:
    """SHA-256 over what the day's rows depend on: version, selection, settings, and each object's key and content."""
    digest = hashlib.sha256()
    head = (flowlog_udfs.__version__, selection.day, sorted(selection.accounts), sorted(selection.regions), config)
    digest.update(repr(head).encode())
    for row in objects:
        digest.update(f"\n{row.key} {row.sha256} {row.error}".encode())
    return digest.hexdigest()


def _reject_reasons(warehouse: Warehouse, day: date) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for rows in warehouse.rows(REJECTS, [key for d, key in warehouse.part_keys(REJECTS) if d == day], ["reason"]):
        counted = rows.column("reason").value_counts()
        reasons.update(dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)))
    return reasons
