"""Who is told of a report, and what: a command of the owner's, or an SNS topic behind which a queue listens."""

import json
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from report_documents import small

from flowlog_udfs.errors import StorageError, UsageError
from flowlog_udfs.notices import Notices, notice

URL = "s3://tables/reports/day=2026-03-10/report.html"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


@pytest.mark.usefixtures("aws")
def test_a_topic_gets_the_verdict():
    sns, sqs = boto3.client("sns", region_name="eu-west-1"), boto3.client("sqs", region_name="eu-west-1")
    topic = sns.create_topic(Name="flowlog")["TopicArn"]
    queue = sqs.create_queue(QueueName="reviewers")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    document = small()
    Notices(topic=topic).send(document, URL)
    [message] = sqs.receive_message(QueueUrl=queue)["Messages"]
    body = json.loads(message["Body"])
    assert json.loads(body["Message"]) == notice(document, URL)
    assert body["Subject"] == f"flowlog {document['day']}: {document['verdict']['outcome']}"


@pytest.mark.usefixtures("aws")
def test_a_topic_that_is_not_there_is_an_error_that_says_the_report_is_done():
    with pytest.raises(StorageError, match=r"--notify-topic arn:aws:sns:eu-west-1:123456789012:none: .*; the report itself is done"):
        Notices(topic="arn:aws:sns:eu-west-1:123456789012:none").send(small(), URL)


def test_nothing_of_a_log_is_told():
    told = json.dumps(notice(small(), URL))
    assert all(one["subject"] not in told and one["finding_id"] not in told for one in small()["findings"])
    assert URL in told


def test_a_command_gets_json_and_no_shell(tmp_path: Path):
    heard = tmp_path / "heard"
    listener = tmp_path / "listen.py"
    listener.write_text("import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2] + sys.stdin.read())")
    Notices(command=f"{sys.executable} {listener} {heard} '$(id);'").send(small(), URL)
    assert heard.read_text() == "$(id);" + json.dumps(notice(small(), URL))


@pytest.mark.parametrize(
    "command, message",
    [
        ("/bin/sh -c 'echo no luck >&2; exit 3'", "--notify /bin/sh: ended with status 3: no luck; the report itself is done"),
        ("/bin/false", "ended with status 1: it said nothing"),
        ("/none/at/all", r"--notify /none/at/all: .*No such file or directory"),
    ],
)
def test_a_command_that_fails_is_an_error(command: str, message: str):
    with pytest.raises(StorageError, match=message):
        Notices(command=command).send(small(), URL)


@pytest.mark.parametrize("given", [{"command": "'"}, {"command": " "}, {"topic": "flowlog"}, {"topic": "arn:aws:sns"}])
def test_wrong_use_is_told_before_any_work(given: dict[str, str]):
    with pytest.raises(UsageError, match="--notify"):
        Notices(**given)
