"""Trees of flow log objects for tests: keys as AWS writes them, and a small day that holds one of every trouble."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flowlog_udfs.fields import TGW_FIELDS
from flowlog_udfs.sample.formats import ANNOUNCEMENT, DEFAULT

DAY, NEXT_DAY, DAY_BEFORE = date(2026, 3, 10), date(2026, 3, 11), date(2026, 3, 9)
ACCOUNT, REGION, FLOW_LOG = "123456789012", "us-east-1", "fl-0a1b2c3d"
V2 = " ".join(DEFAULT)


def at(day_and_time: str) -> int:
    """Unix seconds of a time in March 2026, such as `10T23:50:00`."""
    return int(datetime.fromisoformat(f"2026-03-{day_and_time}").replace(tzinfo=timezone.utc).timestamp())


def row(start: int, *, size: int | str = 840, port: int = 40000, source: str = "10.0.1.5", protocol: int | str = 6) -> str:
    """A record in the default format: one minute of an accepted connection to port 443."""
    return f"2 {ACCOUNT} eni-0f1 {source} 203.0.113.5 {port} 443 {protocol} 12 {size} {start} {start + 59} ACCEPT OK"


@dataclass(frozen=True)
class LogTree:
    """Objects below a source, written by `write(key, content)`."""

    write: Callable[[str, bytes], object]

    @classmethod
    def in_folder(cls, root: Path) -> LogTree:
        def write(key: str, content: bytes) -> None:
            target = root / key
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)

        return cls(write)

    def put(self, published: str, content: bytes, *, flow_log: str = FLOW_LOG, extension: str = ".log.gz", mark: int = 0) -> str:
        """An object in the plain layout, published at `10T0005` of March 2026."""
        folder = f"AWSLogs/{ACCOUNT}/vpcflowlogs/{REGION}/2026/03/{published[:2]}/"
        key = f"{folder}{ACCOUNT}_vpcflowlogs_{REGION}_{flow_log}_202603{published}Z_{mark:08x}{extension}"
        self.write(key, content)
        return key

    def text(self, published: str, lines: Iterable[str], *, header: str | None = V2, flow_log: str = FLOW_LOG, mark: int = 0) -> str:
        """A gzip text object."""
        return self.put(published, packed([header, *lines] if header else lines), flow_log=flow_log, mark=mark)


def packed(lines: Iterable[str]) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


# What table `objects` must say of each object of `nasty_day`: lines, headers, blank, records, rejects, other_day.
COUNTS = {
    "mixed": (505, 1, 0, 503, 0, 1),
    "plain": (8, 2, 1, 5, 0, 0),
    "announced": (3, 1, 0, 2, 0, 0),
    "faulty": (7, 1, 0, 2, 4, 0),
    "parquet": (3, 0, 0, 3, 0, 0),
    "transit": (3, 1, 0, 2, 0, 0),
    "hive": (3, 1, 0, 2, 0, 0),
    "cloudwatch": (2, 0, 0, 2, 0, 0),
    "head": (4, 1, 0, 2, 0, 1),
}
RECORDS = 521
"""Without the two of the transit gateway."""


def nasty_day(tree: LogTree) -> dict[str, str]:
    """One small day with every kind of object and line; returns the keys by the names in `COUNTS`."""
    keys = {}
    # 500 good rows, so that the faulty ones stay below the limit; then a status row of each kind, and two spaces in a line.
    good = [row(at("10T00:01:00") + 60 * (i % 600), port=40000 + i) for i in range(500)]
    nothing = [f"2 {ACCOUNT} eni-0f1 - - - - - - - {at('10T00:02:00')} {at('10T00:02:59')} - {status}" for status in ("NODATA", "SKIPDATA")]
    # The last row started on the day before, and ends without a newline.
    mixed = "\n".join([V2, *good, *nothing, row(at("10T00:03:00")).replace(" 443", "  443"), row(at("09T23:59:30"))])
    keys["mixed"] = tree.put("10T0005", gzip.compress(mixed.encode(), mtime=0))
    # Plain text, a blank line, and the header again in the middle.
    rows = [row(at("10T00:06:00"), port=port) for port in range(1, 6)]
    plain = "".join(f"{line}\n" for line in [V2, *rows[:3], "", V2, *rows[3:]])
    keys["plain"] = tree.put("10T0010", plain.encode(), extension=".log")
    # The announcement's own two lines, moved to this day: masked ids, an owner with a leading zero, bytes beyond 2^31.
    begin = at("10T00:11:00")
    announced = [
        f"3 vpc-exxxxxx2 subnet-8xxxxf3 i-0bfxxxxxxaf eni-08xxxxxxa5 048xxxxxx93 IPv4 172.31.22.145 90.90.0.200 22 62897 172.31.22.145"
        f" 90.90.0.200 6 5225000000 24 {begin} {begin + 12} ACCEPT 18 OK",
        f"3 vpc-exxxxxx2 subnet-8xxxxf3 i-0bfxxxxxxaf eni-08xxxxxxa5 048xxxxxx93 IPv4 90.90.0.200 172.31.22.145 62897 22 90.90.0.200"
        f" 172.31.22.145 6 4877 29 {begin} {begin + 12} ACCEPT 2 OK",
    ]
    keys["announced"] = tree.text("10T0015", announced, header=" ".join(ANNOUNCEMENT), flow_log="fl-announced")
    # Right and wrong lines next to each other.
    faulty = [
        row(at("10T00:16:00"), protocol="six"),
        row(at("10T00:16:00")),
        row(at("10T00:16:00"), source="999.1.1.1"),
        "2 123456789012 eni-0f1",
        row(at("10T00:16:00"), source="2001:db8::1"),
    ]
    content = gzip.compress("".join(f"{line}\n" for line in [V2, *faulty]).encode() + b"2 \xff\xfe\n", mtime=0)
    keys["faulty"] = tree.put("10T0020", content)
    keys["parquet"] = tree.put("10T0025", _parquet_rows(), flow_log="fl-parquet", extension=".log.parquet")
    keys["transit"] = tree.text("10T0030", _transit_rows(), header=" ".join(f.name for f in TGW_FIELDS), flow_log="fl-transit")
    keys["hive"] = _hive_object(tree)
    # CloudWatch exports: a time before each record, no header.
    exported = [f"2026-03-10T00:36:00{zone} {row(at('10T00:36:00'))}" for zone in (".000Z", "Z")]
    keys["cloudwatch"] = tree.text("10T0040", exported, header=None, flow_log="fl-cloudwatch")
    # The day's tail lies under the next day, in its first object.
    tail = [row(at("10T23:58:00")), row(at("10T23:59:59")), row(at("11T00:00:00"))]
    keys["head"] = tree.text("11T0000", tail)
    # What no run of the day sees: a late row, and objects that are not flow logs.
    tree.text("11T0305", [row(at("10T23:50:00"), size=7)], mark=9)
    tree.write(f"AWSLogs/{ACCOUNT}/vpcflowlogs/{REGION}/2026/03/10/notes.txt", b"not a flow log")
    tree.write(f"AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/2026/03/10/trail.json.gz", b"elsewhere")
    return keys


def _parquet_rows() -> bytes:
    start = at("10T00:21:00")
    columns = {
        "version": pa.array([2, 2, 2], pa.int32()),
        "interface_id": ["eni-0f2", "eni-0f2", "eni-0f2"],
        "srcaddr": ["10.0.1.6", "203.0.113.5", "-"],
        "dstaddr": ["203.0.113.5", "10.0.1.6", "-"],
        "protocol": pa.array([6, 6, None], pa.int32()),
        "bytes": pa.array([100, 4000, None], pa.int64()),
        "start": pa.array([start] * 3, pa.int64()),
        "end": pa.array([start + 59] * 3, pa.int64()),
        "log_status": ["OK", "OK", "NODATA"],
    }
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, compression="gzip")
    return sink.getvalue()


def _transit_rows() -> list[str]:
    start = at("10T00:26:00")
    common = {"version": "6", "resource-type": "TransitGateway", "account-id": ACCOUNT, "tgw-id": "tgw-01", "log-status": "OK"}
    flow = {"srcaddr": "10.0.1.5", "dstaddr": "10.8.0.9", "bytes": "640", "start": str(start), "end": str(start + 59)}
    values = common | flow | {"packets-lost-no-route": "0", "type": "IPv4"}
    return [" ".join(values.get(field.name, "-") for field in TGW_FIELDS)] * 2


def _hive_object(tree: LogTree) -> str:
    """Another account and Region in the Hive layout with hours, and a field newer than this release."""
    account, region = "210987654321", "eu-west-1"
    folder = f"AWSLogs/aws-account-id={account}/aws-service=vpcflowlogs/aws-region={region}/year=2026/month=03/day=10/hour=01/"
    key = f"{folder}{account}_vpcflowlogs_{region}_fl-hive_20260310T0100Z_0000abcd.log.gz"
    start = at("10T00:56:00")
    lines = [f"{ACCOUNT} {start} {start + 59} 55 quick", f"{ACCOUNT} {start} {start + 59} - -"]
    tree.write(key, packed(["account-id start end bytes hop-speed", *lines]))
    return key
