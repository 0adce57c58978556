"""Objects as they lie in a bucket, and what can go wrong with them: gzip of text, and Parquet of all kinds of columns."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import date, datetime, timezone
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzzing.mutations import BEGIN, FORMATS, good_lines, mutated

from flowlog_udfs.fields import BY_NAME
from flowlog_udfs.formats import LogFormat

Seed = np.random.Generator


def text_object(seed: Seed) -> bytes:
    """Text as gzip, plain or in members, with faults in its lines, in its bytes as stored, in both or in none."""
    log_format = FORMATS[int(seed.integers(len(FORMATS)))]
    lines = good_lines(seed, log_format, int(seed.choice([1, 30, 2_000])))
    whole = "".join(f"{line}\n" for line in (log_format.header(), *lines)).encode()
    content = mutated(seed, lines, log_format) if seed.random() < 0.3 else whole
    cuts = sorted(seed.integers(0, len(content), int(seed.choice([0, 0, 0, 3, 200]))).tolist())
    members = [gzip.compress(content[a:b], 1, mtime=0) for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    stored = content if seed.random() < 0.1 else b"".join(members)
    return damaged(seed, stored) if seed.random() < 0.7 else stored


def parquet_object(seed: Seed) -> bytes:
    """Parquet with columns as AWS writes them or as nobody does, damaged or not."""
    log_format = FORMATS[int(seed.integers(len(FORMATS)))]
    rows = int(seed.choice([0, 1, 50, 3_000]))
    columns = {name.replace("-", "_"): _column(seed, name, rows) for name in log_format.names}
    if seed.random() < 0.5:
        at = str(seed.choice(list(columns)))
        columns[at] = ODD_COLUMNS[int(seed.integers(len(ODD_COLUMNS)))](rows)
    sink = io.BytesIO()
    pq.write_table(
        pa.table(columns),
        sink,
        compression=str(seed.choice(["gzip", "snappy", "zstd", "none"])),
        use_dictionary=bool(seed.random() < 0.7),
        data_page_version=str(seed.choice(["1.0", "2.0"])),
        row_group_size=int(seed.choice([7, 500, 10_000])) if rows else None,
        write_statistics=bool(seed.random() < 0.5),
        write_page_checksum=bool(seed.random() < 0.2),
    )
    return damaged(seed, sink.getvalue()) if seed.random() < 0.8 else sink.getvalue()


def damaged(seed: Seed, stored: bytes) -> bytes:
    """One kind of damage: bits turned, a stretch gone, doubled or zeroed, cut short, more behind, or another beginning or end."""
    made = np.frombuffer(stored, np.uint8).copy()
    first, last = sorted(seed.integers(0, len(made) + 1, 2).tolist())
    match int(seed.integers(9)):
        case 0 | 1:
            # Often in the head or the tail: where gzip and Parquet say what follows.
            low, high = [(0, len(made)), (0, min(40, len(made))), (max(0, len(made) - 600), len(made))][int(seed.integers(3))]
            at = seed.integers(low, high, int(seed.choice([1, 2, 20])))
            made[at] ^= np.left_shift(1, seed.integers(0, 8, len(at))).astype(np.uint8)
        case 2:
            made = made[:last]
        case 3:
            made = np.concatenate((made[:first], made[last:]))
        case 4:
            made[first:last] = 0
        case 5:
            made = np.concatenate((made[:last], made[first:]))
        case 6:
            made = np.concatenate((made, seed.integers(0, 256, int(seed.integers(1, 2_000))).astype(np.uint8)))
        case 7:
            made[-8:-4] = seed.integers(0, 256, len(made[-8:-4]))
        case _:
            made[:4] = seed.integers(0, 256, len(made[:4]))
    return bytes(made) or b"\x00"


def _column(seed: Seed, name: str, rows: int) -> pa.Array:
    texts = [line.removesuffix("\n") for line in good_lines(seed, LogFormat((name,)), rows)]
    if name in BY_NAME and BY_NAME[name].type != "STRING":
        kind = pa.int32() if BY_NAME[name].type == "INT" else pa.int64()
        return pa.array([None if text == "-" else int(text) for text in texts], kind)
    return pa.array(texts, pa.string())


def _not_text(rows: int) -> pa.Array:
    """A column of text with bytes that are no UTF-8."""
    values = pa.array([b"\xff\xfe" if at % 2 else b"ok" for at in range(rows)], pa.binary())
    return pa.Array.from_buffers(pa.string(), rows, values.buffers())


ODD_COLUMNS: tuple[Callable[[int], pa.Array], ...] = (
    _not_text,
    lambda rows: pa.array([-1] * rows, pa.int64()),
    lambda rows: pa.array([2**64 - 1] * rows, pa.uint64()),
    lambda rows: pa.array([2**63 - 1] * rows, pa.int64()),
    lambda rows: pa.array([float("nan")] * rows),
    lambda rows: pa.array([1.5] * rows),
    lambda rows: pa.array([6.0] * rows),
    lambda rows: pa.array([True] * rows),
    lambda rows: pa.nulls(rows),
    lambda rows: pa.array([Decimal("1.00")] * rows, pa.decimal128(10, 2)),
    lambda rows: pa.array([datetime.fromtimestamp(BEGIN, timezone.utc)] * rows, pa.timestamp("us", "UTC")),
    lambda rows: pa.array([date(2026, 3, 10)] * rows),
    lambda rows: pa.array([b"\x00\xff"] * rows, pa.binary()),
    lambda rows: pa.array([[1, 2]] * rows, pa.list_(pa.int64())),
    lambda rows: pa.array([{"a": 1, "b": "x"}] * rows, pa.struct([("a", pa.int64()), ("b", pa.string())])),
    lambda rows: pa.array([[("a", 1)]] * rows, pa.map_(pa.string(), pa.int64())),
    lambda rows: pa.array(["x" * 100_000 if at == 0 else "" for at in range(rows)], pa.string()),
    lambda rows: pa.array(["a b\nc\x00\x1b[31m" for _ in range(rows)], pa.large_string()),
    lambda rows: pa.array([None] * rows, pa.string()),
)
