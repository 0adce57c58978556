"""Several runs and one warehouse, without Spark: what a step reads stays as it was, and nothing that another run entered is lost."""

from __future__ import annotations

from datetime import date, datetime, timezone
from pathlib import Path

import pytest

from flowlog_udfs import ledger
from flowlog_udfs.agreement import agreed_inputs
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.errors import LostRaceError, StorageError
from flowlog_udfs.ingest import OBJECTS, RECORDS_TABLE
from flowlog_udfs.run_log import RunLog, _reason
from flowlog_udfs.tables import Table, Warehouse
from flowlog_udfs.translation import NAT_MAPPINGS_TABLE

DAY, NOW = date(2026, 3, 10), datetime(2026, 3, 12, tzinfo=timezone.utc)
RUN = dict.fromkeys(name for name in ledger.RUNS.names if name not in ("version", "published_at", "superseded_by"))


def replace(warehouse: Warehouse, table: Table, inputs: str, day: date = DAY) -> None:
    parts = Warehouse.open(warehouse.storage.url("")).write_rows(table, day, table.schema.empty_table())
    warehouse.replace_day(table, day, parts, inputs=inputs, now=NOW)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse.open(str(tmp_path))


def test_tables_of_different_runs_do_not_agree(warehouse: Warehouse):
    tables = (OBJECTS, RECORDS_TABLE)
    assert agreed_inputs(warehouse, DAY, tables) == ""
    replace(warehouse, OBJECTS, "one")
    replace(warehouse, RECORDS_TABLE, "one/more")
    assert agreed_inputs(warehouse, DAY, tables) == "one/more"
    replace(warehouse, OBJECTS, "another", date(2026, 3, 11))
    assert agreed_inputs(warehouse, DAY, tables) == "one/more"
    replace(warehouse, OBJECTS, "one-and-a-half")
    with pytest.raises(StorageError, match=r"^2026-03-10: tables objects and records are of different runs.*; run the day again$"):
        agreed_inputs(warehouse, DAY, tables)


def test_connections_that_lost_their_marks_do_not_agree(warehouse: Warehouse):
    tables = (RECORDS_TABLE, CONNECTIONS_TABLE, NAT_MAPPINGS_TABLE)
    for table, inputs in zip(tables, ("one", "one/more/marked", "one/more/marked"), strict=True):
        replace(warehouse, table, inputs)
    assert agreed_inputs(warehouse, DAY, tables) == "one/more/marked"
    replace(warehouse, CONNECTIONS_TABLE, "one/more")
    assert agreed_inputs(warehouse, DAY, (RECORDS_TABLE, CONNECTIONS_TABLE)) == "one/more"
    with pytest.raises(StorageError, match=r"^2026-03-10: tables connections and nat_mappings are of different runs"):
        agreed_inputs(warehouse, DAY, tables)


def test_what_a_step_reads_stays_as_it_was(warehouse: Warehouse):
    replace(warehouse, RECORDS_TABLE, "one")
    read = warehouse.pinned()
    before = list(read.part_keys(RECORDS_TABLE))
    replace(warehouse, RECORDS_TABLE, "two")
    assert read.origin(RECORDS_TABLE, DAY).inputs == "one"
    assert list(read.part_keys(RECORDS_TABLE)) == before
    assert warehouse.origin(RECORDS_TABLE, DAY).inputs == "two"
    with pytest.raises(LostRaceError):
        replace(read, RECORDS_TABLE, "three")
    assert warehouse.origin(RECORDS_TABLE, DAY).inputs == "two"


@pytest.mark.parametrize("first", [(), ("zero",)], ids=["no table yet", "a version before"])
def test_versions_that_two_runs_enter_at_once_both_stand(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, first: tuple[str, ...]):
    for digest in first:
        ledger.enter(warehouse, DAY, RUN | {"digest": digest}, NOW)
    read = ledger.versions
    others = iter(["other"])

    def overtaken(opened: Warehouse, day: date) -> list[dict]:
        found = read(opened, day)
        for digest in others:
            ledger.enter(warehouse, DAY, RUN | {"digest": digest}, NOW)
        return found

    monkeypatch.setattr(ledger, "versions", overtaken)
    assert ledger.enter(warehouse, DAY, RUN | {"digest": "own"}, NOW)
    digests = [*first, "other", "own"]
    found = read(warehouse, DAY)
    assert [(row["digest"], row["version"]) for row in found] == [(digest, number) for number, digest in enumerate(digests, 1)]
    assert [row["superseded_by"] for row in found] == [*digests[1:], None]


def test_a_day_of_long_ago_is_found_among_many_commits(warehouse: Warehouse):
    replace(warehouse, OBJECTS, "old")
    for number in range(40):
        replace(warehouse, OBJECTS, f"of {number}", date(2026, 4, 1 + number % 20))
    assert warehouse.origin(OBJECTS, DAY).inputs == "old"
    assert warehouse.origin(OBJECTS, date(2026, 4, 20)).inputs == "of 39"
    assert warehouse.origin(OBJECTS, date(2026, 5, 1)) is None


def test_what_ends_a_run_is_told_in_one_line(capsys: pytest.CaptureFixture[str]):
    assert RunLog().failed(OSError(28, "No space left on device")) == 3
    assert capsys.readouterr().err == "flowlog: the storage failed: [Errno 28] No space left on device\n"
    lost = "Task 0 in stage 1.0 failed 1 times: org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)."
    stack = f"An error occurred while calling o1.f.\n: a.b.Exception: thrown\n\tat a.b\nCaused by: {lost}\n\tat c.d\nCaused by: e.f: Broken"
    assert _reason(stack) == lost
    assert _reason(f"Job aborted:\nTraceback:\nOSError: [Errno 28] full\n\tat a\nCaused by: {lost}") == "OSError: [Errno 28] full"
