"""Read one object from bytes, as a task does: what tests of parsing share."""

import gzip
import io
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flowlog_udfs.errors import ObjectError
from flowlog_udfs.formats import DEFAULT_FORMAT, LogFormat
from flowlog_udfs.objects import ObjectRow, ReadPlan, read_object
from flowlog_udfs.storage import FolderStorage

DAY = date(2019, 8, 20)
ANNOUNCED = LogFormat.parse(
    "${version} ${vpc-id} ${subnet-id} ${instance-id} ${interface-id} ${account-id} ${type} ${srcaddr} ${dstaddr} ${srcport} ${dstport} "
    "${pkt-srcaddr} ${pkt-dstaddr} ${protocol} ${bytes} ${packets} ${start} ${end} ${action} ${tcp-flags} ${log-status}"
)
SSH_REPLY = (
    "3 vpc-exxxxxx2 subnet-8xxxxf3 i-0bfxxxxxxaf eni-08xxxxxxa5 48xxxxxx93 IPv4 172.31.22.145 90.90.0.200 22 62897 "
    "172.31.22.145 90.90.0.200 6 5225 24 1566328660 1566328672 ACCEPT 18 OK"
)
SSH_REQUEST = (
    "3 vpc-exxxxxx2 subnet-8xxxxf3 i-0bfxxxxxxaf eni-08xxxxxxa5 48xxxxxx93 IPv4 90.90.0.200 172.31.22.145 62897 22 "
    "90.90.0.200 172.31.22.145 6 4877 29 1566328660 1566328672 ACCEPT 2 OK"
)


@dataclass
class Reading:
    """What became of an object: its row, its records of both families, its rejects as (line number, line, reason)."""

    row: ObjectRow
    records: list[dict] = field(default_factory=list)
    tgw: list[dict] = field(default_factory=list)
    rejects: list[tuple[int, str, str]] = field(default_factory=list)


def lines(*rows: str, header: LogFormat | None = ANNOUNCED, newline: str = "\n", end: bool = True) -> bytes:
    text = newline.join(([header.header()] if header else []) + list(rows))
    return (text + (newline if end else "")).encode()


def read(
    content: bytes,
    *,
    day: date = DAY,
    plan: LogFormat | None = None,
    cloudwatch: LogFormat = DEFAULT_FORMAT,
    zipped: bool = True,
    max_bytes: int = 1 << 30,
    folder: Path,
    published: datetime = datetime(2019, 8, 20, 19, 20, tzinfo=timezone.utc),
) -> Reading:
    stored = gzip.compress(content, 1, mtime=0) if zipped else content
    (folder / "object").write_bytes(stored)
    row = ObjectRow("object", "", len(stored), published, "123456789012", "us-east-1", "fl-1", published, "plain")
    reading = Reading(row)
    known = {"fl-1": plan} if plan else {}
    try:
        chunks = list(read_object(FolderStorage(str(folder)), row, ReadPlan(day, known, cloudwatch, max_bytes)))
    except ObjectError as error:
        row.fail(str(error))
        chunks = []
    for chunk in chunks:
        if chunk.rows is not None:
            (reading.tgw if chunk.is_tgw else reading.records).extend(chunk.rows.to_pylist())
        reading.rejects += [tuple(reject) for reject in chunk.rejects]
    # What holds for every object, whatever is in it.
    assert row.lines == row.headers + row.blank + row.records + row.rejects + row.other_day
    assert row.records == len(reading.records) + len(reading.tgw)
    assert row.rejects == len(reading.rejects)
    assert (row.error is None) == (row.status == "read")
    if row.error:
        assert (row.lines, row.headers, row.blank, row.records, row.rejects, row.other_day) == (0,) * 6
    reading.rejects.sort()
    return reading


def parquet(columns: dict[str, pa.Array]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="gzip")
    return sink.getvalue()
