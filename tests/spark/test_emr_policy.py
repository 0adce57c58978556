"""The IAM policy of conf/schedules/emr-serverless lets a whole day run, and with any S3 action less a day cannot run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from string import Template
from typing import Any

import boto3
import pytest
from logtree import DAY, LogTree, nasty_day
from moto import settings
from moto.core.responses import ActionAuthenticatorMixin
from moto.iam import access_control
from running import ROOT, submit

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="submits by spark-submit")]

POLICY = json.loads((ROOT / "conf" / "schedules" / "emr-serverless" / "job-policy.json").read_text())
ACCOUNT, TOPIC = "123456789012", "flowlog"
ONLY_ON_FAILURE = "s3:AbortMultipartUpload"
"""What only a write that breaks off asks for: a day that goes well never shows whether it is allowed."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """The (action, resource) that the S3 API of this machine asked IAM about, while it does.

    Signatures are not compared: moto computes those of boto3 only, and a day also reads and writes through pyarrow and deltalake.
    """
    found: list[tuple[str, str]] = []
    decide = access_control.IAMRequestBase.check_action_permitted

    def record(self: access_control.IAMRequestBase, resource: str) -> None:
        # moto knows the resource of S3's actions only.
        resource = f"arn:aws:sns:us-east-1:{ACCOUNT}:{TOPIC}" if self._action == "sns:Publish" else resource
        found.append((self._action, resource))
        decide(self, resource)

    monkeypatch.setattr(access_control.IAMRequestBase, "check_action_permitted", record)
    monkeypatch.setattr(access_control.IAMRequestBase, "check_signature", lambda self: None)
    yield found
    settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")


class Account:
    """An account with a small day of flow logs, and a topic; `run` runs the day with a policy and nothing else."""

    def __init__(self, endpoint: str, fresh_bucket: Callable[[], str]) -> None:
        self.endpoint, self.logs, self.tables, self.code = endpoint, fresh_bucket(), fresh_bucket(), fresh_bucket()
        bucket = boto3.client("s3", endpoint_url=endpoint)
        nasty_day(LogTree(lambda key, content: bucket.put_object(Bucket=self.logs, Key=key, Body=content)))
        self.topic = boto3.client("sns", endpoint_url=endpoint, region_name="us-east-1").create_topic(Name=TOPIC)["TopicArn"]
        self.policy = Template(json.dumps(POLICY)).substitute(
            LOG_BUCKET=self.logs, TABLE_BUCKET=self.tables, CODE_BUCKET=self.code, REGION="us-east-1", ACCOUNT_ID=ACCOUNT, TOPIC=TOPIC
        )
        self.users = 0

    def run(self, policy: dict[str, Any], folder: str, *options: str) -> tuple[int, str]:
        """Exit status and last line of the job with a fresh user's key; tables go below `flowlog/<folder>`."""
        self.users += 1
        name = f"job-{self.users}"
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        iam = boto3.client("iam", endpoint_url=self.endpoint, region_name="us-east-1")
        iam.create_user(UserName=name)
        iam.put_user_policy(UserName=name, PolicyName="job", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        ActionAuthenticatorMixin.request_count = 0
        # boto3 reads the credentials file last: a user of this machine must not lend its own.
        environment = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        environment |= {"AWS_ENDPOINT_URL_SNS": self.endpoint, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_MAX_ATTEMPTS": "1"}
        arguments = ["--source", f"s3://{self.logs}", "--warehouse", f"s3://{self.tables}/flowlog/{folder}", "--day", DAY, *options]
        done = submit(*arguments, environment=environment)
        said = [line[line.index("flowlog: ") :] for line in done.stdout.splitlines() if "flowlog: " in line]
        return done.returncode, (said or [done.stderr])[-1]


@pytest.fixture
def account(s3_server: str, s3: Callable[[], str], asked: list[tuple[str, str]]) -> Account:
    return Account(s3_server, s3)


def without(policy: str, action: str) -> dict[str, Any]:
    """The policy, with one action taken out of every statement."""
    less: dict[str, Any] = json.loads(policy)
    for statement in less["Statement"]:
        actions = [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]
        statement["Action"] = [one for one in actions if one != action] or ["s3:GetBucketTagging"]
    return less


def test_a_day_runs_with_the_policy_and_with_no_action_less(account: Account, asked: list[tuple[str, str]]):
    for table_format in ("delta", "parquet"):
        options = ("--table-format", table_format, "--notify-topic", account.topic)
        for _ in ("first", "again"):
            status, line = account.run(json.loads(account.policy), table_format, *options)
            assert status == 0, line
    allowed = {
        action
        for statement in POLICY["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    used = {action for action, _ in asked}
    assert used == allowed - {ONLY_ON_FAILURE}
    for action in sorted(allowed - {ONLY_ON_FAILURE}):
        options = ("--until", "ingest_records") if action.startswith("s3:") else ("--notify-topic", account.topic)
        status, line = account.run(without(account.policy, action), "less", "--table-format", "parquet", *options)
        assert (action, status) == (action, 3)
        assert line.startswith("flowlog: ")
