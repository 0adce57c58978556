"""The days that benchmarks run on: sample logs of profile `bench`, made once and kept for the next run where a folder is named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from flowlog_udfs.sample import FORMATS, SampleRequest, make_sample

DAY = date(2026, 3, 10)
OBJECTS = 24
TINY_RECORDS = 24_000


@dataclass(frozen=True)
class SampleDay:
    """A day of sample logs; `records` as its truth tells, `columns` the fields of its format with `_` for `-`."""

    source: Path
    records: int
    size_bytes: int
    columns: tuple[str, ...]


def sample_day(logs: Path, records: int, form: str = "announcement", objects: int = OBJECTS) -> SampleDay:
    """A day of about so many records: `form` is `announcement` or `v5` (gzip text), or `parquet` (the fields of version 5)."""
    folder = logs / str(records) if form == "announcement" else logs / f"{records}-{form}"
    fields = "v5" if form == "parquet" else form
    if not (folder / "inventory.json").exists():
        kind = "parquet" if form == "parquet" else "text"
        request = SampleRequest(
            str(folder), DAY, records=records, objects=objects, profile="bench", fields=fields, file_format=kind, streams=False
        )
        made = make_sample(request)
        print(f"made {made.records:,} records in {made.objects} objects, {made.size_bytes / 1e6:,.0f} MB", flush=True)
    truth = pq.read_table(folder / "truth" / f"day={DAY}" / "objects.parquet", columns=["records"])
    size = sum(path.stat().st_size for path in (folder / "AWSLogs").rglob("*") if path.is_file())
    columns = tuple(name.replace("-", "_") for name in FORMATS[fields] or ())
    return SampleDay(folder, sum(truth.column("records").to_pylist()), size, columns)
