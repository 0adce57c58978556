"""The command that starts Spark, as a user runs it: statuses, JSON, and what a person reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DAY = "2026-03-10"


def flowlog(*words: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("flowlog")), *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.CompletedProcess[str]]]:
    """A small demo as its command makes it, outside of the project's folder."""
    folder = tmp_path_factory.mktemp("anywhere")
    yield folder / "flowlog-demo", flowlog("demo", "--connections", 500, "--history", 1, "--json", folder=folder)


def test_the_demo_ends_with_a_report(demo):
    folder, done = demo
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    report = Path(told["report"])
    assert report == folder / "warehouse" / "reports" / f"day={DAY}" / "report.html"
    assert told["outcome"] == "findings" and told["open"] > 0 and told["version"] == 1
    assert "<!doctype html>" in report.read_text().lower()
    assert "report_compliance: done in" in done.stderr


def test_running_again_passes_days_over_and_tells_of_the_ledger(demo):
    logs, warehouse = demo[0] / "logs", demo[0] / "warehouse"
    words = ["run", "--source", logs, "--warehouse", warehouse, "--from", "2026-03-09", "--to", DAY, "--inventory", logs / "inventory.json"]
    done = flowlog(*words, "--policy", logs / "policy.toml", "--json")
    assert done.returncode == 0, done.stderr
    assert "2026-03-10: run before from the same inputs, passed over" in done.stderr
    days = json.loads(done.stdout)["days"]
    assert [day["day"] for day in days] == ["2026-03-09", DAY] and all(day["digest"] for day in days)


def test_showing_and_making_a_report_anew(demo):
    warehouse, logs = demo[0] / "warehouse", demo[0] / "logs"
    shown = flowlog("report", "--warehouse", warehouse, "--day", DAY, "--show")
    assert shown.returncode == 0, shown.stderr
    assert "critical" in shown.stdout and str(warehouse / "reports") in shown.stdout
    before = json.loads(flowlog("report", "--warehouse", warehouse, "--day", DAY, "--show", "--json").stdout)
    options = ["--inventory", logs / "inventory.json", "--policy", logs / "policy.toml", "--fail-on", "critical", "--json"]
    again = flowlog("report", "--warehouse", warehouse, "--day", DAY, *options)
    assert again.returncode == 2
    assert "findings of severity critical or graver are open" in again.stderr
    assert json.loads(again.stdout) == before


def test_a_day_without_logs_is_status_2(demo, tmp_path):
    done = flowlog("run", "--source", demo[0] / "logs", "--warehouse", tmp_path / "tables", "--day", "2026-04-01", "--json")
    assert done.returncode == 2
    assert "no flow log objects for 2026-04-01" in done.stderr
    assert json.loads(done.stdout) == {"status": 2, "days": [{"day": "2026-04-01", "digest": None, "report": None}]}
