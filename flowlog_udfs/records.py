"""Parsed columns to rows of `records` and `records_tgw`: the tables' schemas, derived columns, and the cut to one day.

Columns are the fields of `fields.py` in snake_case, then `start_time`, `end_time` (UTC), `flow_log_id`, `object_key` and `extra_fields`
(values of fields newer than this release, by their own hyphenated names).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flowlog_udfs.fields import FIELDS, TGW_FIELDS, Field
from flowlog_udfs.formats import LogFormat
from flowlog_udfs.values import TEXT_TYPE, column_type

SECONDS_PER_DAY = 86_400
_EPOCH = date(1970, 1, 1)
_TIMESTAMP = pa.timestamp("us", "UTC")
_EXTRA = pa.map_(pa.string(), pa.string())


def _schema(fields: Sequence[Field]) -> pa.Schema:
    return pa.schema(
        [
            *((field.column, column_type(field)) for field in fields),
            ("start_time", _TIMESTAMP),
            ("end_time", _TIMESTAMP),
            ("flow_log_id", TEXT_TYPE),
            ("object_key", TEXT_TYPE),
            ("extra_fields", _EXTRA),
        ]
    )


RECORDS = _schema(FIELDS)
"""Columns of table `records` as Arrow holds them, text dictionary-encoded."""
RECORDS_TGW = _schema(TGW_FIELDS)
"""Columns of table `records_tgw`."""

SKIPPING_COLUMNS = (
    "account_id",
    "region",
    "vpc_id",
    "subnet_id",
    "interface_id",
    "flow_log_id",
    "action",
    "log_status",
    "start_time",
    "end_time",
)
"""Columns that queries filter on: the only ones whose minimum and maximum are kept, for statistics cost as much as the write."""


def to_records(
    columns: pa.Table, log_format: LogFormat, *, day: date, object_day: date, flow_log_id: str, object_key: str
) -> tuple[pa.Table, Counter[date]]:
    """The rows of `day` with the schema of their table, and how many rows belong to which other day.

    A row's day is the UTC date of `start`; without start of `end`; without both it is `object_day`, the date in the object's key.
    """
    fields = TGW_FIELDS if log_format.is_tgw else FIELDS
    other_days: Counter[date] = Counter()
    days = _days(columns, object_day)
    today = (day - _EPOCH).days
    if isinstance(days, int):
        mine = days == today
        if not mine:
            other_days[_EPOCH + timedelta(days=days)] += columns.num_rows
            columns = columns.slice(0, 0)
    else:
        other_days.update(
            {_EPOCH + timedelta(days=int(d)): int(n) for d, n in zip(*np.unique(days[days != today], return_counts=True), strict=True)}
        )
        columns = columns.filter(pa.array(days == today))

    rows = columns.num_rows
    present = set(columns.column_names)
    arrays = [columns.column(f.name) if f.name in present else pa.nulls(rows, column_type(f)) for f in fields]
    arrays += [_timestamps(columns, "start"), _timestamps(columns, "end"), _constant(flow_log_id, rows), _constant(object_key, rows)]
    arrays.append(_extra_fields(columns, [name for name in log_format.names if name not in {f.name for f in fields}]))
    return pa.table(arrays, schema=RECORDS_TGW if log_format.is_tgw else RECORDS), other_days


def _days(columns: pa.Table, object_day: date) -> int | npt.NDArray[np.int64]:
    """Each row's day as days since 1970: one number when all rows share it."""
    fallback = (object_day - _EPOCH).days
    times = [columns.column(name) for name in ("start", "end") if name in columns.column_names]
    if not times:
        return fallback
    seconds = pc.coalesce(*times)
    if seconds.null_count == 0 and len(seconds):
        extremes = pc.min_max(seconds)
        first, last = (extremes[end].as_py() // SECONDS_PER_DAY for end in ("min", "max"))
        if first == last:
            return int(first)
    return np.asarray(pc.fill_null(seconds, fallback * SECONDS_PER_DAY)) // SECONDS_PER_DAY


def _timestamps(columns: pa.Table, name: str) -> pa.Array | pa.ChunkedArray:
    if name not in columns.column_names:
        return pa.nulls(columns.num_rows, _TIMESTAMP)
    return pc.multiply(columns.column(name), 1_000_000).cast(_TIMESTAMP)


def _constant(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))


def _extra_fields(columns: pa.Table, names: list[str]) -> pa.Array:
    """A map of the values that have no column of their own; null for formats without such fields, absent values left out."""
    rows = columns.num_rows
    if not names:
        return pa.nulls(rows, _EXTRA)
    texts = [columns.column(name).cast(pa.string()) for name in names]
    present = np.column_stack([np.asarray(text.is_valid()) for text in texts])
    values = np.column_stack([text.to_numpy() for text in texts])
    offsets = np.concatenate(([0], np.cumsum(present.sum(axis=1)))).astype(np.int32)
    keys = np.broadcast_to(np.array(names, dtype=object), (rows, len(names)))
    return pa.MapArray.from_arrays(pa.array(offsets), pa.array(keys[present], pa.string()), pa.array(values[present], pa.string()))


def utc_date(moment: datetime) -> date:
    """The UTC date of an aware time."""
    return moment.astimezone(timezone.utc).date()
