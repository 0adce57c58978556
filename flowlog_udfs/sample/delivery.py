"""How records reach the bucket: which object each lies in, under which key, with which faults; and the writing of those objects."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from isal import igzip

from flowlog_udfs.sample.faults import BadLine, Fault, TextObject, plan_faults
from flowlog_udfs.sample.layout import FlowLog
from flowlog_udfs.sample.observation import Observed
from flowlog_udfs.sample.rows import Rows
from flowlog_udfs.sample.topology import Column
from flowlog_udfs.storage import Storage

DAY = 86_400
TAIL = 1_800
"""Seconds of the day after the last that are delivered too: longer than any aggregation window and its delay."""
LATE_AFTER = 3 * 3_600 + 300
"""When, on the next day, a late object arrives."""
ROWS_AT_ONCE = 200_000
WRITERS = 2


@dataclass(frozen=True)
class DeliveryPlan:
    """How often a flow log publishes (seconds), how many objects there are to be at least, and whether deliveries go wrong at times."""

    period: int = 300
    objects: int = 0
    faults: bool = True


@dataclass(frozen=True)
class Parcel:
    """One object to be written: records `first` to `last` of the delivery order. `copy_of` is the key of an earlier delivery."""

    log: int
    published: int
    part: int
    first: int
    last: int
    late: bool = False
    copy_of: str | None = None


@dataclass(frozen=True)
class Delivered:
    """An object as written, with what a reader must find in it."""

    key: str
    log: FlowLog
    parcel: Parcel
    size_bytes: int
    headers: int
    blank: int
    bad_lines: tuple[BadLine, ...]

    @property
    def rows(self) -> int:
        """How many good records it holds, of whatever day."""
        return self.parcel.last - self.parcel.first


def delivery_order(observed: Observed, plan: DeliveryPlan, days: int, rng: np.random.Generator) -> tuple[Column, list[Parcel]]:
    """The records in the order of the objects that hold them, and the objects.

    An object is named by the 5 minutes in which its records end, an interface's delay included; within an object the records of an
    interface lie together, in any order.
    Records that were published before the first day are left out. Source: AWS, "Flow log files" (VPC user guide).
    """
    records, streams = observed.records, observed.streams
    lag, stream = observed.topology.numbers("lag"), records["stream"]
    slot = (records["end"] + lag[streams["interface"][stream]]) // plan.period
    slots = (days * DAY + TAIL) // plan.period + 1
    shuffled = rng.permutation(len(records))
    delivered = (slot >= 0) & (slot * plan.period < days * DAY + TAIL)
    order = shuffled[delivered[shuffled]]
    when, parts = (streams["log"][stream].astype(np.int64) * slots + slot)[order], 1
    # Several objects at one time are normal; where that still gives too few, every time gets more.
    while (found := len(np.unique(when * parts + order % parts))) < min(plan.objects, len(order)):
        parts += max(1, parts * (plan.objects - found) // found)
    shelf = when * parts + order % parts
    places = np.argsort(shelf * len(lag) + streams["interface"][stream[order]], kind="stable")
    order, shelf = order[places], shelf[places]
    first = np.flatnonzero(np.r_[True, shelf[1:] != shelf[:-1]]) if len(shelf) else np.empty(0, np.int64)
    last = np.r_[first[1:], len(shelf)]
    parcels = []
    for begin, end in zip(first.tolist(), last.tolist(), strict=True):
        rest, part_number = divmod(int(shelf[begin]), parts)
        log, slot_number = divmod(rest, slots)
        parcels.append(Parcel(log, slot_number * plan.period, part_number, begin, end))
    return order, parcels


def misdeliver(parcels: Sequence[Parcel], observed: Observed, order: Column, days: int, seed: int, epoch: int) -> list[Parcel]:
    """Make one object of each day late, filed under the next day, and deliver two of each again under another name.

    The late one is the heaviest of its evening of a flow log with long intervals: two intervals are not silent where one row is missing.
    """
    changed = list(parcels)
    weight = np.r_[0, np.cumsum(observed.records["bytes"][order])]
    for day in range(days):
        evening = range(day * DAY + DAY - 1_200, day * DAY + DAY - 300)
        able = [n for n, one in enumerate(changed) if one.published in evening and observed.logs[one.log].watches == "shared"]
        if able:
            place = max(able, key=lambda n: int(weight[changed[n].last] - weight[changed[n].first]))
            changed[place] = replace(changed[place], late=True, published=(day + 1) * DAY + LATE_AFTER)
    for day in range(days):
        of_day = [one for one in changed[: len(parcels)] if one.published // DAY == day and not one.late and one.last - one.first >= 5]
        for parcel in of_day[:: max(1, len(of_day) // 2)][:2]:
            changed.append(replace(parcel, copy_of=object_key(observed.logs[parcel.log], parcel, seed, epoch)))
    return changed


def object_key(log: FlowLog, parcel: Parcel, seed: int, epoch: int) -> str:
    """The key of an object, by the grammar of its flow log's layout. Source: AWS, "Flow log files" (VPC user guide)."""
    published = datetime.fromtimestamp(epoch, timezone.utc) + timedelta(seconds=parcel.published)
    name = f"{seed}/{log.id}/{parcel.published}/{parcel.part}/{parcel.copy_of}"
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    ending = "log.parquet" if log.file_format == "parquet" else "log.gz"
    file = f"{log.account}_vpcflowlogs_{log.region}_{log.id}_{published:%Y%m%dT%H%M}Z_{digest}.{ending}"
    folder = f"{log.account}/vpcflowlogs/{log.region}/{published:%Y/%m/%d}/"
    if log.key_layout.startswith("hive"):
        folder = (
            f"aws-account-id={log.account}/aws-service=vpcflowlogs/aws-region={log.region}/"
            f"year={published:%Y}/month={published:%m}/day={published:%d}/"
        )
    hour = {"hourly": f"{published:%H}/", "hive-hourly": f"hour={published:%H}/"}.get(log.key_layout, "")
    return f"AWSLogs/{folder}{hour}{file}"


def batches(parcels: Sequence[Parcel]) -> Iterator[list[int]]:
    """Places of consecutive objects of one flow log that together hold about `ROWS_AT_ONCE` rows."""
    batch: list[int] = []
    rows = 0
    for place, parcel in enumerate(parcels):
        previous = parcels[batch[-1]] if batch else None
        if previous and (rows + parcel.last - parcel.first > ROWS_AT_ONCE or previous.log != parcel.log or previous.last != parcel.first):
            yield batch
            batch, rows = [], 0
        batch.append(place)
        rows += parcel.last - parcel.first
    if batch:
        yield batch


def deliver(
    storage: Storage, prefix: str, observed: Observed, order: Column, parcels: Sequence[Parcel], *, seed: int, epoch: int, faults: bool
) -> list[Delivered]:
    """Write the objects to storage below `prefix`; the answer is the same in whatever order the writers finish."""
    able = [parcel.copy_of is None and observed.logs[parcel.log].file_format == "text" for parcel in parcels]
    sizes = [(parcel.last - parcel.first) * text for parcel, text in zip(parcels, able, strict=True)]
    # A second delivery has the faults of the first.
    planned = {parcels[place].first: chosen for place, chosen in plan_faults(sizes, seed).items()} if faults else {}

    with tempfile.TemporaryDirectory(prefix="flowlog-sample-") as scratch, ThreadPoolExecutor(WRITERS) as pool:

        def write_batch(batch: list[int]) -> list[Delivered]:
            begin, end = parcels[batch[0]].first, parcels[batch[-1]].last
            log = observed.logs[parcels[batch[0]].log]
            cuts = [*range(begin, end, ROWS_AT_ONCE), end]
            pieces = [Rows(observed, order[low:high], epoch) for low, high in pairwise(cuts)]
            if log.file_format == "parquet":
                table = pa.concat_tables([rows.table(log.format) for rows in pieces])
            else:
                lines = [rows.lines(log.format) for rows in pieces]
            written = []
            for place in batch:
                parcel = parcels[place]
                key, local = object_key(log, parcel, seed, epoch), Path(scratch, f"{place}")
                headers, blank = 0, 0
                bad_lines: tuple[BadLine, ...] = ()
                if log.file_format == "parquet":
                    piece = table.slice(parcel.first - begin, parcel.last - parcel.first)
                    pq.write_table(piece, local, compression="gzip", store_schema=False)
                else:
                    # Only an object that has its batch for itself comes in several pieces.
                    own = lines if len(lines) > 1 else [lines[0].slice(parcel.first - begin, parcel.last - parcel.first)]
                    content, headers, blank, bad_lines = text_object(log, own, planned.get(parcel.first, ()))
                    local.write_bytes(igzip.compress(content, 1, mtime=0))
                size = local.stat().st_size
                storage.put(local, prefix + key)
                written.append(Delivered(key, log, parcel, size, headers, blank, bad_lines))
            return written

        return [delivered for batch in pool.map(write_batch, batches(parcels)) for delivered in batch]


def text_object(log: FlowLog, pieces: Sequence[pa.StringArray], faults: Sequence[Fault]) -> tuple[bytes, int, int, tuple[BadLine, ...]]:
    """The bytes of a text object with its header line, how many headers and blank lines it has, and its bad lines."""
    header = " ".join(log.format)
    if faults:
        content = TextObject(log.format, [header, *(line.rstrip("\n") for lines in pieces for line in lines.to_pylist())])
        for fault in faults:
            fault(content)
        return content.encode(), content.headers, content.blank, tuple(content.bad_lines())
    stretches = [f"{header}\n".encode()]
    for lines in pieces:
        # Offsets of a string array are those of its bytes, so the lines of a slice are one stretch of the buffer.
        offsets = np.frombuffer(lines.buffers()[1], np.int32)
        begin, end = int(offsets[lines.offset]), int(offsets[lines.offset + len(lines)])
        stretches.append(lines.buffers()[2].slice(begin, end - begin))
    return b"".join(stretches), 1, 0, ()
