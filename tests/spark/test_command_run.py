"""The command that starts Spark, as a user runs it: statuses, JSON, and what a person reads."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.spark_only(why="starts spark-submit")


def flowlog(*words: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("flowlog")), *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def own(days: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return days.copied(tmp_path_factory.mktemp("command"))


def test_the_demo_ends_with_a_report(tmp_path):
    done = flowlog("demo", "--connections", 300, "--history", 0, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    report = Path(told["report"])
    assert report == tmp_path / "flowlog-demo" / "warehouse" / "reports" / "day=2026-03-10" / "report.html"
    assert told["outcome"] == "findings" and told["open"] > 0 and told["version"] == 1
    assert "<!doctype html>" in report.read_text().lower()
    assert "report_compliance: done in" in done.stderr


def test_running_again_passes_days_over_and_tells_of_the_ledger(own):
    first = own.spans[1][0]
    last = first + timedelta(days=1)
    span = ["--from", first, "--to", last]
    done = flowlog("run", "--source", own.logs, "--warehouse", own.tables, *span, *own.options(), "--json")
    assert done.returncode == 0, done.stderr
    assert [f"{day}: run before from the same inputs, passed over" in done.stderr for day in (first, last)] == [True, True]
    told = json.loads(done.stdout)["days"]
    assert [day["day"] for day in told] == [str(first), str(last)] and all(day["digest"] for day in told)


def test_showing_a_report_and_making_it_anew(own):
    wanted = ["report", "--warehouse", own.tables, "--day", own.day]
    shown = flowlog(*wanted, "--show")
    assert shown.returncode == 0, shown.stderr
    assert "critical" in shown.stdout and str(own.tables / "reports") in shown.stdout
    before = json.loads(flowlog(*wanted, "--show", "--json").stdout)
    again = flowlog(*wanted, *own.options(), "--fail-on", "critical", "--json")
    assert again.returncode == 2
    assert "findings of severity critical or graver are open" in again.stderr
    assert json.loads(again.stdout) == before


def test_a_report_is_not_superseded_by_what_was_left_out(own):
    done = flowlog("report", "--warehouse", own.tables, "--day", own.day)
    assert done.returncode == 1
    assert "give --policy and --inventory, or --other-inputs to supersede it, or --show to look at it" in done.stderr


def test_a_day_without_logs_is_status_2(own, tmp_path):
    done = flowlog("run", "--source", own.logs, "--warehouse", tmp_path / "tables", "--day", "2026-04-01", "--json")
    assert done.returncode == 2
    assert "no flow log objects for 2026-04-01" in done.stderr
    assert json.loads(done.stdout) == {"status": 2, "days": [{"day": "2026-04-01", "digest": None, "report": None}]}
