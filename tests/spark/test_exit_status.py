"""How a run ends: the status, one line that says why, and which tables it then replaced."""

import re
from pathlib import Path

import pytest
from logtree import DAY, V2, LogTree, at, packed, row
from running import RunDay
from stored import all_rows, part_files, rows, visible_files

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS
from flowlog_udfs.tables import Warehouse

GOOD = [row(at("10T00:01:00"), port=port) for port in range(1, 201)]


@pytest.fixture
def tree(tmp_path: Path) -> LogTree:
    """An empty source at `tmp_path / "logs"`."""
    return LogTree.in_folder(tmp_path / "logs")


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line on standard error beside those that tell of progress."""
    told = [line for line in capsys.readouterr().err.splitlines() if not re.search(r"…$|done in", line)]
    assert len(told) == 1, told
    return told[0]


REQUIRED = ["--source", "logs", "--warehouse", "tables", "--day", str(DAY)]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([*REQUIRED[:-1], "10.3.2026"], "argument --day: '10.3.2026' is not a day; write YYYY-MM-DD; see --help"),
        ([*REQUIRED[:-1], "2026-3-10"], "argument --day: '2026-3-10' is not a day; write YYYY-MM-DD; see --help"),
        (REQUIRED[2:], "the following arguments are required: --source; see --help"),
        ([*REQUIRED, "--fast"], "unrecognized arguments: --fast; see --help"),
        ([*REQUIRED, "--acc", "1"], "unrecognized arguments: --acc 1; see --help"),
        ([*REQUIRED, "--until", "dawn"], "argument --until: invalid choice: 'dawn'"),
        ([*REQUIRED, "--inventory", "none.json"], "argument --inventory: none.json is not a file; see --help"),
        ([*REQUIRED, "--config", "none.toml"], "none.toml: No such file or directory"),
        (["--source", "ftp://host/logs", *REQUIRED[2:]], "ftp://host/logs: unknown kind of storage ftp://; give a folder or s3://"),
        (REQUIRED, "logs: no such folder; give the folder that holds AWSLogs/"),
    ],
)
def test_wrong_use_is_status_1(spark, tmp_path, monkeypatch, capsys, arguments: list[str], message: str):
    monkeypatch.chdir(tmp_path)
    assert run_steps("test", STEPS, lambda: spark, arguments) == 1
    assert last_line(capsys).startswith(f"flowlog: {message}")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_configuration_key_is_status_1(run: RunDay, tree: LogTree, tmp_path, capsys):
    (tmp_path / "flowlog.toml").write_text("[ingest]\nlate_days = 3\n")
    assert run(tmp_path / "logs", tmp_path / "tables", "--config", str(tmp_path / "flowlog.toml")) == 1
    assert last_line(capsys).startswith(f"flowlog: {tmp_path}/flowlog.toml: unknown key of [ingest] 'late_days'; known are ")


def test_an_empty_listing_is_status_2_and_replaces_nothing(run: RunDay, tree: LogTree, tmp_path, capsys):
    key = tree.text("10T0005", GOOD)
    assert run(tmp_path / "logs", tmp_path / "tables") == 0
    before = all_rows(tmp_path / "tables")
    (tmp_path / "logs" / key).unlink()
    capsys.readouterr()
    assert run(tmp_path / "logs", tmp_path / "tables") == 2
    assert "no flow log objects for 2026-03-10; nothing was replaced." in last_line(capsys)
    assert all_rows(tmp_path / "tables") == before


@pytest.mark.parametrize("table_format", ["delta", "parquet"])
def test_too_many_rejects_are_status_2_and_keep_the_records(run: RunDay, tree: LogTree, tmp_path, capsys, table_format: str):
    tree.text("10T0005", GOOD)
    assert run(tmp_path / "logs", tmp_path / "tables", "--table-format", table_format) == 0
    before = all_rows(tmp_path / "tables")
    # 3 of 302 lines: 0.99 %, and one more: 1.3 %.
    tree.text("10T0010", [*GOOD[:99], "six", "seven", "eight"], mark=1)
    assert run(tmp_path / "logs", tmp_path / "tables", "--table-format", table_format) == 0
    tree.text("10T0010", [*GOOD[:99], "six", "seven", "eight", "nine"], mark=1)
    allowed = all_rows(tmp_path / "tables")
    assert allowed["records"] != before["records"]
    capsys.readouterr()
    assert run(tmp_path / "logs", tmp_path / "tables", "--table-format", table_format) == 2
    told = "flowlog: 4 of 303 lines were rejected, more than [ingest] max_rejected_share = 0.01"
    assert last_line(capsys) == f"{told}: only objects, rejects and coverage were replaced"
    after = all_rows(tmp_path / "tables")
    assert (after["records"], after["records_tgw"]) == (allowed["records"], allowed["records_tgw"])
    assert sum(row["rejects"] for row in after["objects"]) == len(after["rejects"]) == 4
    assert sum(row["rejects"] for row in after["coverage"]) == 4
    if table_format == "delta":
        # What was written of the refused records is gone again; only what a former commit named may lie there unseen.
        unseen = part_files(tmp_path / "tables") - visible_files(tmp_path / "tables")
        assert len([path for path in unseen if path.startswith("records/")]) == 1


def test_the_limit_is_configurable(run: RunDay, tree: LogTree, tmp_path):
    tree.text("10T0005", [*GOOD[:2], "six", "seven"])
    (tmp_path / "flowlog.toml").write_text("[ingest]\nmax_rejected_share = 0.5\n")
    assert run(tmp_path / "logs", tmp_path / "tables", "--config", str(tmp_path / "flowlog.toml")) == 0
    assert (len(rows(tmp_path / "tables", "records")), len(rows(tmp_path / "tables", "rejects"))) == (2, 2)


def test_too_many_broken_objects_are_status_2(run: RunDay, tree: LogTree, tmp_path, capsys):
    tree.text("10T0005", GOOD)
    broken = tree.put("10T0010", packed([V2, *GOOD])[:-20])
    assert run(tmp_path / "logs", tmp_path / "tables") == 2
    assert last_line(capsys).startswith(
        "flowlog: 1 of 2 objects failed, more than [ingest] max_failed_share = 0.01: only objects, rejects and"
    )
    [failed] = [row for row in rows(tmp_path / "tables", "objects") if row["status"] == "failed"]
    assert (failed["key"], failed["error"], failed["lines"], failed["records"]) == (broken, "damaged: the gzip stream is cut short", 0, 0)
    assert not (tmp_path / "tables" / "records" / "_delta_log").exists()


def test_one_broken_object_among_200_is_a_warning(run: RunDay, tree: LogTree, tmp_path, capsys):
    for number in range(199):
        tree.text("10T0005", GOOD[number : number + 1], mark=number)
    broken = tree.put("10T0010", b"", mark=200)
    assert run(tmp_path / "logs", tmp_path / "tables") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^objects +199 read, 1 failed", printed, re.M)
    assert f"warning    {broken}: empty: the object has no bytes" in printed.splitlines()
    assert len(rows(tmp_path / "tables", "records")) == 199
    assert {row["status"]: row["error"] for row in rows(tmp_path / "tables", "objects")} == {
        "read": None,
        "failed": "empty: the object has no bytes",
    }


def test_a_warehouse_that_cannot_be_written_is_status_3(run: RunDay, tree: LogTree, tmp_path, capsys):
    tree.text("10T0005", GOOD)
    (tmp_path / "file").touch()
    assert run(tmp_path / "logs", tmp_path / "file" / "tables") == 3
    assert re.search(r"^flowlog: .*file/tables/.*: Not a directory$", last_line(capsys))


def test_an_error_on_a_worker_is_status_3_and_names_the_error(run: RunDay, tree: LogTree, tmp_path, capsys, monkeypatch):
    tree.text("10T0005", GOOD)
    (tmp_path / "file").touch()
    # The warehouse becomes unwritable between the driver's look and the workers' work.
    monkeypatch.setattr(Warehouse, "prove_writable", lambda self: None)
    assert run(tmp_path / "logs", tmp_path / "file" / "tables") == 3
    assert re.search(r"^flowlog: the engine failed: .*Not a directory", last_line(capsys))


def test_a_fault_of_flowlog_itself_is_status_3(spark, tree: LogTree, tmp_path, capsys):
    def broken_step(*_: object) -> str:
        raise ZeroDivisionError("a fault")

    tree.text("10T0005", GOOD)
    arguments = ["--source", str(tmp_path / "logs"), "--warehouse", str(tmp_path / "tables"), "--day", str(DAY)]
    assert run_steps("test", {"broken": broken_step}, lambda: spark, arguments) == 3
    assert capsys.readouterr().err.splitlines()[-1] == "ZeroDivisionError: a fault"
