"""The IAM policies of conf/iam let flowlog do its work, each its part, and with any action less of any of them it cannot.

moto answers, and decides by action and resource. What it leaves out is added here: conditions on `s3:prefix`, the objects of a batch, and
that S3 tells of an object that is not there only to who may list its key. It never asks IAM about KMS keys: use-kms-keys.json is not tried.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from fnmatch import fnmatchcase
from string import Template
from typing import Any, NamedTuple
from urllib.parse import parse_qs

import boto3
import pyarrow as pa
import pytest
from botocore.exceptions import ClientError
from deltalake import DeltaTable
from jobs_loaded import job_main
from logtree import DAY, LogTree, at, nasty_day, row
from moto import settings
from moto.core.responses import ActionAuthenticatorMixin
from moto.iam import access_control
from moto.s3.models import s3_backends
from pyspark.sql import SparkSession
from running import ROOT, submit

from flowlog_udfs.cli import run_maintenance, run_steps
from flowlog_udfs.command import main as flowlog
from flowlog_udfs.day import STEPS
from flowlog_udfs.errors import StorageError
from flowlog_udfs.ingest import REJECTS
from flowlog_udfs.ledger import RUNS_TABLE, SIGNOFFS_TABLE, days_of
from flowlog_udfs.s3_endpoint import client_of
from flowlog_udfs.tables import Warehouse

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="workers get their credentials by Spark's environment")]

ACCOUNT, TOPIC = "123456789012", "flowlog"
LOGS = "vpc/"
"""Where in the log bucket the flow logs are."""
DAY_POLICIES = ("read-logs", "write-tables", "publish-verdict")
"""What a day needs, wherever it runs."""
ONLY_ON_FAILURE = "s3:AbortMultipartUpload"
"""What only a write that breaks off asks for: a day that goes well never shows whether it is allowed."""
Policy = dict[str, Any]


class Asked(NamedTuple):
    """A question to IAM; `prefix` is that of a listing, None for one of the whole bucket."""

    action: str
    resource: str
    prefix: str | None


def holds(statement: Policy, prefix: str | None) -> bool:
    """Whether the condition of a statement holds; raises `KeyError` for one that is not understood.

    A listing that names no prefix has no `s3:prefix` to hold the condition against, and so does not meet it.
    """
    if "Condition" not in statement:
        return True
    assert [*statement["Condition"]] == ["StringLike"]
    return prefix is not None and fnmatchcase(prefix, statement["Condition"]["StringLike"]["s3:prefix"].replace("[", "[[]"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Asked]]:
    """What the APIs of this machine asked IAM, while they do.

    Signatures are not compared: moto computes those of boto3 only, and a day also reads and writes through pyarrow and deltalake.
    """
    found: list[Asked] = []
    decide = access_control.IAMRequestBase.check_action_permitted
    judge = access_control.IAMPolicyStatement.is_action_permitted
    request = threading.local()

    def record(self: access_control.IAMRequestBase, resource: str) -> None:
        # As AWS authorizes them: a batch by the action that it is made of. moto knows the resource of S3's actions only.
        self._action = self._action.removesuffix("Batch")
        service = self._action.partition(":")[0]
        named = {"sns": f"arn:aws:sns:us-east-1:{ACCOUNT}:{TOPIC}", "sqs": f"arn:aws:sqs:us-east-1:{ACCOUNT}:keys"}.get(service, resource)
        bucket, _, key = resource.removeprefix("arn:aws:s3:::").partition("/")
        batch = re.findall(rb"<Key>(.*?)</Key>", self._body or b"") if self._action == "s3:DeleteObject" and not key else []
        query = parse_qs(self._path.partition("?")[2], keep_blank_values=True)
        request.prefix = query.get("prefix", [None])[0]
        for one in [f"{resource}/{name.decode()}" for name in batch] or [named]:
            found.append(Asked(self._action, one, request.prefix))
            decide(self, one)
        if self._action == "s3:GetObject" and s3_backends[ACCOUNT]["aws"].get_object(bucket, key) is None:
            self._action, request.prefix = "s3:ListBucket", key
            decide(self, f"arn:aws:s3:::{bucket}")

    def with_condition(self: access_control.IAMPolicyStatement, *question: Any) -> access_control.PermissionResult:
        return judge(self, *question) if holds(self._statement, request.prefix) else access_control.PermissionResult.NEUTRAL

    monkeypatch.setattr(access_control.IAMRequestBase, "check_action_permitted", record)
    monkeypatch.setattr(access_control.IAMRequestBase, "check_signature", lambda self: None)
    monkeypatch.setattr(access_control.IAMPolicyStatement, "is_action_permitted", with_condition)
    yield found
    settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
    client_of.cache_clear()


def actions_of(policy: Policy) -> list[tuple[int, str]]:
    """The actions that a policy allows, with the number of their statement."""
    return [
        (number, action)
        for number, statement in enumerate(policy["Statement"])
        if statement["Effect"] == "Allow"
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    ]


def needed(policies: dict[str, Policy]) -> list[tuple[str, int, str]]:
    """The actions that work which goes well cannot do without: policy, statement, action."""
    found = [(name, number, action) for name, policy in policies.items() for number, action in actions_of(policy)]
    return [one for one in found if one[2] != ONLY_ON_FAILURE]


def without(policies: dict[str, Policy], name: str, number: int, action: str) -> list[Policy]:
    """The policies, with one action taken out of one statement."""
    less: dict[str, Policy] = json.loads(json.dumps(policies))
    actions = [one for at, one in actions_of(policies[name]) if at == number and one != action]
    less[name]["Statement"][number]["Action"] = actions or ["s3:GetBucketTagging"]
    return list(less.values())


@dataclass
class Account:
    """An account with a small day of flow logs, a topic and a queue; whoever works there is a fresh user with some policies."""

    endpoint: str
    logs: str
    tables: str
    patch: pytest.MonkeyPatch
    captured: pytest.CaptureFixture[str]
    topic: str = ""
    queue: str = ""
    users: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        nasty_day(self.tree)
        self.topic = self.client("sns").create_topic(Name=TOPIC)["TopicArn"]
        self.queue = self.client("sqs").create_queue(QueueName="keys")["QueueUrl"]

    @property
    def tree(self) -> LogTree:
        bucket = self.client("s3")
        return LogTree(lambda key, content: bucket.put_object(Bucket=self.logs, Key=LOGS + key, Body=content))

    @property
    def warehouse(self) -> str:
        return f"s3://{self.tables}/flowlog"

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.endpoint, region_name="us-east-1")

    def policy(self, name: str) -> Policy:
        """A file of conf/iam, filled in."""
        filled = {"LOG_BUCKET": self.logs, "LOG_PREFIX": LOGS, "TABLE_BUCKET": self.tables, "REGION": "us-east-1"}
        text = (ROOT / "conf" / "iam" / f"{name}.json").read_text()
        return json.loads(Template(text).substitute(filled, ACCOUNT_ID=ACCOUNT, TOPIC=TOPIC, QUEUE="keys"))

    def policies(self, *names: str) -> dict[str, Policy]:
        return {name: self.policy(name) for name in names}

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

    def become(self, policies: Sequence[Policy], spark: SparkSession | None = None) -> None:
        """Let this process, and workers of this session, be a user who may do what the policies say."""
        for name, value in self.credentials(policies).items():
            self.patch.setenv(name, value)
            if spark:
                self.patch.setitem(spark.sparkContext.environment, name, value)
        # Both keep the credentials that they have found once.
        self.patch.setattr(boto3, "DEFAULT_SESSION", None)
        client_of.cache_clear()

    def ended(self, status: int) -> tuple[int, str]:
        """An exit status and the last line of flowlog's, or all that was written."""
        written = "".join(self.captured.readouterr())
        return status, ([line for line in written.splitlines() if line.startswith("flowlog: ")] or [written])[-1]

    def day(self, table_format: str, *options: str) -> list[str]:
        """The arguments of a run."""
        source = f"s3://{self.logs}/{LOGS}"
        return ["--source", source, "--warehouse", self.warehouse, "--day", str(DAY), "--table-format", table_format, *options]

    def run_day(self, spark: SparkSession, policies: Sequence[Policy], table_format: str, *options: str) -> tuple[int, str]:
        self.become(policies, spark)
        return self.ended(run_steps("test", STEPS, lambda: spark, self.day(table_format, *options)))

    def run(self, policies: Sequence[Policy], main: Callable[[list[str]], int], *arguments: object) -> tuple[int, str]:
        self.become(policies)
        return self.ended(main([*map(str, arguments)]))


@pytest.fixture
def account(
    s3_server: str, s3: Callable[[], str], asked: list[Asked], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Account:
    return Account(s3_server, s3(), s3(), monkeypatch, capsys)


def test_a_day_of_delta_tables_runs_with_the_policies_and_is_read_with_others(
    spark: SparkSession, account: Account, asked: list[Asked], export: Any
):
    policies = account.policies(*DAY_POLICIES)
    # As docs/operations.md says of Delta tables.
    policies["write-tables"]["Statement"][-1]["Resource"].append(f"arn:aws:s3:::{account.tables}/flowlog/runs/*")
    submitted = submit(*account.day("delta", "--notify-topic", account.topic), environment=account.credentials([*policies.values()]))
    assert submitted.returncode == 0, submitted.stderr
    for options in ((), ("--until", "ingest_records")):
        status, line = account.run_day(spark, [*policies.values()], "delta", *options)
        assert status == 0, line
    assert {one.action for one in asked} == {action for _, _, action in needed(policies)}
    # Logs are read and never written; tables stay below their prefix.
    assert {one.action for one in asked if f":::{account.logs}" in one.resource} == {"s3:ListBucket", "s3:GetObject"}
    written = [one.resource for one in asked if one.action in ("s3:PutObject", "s3:DeleteObject")]
    assert written and all(resource.startswith(f"arn:aws:s3:::{account.tables}/flowlog/") for resource in written)

    # OCSF events are written with the same policy, and JSON lines replaced, but not with one that reads.
    exporting = ["--warehouse", account.warehouse, "--day", str(DAY), "--json-lines", f"{account.warehouse}/events"]
    for policy, wanted in (("write-tables", 0), ("write-tables", 0), ("read-tables", 3)):
        account.become([account.policy(policy)], spark)
        status, line = account.ended(export(lambda: spark, exporting))
        assert (policy, status) == (policy, wanted), line

    # Who may only read reports sees them and nothing else; who may read tables writes none.
    show = ("report", "--show", "--warehouse", account.warehouse, "--day", DAY)
    reports = account.policies("read-reports")
    assert account.run([*reports.values()], flowlog, *show)[0] == 0
    for name, number, action in needed(reports):
        assert account.run(without(reports, name, number, action), flowlog, *show)[0] != 0
    assert account.run([account.policy("read-logs")], flowlog, *show)[0] != 0
    signing = ("sign-off", "--warehouse", account.warehouse, "--day", DAY, "--reviewer", "R", "--decision", "accepted")
    assert account.run([account.policy("read-tables")], flowlog, *signing)[0] == 3
    status, line = account.run([policies["write-tables"]], flowlog, *signing)
    assert status == 0, line

    reading = account.policies("read-tables")

    def read(policies: Sequence[Policy]) -> tuple[int, int]:
        account.become(policies)
        warehouse = Warehouse.open(account.warehouse)
        signed = DeltaTable(warehouse.uri(SIGNOFFS_TABLE), storage_options=warehouse.options()).to_pyarrow_table()
        return len(days_of(warehouse, RUNS_TABLE, DAY, DAY)[DAY]), signed.num_rows

    assert read([*reading.values()]) == (1, 1)
    for name, number, action in needed(reading):
        with pytest.raises((StorageError, OSError)):
            read(without(reading, name, number, action))


def test_a_day_of_parquet_tables_runs_with_the_policies_and_with_no_action_less(spark: SparkSession, account: Account, asked: list[Asked]):
    policies = account.policies(*DAY_POLICIES)
    for options in ((), (), ("--until", "ingest_records")):
        status, line = account.run_day(spark, [*policies.values()], "parquet", "--notify-topic", account.topic, *options)
        assert status == 0, line
    assert {one.action for one in asked} == {action for _, _, action in needed(policies)}
    for name, number, action in needed(policies):
        options = ("--until", "ingest_records") if action.startswith("s3:") else ("--notify-topic", account.topic)
        status, line = account.run_day(spark, without(policies, name, number, action), "parquet", *options)
        assert (name, action, status) == (name, action, 3)
        assert line.startswith("flowlog: ")
    status, line = account.run(
        [account.policy("read-tables")], lambda _: len(days_of(Warehouse.open(account.warehouse, "parquet"), RUNS_TABLE, DAY, DAY))
    )
    assert status == 1, line


def test_keys_are_collected_and_read_with_their_policies(spark: SparkSession, account: Account, asked: list[Asked]):
    collecting = account.policies("collect-keys")
    keys = f"s3://{account.tables}/flowlog-keys"
    key = LOGS + account.tree.text("10T0045", [row(at("10T00:41:00"))])
    size = account.client("s3").head_object(Bucket=account.logs, Key=key)
    told = {"key": key, "size": size["ContentLength"], "eTag": size["ETag"].strip('"'), "sequencer": "01"}
    event = {"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-03-10T00:46:00.000Z"}
    event |= {"awsRegion": "us-east-1", "s3": {"bucket": {"name": account.logs}, "object": told}}

    def collect(policies: Sequence[Policy]) -> tuple[int, str]:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        account.client("sqs").send_message(QueueUrl=account.queue, MessageBody=json.dumps({"Records": [event]}))
        return account.run(policies, job_main("collect_keys"), "--queue", account.queue, "--keys", keys)

    asked.clear()
    status, line = collect([*collecting.values()])
    assert status == 0, line
    assert {one.action for one in asked} == {action for _, _, action in needed(collecting)}
    for name, number, action in needed(collecting):
        status, line = collect(without(collecting, name, number, action))
        assert (action, status) == (action, 3)
        assert line.startswith("flowlog: ")

    reading = account.policies("read-logs", "write-tables", "read-keys")
    options = ("--keys", keys, "--until", "ingest_records")
    status, line = account.run_day(spark, [*reading.values()], "delta", *options)
    assert status == 0, line
    for name, number, action in needed(account.policies("read-keys")):
        status, line = account.run_day(spark, without(reading, name, number, action), "delta", *options)
        assert (action, status) == (action, 3), line


def test_an_inventory_is_taken_with_its_policy_and_with_no_action_less(account: Account, asked: list[Asked], tmp_path):
    policies = account.policies("take-inventory")
    arguments = ("--region", "us-east-1", "--output", tmp_path / "inventory.json")
    status, line = account.run([*policies.values()], job_main("take_inventory"), *arguments)
    assert status == 0, line
    assert {one.action for one in asked} == {action for _, _, action in needed(policies)}
    for name, number, action in needed(policies):
        status, line = account.run(without(policies, name, number, action), job_main("take_inventory"), *arguments)
        assert (action, status) == (action, 3)
        assert line.startswith("flowlog: ")


def wear(account: Account) -> None:
    """A warehouse with small files, a former state, an orphan, scratch and commits that are older than any retention, and a report."""
    settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
    warehouse, rows = Warehouse.open(account.warehouse), pa.Table.from_pylist([{"line_number": 1}], REJECTS.schema)
    for number in range(3):
        parts = [part for _ in range(2) for part in warehouse.write_rows(REJECTS, DAY, rows)]
        warehouse.replace_day(REJECTS, DAY, parts, inputs=str(number), now=datetime.now(timezone.utc))
    warehouse.write_rows(REJECTS, DAY, rows)
    log, bucket = f"{warehouse.folder(REJECTS)}_delta_log/", account.client("s3")
    for key in [stored.key for stored in warehouse.storage.objects(log) if stored.key.endswith(".json")]:
        text = bucket.get_object(Bucket=account.tables, Key=key)["Body"].read().decode()
        bucket.put_object(Bucket=account.tables, Key=key, Body=re.sub(r'("deletionTimestamp":)\d+', r"\g<1>1", text))
    DeltaTable(warehouse.uri(REJECTS), storage_options=warehouse.options()).create_checkpoint()
    for key in ("_verify-1/rejects/part-1.parquet", f"reports/day={DAY}/report.json"):
        bucket.put_object(Bucket=account.tables, Key=f"flowlog/{key}", Body=b"x")
    for stored in s3_backends[ACCOUNT]["aws"].buckets[account.tables].keys.values():
        stored.last_modified -= timedelta(days=400)


def test_upkeep_runs_with_its_policy_and_with_no_action_less(account: Account, asked: list[Asked]):
    policies = account.policies("maintain-tables")
    upkeep = lambda words: run_maintenance("test", words)  # noqa: E731
    for name, number, action in needed(policies):
        wear(account)
        status, line = account.run(without(policies, name, number, action), upkeep, "--warehouse", account.warehouse)
        assert (action, status) == (action, 3), line
    wear(account)
    asked.clear()
    status, line = account.run([*policies.values()], upkeep, "--warehouse", account.warehouse)
    assert status == 0, line
    assert {one.action for one in asked} == {action for _, _, action in needed(policies)}
    deleted = "\n".join(one.resource for one in asked if one.action == "s3:DeleteObject")
    for kind in ("/flowlog/_verify-", "/flowlog/rejects/_delta_log/", "/flowlog/rejects/day="):
        assert kind in deleted
    # The policy of runs is not enough, for it lets no commit be deleted.
    wear(account)
    assert account.run([account.policy("write-tables")], upkeep, "--warehouse", account.warehouse)[0] == 3


READ = """
import sys
from pyspark.sql import SparkSession
from flowlog_udfs.tables import Warehouse

warehouse = Warehouse.open(sys.argv[1])
spark = SparkSession.builder.getOrCreate()
for kind, path in (("delta", "rejects"), ("parquet", "rejects"), ("parquet", "rejects/day=*")):
    read = spark.read.format(kind).options(**warehouse.storage.endpoint.s3a_options())
    print(kind, path, read.load(warehouse.storage.url(f"{warehouse.prefix}{path}", "s3a")).count())
spark.stop()
"""


def test_spark_reads_tables_through_s3a_with_the_policy_for_reading(account: Account, asked: list[Asked], tmp_path):
    """Needs the JARs of `make setup-s3`."""
    warehouse, rows = Warehouse.open(account.warehouse), pa.Table.from_pylist([{"line_number": 1}], REJECTS.schema)
    warehouse.replace_day(REJECTS, DAY, warehouse.write_rows(REJECTS, DAY, rows), inputs="", now=datetime.now(timezone.utc))
    (tmp_path / "read.py").write_text(READ)
    done = submit(account.warehouse, job=tmp_path / "read.py", environment=account.credentials([account.policy("read-tables")]))
    assert done.stdout.splitlines() == ["delta rejects 1", "parquet rejects 1", "parquet rejects/day=* 1"], done.stderr
    assert {"flowlog/rejects/", "flowlog/rejects/_delta_log/", "flowlog/rejects/_spark_metadata/"} <= {
        one.prefix for one in asked if one.action == "s3:ListBucket"
    }


@pytest.mark.parametrize(
    ("policy", "prefix", "refused"),
    [
        *(
            (name, "flowlog/", [None, "", "flow", "flowlog-keys/", "job-logs/"])
            for name in ("read-tables", "write-tables", "maintain-tables")
        ),
        ("read-keys", "flowlog-keys/", [None, "", "flowlog", "flowlog/"]),
        ("read-logs", LOGS, [None, "", "AWSLogs/"]),
    ],
)
def test_nothing_else_of_a_bucket_is_listed(account: Account, policy: str, prefix: str, refused: list[str | None]):
    account.become([account.policy(policy)])
    bucket = account.logs if policy == "read-logs" else account.tables

    def allowed(prefix: str | None) -> bool:
        with suppress(ClientError):
            account.client("s3").list_objects_v2(Bucket=bucket, **({} if prefix is None else {"Prefix": prefix}))
            return True
        return False

    assert allowed(prefix) and allowed(f"{prefix}records/_delta_log/")
    assert [one for one in refused if allowed(one)] == []


def test_nobody_deletes_evidence(account: Account):
    day, evidence = f"day={DAY}", ["reports/day=2026-03-10/report.json", "reports/day=2026-03-10/0a/report.json"]
    kept = {"write-tables": [*evidence, f"signoffs/{day}/a.parquet", "records/_delta_log/0.json", "signoffs/_delta_log/0.json", "x"]}
    kept["maintain-tables"] = [*evidence, "x"]
    gone = {
        "write-tables": [f"runs/{day}/a.parquet", f"records/{day}/a.parquet", "records/_staged/a.parquet", ".flowlog-1", "_verify-1/x/y"]
    }
    for name in kept:
        account.become([account.policy(name)])
        for key, wanted in [*((key, False) for key in kept[name]), *((key, True) for key in gone.get(name, ()))]:
            deleted = False
            with suppress(ClientError):
                account.client("s3").delete_object(Bucket=account.tables, Key=f"flowlog/{key}")
                deleted = True
            assert (name, key, deleted) == (name, key, wanted)
