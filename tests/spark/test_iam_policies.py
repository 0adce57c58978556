"""The IAM policies of conf/iam let flowlog do its work, each its part, and with any action less of any of them it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from string import Template
from typing import Any

import boto3
import pytest
from logtree import DAY, LogTree, at, nasty_day, row
from moto import settings
from moto.core.responses import ActionAuthenticatorMixin
from moto.iam import access_control
from running import ROOT, submit

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="submits by spark-submit")]

ACCOUNT, TOPIC = "123456789012", "flowlog"
DAY_POLICIES = ("read-logs", "write-tables", "publish-verdict")
"""What a day needs, wherever it runs."""
ONLY_ON_FAILURE = "s3:AbortMultipartUpload"
"""What only a write that breaks off asks for: a day that goes well never shows whether it is allowed."""
Policy = dict[str, Any]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """The (action, resource) that the APIs of this machine asked IAM about, while they do.

    Signatures are not compared: moto computes those of boto3 only, and a day also reads and writes through pyarrow and deltalake.
    """
    found: list[tuple[str, str]] = []
    decide = access_control.IAMRequestBase.check_action_permitted

    def record(self: access_control.IAMRequestBase, resource: str) -> None:
        # As AWS authorizes them: a batch by the action that it is made of. moto knows the resource of S3's actions only.
        self._action = self._action.removesuffix("Batch")
        service = self._action.partition(":")[0]
        named = {"sns": f"arn:aws:sns:us-east-1:{ACCOUNT}:{TOPIC}", "sqs": f"arn:aws:sqs:us-east-1:{ACCOUNT}:keys"}.get(service, resource)
        found.append((self._action, named))
        decide(self, named)

    monkeypatch.setattr(access_control.IAMRequestBase, "check_action_permitted", record)
    monkeypatch.setattr(access_control.IAMRequestBase, "check_signature", lambda self: None)
    yield found
    settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")


def actions_of(policy: Policy) -> list[tuple[int, str]]:
    """The actions of a policy, with the number of their statement."""
    return [
        (number, action)
        for number, statement in enumerate(policy["Statement"])
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    ]


def without(policies: dict[str, Policy], name: str, number: int, action: str) -> list[Policy]:
    """The policies, with one action taken out of one statement."""
    less: dict[str, Policy] = json.loads(json.dumps(policies))
    actions = [one for at, one in actions_of(policies[name]) if at == number and one != action]
    less[name]["Statement"][number]["Action"] = actions or ["s3:GetBucketTagging"]
    return list(less.values())


@dataclass
class Account:
    """An account with a small day of flow logs, a topic and a queue; whatever runs there has a fresh user's key and some policies."""

    endpoint: str
    logs: str
    tables: str
    topic: str = ""
    queue: str = ""
    users: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        bucket = self.client("s3")
        nasty_day(LogTree(lambda key, content: bucket.put_object(Bucket=self.logs, Key=key, Body=content)))
        self.topic = self.client("sns").create_topic(Name=TOPIC)["TopicArn"]
        self.queue = self.client("sqs").create_queue(QueueName="keys")["QueueUrl"]

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.endpoint, region_name="us-east-1")

    def policy(self, name: str) -> Policy:
        """A file of conf/iam, filled in."""
        filled = {"LOG_BUCKET": self.logs, "TABLE_BUCKET": self.tables, "REGION": "us-east-1", "ACCOUNT_ID": ACCOUNT}
        text = (ROOT / "conf" / "iam" / f"{name}.json").read_text()
        return json.loads(Template(text).substitute(filled, TOPIC=TOPIC, QUEUE="keys"))

    def credentials(self, policies: Sequence[Policy]) -> dict[str, str]:
        """The environment of a fresh user who may do what the policies say."""
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        iam, name = self.client("iam"), f"{self.tables}-{len(self.users)}"
        self.users.append(name)
        iam.create_user(UserName=name)
        for number, policy in enumerate(policies):
            iam.put_user_policy(UserName=name, PolicyName=f"policy-{number}", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        ActionAuthenticatorMixin.request_count = 0
        # boto3 reads the credentials file last: a user of this machine must not lend its own.
        variables = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        variables |= {"AWS_ENDPOINT_URL": self.endpoint, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_MAX_ATTEMPTS": "1"}
        return variables | {"AWS_REGION": "us-east-1"}

    def run_day(self, policies: Sequence[Policy], folder: str, *options: str) -> tuple[int, str]:
        """Exit status and last line of a day; tables go below `flowlog/<folder>`."""
        arguments = ["--source", f"s3://{self.logs}", "--warehouse", f"s3://{self.tables}/flowlog/{folder}", "--day", DAY, *options]
        return self.ended(submit(*arguments, environment=self.credentials(policies)))

    def run(self, policies: Sequence[Policy], *command: object) -> tuple[int, str]:
        """Exit status and last line of something that needs no Spark."""
        environment = os.environ | self.credentials(policies)
        words = [sys.executable, *map(str, command)]
        return self.ended(subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False))

    @staticmethod
    def ended(done: subprocess.CompletedProcess[str]) -> tuple[int, str]:
        said = [line[line.index("flowlog: ") :] for line in (done.stdout + done.stderr).splitlines() if "flowlog: " in line]
        return done.returncode, (said or [done.stderr])[-1]


@pytest.fixture
def account(s3_server: str, s3: Callable[[], str], asked: list[tuple[str, str]]) -> Account:
    return Account(s3_server, s3(), s3())


def test_a_day_runs_with_the_policies_and_with_no_action_less(account: Account, asked: list[tuple[str, str]]):
    policies = {name: account.policy(name) for name in DAY_POLICIES}
    for table_format in ("delta", "parquet"):
        options = ("--table-format", table_format, "--notify-topic", account.topic)
        for again in ((), ("--until", "ingest_records")):
            status, line = account.run_day(list(policies.values()), table_format, *options, *again)
            assert status == 0, line
    needed = [(name, number, action) for name, policy in policies.items() for number, action in actions_of(policy)]
    needed = [one for one in needed if one[2] != ONLY_ON_FAILURE]
    assert {action for action, _ in asked} == {action for _, _, action in needed}
    # Logs are read and never written; tables stay below their prefix.
    on_logs = {action for action, resource in asked if f":::{account.logs}" in resource}
    assert on_logs == {"s3:ListBucket", "s3:GetObject"}
    written = [resource for action, resource in asked if action in ("s3:PutObject", "s3:DeleteObject")]
    assert written and all(resource.startswith(f"arn:aws:s3:::{account.tables}/flowlog/") for resource in written)
    for name, number, action in needed:
        options = ("--until", "ingest_records") if action.startswith("s3:") else ("--notify-topic", account.topic)
        status, line = account.run_day(without(policies, name, number, action), "less", "--table-format", "parquet", *options)
        assert (name, action, status) == (name, action, 3)
        assert line.startswith("flowlog: ")

    # Who may only read reports sees them and nothing else; who may read tables writes none.
    warehouse = f"s3://{account.tables}/flowlog/delta"
    flowlog = ("-c", "import sys; from flowlog_udfs.command import main; sys.exit(main())")
    show = (*flowlog, "report", "--show", "--warehouse", warehouse, "--day", DAY)
    reports = json.loads(json.dumps(account.policy("read-reports")).replace("/flowlog/reports/", "/flowlog/delta/reports/"))
    assert account.run([reports], *show)[0] == 0
    assert account.run([account.policy("read-logs")], *show)[0] != 0
    signing = (*flowlog, "sign-off", "--warehouse", warehouse, "--day", DAY, "--reviewer", "R", "--decision", "accepted")
    assert account.run([account.policy("read-tables")], *signing)[0] == 3
    assert account.run([account.policy("write-tables")], *signing)[0] == 0


def test_keys_are_collected_and_read_with_their_policies(account: Account, asked: list[tuple[str, str]]):
    collecting = {"collect-keys": account.policy("collect-keys")}
    keys = f"s3://{account.tables}/flowlog-keys"
    bucket = account.client("s3")
    key = LogTree(lambda key, content: bucket.put_object(Bucket=account.logs, Key=key, Body=content)).text(
        "10T0045", [row(at("10T00:41:00"))]
    )
    size = bucket.head_object(Bucket=account.logs, Key=key)
    told = {"key": key, "size": size["ContentLength"], "eTag": size["ETag"].strip('"'), "sequencer": "01"}
    event = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-03-10T00:46:00.000Z"}
    event |= {"awsRegion": "us-east-1", "s3": {"bucket": {"name": account.logs}, "object": told}}

    def collect(policies: Sequence[Policy]) -> tuple[int, str]:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        account.client("sqs").send_message(QueueUrl=account.queue, MessageBody=json.dumps({"Records": [event]}))
        return account.run(policies, "jobs/collect_keys.py", "--queue", account.queue, "--keys", keys)

    status, line = collect(list(collecting.values()))
    assert status == 0, line
    assert {action for action, _ in asked} == {action for _, action in actions_of(collecting["collect-keys"])}
    for number, action in actions_of(collecting["collect-keys"]):
        status, line = collect(without(collecting, "collect-keys", number, action))
        assert (action, status) == (action, 3)
        assert line.startswith("flowlog: ")

    reading = {name: account.policy(name) for name in ("read-logs", "write-tables", "read-keys")}
    options = ("--keys", keys, "--until", "ingest_records")
    status, line = account.run_day(list(reading.values()), "keys", *options)
    assert status == 0, line
    status, line = account.run_day(without(reading, "read-keys", 1, "s3:GetObject"), "keys", *options)
    assert status == 3, line
