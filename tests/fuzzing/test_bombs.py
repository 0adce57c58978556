"""Objects that are small as stored and endless inside: refused by the stated limits, in bounded memory, in time that grows with content."""

from __future__ import annotations

import gzip
import io
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date, datetime, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flowlog_udfs.blocks import blocks, inflate
from flowlog_udfs.errors import ObjectError
from flowlog_udfs.formats import DEFAULT_FORMAT
from flowlog_udfs.ingest import _ingest_task
from flowlog_udfs.keys import ListedObject, parse_key
from flowlog_udfs.objects import LISTED_COLUMNS, ObjectRow, ReadPlan, read_object
from flowlog_udfs.selection import LISTED_VALUES
from flowlog_udfs.storage import StoredObject
from flowlog_udfs.tables import Warehouse

KEY = "AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/10/123456789012_vpcflowlogs_us-east-1_fl-1_20260310T0005Z_0000000a.log.gz"
LINE = b"2 123456789012 eni-0f1 10.0.1.5 203.0.113.5 40000 443 6 12 840 1773100860 1773100919 ACCEPT OK\n"
HEADER = DEFAULT_FORMAT.header().encode() + b"\n"
MEGABYTES = 512
"""How much a task may grow by: what it holds back of an object, and as much again while it is written."""


class One:
    """A storage of one object, which is made piece by piece while it is read."""

    def __init__(self, pieces: Callable[[], Iterator[bytes]]) -> None:
        self.pieces = pieces

    def open(self, key: str, etag: str | None = None) -> io.BufferedReader:
        return io.BufferedReader(Stream(self.pieces()), 1 << 20)


class Stream(io.RawIOBase):
    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.rest = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        self.rest = self.rest or next(self.pieces, b"")
        count = min(len(buffer), len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        return count


def many(times: int, content: bytes, *, first: bytes = b"", last: bytes = b"") -> list[tuple[int, bytes]]:
    """A gzip member for `first`, one many times over, and one for `last`: of one stream, or of members as one after the other."""
    return [(1, gzip.compress(first, 1)), (times, gzip.compress(content, 9)), (1, gzip.compress(last, 1))]


MIB = 1 << 20
BOMBS = {
    "one line": lambda gib: many(64 * gib, bytes(16 * MIB), first=LINE, last=b"\n" + LINE),
    "no line end": lambda gib: many(64 * gib, bytes(16 * MIB), first=HEADER),
    "newlines": lambda gib: many(64 * gib, b"\n" * (16 * MIB), first=HEADER),
    "short lines": lambda gib: many(64 * gib, b"x\n" * (8 * MIB), first=HEADER),
    "headers": lambda gib: many(64 * gib, HEADER * (16 * MIB // len(HEADER)), first=HEADER),
    "records": lambda gib: many(gib, LINE * (16 * MIB // len(LINE)), first=HEADER),
    "empty members": lambda gib: many(500_000 * gib, b"", first=HEADER + LINE),
    "a header each": lambda gib: many(20_000 * gib, HEADER + LINE, first=HEADER),
    "half rejects": lambda gib: many(gib, b"1773100860\nx\n1773100860\n" * (8 * MIB // 8), first=b"start\n"),
}


def read_bomb(name: str, gib: int, limit: int) -> tuple[ObjectRow, float, float]:
    """A bomb as the one object of a task: its row, by how many MB the process grew, and how many seconds of CPU it took."""
    members = BOMBS[name](gib)
    storage = One(lambda: (member for times, member in members for _ in range(times)))
    size = sum(times * len(member) for times, member in members)
    listed = ListedObject(StoredObject(KEY, "", size, datetime(2026, 3, 10, tzinfo=timezone.utc)), parse_key(KEY))
    values = zip(LISTED_VALUES(listed), LISTED_COLUMNS, strict=True)
    batch = pa.record_batch([pa.array([value], kind.type) for value, kind in values], LISTED_COLUMNS)
    plan = ReadPlan(date(2026, 3, 10), {"fl-1": DEFAULT_FORMAT}, DEFAULT_FORMAT, limit)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        task = _ingest_task([batch], storage=storage, warehouse=Warehouse.open(folder), plan=plan)
        outcomes = pa.Table.from_batches(list(task)).to_pylist()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    row = next(ObjectRow.from_dict(one["object"]) for one in outcomes if one["object"])
    return row, grown, time.process_time() - began


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("one line", None),
        ("no line end", "too large: the content passes"),
        ("newlines", "not a flow log: "),
        ("short lines", "not a flow log: "),
        ("headers", "not a flow log: "),
        ("records", None),
        ("empty members", None),
        ("a header each", None),
        ("half rejects", None),
    ],
)
def test_a_bomb_is_refused_or_read_in_bounded_memory(name: str, said: str | None, soak: bool, tried: Callable[[str, int], None]) -> None:
    gib = 16 if soak else 1
    # Beside a line of a GiB stand two records; what is refused for its size passes the limit.
    limit = gib << 30 if said else (gib << 30) + MIB
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        row, grown, seconds = pool.submit(read_bomb, name, gib, limit).result()
    print(f"{name}: {row.size_bytes:,} bytes stored, {row.lines:,} lines, {grown:.0f} MB, {seconds:.1f} s, {row.error}")
    assert grown < MEGABYTES
    assert seconds < 60 * gib
    if said:
        assert row.status == "failed" and (row.error or "").startswith(said)
    else:
        assert row.error is None and row.is_balanced and row.records
        assert row.rejects == (1 if name == "one line" else row.records // 2 if name == "half rejects" else 0)
    tried("bombs defused", 1)


def test_the_last_line_of_a_gigabyte_is_the_beginning_of_one() -> None:
    kept = list(blocks((bytes(1 << 23) for _ in range(16)), 1 << 40))
    assert len(kept) == 1 and len(kept[0]) < 70_000


@pytest.mark.parametrize("members", [1, 2, 5_000])
def test_members_are_gathered_to_blocks(members: int) -> None:
    stored = gzip.compress(LINE, mtime=0) * members
    pieces = [stored[start : start + 1_000] for start in range(0, len(stored), 1_000)]
    assert list(blocks(inflate(iter(pieces)), 1 << 30)) == [LINE * members]


def test_a_parquet_file_of_one_value_a_billion_times_is_refused(read_parquet: Callable[[bytes, int], int]) -> None:
    sink = io.BytesIO()
    rows = pa.table({"bytes": pa.array([1] * 1_000_000, pa.int64()), "action": ["ACCEPT"] * 1_000_000})
    with pq.ParquetWriter(sink, rows.schema) as writer:
        for _ in range(20):
            writer.write_table(rows)
    content = sink.getvalue()
    assert len(content) < 1 << 20
    with pytest.raises(ObjectError, match="too large: the content passes"):
        read_parquet(content, 100 << 20)
    assert read_parquet(content, 1 << 30) == 20_000_000


@pytest.fixture
def read_parquet() -> Callable[[bytes, int], int]:
    def read(content: bytes, limit: int) -> int:
        published = datetime(2026, 3, 10, 0, 5, tzinfo=timezone.utc)
        row = ObjectRow(KEY, "", len(content), published, "1", "us-east-1", "fl-1", published, "plain")
        plan = ReadPlan(date(2026, 3, 10), {}, DEFAULT_FORMAT, limit)
        for _ in read_object(One(lambda: iter([content])), row, plan):
            pass
        return row.records

    return read
