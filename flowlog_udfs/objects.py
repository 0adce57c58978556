"""One flow log object to record chunks and one row of table `objects`: fetched, hashed, inflated and parsed in a single pass.

Damage raises `ObjectError` from wherever it is met; the caller drops the object's chunks and keeps the row with its error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from isal import isal_zlib

from flowlog_udfs.blocks import Run, blocks, inflate, runs
from flowlog_udfs.columns import DAMAGE, total
from flowlog_udfs.errors import ObjectError
from flowlog_udfs.fields import NO_VALUE
from flowlog_udfs.formats import GZIP_MAGIC, PARQUET_MAGIC, LogFormat
from flowlog_udfs.hashed_stream import HashedStream
from flowlog_udfs.lines import ISO_TIME, KEPT_LINE_CHARACTERS, Reject, parse_lines
from flowlog_udfs.records import to_records
from flowlog_udfs.redelivery import row_hashes, sketch
from flowlog_udfs.storage import Storage
from flowlog_udfs.values import TEXT_TYPE, BadValues, checked_columns, parse_type, typed_columns

PARQUET_ROWS = 131_072
LARGEST_SUM = 2**63 - 1
"""What a BIGINT holds: an object whose bytes or packets add up to more is refused, for its sums would wrap around."""
NO_RECORDS = 1_000_000
"""An object with more lines than this that are no records, and fewer that are, is refused: it is no flow log, or was made to do harm."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

READ, FAILED = "read", "failed"

_REJECT_BYTES = 200
_UTC = pa.timestamp("us", "UTC")
LISTED_COLUMNS = pa.schema(
    [
        ("key", pa.string()),
        ("etag", pa.string()),
        ("size_bytes", pa.int64()),
        ("last_modified", _UTC),
        ("account_id", pa.string()),
        ("region", pa.string()),
        ("flow_log_id", pa.string()),
        ("published_at", _UTC),
        ("layout", pa.string()),
    ]
)
"""What the listing alone says of an object."""
OBJECT_COLUMNS = pa.schema(
    [
        *(LISTED_COLUMNS.field(name) for name in ("key", "etag")),
        ("sha256", pa.string()),
        *list(LISTED_COLUMNS)[2:],
        ("file_format", pa.string()),
        ("log_format", pa.string()),
        *((name, pa.int64()) for name in ("lines", "headers", "blank", "records", "rejects", "other_day")),
        ("status", pa.string()),
        ("error", pa.string()),
        ("bytes", pa.int64()),
        ("packets", pa.int64()),
        ("other_days", pa.map_(pa.date32(), pa.int64())),
        ("row_sketch", pa.list_(pa.int64())),
    ]
)
"""Columns of table `objects`: the fields of `ObjectRow`."""
REJECT_COLUMNS = pa.schema([("object_key", TEXT_TYPE), ("line_number", pa.int64()), ("line", pa.string()), ("reason", TEXT_TYPE)])
"""Columns of table `rejects`."""


@dataclass
class ObjectRow:
    """What table `objects` says of one object.

    Counts are lines; a Parquet row is a line. `sha256` is that of the object as stored (for gzip: compressed), `bytes` and `packets` the
    sums of these fields over its records, `other_days` splits `other_day` by date, and `row_sketch` is of the records
    (`redelivery.sketch`).
    """

    key: str
    etag: str
    size_bytes: int
    last_modified: datetime
    account_id: str
    region: str
    flow_log_id: str
    published_at: datetime
    layout: str
    sha256: str | None = None
    file_format: str | None = None
    log_format: str | None = None
    lines: int = 0
    headers: int = 0
    blank: int = 0
    records: int = 0
    rejects: int = 0
    other_day: int = 0
    status: str = READ
    error: str | None = None
    bytes: int = 0
    packets: int = 0
    other_days: Counter[date] = field(default_factory=Counter)
    row_sketch: list[int] = field(default_factory=list)

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> ObjectRow:
        """A row as Arrow gives it back."""
        return cls(**row | {"other_days": Counter(dict(row["other_days"]))})

    def to_dict(self) -> dict[str, Any]:
        """A row as Arrow takes it."""
        return vars(self) | {"other_days": sorted(self.other_days.items())}

    def fail(self, error: str) -> None:
        """Turn into the row of an object that could not be read whole: no counts, an error."""
        self.status, self.error = FAILED, error
        self.lines = self.headers = self.blank = self.records = self.rejects = self.other_day = self.bytes = self.packets = 0
        self.other_days = Counter()
        self.row_sketch = []

    @property
    def is_balanced(self) -> bool:
        """Whether every line is accounted for."""
        return self.lines == self.headers + self.blank + self.records + self.rejects + self.other_day


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an object: rows of `records` (or of `records_tgw`) and rejects."""

    rows: pa.Table | None
    is_tgw: bool
    rejects: list[Reject]

    @property
    def nbytes(self) -> int:
        """What it takes of memory, about."""
        return (self.rows.nbytes if self.rows is not None else 0) + sum(_REJECT_BYTES + len(reject.line) for reject in self.rejects)


@dataclass(frozen=True)
class ReadPlan:
    """What is known before an object is opened: the day, the formats by flow log id, that of CloudWatch exports, and the size limit."""

    day: date
    formats: dict[str, LogFormat]
    cloudwatch_format: LogFormat
    max_object_bytes: int


def read_object(storage: Storage, row: ObjectRow, plan: ReadPlan) -> Iterator[Chunk]:
    """Read one object, yielding its chunks and filling `row` on the way; raises `ObjectError` when it cannot be read whole."""
    if row.size_bytes == 0:
        raise ObjectError("empty: the object has no bytes")
    try:
        with storage.open(row.key, row.etag) as stream:
            hashed = HashedStream(stream)
            first = hashed.read()
            read = _read_parquet if first.startswith(PARQUET_MAGIC) else _read_text
            yield from read(hashed, first, row, plan)
    except (EOFError, isal_zlib.error, *DAMAGE) as error:  # type: ignore[misc] # isal types its error as an instance
        raise ObjectError(f"damaged: {error}") from error
    if hashed.size != row.size_bytes:
        raise ObjectError(f"damaged: {hashed.size} of {row.size_bytes} bytes arrived")
    if not (row.headers or row.records or row.other_day) and row.file_format == "text":
        raise ObjectError("not a flow log: no header line, and no line is a record in the flow log's format")
    row.sha256 = hashed.digest.hexdigest()


def _read_text(stream: HashedStream, first: bytes, row: ObjectRow, plan: ReadPlan) -> Iterator[Chunk]:
    row.file_format = "text"
    log_format, iso_time = plan.formats.get(row.flow_log_id), False
    pieces = stream.pieces(first)
    for block in blocks(inflate(pieces) if first.startswith(GZIP_MAGIC) else pieces, plan.max_object_bytes):
        is_first = row.lines == 0
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n")
        if is_first:
            block = block.removeprefix(BYTE_ORDER_MARK)
            if ISO_TIME.match(block):
                log_format, iso_time = plan.cloudwatch_format, True
        for run in runs(block, log_format, iso_time=iso_time, first_line=is_first):
            yield from _parse_run(run, row, plan)
            log_format, iso_time = run.log_format, run.iso_time
        row.log_format = str(log_format)


def _parse_run(run: Run, row: ObjectRow, plan: ReadPlan) -> Iterator[Chunk]:
    """Lines of one format, and the header lines among them."""
    first_number, done = row.lines + 1, 0
    for part in run.parts():
        if run.log_format is None:
            raise ObjectError("not a flow log: the object starts with no header line, and none of its flow log's objects has one")
        parsed = parse_lines(part, run.log_format, done, iso_time=run.iso_time)
        done += parsed.lines
        row.blank += parsed.blank
        for columns in parsed.columns:
            yield from _day_chunk(columns, run.log_format, row, plan)
        if parsed.rejects:
            row.rejects += len(parsed.rejects)
            numbers = (first_number + run.place(one.line_number) for one in parsed.rejects)
            yield Chunk(None, False, [one._replace(line_number=number) for one, number in zip(parsed.rejects, numbers, strict=True)])
        _refuse_without_records(row)
    row.headers += len(run.headers)
    row.lines += len(run.headers) + done
    _refuse_without_records(row)


def _refuse_without_records(row: ObjectRow) -> None:
    others, records = row.headers + row.blank + row.rejects, row.records + row.other_day
    if others > max(NO_RECORDS, records):
        raise ObjectError(f"not a flow log: {others} of its first {others + records} lines are not records")


def _day_chunk(columns: pa.Table, log_format: LogFormat, row: ObjectRow, plan: ReadPlan) -> Iterator[Chunk]:
    """The rows that belong to the day; the others are counted by their own."""
    object_day = row.published_at.date()
    rows, other_days = to_records(columns, log_format, day=plan.day, object_day=object_day, flow_log_id=row.flow_log_id, object_key=row.key)
    row.records += rows.num_rows
    row.other_day += other_days.total()
    row.other_days.update(other_days)
    if rows.num_rows:
        row.bytes += total(rows.column("bytes"))
        row.packets += total(rows.column("packets"))
        if max(row.bytes, row.packets) > LARGEST_SUM:
            raise ObjectError(f"impossible: its bytes or packets add up to more than {LARGEST_SUM}, and no interface moves so much")
        if not log_format.is_tgw:
            row.row_sketch = sketch(row_hashes(rows), row.row_sketch)
        yield Chunk(rows, log_format.is_tgw, [])


def _read_parquet(stream: HashedStream, first: bytes, row: ObjectRow, plan: ReadPlan) -> Iterator[Chunk]:
    row.file_format = "parquet"
    if row.size_bytes > plan.max_object_bytes:
        raise ObjectError(f"too large: the object passes {plan.max_object_bytes} bytes ([ingest] max_object_bytes)")
    content = pa.BufferReader(b"".join(stream.pieces(first)))
    schema = pq.read_schema(content)
    log_format = LogFormat.from_parquet(schema)
    if log_format is None:
        raise ObjectError("not a flow log: fewer than half of the Parquet columns are flow log fields")
    row.log_format = str(log_format)
    texts = [column.name for column in schema if pa.types.is_string(column.type)]
    content.seek(0)
    size = 0
    file = pq.ParquetFile(content, read_dictionary=texts, page_checksum_verification=True)
    for batch in file.iter_batches(PARQUET_ROWS, use_threads=False):
        batch.validate(full=True)  # Arrow reads text that is not UTF-8, and fails on it elsewhere
        size += batch.nbytes
        if size > plan.max_object_bytes:
            raise ObjectError(f"too large: the content passes {plan.max_object_bytes} bytes ([ingest] max_object_bytes)")
        logged = pa.table([_without_dashes(column) for column in batch.columns], names=log_format.names)
        try:
            columns = typed_columns(pa.table({name: logged.column(name).cast(parse_type(name)) for name in log_format.names}))
        except (BadValues, pa.ArrowInvalid):
            texts_only = logged.cast(pa.schema([(name, pa.string()) for name in log_format.names]))
            columns, bad_rows, reasons = checked_columns(texts_only)
            bad = texts_only.take(bad_rows).to_pylist()
            rejects = [
                Reject(row.lines + int(index) + 1, " ".join(value or NO_VALUE for value in values.values())[:KEPT_LINE_CHARACTERS], reason)
                for index, values, reason in zip(bad_rows, bad, reasons, strict=True)
            ]
            row.rejects += len(rejects)
            yield Chunk(None, False, rejects)
        row.lines += batch.num_rows
        yield from _day_chunk(columns, log_format, row, plan)


def _without_dashes(column: pa.Array) -> pa.Array:
    """Text columns of Parquet flow logs hold `-` where a field does not apply; numbers are null there."""
    if not pa.types.is_dictionary(column.type):
        return column
    absent = pc.is_in(column.dictionary, pa.array([NO_VALUE, ""]))
    if not pc.any(absent).as_py():
        return column
    indices = pc.if_else(absent.take(column.indices), None, column.indices)
    return pa.DictionaryArray.from_arrays(indices, column.dictionary)
