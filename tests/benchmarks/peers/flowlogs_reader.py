"""flowlogs-reader: its records one by one, grouped in dictionaries; one process, for Python. The rows of the table are written by pyarrow.

The library reads from S3 only, through a boto3 client; here a stand-in serves it the folder, so that no network counts. What it has read it
keeps as datetimes without a zone, in UTC.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from flowlogs_reader import FlowRecord, S3FlowLogsReader

from tests.benchmarks.peers.layout import DayOfLogs, arguments, sort_of

_TYPES = {"int": pa.int32(), "bigint": pa.int64(), "text": pa.string()}
_TIME = pa.timestamp("s", tz="UTC")
_BATCH = 100_000
_TOTALS = pa.schema(
    [("hour", _TIME), ("subnet_id", pa.string()), ("action", pa.string()), *((n, pa.int64()) for n in ("bytes", "packets", "records"))]
)
_CONNECTIONS = pa.schema(
    [
        *(("initiator_addr", pa.string()), ("initiator_port", pa.int32()), ("responder_addr", pa.string()), ("responder_port", pa.int32())),
        ("protocol", pa.int32()),
        *((name, pa.int64()) for name in ("bytes_sent", "bytes_received", "packets_sent", "packets_received", "records")),
        *(("first_start", _TIME), ("last_end", _TIME), ("by_flags", pa.bool_())),
    ]
)


class FolderClient:
    """As much of an S3 client as the reader asks for, over a folder that is the bucket."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        """An object's bytes."""
        content = (self._folder / Key).read_bytes()
        return {"Body": io.BytesIO(content), "ContentLength": len(content)}

    def list_objects_v2(self, Bucket: str, Prefix: str, Delimiter: str = "/") -> dict[str, Any]:
        """The folders directly below a prefix."""
        return {"CommonPrefixes": [{"Prefix": f"{Prefix}{path.name}/"} for path in sorted((self._folder / Prefix).iterdir())]}

    def get_paginator(self, operation: str) -> FolderClient:
        """Itself: a listing has one page."""
        return self

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:
        """The objects of a prefix."""
        folder = self._folder / Prefix
        return [{"Contents": [{"Key": f"{Prefix}{path.name}"} for path in sorted(folder.iterdir())] if folder.is_dir() else []}]


def records(day: DayOfLogs) -> Iterator[FlowRecord]:
    """The records of the day."""
    begin = datetime.fromtimestamp(day.begin, timezone.utc).replace(tzinfo=None)
    end = begin + timedelta(days=1)
    # A key's time is when the object was published: records of the last minutes lie under the next day's.
    reader = S3FlowLogsReader(
        "logs", start_time=begin, end_time=end + timedelta(hours=2), boto_client=FolderClient(day.source), raise_on_error=True
    )
    return (record for record in reader if begin <= record.start < end)


class Table:
    """Task a: rows are gathered and written batch by batch."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self._columns = columns
        times = [("start_time", _TIME), ("end_time", _TIME)]
        self._schema = pa.schema([*((name, _TYPES[sort_of(name)]) for name in columns), *times])
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[FlowRecord] = []

    def add(self, record: FlowRecord) -> None:
        """One row."""
        self._rows.append(record)
        if len(self._rows) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        arrays = []
        for field in self._schema:
            name = field.name.removesuffix("_time")
            values = [getattr(record, name) for record in self._rows]
            arrays.append(pa.array(values, _TIME if name in ("start", "end") else field.type).cast(field.type))
        self._file.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        """The rows that are left."""
        self._flush()
        self._file.close()


class Totals:
    """Task b."""

    def __init__(self) -> None:
        self._found: dict[tuple[datetime, str, str], list[int]] = {}

    def add(self, record: FlowRecord) -> None:
        """One row."""
        if record.log_status == "OK" and record.srcaddr == record.pkt_srcaddr and record.dstaddr == record.pkt_dstaddr:
            hour = record.start.replace(minute=0, second=0, microsecond=0)
            found = self._found.setdefault((hour, record.subnet_id, record.action), [0, 0, 0])
            found[0] += record.bytes
            found[1] += record.packets
            found[2] += 1

    def rows(self) -> Iterator[tuple[object, ...]]:
        """The table's rows."""
        return ((*key, *found) for key, found in self._found.items())


class Connections:
    """Task c. Of each connection: flags of who began, records, first start, last end; and of each interface four amounts."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, str, int, int], list[Any]] = {}

    def add(self, record: FlowRecord) -> None:
        """One row."""
        if record.protocol is None:
            return
        source, target = (record.pkt_srcaddr, record.srcport), (record.pkt_dstaddr, record.dstport)
        forth = source <= target
        key = (*source, *target, record.protocol) if forth else (*target, *source, record.protocol)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = [False, False, 0, record.start, record.end, {}]
        syn = (record.tcp_flags or 0) & 18 if record.protocol == 6 else 0
        if syn & 2:
            found[forth == (syn == 18)] = True
        found[2] += 1
        found[3], found[4] = min(found[3], record.start), max(found[4], record.end)
        amounts = found[5].setdefault(record.interface_id, [0, 0, 0, 0])
        amounts[0 if forth else 1] += record.bytes
        amounts[2 if forth else 3] += record.packets

    def rows(self) -> Iterator[tuple[object, ...]]:
        """The table's rows."""
        for (one, one_port, other, other_port, protocol), (one_began, other_began, count, start, end, amounts) in self._found.items():
            octets_forth, octets_back, packets_forth, packets_back = (max(column) for column in zip(*amounts.values(), strict=True))
            by_flags = one_began != other_began
            if one_began if by_flags else one_port >= other_port:
                ends, sums = (one, one_port, other, other_port), (octets_forth, octets_back, packets_forth, packets_back)
            else:
                ends, sums = (other, other_port, one, one_port), (octets_back, octets_forth, packets_back, packets_forth)
            yield (*ends, protocol, *sums, count, start, end, by_flags)


def _write(path: Path, rows: Iterable[tuple[object, ...]], schema: pa.Schema) -> None:
    columns = list(zip(*rows, strict=True))
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path, compression="zstd")


def main() -> int:
    """Run one task; all three share one reading."""
    task, day, output = arguments()
    table = Table(output / "a" / "part.parquet", day.columns) if task in "ad" else None
    totals = Totals() if task in "bd" else None
    connections = Connections() if task in "cd" else None
    adds = [one.add for one in (table, totals, connections) if one is not None]
    for record in records(day):
        for add in adds:
            add(record)
    if table is not None:
        table.close()
    if totals is not None:
        _write(output / "b" / "part.parquet", totals.rows(), _TOTALS)
    if connections is not None:
        _write(output / "c" / "part.parquet", connections.rows(), _CONNECTIONS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
