"""Sail beside Spark: a sample backfill gives the same tables and reports, no JVM is needed, and the Spark tests pass there."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from running import ROOT
from stored import rows

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="compares Sail with Spark, and runs the rest on Sail")]

TABLES = {
    *("objects", "records", "records_tgw", "rejects", "coverage", "connections", "interfaces", "nat_legs", "tallies"),
    *("nat_mappings", "subnet_bytes", "reconciliation", "findings", "assessments", "external_peers", "runs"),
}
PER_RUN = {"runs": {"published_at"}}
"""What two runs of one day do not have in common."""
IN_TWO = ("--numprocesses", "2", "--dist", "loadfile")
"""As in the Makefile: a file of tests at a time to each of two processes."""


@pytest.fixture(scope="module")
def python() -> Path:
    """The Python of an environment with extra `sail`."""
    built = subprocess.run([ROOT / ".ci" / "sail"], capture_output=True, text=True, timeout=900, check=False)
    if built.returncode == 75:
        pytest.skip(f"Sail cannot be installed; is the package index within reach? {built.stderr.strip()[-300:]}")
    assert built.returncode == 0, built.stderr
    return Path(built.stdout.strip())


def on_sail(
    python: Path, *command: object, folder: Path = ROOT, timeout: int = 900, programs: str = ""
) -> subprocess.CompletedProcess[str]:
    """A command in that environment, as on a machine that has nothing else, no Java above all, but for `programs`."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_", "PYTEST_", "JAVA_"))}
    variables["PATH"] = f"{python.parent}{os.pathsep}{programs}" if programs else str(python.parent)
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, timeout=timeout, check=False)


def test_a_backfill_gives_the_same_tables_and_reports(python: Path, days: Any, tmp_path: Path):
    for first, last in days.spans:
        words = ["--source", days.logs, "--warehouse", tmp_path, "--from", first, "--to", last, *days.options(), "--engine", "sail"]
        done = on_sail(python, python, ROOT / "jobs" / "run_day.py", *words)
        assert done.returncode == 0, done.stderr
        # Nothing but the lines that a run on Spark prints too.
        assert [line for line in done.stderr.splitlines() if not line.startswith("flowlog: ")] == []
    assert {path.name for path in days.tables.iterdir() if not path.name.startswith(".")} - {"reports"} == TABLES
    for name in TABLES:
        here, there = (
            [{column: value for column, value in row.items() if column not in PER_RUN.get(name, ())} for row in rows(tables, name)]
            for tables in (days.tables, tmp_path)
        )
        assert there == here, name
        assert here or name == "records_tgw", name
    here, there = (
        {str(path.relative_to(tables)): path.read_bytes() for path in (tables / "reports").rglob("*") if path.is_file()}
        for tables in (days.tables, tmp_path)
    )
    assert there == here
    runs = sum((last - first).days + 1 for first, last in days.spans)
    assert len(here) > 2 * runs

    # What Spark made from the same inputs needs nothing from Sail.
    again = on_sail(python, python.with_name("flowlog"), "run", *words[:2], "--warehouse", days.tables, *words[4:], "--json")
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("run before from the same inputs, passed over") >= runs - 2
    assert json.loads(again.stdout)["days"][0]["version"] == 1


def test_the_demo_without_java(python: Path, tmp_path: Path):
    done = on_sail(python, python.with_name("flowlog"), "demo", "--engine", "sail", "--connections", 300, "--history", 0, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "flowlog-demo" / "warehouse" / "reports" / "day=2026-03-10" / "report.html").exists()
    wanted = ["--warehouse", tmp_path / "flowlog-demo" / "warehouse", "--day", "2026-03-10", "--engine", "sail"]
    for job in ("measure_confidence", "export_ocsf"):
        done = on_sail(python, python, ROOT / "jobs" / f"{job}.py", *wanted)
        assert done.returncode == 0, done.stderr


def test_the_spark_tests_pass(python: Path):
    words = ["-m", "pytest", "--engine", "sail", "--quiet", "-p", "no:cacheprovider", *IN_TWO, "tests/spark"]
    # The command that a test has told of a report is one of the system's.
    done = on_sail(python, python, *words, timeout=2400, programs=os.environ["PATH"])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    told = done.stdout.splitlines()[-1]
    assert int(re.search(r"(\d+) passed", told)[1]) > 150
    assert "skipped" not in told
