"""Why a day's figures may not be the last: rows of it may still come (provisional), or it leans on a day worked out anew since (stale).

In: table `objects` of the day and of the two after it, and what its `connections` and those of the day before were made from. Out:
sentences for a person, None where there is no doubt. Later runs change both: they hold for the moment at which they are worked out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import Any, NamedTuple

from flowlog_udfs.agreement import attributed
from flowlog_udfs.compliance import day_rows
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.coverage import COVERAGE_TABLE
from flowlog_udfs.delta import Origin
from flowlog_udfs.ingest import OBJECTS
from flowlog_udfs.ledger import Doubts
from flowlog_udfs.tables import Warehouse

ONE_DAY = timedelta(days=1)


def provisional_note(warehouse: Warehouse, day: date, late_hours: int) -> str | None:
    """Why rows of the day may be missing: the next day was not read whole, or a run met rows in objects that the day's run did not read.

    The next day was read whole if its run met an object delivered at or after the end of its head: the run then looked at the whole head.
    """
    return _provisional(day, late_hours, _Delivered.of(warehouse))


def stale_note(warehouse: Warehouse, day: date) -> str | None:
    """Whether the day before was worked out anew since this day leaned on it."""
    return _stale(day, *(warehouse.origin(CONNECTIONS_TABLE, one) for one in (day, day - ONE_DAY)))


def doubts(warehouse: Warehouse, days: Collection[date], late_hours: int) -> dict[date, Doubts]:
    """What both notes say of each of many days that were run, at a fraction of the reading.

    Files of `objects` are opened only where `coverage` says that rows came late, or where no log keeps bounds of columns (Parquet).
    """
    newest, late = warehouse.highest(OBJECTS, "published_at"), warehouse.highest(COVERAGE_TABLE, "late_records")
    delivered = _Delivered.of(warehouse, newest, late)
    # A day before that nobody read has no origin: it would be looked for back to the beginning of the log.
    origins = warehouse.origins(CONNECTIONS_TABLE, {*days, *(day - ONE_DAY for day in days if day - ONE_DAY in delivered.days)})
    return {
        day: Doubts(_provisional(day, late_hours, delivered), _stale(day, origins.get(day), origins.get(day - ONE_DAY)))
        for day in sorted(days)
    }


class _Delivered(NamedTuple):
    """What `objects` holds: its days, the rows of one, and by day, where that is known, its last delivery and the most late rows."""

    days: Collection[date]
    rows: Callable[[date], Sequence[Mapping[str, Any]]]
    newest: Mapping[date, datetime]
    late: Mapping[date, int]

    @classmethod
    def of(cls, warehouse: Warehouse, newest: Mapping[date, datetime] | None = None, late: Mapping[date, int] | None = None) -> _Delivered:
        @lru_cache(maxsize=3)  # A day and the two after it; a year's rows are too many to be kept.
        def rows(day: date) -> Sequence[Mapping[str, Any]]:
            return day_rows(warehouse, OBJECTS, day, ["key", "published_at", "other_days"])

        return cls(frozenset(day for day, _ in warehouse.part_keys(OBJECTS)), rows, newest or {}, late or {})


def _provisional(day: date, late_hours: int, delivered: _Delivered) -> str | None:
    after = day + ONE_DAY
    if after not in delivered.days:
        return f"{after} was not read yet; its run names rows of this day that were delivered late."
    begin = datetime.combine(day, time(), timezone.utc)
    head_ends = begin + timedelta(days=1, hours=late_hours)
    found = [
        (row["key"], held)
        for one in (after, after + ONE_DAY)
        if one in delivered.days and delivered.late.get(one, 1)
        for row in delivered.rows(one)
        if (held := dict(row["other_days"]).get(day, 0)) and not begin <= row["published_at"] < head_ends
    ]
    read = {row["key"] for row in delivered.rows(day)} if found else set()
    late = sum(held for key, held in found if key not in read)
    if late:
        return f"{late:,} rows of this day were delivered later than its run looks; run the day again to hold them."
    newest = delivered.newest.get(after) or max((row["published_at"] for row in delivered.rows(after)), default=None)
    if newest is not None and newest >= head_ends:
        return None
    seen = f", only up to what was delivered at {newest.astimezone(timezone.utc):%H:%M} UTC of {newest:%Y-%m-%d}" if newest else ""
    return f"{after} was not read whole yet{seen}; run it again when its head is there: its run names rows of this day that came late."


def _stale(day: date, today: Origin | None, yesterday: Origin | None) -> str | None:
    if yesterday is None or attributed(yesterday.inputs) == (today and today.carried_from):
        return None
    return f"{day - ONE_DAY} was worked out anew after this day, which leans on it; run this day again."
