"""The DAGs of conf/schedules/airflow in a real Airflow with its own database: parsed, and run with a spark-submit that takes notes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path

import pytest
from running import ROOT

from flowlog_udfs.cli import parse_days
from flowlog_udfs.day import STEPS

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="submits by spark-submit")]

DAGS = ROOT / "conf" / "schedules" / "airflow"
# Runs in Airflow's own Python. Delays between tries are taken out: what counts here is how often a task is tried.
DRIVER = """
import json, sys
from datetime import datetime, timedelta, timezone
from airflow.models import DagBag
from airflow.timetables.base import TimeRestriction


def first(dag):
    whole = TimeRestriction(earliest=dag.start_date, latest=None, catchup=True)
    return dag.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=whole)


bag = DagBag(sys.argv[1], include_examples=False)
if sys.argv[2] == "parse":
    told = {
        "errors": bag.import_errors,
        "dags": {
            dag.dag_id: {
                "schedule": dag.timetable.summary,
                "catchup": dag.catchup,
                "max_active_runs": dag.max_active_runs,
                "tasks": [task.task_id for task in dag.tasks],
                "retries": [task.retries for task in dag.tasks],
                "first_run": str(first(dag).logical_date),
                "first_starts": str(first(dag).run_after),
            }
            for dag in bag.dags.values()
        },
    }
else:
    dag = bag.dags[sys.argv[2]]
    for task in dag.tasks:
        task.retry_delay, task.retry_exponential_backoff = timedelta(0), False
    run = dag.test(logical_date=datetime.fromisoformat(sys.argv[3]), run_conf=json.loads(sys.argv[4]))
    told = str(run.state)
print("\\nTOLD " + json.dumps(told))
"""
SPARK_SUBMIT = """#!/bin/sh
echo TRY >> "$NOTES"
printf '%s\\n' "$@" >> "$NOTES"
exit "$STATUS"
"""
VARIABLES = {
    "FLOWLOG_HOME": "/opt/flowlog",
    "FLOWLOG_SOURCE": "s3://logs",
    "FLOWLOG_WAREHOUSE": "s3://tables/flowlog",
}

Airflow = Callable[..., object]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """`airflow(*arguments, **variables)` runs the driver in an Airflow with a fresh database and returns what it tells."""
    built = subprocess.run([ROOT / ".ci" / "airflow"], capture_output=True, text=True, timeout=900, check=False)
    if built.returncode == 75:
        pytest.skip(f"Airflow cannot be installed; is the package index within reach? {built.stderr.strip()[-300:]}")
    assert built.returncode == 0, built.stderr
    python, home = Path(built.stdout.strip()), tmp_path_factory.mktemp("airflow")
    (home / "driver.py").write_text(DRIVER)
    submitter = home / "bin" / "spark-submit"
    submitter.parent.mkdir()
    submitter.write_text(SPARK_SUBMIT)
    submitter.chmod(0o755)
    environment = {
        "HOME": str(home),
        "PATH": f"{submitter.parent}{os.pathsep}{os.environ['PATH']}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]", "extra": {"deploy-mode": "client"}}),
        "PYTHONDONTWRITEBYTECODE": "1",
    } | {f"AIRFLOW_VAR_{name}": value for name, value in VARIABLES.items()}

    def run(*command: object, **variables: str) -> str:
        done = subprocess.run(
            [str(python), *map(str, command)], env=environment | variables, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run("-m", "airflow", "db", "migrate")

    def drive(*arguments: object, **variables: str) -> object:
        told = [line for line in run(home / "driver.py", DAGS, *arguments, **variables).splitlines() if line.startswith("TOLD ")]
        return json.loads(told[-1].removeprefix("TOLD "))

    return drive


def tries(notes: Path) -> list[list[str]]:
    """The arguments of each spark-submit."""
    return [one.splitlines() for one in notes.read_text().split("TRY\n")[1:]]


def run_dag(
    airflow: Airflow,
    notes: Path,
    dag: str,
    status: int = 0,
    conf: Mapping[str, object] | None = None,
    variables: Mapping[str, str] | None = None,
) -> tuple[object, list[list[str]]]:
    """State of the DAG's run with logical date 10 March, 02:30, and its submits, each of which ends with `status`."""
    arguments = (dag, "2026-03-10T02:30:00+00:00", json.dumps(conf or {}))
    return airflow(*arguments, NOTES=str(notes), STATUS=str(status), **(variables or {})), tries(notes)


def test_the_dags_parse(airflow: Airflow):
    told = airflow("parse")
    assert told["errors"] == {}
    daily, late = told["dags"]["flowlog_daily"], told["dags"]["flowlog_late_days"]
    assert (daily["schedule"], daily["catchup"], daily["max_active_runs"]) == ("30 2 * * *", True, 1)
    assert (late["schedule"], late["catchup"], late["max_active_runs"]) == ("30 8 * * *", False, 1)
    assert (daily["tasks"], late["tasks"]) == (["run_day"], ["rerun_late_days"])
    assert daily["retries"] == late["retries"] == [3]
    # A day's run starts in the night after it, and carries its date.
    assert (daily["first_run"], daily["first_starts"]) == ("2026-03-01 02:30:00+00:00", "2026-03-02 02:30:00+00:00")


def test_a_run_submits_yesterday(airflow: Airflow, tmp_path: Path):
    state, (command,) = run_dag(airflow, tmp_path / "notes", "flowlog_daily")
    job = command.index("/opt/flowlog/jobs/run_day.py")
    assert state == "success"
    assert command[job + 1 :] == ["--source=s3://logs", "--warehouse=s3://tables/flowlog", "--day=2026-03-10"]
    options = dict(zip(command[:job:2], command[1:job:2], strict=False))
    assert (options["--py-files"], options["--deploy-mode"]) == ("/opt/flowlog/dist/flowlog_udfs.zip", "client")
    (asked,) = parse_days("test", command[job + 1 :], tuple(STEPS), backfills=True)
    assert (asked.selection.day, asked.fail_on) == (date(2026, 3, 10), None)


def test_variables_and_params_become_options(airflow: Airflow, tmp_path: Path):
    policy = tmp_path / "policy.toml"
    policy.write_text('[policy]\nname = "ours"\n')
    topic = "arn:aws:sns:us-east-1:123456789012:flowlog"
    variables = {"AIRFLOW_VAR_FLOWLOG_POLICY": str(policy), "AIRFLOW_VAR_FLOWLOG_FAIL_ON": "high", "AIRFLOW_VAR_FLOWLOG_TOPIC": topic}
    _, (command,) = run_dag(airflow, tmp_path / "notes", "flowlog_daily", conf={"fail_on": "critical"}, variables=variables)
    (asked,) = parse_days("test", command[command.index("/opt/flowlog/jobs/run_day.py") + 1 :], tuple(STEPS), backfills=True)
    assert (asked.fail_on, asked.notices.topic, asked.policy.name) == ("critical", topic, "ours")


def test_late_days_are_the_last_seven(airflow: Airflow, tmp_path: Path):
    _, (command,) = run_dag(airflow, tmp_path / "notes", "flowlog_late_days")
    asked = parse_days("test", command[command.index("/opt/flowlog/jobs/run_day.py") + 1 :], tuple(STEPS), backfills=True)
    assert [one.selection.day.day for one in asked] == [4, 5, 6, 7, 8, 9, 10]


@pytest.mark.parametrize(("status", "submits"), [(1, 1), (2, 1), (3, 4)])
def test_only_a_failure_of_storage_or_engine_is_tried_again(airflow: Airflow, tmp_path: Path, status: int, submits: int):
    state, made = run_dag(airflow, tmp_path / "notes", "flowlog_daily", status)
    assert (state, len(made)) == ("failed", submits)
