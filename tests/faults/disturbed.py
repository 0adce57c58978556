"""A day that a fault meets on its way: its tables before and after, and what readers see of them."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import date
from functools import cache
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from flowlog_udfs import scan, selection
from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS, remaining
from flowlog_udfs.sample import SampleRequest, make_sample

sys.path.insert(0, str(Path(__file__).parents[1] / "spark"))  # stored, running: how other tests run jobs and read tables

from stored import DAY_FOLDERS, in_order

DAY = date(2026, 3, 10)
OF_A_RUN = {"runs": ("published_at",), "objects": ("etag", "last_modified")}
"""Columns that are equal only in runs of one moment, or of logs in one place."""
REPORTS = ("report.html", "report.json")
Seen = dict[str, str]
"""A digest by the name of a table (of its rows) or of a report (of its bytes)."""


@dataclass(frozen=True)
class Sources:
    """A small day of logs of all kinds of traffic, and what had arrived of it when it was run for the first time."""

    all: Path
    few: Path

    @classmethod
    def make(cls, folder: Path, *, days: int = 1) -> Sources:
        """About 7,500 records in 30 objects a day, of which each fourth is late."""
        request = SampleRequest(str(folder / "all"), DAY, days=days, connections=150 * days, objects=20, seed=7, streams=False)
        make_sample(request)
        shutil.copytree(folder / "all", folder / "few")
        for late in sorted((folder / "few" / "AWSLogs").rglob("*vpcflowlogs*.*"))[::4]:
            late.unlink()
        return cls(folder / "all", folder / "few")


def arguments(source: object, warehouse: object, *options: object, day: date = DAY, network: object = None) -> list[str]:
    """The arguments of a run of the whole day with the inventory and policy of the sample, which lie in `network` where not beside it."""
    known = ("--inventory", f"{network or source}/inventory.json", "--policy", f"{network or source}/policy.toml")
    return [*map(str, ("--source", source, "--warehouse", warehouse, "--day", day, *known, *options))]


def run(spark: SparkSession, given: Sequence[str]) -> tuple[int, list[str]]:
    """A whole day in this process, cut into tasks as `day_in_two_tasks.py` does: its exit status, and what it complains of."""
    cut = patch.object(selection, "SMALLEST_TASK_BYTES", 1), patch.object(scan, "SMALLEST_ROWS", 1)
    with cut[0], cut[1], redirect_stderr(StringIO()) as told, redirect_stdout(StringIO()):
        status = run_steps("test", STEPS, lambda: spark, given, remaining=remaining)
    return status, complaints(told.getvalue())


def complaints(told: str) -> list[str]:
    """The lines of flowlog's that tell of no progress."""
    return [line for line in told.splitlines() if line.startswith("flowlog: ") and not line.endswith("…") and "done in" not in line]


def tables(warehouse: Path) -> list[str]:
    """The names of all tables."""
    return sorted(path.name for path in warehouse.iterdir() if path.is_dir() and path.name not in ("reports", ".scratch"))


def tables_seen(warehouse: Path, day: date = DAY) -> Seen:
    """What a reader finds of a day in the tables, `runs` apart: it tells of every version there was."""
    return {name: rows_seen(warehouse / name, day) for name in tables(warehouse) if name != "runs"}


def seen(warehouse: Path, day: date = DAY) -> Seen:
    """What a reader finds of a day, in tables and reports."""
    found = tables_seen(warehouse, day) | {"runs": rows_seen(warehouse / "runs", day)}
    return found | {name: _digest((warehouse / "reports" / f"day={day}" / name).read_bytes()) for name in REPORTS}


def rows_seen(table: Path, day: date = DAY, version: int | None = None) -> str:
    """A digest of a table's rows of a day, of a Delta table as of a version."""
    if (table / "_delta_log").exists():
        opened = DeltaTable(table, version=version)
        files = opened.file_uris([("day", "=", str(day))])
        schema = pa.schema(opened.schema().to_arrow())
    else:
        files, schema = [str(path) for path in table.glob(f"day={day}/*.parquet")], None
    return _rows_of(str(table), tuple(sorted(files)), schema)


@cache
def _rows_of(table: str, files: tuple[str, ...], schema: pa.Schema | None) -> str:
    """Part files never change, so they are read once."""
    found = ds.dataset(list(files), schema=schema, partitioning=DAY_FOLDERS, partition_base_dir=table).to_table()
    unlike = [name for name in OF_A_RUN.get(Path(table).name, ()) if name in found.column_names]
    return _digest(repr(in_order(found.drop_columns(unlike))).encode())


def unlike(found: Seen, *wholes: Seen) -> dict[str, str]:
    """The tables and reports that are of none of these whole days."""
    names = set(found).union(*wholes)
    return {name: found.get(name, "missing") for name in names if found.get(name) not in [one.get(name) for one in wholes]}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
