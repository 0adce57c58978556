"""Airflow: flowlog's day, every day, and the days whose rows came late. For Airflow 3 with the provider of Apache Spark.

Copy this file to the DAG folder. It needs a Spark connection (`spark_default`, deploy mode `client`, so that the job's exit status comes
back) and these Variables; those marked * may be left out:

flowlog_home        folder on the workers that holds this repository's `jobs/`, `conf/` and `dist/flowlog_udfs.zip` (`make zip`)
flowlog_source      folder or s3://bucket[/prefix] that holds AWSLogs/
flowlog_warehouse   folder or s3://bucket/prefix of the tables
flowlog_inventory * snapshot of the network, as jobs/take_inventory.py writes it: a file on the workers
flowlog_policy *    policy.toml on the workers
flowlog_config *    flowlog.toml on the workers
flowlog_topic *     ARN of an SNS topic that is told the verdict
flowlog_fail_on *   severity; an open finding of it, or a graver one, makes the task fail (the report is there all the same)

A run by hand may give other values of the last two as its params.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from airflow import DAG
from airflow.exceptions import AirflowException, AirflowFailException
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.timetables.interval import CronDataIntervalTimetable

FIRST_DAY = datetime(2026, 3, 1, tzinfo=timezone.utc)
"""The first day of which there are flow logs: the runs catch up from here on."""
LATE_DAYS = 7
"""How many days back rows may come late; a day without any is passed over at the cost of a listing."""

NOT_RETRIED = (1, 2)
"""Wrong use, and a day that breaks a limit or has an open finding: the same tomorrow. 3 is storage or engine: worth another try."""


class FlowlogOperator(SparkSubmitOperator):
    """`jobs/run_day.py` with the options that have a value, retried only for what another try may mend."""

    def __init__(self, *, options: dict[str, str], **operator: Any) -> None:
        """Every option is a template; one that renders to nothing is left out."""
        super().__init__(
            application="{{ var.value.flowlog_home }}/jobs/run_day.py",
            py_files="{{ var.value.flowlog_home }}/dist/flowlog_udfs.zip",
            # Spark's own defaults file of the workers goes on to count: a properties file here would replace it.
            conf={"spark.sql.session.timeZone": "UTC", "spark.speculation": "false"},
            application_args=[f"--{name}={value}" for name, value in options.items()],
            **operator,
        )

    def execute(self, context: Any) -> None:
        """Submit the job; a status of `NOT_RETRIED` fails the task at once."""
        self.application_args = [argument for argument in self.application_args if not argument.endswith("=")]
        try:
            super().execute(context)
        except AirflowException as error:
            # The provider says spark-submit's exit status in its message and nowhere else.
            status = re.search(r"Error code is: (\d+)", str(error))
            if status and int(status[1]) in NOT_RETRIED:
                raise AirflowFailException(f"flowlog ended with status {status[1]}, which another try would not mend") from error
            raise


WHERE = {
    "source": "{{ var.value.flowlog_source }}",
    "warehouse": "{{ var.value.flowlog_warehouse }}",
    "inventory": "{{ var.value.get('flowlog_inventory', '') }}",
    "policy": "{{ var.value.get('flowlog_policy', '') }}",
    "config": "{{ var.value.get('flowlog_config', '') }}",
    "fail-on": "{{ params.fail_on or var.value.get('flowlog_fail_on', '') }}",
    "notify-topic": "{{ params.notify_topic or var.value.get('flowlog_topic', '') }}",
}
COMMON: dict[str, Any] = {
    "start_date": FIRST_DAY,
    "max_active_runs": 1,
    "default_args": {
        "retries": 3,
        "retry_delay": timedelta(minutes=10),
        "retry_exponential_backoff": True,
        "execution_timeout": timedelta(hours=6),
    },
    "params": {"fail_on": "", "notify_topic": ""},
    "tags": ["flowlog"],
}

# The data interval of a run begins within the day before it starts, so `ds` is yesterday in UTC. The logs of a day's last minutes are
# delivered in the first two hours of the next.
with DAG("flowlog_daily", schedule=CronDataIntervalTimetable("30 2 * * *", "UTC"), catchup=True, **COMMON):
    FlowlogOperator(task_id="run_day", name="flowlog {{ ds }}", options={**WHERE, "day": "{{ ds }}"})

# A report leans on the days before it, so its day comes last. Nothing to catch up: every run looks at the last days.
with DAG("flowlog_late_days", schedule=CronDataIntervalTimetable("30 8 * * *", "UTC"), catchup=False, **COMMON):
    FlowlogOperator(
        task_id="rerun_late_days",
        name="flowlog late days to {{ ds }}",
        options={
            **WHERE,
            "from": "{{ [macros.ds_add(ds, 1 - params.late_days), dag.start_date | ds] | max }}",
            "to": "{{ ds }}",
        },
        params={"late_days": LATE_DAYS},
    )
