"""A run owns its day: running again changes nothing, other days stay, a run that dies leaves the old day, late rows find their day."""

import os
import signal
import subprocess
import sys
import threading
from datetime import date, datetime, timezone

import pytest
from deltalake.transaction import create_table_with_add_actions
from logtree import DAY, NEXT_DAY, LogTree, at, row
from running import ROOT, NastyRun, RunDay
from stored import TABLES, all_rows, log_entries, part_files, rows, visible_files

from flowlog_udfs import delta
from flowlog_udfs.config import Config
from flowlog_udfs.errors import StorageError
from flowlog_udfs.ingest import RECORDS_TABLE, ingest_day
from flowlog_udfs.records import RECORDS
from flowlog_udfs.selection import Selection
from flowlog_udfs.tables import Table, Warehouse

FORMATS = pytest.mark.parametrize("table_format", ["delta", "parquet"])
NOW = datetime(2026, 3, 12, tzinfo=timezone.utc)


@FORMATS
def test_a_second_run_gives_identical_rows(nasty: NastyRun, run: RunDay, tmp_path, table_format: str):
    assert run(nasty.source, tmp_path, "--table-format", table_format) == 0
    first = all_rows(tmp_path)
    assert run(nasty.source, tmp_path, "--table-format", table_format) == 0
    assert all_rows(tmp_path) == first == all_rows(nasty.warehouse)


def test_a_run_leaves_nothing_behind(nasty: NastyRun):
    assert part_files(nasty.warehouse) == visible_files(nasty.warehouse)


@FORMATS
def test_a_run_of_another_day_leaves_this_one_alone(nasty: NastyRun, run: RunDay, tmp_path, table_format: str):
    assert run(nasty.source, tmp_path, "--table-format", table_format) == 0
    first = all_rows(tmp_path)
    assert run(nasty.source, tmp_path, "--table-format", table_format, day=NEXT_DAY) == 0
    both = all_rows(tmp_path)
    assert {name: [row for row in found if row["day"] == DAY] for name, found in both.items()} == first
    # Of the next day there is one record, in an object that also holds two of this day.
    assert [row["start"] for row in both["records"] if row["day"] == NEXT_DAY] == [at("11T00:00:00")]


@FORMATS
def test_a_run_that_fails_half_way_leaves_the_old_day_visible(run: RunDay, tmp_path, monkeypatch, capsys, table_format: str):
    tree = LogTree.in_folder(tmp_path / "logs")
    tree.text("10T0005", [row(at("10T00:01:00"))])
    assert run(tmp_path / "logs", tmp_path / "tables", "--table-format", table_format) == 0
    before = rows(tmp_path / "tables", "records")
    tree.text("10T0010", [row(at("10T00:06:00"))])
    whole = Warehouse.replace_day

    def fail_at_records(self, table, *arguments, **options):
        if table is RECORDS_TABLE:
            raise StorageError("the disk is full")
        return whole(self, table, *arguments, **options)

    monkeypatch.setattr(Warehouse, "replace_day", fail_at_records)
    assert run(tmp_path / "logs", tmp_path / "tables", "--table-format", table_format) == 3
    assert capsys.readouterr().err.splitlines()[-1] == "flowlog: the disk is full"
    assert rows(tmp_path / "tables", "records") == before
    monkeypatch.setattr(Warehouse, "replace_day", whole)
    assert run(tmp_path / "logs", tmp_path / "tables", "--table-format", table_format) == 0
    assert [row["start"] for row in rows(tmp_path / "tables", "records")] == [at("10T00:01:00"), at("10T00:06:00")]


KILLED = """
import os, signal, sys
from pyspark.sql import SparkSession
from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS
from flowlog_udfs.tables import Warehouse

whole = Warehouse.replace_day

def die_at_records(self, table, *arguments, **options):
    if table.name == "records":
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, table, *arguments, **options)

Warehouse.replace_day = die_at_records
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
sys.exit(run_steps("killed", STEPS, builder.getOrCreate))
"""


@pytest.mark.spark_only(why="kills a driver with a Spark of its own")
def test_a_run_that_is_killed_leaves_the_old_day_visible(run: RunDay, tmp_path):
    tree = LogTree.in_folder(tmp_path / "logs")
    tree.text("10T0005", [row(at("10T00:01:00"))])
    assert run(tmp_path / "logs", tmp_path / "tables") == 0
    before, files = all_rows(tmp_path / "tables"), part_files(tmp_path / "tables")
    tree.text("10T0010", [row(at("10T00:06:00"))])
    arguments = ["--source", tmp_path / "logs", "--warehouse", tmp_path / "tables", "--day", DAY]
    environment = {name: value for name, value in os.environ.items() if name != "PYSPARK_GATEWAY_PORT"}
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    # The part files were written, and nobody sees them.
    assert any(path.startswith("records/") for path in part_files(tmp_path / "tables") - files)
    for name in ("records", "records_tgw", "rejects"):
        assert rows(tmp_path / "tables", name) == before[name]
    assert run(tmp_path / "logs", tmp_path / "tables") == 0
    assert len(rows(tmp_path / "tables", "records")) == 2


def test_two_first_runs_at_once_do_not_double_the_day(spark, nasty: NastyRun, tmp_path, monkeypatch):
    """Both find no table and both create it; one is refused, looks again and replaces the day."""
    together = threading.Barrier(2, timeout=120)
    refused = []
    waited = threading.local()

    def create_together(*arguments, **options):
        if not getattr(waited, "once", False):
            waited.once = True
            together.wait()
        try:
            create_table_with_add_actions(*arguments, **options)
        except Exception as error:
            refused.append(error)
            raise

    monkeypatch.setattr(delta, "create_table_with_add_actions", create_together)
    ended = []

    def one_run() -> None:
        ended.append(ingest_day(spark, Selection(str(nasty.source), DAY), Warehouse.open(str(tmp_path)), Config(), None, NOW))

    runs = [threading.Thread(target=one_run) for _ in range(2)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert len(ended) == 2
    assert len(refused) >= 1
    assert all_rows(tmp_path) == all_rows(nasty.warehouse)


def test_runs_of_several_days_at_once_all_land(tmp_path):
    """A commit that lost the race is made again from the new snapshot, whatever day won."""
    days = [date(2026, 3, number) for number in range(1, 9)]
    warehouse = Warehouse.open(str(tmp_path))
    failures = []

    def one_day(day: date) -> None:
        try:
            parts = warehouse.write_rows(RECORDS_TABLE, day, RECORDS_TABLE.schema.empty_table())
            warehouse.replace_day(RECORDS_TABLE, day, parts, inputs=f"of {day}", now=NOW)
        except Exception as error:
            failures.append(error)

    runs = [threading.Thread(target=one_day, args=(day,)) for day in days]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert failures == []
    assert sorted(day for day, _ in warehouse.part_keys(RECORDS_TABLE)) == days


def test_late_rows_are_named_by_the_next_day_and_held_by_a_run_again(nasty: NastyRun, run: RunDay, tmp_path, capsys):
    """Rule 18: a row of 23:50 under the next day's T0305Z."""
    late = {"start": at("10T23:50:00"), "bytes": 7}

    def holds_late() -> bool:
        return any(late.items() <= row.items() for row in rows(tmp_path, "records"))

    assert run(nasty.source, tmp_path) == 0
    assert not holds_late()
    capsys.readouterr()
    assert run(nasty.source, tmp_path, day=NEXT_DAY) == 0
    told = "late       rows of 2026-03-10: 1, filed later than its own run looks; run that day again to hold them"
    assert told in capsys.readouterr().out.splitlines()
    assert not holds_late()
    assert run(nasty.source, tmp_path) == 0
    assert holds_late()
    assert "late" not in capsys.readouterr().out
    # Nothing of the next day was lost on the way, and a third run changes nothing.
    again = all_rows(tmp_path)
    assert run(nasty.source, tmp_path) == 0
    assert all_rows(tmp_path) == again


def test_late_hours_say_how_far_the_run_looks(nasty: NastyRun, run: RunDay, tmp_path):
    (tmp_path / "flowlog.toml").write_text("[ingest]\nlate_hours = 4\n")
    assert run(nasty.source, tmp_path / "tables", "--config", str(tmp_path / "flowlog.toml")) == 0
    assert 7 in [row["bytes"] for row in rows(tmp_path / "tables", "records")]


def test_every_commit_carries_the_digest_of_its_inputs(nasty: NastyRun, run: RunDay, tmp_path):
    tree = LogTree.in_folder(tmp_path / "logs")
    tree.text("10T0005", [row(at("10T00:01:00"))])
    warehouse = tmp_path / "tables"
    digests = []
    for change in (None, None, row(at("10T00:06:00"))):
        if change:
            tree.text("10T0010", [change])
        assert run(tmp_path / "logs", warehouse) == 0
        opened = Warehouse.open(str(warehouse))
        digests.append({opened.origin(Table(name, RECORDS), DAY) for name in TABLES})
    # One digest over all tables of a run; the same for the same inputs, another for others.
    assert [len(found) for found in digests] == [1, 1, 1]
    assert digests[0] == digests[1] != digests[2]
    assert None not in digests[0]
    assert len(log_entries(warehouse, "records", "commitInfo")) == 3
