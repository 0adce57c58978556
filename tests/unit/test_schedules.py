"""The files of conf/schedules against the schemas of those who read them, and their command lines against the job's own arguments."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from string import Template
from typing import Any

import botocore.session
import kubernetes_validate
import pytest
import yaml
from botocore.validate import ParamValidator
from moto.iam.policy_validation import IAMPolicyDocumentValidator

from flowlog_udfs.cli import DayArguments, parse_days
from flowlog_udfs.day import STEPS
from flowlog_udfs.ec2 import CALLS

SCHEDULES = Path(__file__).parents[2] / "conf" / "schedules"
IAM = SCHEDULES.parent / "iam"
KUBERNETES = "1.33"
FILLED = {
    "ACCOUNT_ID": "123456789012",
    "REGION": "us-east-1",
    "LOG_BUCKET": "logs",
    "LOG_PREFIX": "",
    "TABLE_BUCKET": "tables",
    "CODE_BUCKET": "code",
    "TOPIC": "flowlog",
    "QUEUE": "keys",
    "LOG_KEY_ARN": "arn:aws:kms:us-east-1:123456789012:key/1",
    "TABLE_KEY_ARN": "arn:aws:kms:us-east-1:123456789012:key/2",
    "JOB_ROLE": "flowlog-job",
    "APPLICATION_ID": "00f1example",
    "DAY": "2026-03-10",
    "FIRST_DAY": "2026-03-04",
}
SPARK_SUBMIT = '#!/bin/sh\nprintf "%s\\n" "$@" > "$NOTES"\n'


def filled(name: str, folder: Path = SCHEDULES / "emr-serverless") -> Any:
    """A template as `envsubst` fills it; raises `KeyError` for a name that no page mentions."""
    return json.loads(Template((folder / name).read_text()).substitute(FILLED))


def asked(words: Sequence[str]) -> list[DayArguments]:
    """What the job understands by the words of a submit that come after it."""
    return parse_days("test", words, tuple(STEPS), backfills=True)


def days_of(asked_for: Sequence[DayArguments]) -> list[date]:
    return [one.selection.day for one in asked_for]


def submitted(command: Sequence[str], folder: Path, **variables: str) -> list[str]:
    """The words after the job that a command gives to a `spark-submit` that takes notes."""
    notes, submitter = folder / "notes", folder / "bin" / "spark-submit"
    submitter.parent.mkdir()
    submitter.write_text(SPARK_SUBMIT)
    submitter.chmod(0o755)
    logs = folder / "logs and more"
    logs.mkdir()
    where = {"FLOWLOG_SOURCE": str(logs), "FLOWLOG_WAREHOUSE": "/tables", "NOTES": str(notes)}
    environment = {"PATH": f"{submitter.parent}{os.pathsep}{os.environ['PATH']}"} | where | variables
    subprocess.run(command, env=environment, check=True, timeout=30)
    words = notes.read_text().splitlines()
    return words[words.index("jobs/run_day.py") + 1 :]


def last_week() -> list[date]:
    today = datetime.now(timezone.utc).date()
    return [today - timedelta(days=number) for number in range(7, 0, -1)]


@pytest.mark.parametrize(("name", "operation"), [("create-application.json", "CreateApplication"), ("start-job-run.json", "StartJobRun")])
def test_emr_serverless_takes_the_request(name: str, operation: str) -> None:
    shape = botocore.session.get_session().get_service_model("emr-serverless").operation_model(operation).input_shape
    # The token that makes a request idempotent is added by AWS's clients.
    assert ParamValidator().validate({"clientToken": "one", **filled(name)}, shape).generate_report() == ""


def test_emr_serverless_runs_the_day() -> None:
    driver = filled("start-job-run.json")["jobDriver"]["sparkSubmit"]
    days = asked(driver["entryPointArguments"])
    one = days[-1]
    assert (one.selection.source, one.fail_on) == ("s3://logs", "critical")
    assert days_of(days) == [date(2026, 3, day) for day in range(4, 11)]
    assert one.warehouse.storage.url(one.warehouse.prefix) == "s3://tables/flowlog"
    words = shlex.split(driver["sparkSubmitParameters"])
    assert set(words[::2]) == {"--py-files", "--archives", "--conf"}
    assert all("=" in value for flag, value in zip(words[::2], words[1::2], strict=True) if flag == "--conf")


POLICIES = [SCHEDULES / "emr-serverless" / "job-policy.json", *sorted(IAM.iterdir())]


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_policies_are_policies(path: Path) -> None:
    policy = filled(path.name, path.parent)
    IAMPolicyDocumentValidator(json.dumps(policy)).validate()
    actions = [action for one in policy["Statement"] for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])]
    assert [action for action in actions if "*" in action] == []
    # Only EC2's Describe actions know no narrower resource.
    assert path.stem == "take-inventory" or all(one["Resource"] != "*" for one in policy["Statement"])


def test_a_policy_that_reads_lets_nothing_be_written() -> None:
    for path in IAM.glob("read-*.json"):
        assert {one["Action"] for one in filled(path.name, IAM)["Statement"]} <= {"s3:GetObject", "s3:ListBucket"}


def test_the_inventory_policy_allows_what_is_asked_and_no_more() -> None:
    (statement,) = filled("take-inventory.json", IAM)["Statement"]
    assert sorted(statement["Action"]) == sorted("ec2:" + "".join(word.capitalize() for word in call.split("_")) for call in CALLS.values())


def test_the_page_of_operations_names_every_policy() -> None:
    page = (SCHEDULES.parents[1] / "docs" / "operations.md").read_text()
    assert [path.name for path in IAM.iterdir() if f"`{path.name}`" not in page] == []


def test_the_page_of_emr_serverless_names_every_variable() -> None:
    page = (SCHEDULES / "emr-serverless" / "README.md").read_text()
    used = {name for one in (SCHEDULES / "emr-serverless").glob("*.json") for name in re.findall(r"\$\{(\w+)\}", one.read_text())}
    assert [name for name in sorted(used) if f"{name}=" not in page] == []


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SCHEDULES / "kubernetes" / "cronjob.yaml").read_text()))


@pytest.mark.parametrize("document", documents(), ids=lambda one: one["kind"])
def test_kubernetes_takes_the_document(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_the_pod_runs_the_last_days_or_the_day_given(tmp_path: Path) -> None:
    cron = next(one for one in documents() if one["kind"] == "CronJob")
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    days = asked(submitted(container["args"], tmp_path))
    assert (days[0].selection.source, days[0].fail_on) == (str(tmp_path / "logs and more"), "critical")
    assert days_of(days) == last_week()
    (tmp_path / "again").mkdir()
    assert days_of(asked(submitted(container["args"], tmp_path / "again", FLOWLOG_DAY="2026-03-10"))) == [date(2026, 3, 10)]
    policy = cron["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"][0]
    assert (policy["onExitCodes"]["containerName"], policy["onExitCodes"]["values"]) == (container["name"], [1, 2])


def test_the_image_copies_what_is_there() -> None:
    dockerfile = (SCHEDULES / "kubernetes" / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.M) for name in line.split()]
    assert {"flowlog_udfs", "jobs", "conf"} <= set(copied)
    assert [name for name in copied if not (SCHEDULES.parents[1] / name).exists()] == []


def test_the_images_constraints_are_pins_without_hashes() -> None:
    script = re.search(r"RUN (sed .*?) > /tmp", (SCHEDULES / "kubernetes" / "Dockerfile").read_text())[1]
    made = subprocess.run(script, shell=True, cwd=SCHEDULES.parents[1], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(made) > 50
    assert [line for line in made if not re.fullmatch(r"[\w.-]+(\[[^]]*\])?==\S+( ; .*)?", line)] == []


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str
    parsed.read(SCHEDULES / "systemd" / name)
    return parsed


def test_systemd_takes_the_units() -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed (package systemd)")
    units = sorted(map(str, (SCHEDULES / "systemd").iterdir()))
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, timeout=60, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_service_runs_the_last_days_or_the_day_given(tmp_path: Path) -> None:
    # systemd writes `$` and `%` twice for once.
    command = shlex.split(unit("flowlog.service")["Service"]["ExecStart"].replace("$$", "$").replace("%%", "%"))
    days = asked(submitted(command, tmp_path))
    assert (days[0].selection.source, days[0].fail_on) == (str(tmp_path / "logs and more"), "critical")
    assert days_of(days) == last_week()
    (tmp_path / "again").mkdir()
    assert days_of(asked(submitted(command, tmp_path / "again", FLOWLOG_DAY="2026-03-10"))) == [date(2026, 3, 10)]


def test_all_schedules_begin_when_the_day_is_delivered() -> None:
    cron = next(one for one in documents() if one["kind"] == "CronJob")
    assert (cron["spec"]["schedule"], cron["spec"]["timeZone"]) == ("30 2 * * *", "Etc/UTC")
    assert unit("flowlog.timer")["Timer"]["OnCalendar"] == "*-*-* 02:30:00 UTC"
