"""Operating flowlog: what a whole run logs and measures, days verified against their objects, and tables kept up between runs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable
from logtree import LogTree, at, packed, row
from prometheus_client.parser import text_string_to_metric_families
from pyspark.sql import SparkSession
from running import submit
from stored import arrow, counted, log_entries, rows

from flowlog_udfs import initiation
from flowlog_udfs.catalog import TABLES
from flowlog_udfs.cli import run_maintenance, run_steps
from flowlog_udfs.day import STEPS, remaining
from flowlog_udfs.ledger import sign_off
from flowlog_udfs.maintenance import EVIDENCE
from flowlog_udfs.subnets import SUBNET_BYTES_TABLE
from flowlog_udfs.tables import Warehouse

if TYPE_CHECKING:
    from tests.conftest import Days

NOW = datetime(2026, 4, 1, tzinfo=timezone.utc)


def run_days(spark: SparkSession, source: Path, warehouse: Path, day: date, *options: object) -> int:
    words = ["--source", source, "--warehouse", warehouse, "--day", day, *options]
    return run_steps("test", STEPS, lambda: spark, [str(word) for word in words], remaining=remaining)


def verify(spark: SparkSession, days: Days, *options: object) -> int:
    return run_days(spark, days.logs, days.tables, days.day, "--verify", *options)


def stored(warehouse: Path, last: date) -> dict[str, dict[date, tuple[int, int]]]:
    """The rows of all tables up to a day."""
    names = (entry.table.name for entry in TABLES)
    return {name: counted(warehouse, name, ds.field("day") <= last) for name in names if (warehouse / name).exists()}


@pytest.fixture
def mine(days: Days, tmp_path: Path) -> Days:
    """The small day before the last, in tables of one's own that hold all days."""
    return replace(days.copied(tmp_path), day=days.day - timedelta(days=1))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_in_logs_metrics_and_commits(spark, days: Days, mine: Days, tmp_path, capsys):
    metrics = tmp_path / "flowlog.prom"
    options = [*mine.options(), "--log-format", "json", "--metrics", metrics]
    assert run_days(spark, mine.logs, mine.tables, mine.day, *options) == 0
    assert stored(mine.tables, mine.day) == stored(days.tables, mine.day)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    done = {line["step"]: line for line in lines if line["event"] == "step_done"}
    assert list(done) == list(STEPS)
    (run_id,) = {line["run_id"] for line in lines}
    for name in ("records", "connections", "nat_mappings", "subnet_bytes", "findings"):
        assert log_entries(mine.tables, name, "commitInfo")[-1]["flowlog.run_id"] == run_id

    records, connections = (counted(mine.tables, name)[mine.day][0] for name in ("records", "connections"))
    assert done["ingest_records"]["counts"]["records"] == records
    assert sum(done["attribute_initiators"]["counts"]["connections"].values()) == connections
    found = {
        (sample.name, *(value for name, value in sample.labels.items() if name != "warehouse")): sample.value
        for family in text_string_to_metric_families(metrics.read_text())
        for sample in family.samples
    }
    assert found["flowlog_records",] == records
    assert found["flowlog_exit_status",] == 0
    document = json.loads((mine.tables / "reports" / f"day={mine.day}" / "report.json").read_text())
    assert {kind[1]: value for kind, value in found.items() if kind[0] == "flowlog_findings"} == document["verdict"]["open"]
    newest = pc.max(arrow(mine.tables, "records", ds.field("day") == mine.day).column("end_time")).as_py()
    lag = datetime.now(timezone.utc) - newest
    assert lag.total_seconds() - 600 < found["flowlog_record_lag_seconds",] <= lag.total_seconds()
    late = datetime.now(timezone.utc) - datetime(mine.day.year, mine.day.month, mine.day.day + 1, tzinfo=timezone.utc)
    assert late.total_seconds() - 600 < found["flowlog_report_lag_seconds",] <= late.total_seconds()
    assert {kind[1] for kind in found if kind[0] == "flowlog_step_seconds"} == set(STEPS)
    account = sum(value for kind, value in found.items() if kind[0] == "flowlog_subnet_account_bytes")
    assert account == found["flowlog_logged_bytes",]


def test_upkeep_changes_no_row_and_the_day_verifies(spark, mine: Days, export, tmp_path, capsys, monkeypatch):
    words = ["--warehouse", str(mine.tables)]
    assert export(lambda: spark, [*words, "--day", str(mine.day)]) == 0
    sign_off(Warehouse.open(str(mine.tables)), mine.day, reviewer="A. Auditor", decision="accepted", now=NOW)
    before, reports = stored(mine.tables, mine.day), contents(mine.tables / "reports")
    assert run_maintenance("test", words) == 0
    assert "merged" in capsys.readouterr().out
    assert (stored(mine.tables, mine.day), contents(mine.tables / "reports")) == (before, reports)
    assert run_maintenance("test", words) == 0
    assert capsys.readouterr().out == "nothing to do\n"

    files = contents(mine.tables)
    # Another machine cuts the work otherwise, and tallies are added up by each task.
    monkeypatch.setattr(initiation, "ROWS_PER_PARTITION", initiation.ROWS_PER_PARTITION // 100)
    metrics = tmp_path / "flowlog.prom"
    assert verify(spark, mine, *mine.options(), "--metrics", metrics) == 0
    told = capsys.readouterr().out
    added_up = int(told.partition("equal      tallies: ")[2].partition(" rows")[0].replace(",", ""))
    assert 0 < added_up < before["tallies"][mine.day][0]
    compared = ("objects", "records", "rejects", "coverage", "connections", "nat_mappings", "subnet_bytes", "reconciliation", "findings")
    compared += ("ocsf_network_activity",)
    for name in compared:
        count, _ = before[name].get(mine.day, (0, 0))
        assert f"equal      {name}: {count:,} rows, digest " in told
    # Each table is compared, or there is a line that says why it is not.
    results = {line[11:].partition(":")[0]: line[:10].strip() for line in told.splitlines()}
    assert {name: results[name] for name in before} == {name: "left out" if name in EVIDENCE else "equal" for name in before}
    assert f'flowlog_verified_tables{{result="equal",warehouse="{mine.tables}"}} {len(before) - len(EVIDENCE)}.0\n' in metrics.read_text()
    assert "equal      report: all sections that do not grow\n" in told
    assert "equal      reports: 1 version, as table runs has it, and the latest beside it\n" in told
    assert told.endswith(f"verified   {mine.day}: all that was compared is equal\n")
    # Nothing was replaced, and nothing is left.
    assert contents(mine.tables) == files
    assert not list(mine.tables.glob("_verify-*"))


@pytest.mark.parametrize("options", [(), ("--until", "ingest_records"), ("--verify",)])
def test_a_run_with_the_other_table_format_is_wrong_use(spark, mine: Days, capsys, options: tuple[str, ...]):
    before = contents(mine.tables)
    assert run_days(spark, mine.logs, mine.tables, mine.day, *mine.options(), "--table-format", "parquet", *options) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("its format is delta, not parquet; give --table-format delta")
    assert contents(mine.tables) == before


@pytest.mark.spark_only(why="submits by spark-submit")
def test_the_job_runs_by_spark_submit(mine: Days):
    before = stored(mine.tables, mine.day)
    done = submit("--source", mine.logs, "--warehouse", mine.tables, "--day", mine.day, job="jobs/maintain_tables.py")
    assert done.returncode == 0, done.stderr
    assert "merged" in done.stdout
    assert stored(mine.tables, mine.day) == before


def test_a_manipulated_row_is_found(spark, mine: Days, capsys):
    warehouse = Warehouse.open(str(mine.tables))
    keys = [key for day, key in warehouse.part_keys(SUBNET_BYTES_TABLE) if day == mine.day]
    held = pa.concat_tables(warehouse.rows(SUBNET_BYTES_TABLE, keys, SUBNET_BYTES_TABLE.schema.names))
    more = pc.add(held.column("bytes"), pa.array([1] + [0] * (held.num_rows - 1)))
    forged = held.set_column(held.column_names.index("bytes"), "bytes", more).cast(SUBNET_BYTES_TABLE.schema)
    origin = warehouse.origin(SUBNET_BYTES_TABLE, mine.day)
    parts = warehouse.write_rows(SUBNET_BYTES_TABLE, mine.day, forged)
    warehouse.replace_day(SUBNET_BYTES_TABLE, mine.day, parts, inputs=origin.inputs, now=NOW)
    # Without the policy of the day's report, what depends on it is not compared.
    assert verify(spark, mine, *mine.options(policy=False)) == 2
    told = capsys.readouterr()
    assert "warning    the day's report was made with another policy\n" in told.out
    assert "equal      connections: " in told.out
    for name in ("findings", "assessments", "external_peers"):
        assert f"left out   {name}: the report was made by another policy\n" in told.out
    assert "equal      reports: " in told.out
    count = f"{held.num_rows:,} rows stored, {held.num_rows:,} worked out; 1 only stored, 1 only worked out"
    assert f"different  subnet_bytes: {count}\n" in told.out
    assert f"flowlog: {mine.day}: different from what its objects give: subnet_bytes; nothing was replaced\n" in told.err


def test_a_page_that_was_altered_is_found(spark, tmp_path, capsys):
    """What people read, in every place: the copy of the latest, and what was signed."""
    logs, tables, day = tmp_path / "logs", tmp_path / "tables", date(2026, 3, 10)
    LogTree.in_folder(logs).text("10T0010", [row(at("10T00:01:00"))])
    assert run_days(spark, logs, tables, day) == 0
    pages = list((tables / "reports" / f"day={day}").rglob("report.html"))
    assert len(pages) == 2
    for page in pages:
        page.write_text(page.read_text().replace("<h1>", "<h1>Nothing to see: ", 1))
    (digest,) = {row["digest"] for row in rows(tables, "runs")}
    capsys.readouterr()
    assert run_days(spark, logs, tables, day, "--verify") == 2
    told = capsys.readouterr()
    assert f"different  reports: version {digest[:12]}: report.html is not the page of its report.json\n" in told.out
    assert "equal      report: all sections that do not grow\n" in told.out
    assert f"flowlog: {day}: different from what its objects give: reports; nothing was replaced\n" in told.err


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_a_day_that_was_taken_out_of_the_ledger_is_found(spark, tmp_path, capsys, table_format: str):
    logs, tables, day = tmp_path / "logs", tmp_path / "tables", date(2026, 3, 10)
    LogTree.in_folder(logs).text("10T0010", [row(at("10T00:01:00"), port=port) for port in range(1, 9)])
    options = ("--table-format", table_format)
    assert run_days(spark, logs, tables, day, *options) == 0
    assert run_days(spark, logs, tables, day, *options, "--verify") == 0
    for name in ("runs", "findings", "assessments"):
        if table_format == "delta":
            DeltaTable(tables / name).delete(f"day = '{day}'")
        else:
            shutil.rmtree(tables / name / f"day={day}")
    capsys.readouterr()
    assert run_days(spark, logs, tables, day, *options, "--verify") == 2
    told = capsys.readouterr().out
    where = "reports, runs, findings, assessments, external_peers" if table_format == "delta" else "reports, external_peers"
    assert f"different  runs: no row of the day, of which there is something in {where}\n" in told
    assert "left out   external_peers: no report says by which policy it was made\n" in told


def test_objects_that_changed_arrived_or_are_gone_are_named(spark, tmp_path, capsys):
    logs, tables, day = tmp_path / "logs", tmp_path / "tables", date(2026, 3, 10)
    tree = LogTree.in_folder(logs)
    kept, changed, gone = (tree.text(f"10T00{minute}", [row(at("10T00:01:00"), port=minute)], mark=minute) for minute in (10, 20, 30))
    assert run_days(spark, logs, tables, day) == 0
    # A copy of an object has another time, and the same content.
    (logs / kept).write_bytes((logs / kept).read_bytes())
    assert run_days(spark, logs, tables, day, "--verify") == 0
    arrived = tree.text("10T0040", [row(at("10T00:01:00"), port=40)], mark=40)
    capsys.readouterr()
    assert run_days(spark, logs, tables, day, "--verify") == 0
    assert f"arrived    {arrived}: arrived since, left out; run the day again to hold it\n" in capsys.readouterr().out
    (logs / changed).write_bytes(packed(["2 123456789012 eni-0f1 10.0.1.5 203.0.113.5 20 443 6 12 999 1773100860 1773100919 ACCEPT OK"]))
    (logs / gone).unlink()
    assert run_days(spark, logs, tables, day, "--verify") == 2
    told = capsys.readouterr().out
    assert f"changed    {changed}: has another content\n" in told
    assert f"gone       {gone}: no longer there\n" in told
    assert "different  records: 3 rows stored, 2 worked out; 2 only stored, 1 only worked out\n" in told


def test_a_day_that_was_never_run_cannot_be_verified(spark, days: Days, capsys):
    assert run_days(spark, days.logs, days.tables, days.day + timedelta(days=9), "--verify") == 2
    assert "table objects has no such day; there is nothing to verify" in capsys.readouterr().err
