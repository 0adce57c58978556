"""What a day's run read of each flow log in each hour, and what it did not: table `coverage`.

In: rows of table `objects`, and for each flow log, hour and interface the sightings that tasks took of the records while reading them.
Out: 24 rows for each flow log, zeros kept, so that an hour with nothing is a row and not an absence. Where keys were passed over because
they are no flow log objects, one row without a flow log counts them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.columns import Flags, Groups, codes, equals, numbers, texts
from flowlog_udfs.fields import ACCEPT, NODATA, REJECT, SKIPDATA
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.objects import FAILED, ObjectRow
from flowlog_udfs.sorting import distinct, sort_by
from flowlog_udfs.tables import Table

HOUR = 3600
_UTC = pa.timestamp("us", "UTC")
_SUMS = ("records", "accepted", "rejected", "nodata", "skipdata")
SIGHTINGS = pa.schema(
    [
        *((name, pa.string()) for name in ("account_id", "region", "flow_log_id", "interface_id")),
        ("hour", pa.int64()),  # hours since 1970
        *((name, pa.int64()) for name in _SUMS),
        ("first_start", pa.int64()),  # Unix seconds
        ("last_end", pa.int64()),
    ]
)
"""What one task saw of an interface in one hour of a flow log."""
_KEYS = SIGHTINGS.names[:5]

COVERAGE = pa.schema(
    [
        *((name, pa.string()) for name in ("account_id", "region", "flow_log_id")),
        ("hour", _UTC),
        ("objects", pa.int64()),  # published in the hour; in the last one also those of the next day's first hours
        ("failed_objects", pa.int64()),
        ("size_bytes", pa.int64()),
        ("lines", pa.int64()),
        ("rejects", pa.int64()),
        *((name, pa.int64()) for name in _SUMS),  # by the hour of their start
        ("first_start", _UTC),
        ("last_end", _UTC),
        ("interfaces", pa.int64()),
        ("expected_interfaces", pa.int64()),  # of what the flow log watches, by the inventory
        ("late_records", pa.int64()),  # of other days, in objects that those days' runs do not read
        ("skipped_objects", pa.int64()),
        ("only_accounts", pa.list_(pa.string())),  # what the run was told to read; null: all there is
        ("only_regions", pa.list_(pa.string())),
    ]
)
COVERAGE_TABLE = Table("coverage", COVERAGE, ("account_id", "region", "flow_log_id", "hour", "late_records"))
_OF_OBJECTS = ("objects", "failed_objects", "size_bytes", "lines", "rejects", "late_records")


def sightings(rows: pa.Table, read: ObjectRow) -> pa.Table:
    """Rows of `SIGHTINGS` for a chunk of records of one object; a record without times counts in the hour of publication."""
    nothing = np.zeros(rows.num_rows, dtype=bool)
    start, end = numbers(rows.column("start"), -1), numbers(rows.column("end"), -1)
    first = np.where(start < 0, end, start)
    hour = np.where(first < 0, int(read.published_at.timestamp()), first) // HOUR
    earliest = int(hour.min()) if rows.num_rows else 0
    who, names = (
        codes(rows.column("interface_id")) if "interface_id" in rows.column_names else (nothing.astype(np.int64) - 1, pa.array([""]))
    )
    (hours, interfaces), place = distinct(hour - earliest, who)
    order = sort_by(place)
    groups = Groups.of(place[order])

    def count(chosen: Flags) -> pa.Array:
        return pa.array(groups.sum(chosen[order]))

    status, action = (rows.column(name) if name in rows.column_names else None for name in ("log_status", "action"))
    started = np.where(start < 0, np.iinfo(np.int64).max, start)
    earliest_start = groups.min(started[order])
    latest_end = groups.max(end[order])
    key = [pa.array([value] * len(hours), pa.string()) for value in (read.account_id, read.region, read.flow_log_id)]
    return pa.table(
        [
            *key,
            texts(interfaces, names).cast(pa.string()),
            pa.array(hours + earliest),
            pa.array(groups.sizes),
            *(count(equals(action, word) if action is not None else nothing) for word in (ACCEPT, REJECT)),
            *(count(equals(status, word) if status is not None else nothing) for word in (NODATA, SKIPDATA)),
            pa.array(earliest_start, mask=earliest_start == np.iinfo(np.int64).max),
            pa.array(latest_end, mask=latest_end < 0),
        ],
        schema=SIGHTINGS,
    )


def summed(sighted: Sequence[pa.Table]) -> pa.Table:
    """Tables of `SIGHTINGS` added up to one."""
    whole = pa.concat_tables([SIGHTINGS.empty_table(), *sighted])
    wanted = [*((name, "sum") for name in _SUMS), ("first_start", "min"), ("last_end", "max")]
    grouped = whole.group_by(_KEYS).aggregate(wanted)
    return pa.table([*(grouped.column(name) for name in _KEYS), *(grouped.column(f"{n}_{how}") for n, how in wanted)], schema=SIGHTINGS)


def handed_back(column: pa.ChunkedArray) -> pa.Table:
    """Sightings that tasks handed back as structs, added up."""
    structs = pc.drop_null(column)
    return summed([pa.Table.from_batches(pa.RecordBatch.from_struct_array(chunk) for chunk in structs.chunks)] if len(structs) else [])


def misfiled(read: ObjectRow, late_hours: int) -> Counter[date]:
    """Rows of other days in an object that the runs of their days do not read, by day."""
    found: Counter[date] = Counter()
    for other, count in read.other_days.items():
        begin = datetime.combine(other, time(), timezone.utc)
        if not begin <= read.published_at < begin + timedelta(days=1, hours=late_hours):
            found[other] += count
    return found


def coverage(
    day: date,
    objects: Iterable[ObjectRow],
    sighted: pa.Table,
    *,
    late_hours: int,
    skipped: int,
    inventory: Inventory | None,
    only: tuple[Collection[str], Collection[str]] = ((), ()),
) -> pa.Table:
    """Rows of `COVERAGE` for a day, in order of account, Region, flow log and hour.

    `skipped` are objects that are no flow logs, `only` the accounts and the Regions that the run was told to read; empty: all there is.
    """
    midnight = int(datetime.combine(day, time(), timezone.utc).timestamp()) // HOUR
    of_objects: dict[tuple[str, str, str], list[Counter[str]]] = defaultdict(lambda: [Counter() for _ in range(24)])
    for read in objects:
        hour = min(max(int(read.published_at.timestamp()) // HOUR - midnight, 0), 23)
        counted = of_objects[read.account_id, read.region, read.flow_log_id][hour]
        late = misfiled(read, late_hours).total()
        values = (1, int(read.status == FAILED), read.size_bytes, read.lines, read.rejects, late)
        counted.update(dict(zip(_OF_OBJECTS, values, strict=True)))
    wanted = [*((name, "sum") for name in _SUMS), ("first_start", "min"), ("last_end", "max"), ("interface_id", "count")]
    hours = summed([sighted]).group_by(["account_id", "region", "flow_log_id", "hour"]).aggregate(wanted).to_pylist()
    of_records = {(row["account_id"], row["region"], row["flow_log_id"], row["hour"] - midnight): row for row in hours}
    expected = expected_interfaces(inventory)
    told = dict(zip(("only_accounts", "only_regions"), (sorted(names) or None for names in only), strict=True))
    rows: list[dict[str, Any]] = []
    if skipped:
        nothing = dict.fromkeys((*_OF_OBJECTS, *_SUMS, "interfaces"), 0)
        rows.append({"hour": _time(midnight * HOUR), **nothing, "skipped_objects": skipped, **told})
    for key in sorted(of_objects):
        for hour in range(24):
            seen = of_records.get((*key, hour), {})
            rows.append(
                dict(zip(("account_id", "region", "flow_log_id"), key, strict=True))
                | {"hour": _time((midnight + hour) * HOUR), "skipped_objects": 0, "expected_interfaces": expected.get(key[2]), **told}
                | {name: of_objects[key][hour][name] for name in _OF_OBJECTS}
                | {name: seen.get(f"{name}_sum", 0) for name in _SUMS}
                | {"first_start": _time(seen.get("first_start_min")), "last_end": _time(seen.get("last_end_max"))}
                | {"interfaces": seen.get("interface_id_count", 0)}
            )
    return pa.Table.from_pylist(rows, COVERAGE)


def expected_interfaces(inventory: Inventory | None) -> Mapping[str, int]:
    """How many of the inventory's interfaces each of its flow logs watches: those of its VPC or subnet, or the one it names."""
    watched: Counter[str] = Counter()
    for one in inventory.interfaces if inventory else ():
        watched.update(name for name in (one.vpc_id, one.subnet_id, one.interface_id) if name)
    return {log.flow_log_id: watched[log.resource_id] for log in (inventory.flow_logs if inventory else ()) if log.resource_id}


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
