"""The Spark of clusters: the main job, and a core of the Spark tests, on the versions that EMR, Glue and Databricks have today."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from golden.loader import GOLDEN, Case
from running import ROOT, submit
from stored import rows

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="is about versions of Spark")]

VERSIONS = {"4.0.2": "emr-spark-8.0.0, and the line of Databricks 17.3", "4.1.1": "Glue 6.0, and the line of Databricks 18"}
CASES = ("connections/open-for-three-days", "nat/balancer-that-keeps-the-client", "observations/each-bucket")
RESULTS = ("objects", "records", "rejects", "connections", "nat_mappings", "subnet_bytes", "reconciliation", "coverage", "findings")
PER_RUN = {"objects": ("etag", "last_modified")}
"""What two copies of one tree do not have in common."""
CORE = ("tests/spark/test_run_day.py", "tests/spark/test_steps.py", "tests/spark/test_tables.py")
LONG = "not sample_day and not spark_submit_does_the_same and not parquet_tables_hold_the_same and not open_for_three_days"
"""The longest tests of the core, whose cases the main job runs below."""


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda version: f"spark-{version}")
def python(request: pytest.FixtureRequest) -> Path:
    """The Python of an environment with that Spark."""
    built = subprocess.run([ROOT / ".ci" / "spark_versions", request.param], capture_output=True, text=True, timeout=900, check=False)
    if built.returncode == 75:
        pytest.skip(f"Spark {request.param} cannot be installed; is the package index within reach? {built.stderr.strip()[-300:]}")
    assert built.returncode == 0, built.stderr
    told = subprocess.run([built.stdout.strip(), "-c", "import pyspark; print(pyspark.__version__)"], capture_output=True, text=True)
    assert told.stdout.strip() == request.param, told.stderr
    return Path(built.stdout.strip())


def submit_case(case: Case, folder: Path, *, python: Path = Path(sys.executable), steps: tuple[str, ...] = ()) -> dict[str, list[dict]]:
    """The main job on every day of a golden case, under the spark-submit beside `python`; the tables after the last."""
    logs = folder / "logs"
    for day in case.days:
        day.write_objects(logs)
    environment = {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    for day in case.days:
        done = submit("--source", logs, "--warehouse", folder / "tables", "--day", day.day, *steps, environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
    tables = {name: rows(folder / "tables", name) for name in RESULTS}
    for name, columns in PER_RUN.items():
        tables[name] = [{column: value for column, value in row.items() if column not in columns} for row in tables[name]]
    return tables


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[dict]]]:
    """The tables of each case on the Spark of this environment."""
    return {name: submit_case(Case(GOLDEN / name), tmp_path_factory.mktemp("here")) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_the_main_job_gives_the_same_tables(python: Path, here: dict[str, dict[str, list[dict]]], tmp_path: Path, name: str):
    there = submit_case(Case(GOLDEN / name), tmp_path, python=python)
    assert there["connections"]
    for table in RESULTS:
        assert there[table] == here[name][table], table


def test_the_core_of_the_spark_tests_passes(python: Path):
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_", "PYTEST_"))}
    command = [python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", "-k", LONG, *CORE]
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout.splitlines()[-1]
