"""What all tests share: one quiet session on Spark, or with `pytest --engine sail` on Sail, and a real S3 API on this machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import boto3
import duckdb
import duckdb_extension_delta
import pytest
from hypothesis import settings
from moto.server import ThreadedMotoServer

from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS, remaining
from flowlog_udfs.engines import ENGINES, sail_session
from flowlog_udfs.sample import SampleRequest, make_sample

# The same examples at every run, so that a red build is a change's doing; HYPOTHESIS_PROFILE=searching looks for new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("searching", max_examples=2000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Workers must run this Python, and the pyspark of this environment, whatever the shell had set.
os.environ["PYSPARK_PYTHON"] = sys.executable
os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
os.environ.pop("SPARK_HOME", None)

LONGEST = "test_spark_versions.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine", choices=ENGINES, default=ENGINES[0], help="what computes in the tests (sail: in the environment of .ci/sail)"
    )
    parser.addoption("--soak", action="store_true", help="the long form of the tests of faults and of bad input")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print how much was tried: the figures of docs/reliability.md."""
    if figures := config.stash[_FIGURES]:
        terminalreporter.section("tried")
        for what, count in sorted(figures.items()):
            terminalreporter.write_line(f"{count:>14,} {what}")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Of several processes each hands its figures to the first."""
    if (handed := getattr(session.config, "workeroutput", None)) is not None:
        handed["tried"] = dict(session.config.stash[_FIGURES])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    # One that died had none to hand.
    node.config.stash[_FIGURES].update(getattr(node, "workeroutput", {}).get("tried", {}))


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether to try much, which takes hours: `make soak`."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def tried(request: pytest.FixtureRequest) -> Callable[[str, int], None]:
    """`tried("lines fuzzed", 1_000)` adds to what the run prints at its end."""
    return lambda what, count: request.config.stash[_FIGURES].update({what: count})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other engine; begin with the longest file, so that the other process has something to do meanwhile."""
    other = "spark_only" if config.getoption("--engine") == "sail" else "sail_only"
    left_out = [item for item in items if item.get_closest_marker(other)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = sorted((item for item in items if item not in left_out), key=lambda item: item.path.name != LONGEST)


@pytest.fixture(scope="session")
def spark_session(request: pytest.FixtureRequest):
    """The session of pytest-spark, or one on Sail, which starts no JVM."""
    if request.config.getoption("--engine") == "spark":
        yield request.getfixturevalue("spark_session")
        return
    with sail_session() as session:
        session.conf.set("spark.sql.session.timeZone", "UTC")
        yield session


@pytest.fixture
def spark(spark_session, request: pytest.FixtureRequest):
    """The session, left as it was found: no cache, no views, no changed settings."""
    if request.config.getoption("--engine") != "spark":
        # Sail has nothing in a session that our tests would leave behind.
        yield spark_session
        return
    before = {row.key: row.value for row in spark_session.sql("SET").collect()}
    yield spark_session
    spark_session.catalog.clearCache()
    for table in spark_session.catalog.listTables():
        if table.isTemporary:
            spark_session.catalog.dropTempView(table.name)
    for row in spark_session.sql("SET").collect():
        if row.key not in before and spark_session.conf.isModifiable(row.key):
            spark_session.conf.unset(row.key)
        elif row.value != before.get(row.key) and spark_session.conf.isModifiable(row.key):
            spark_session.conf.set(row.key, before[row.key])


@pytest.fixture
def loud_spark(spark):
    """Spark with its log on the terminal, for finding out why a task fails."""
    spark.sparkContext.setLogLevel("INFO")
    yield spark
    spark.sparkContext.setLogLevel("ERROR")


@dataclass(frozen=True)
class Days:
    """Sample days run whole: the logs, the tables, and the last day, which has smaller ones before it; the second of all was never run."""

    logs: Path
    tables: Path
    day: date = date(2026, 3, 10)
    history: int = 4

    @property
    def spans(self) -> list[tuple[date, date]]:
        """The first and the last day of each backfill that was run."""
        first = self.day - timedelta(days=self.history)
        return [(first, first), (first + timedelta(days=2), self.day)]

    def copied(self, folder: Path) -> Days:
        """The same with tables of one's own, for tests that change them."""
        return replace(self, tables=Path(shutil.copytree(self.tables, folder / "tables")))

    def options(self, *, policy: bool = True) -> list[str]:
        """What tells a job of the sample's network and rules."""
        return [
            *("--inventory", str(self.logs / "inventory.json")),
            *(("--policy", str(self.logs / "policy.toml")) if policy else ()),
        ]


@pytest.fixture(scope="session")
def days(spark_session, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Days:
    """Made once, by the first of several processes that asks; whoever changes the tables takes a copy."""
    root = tmp_path_factory.getbasetemp() if worker_id == "master" else tmp_path_factory.getbasetemp().parent
    made = Days(root / "days" / "logs", root / "days" / "tables")
    with (root / "days.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.fstat(lock.fileno()).st_size:
            _run_days(spark_session, made)
            lock.write("made\n")
    return made


def _run_days(spark: Any, days: Days) -> None:
    # Few objects: reading each costs more than its rows. Every interval has its NODATA row, or interfaces would fall silent.
    sizes = {"connections": 3_000, "history_connections": 500, "objects": 200}
    make_sample(SampleRequest(str(days.logs), days.day, history=days.history, idle_rows=True, seed=5, **sizes))
    for first, last in days.spans:
        arguments = ["--source", str(days.logs), "--warehouse", str(days.tables), "--from", str(first), "--to", str(last), *days.options()]
        assert run_steps("test", STEPS, lambda: spark, arguments, remaining=remaining) == 0


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB with its Delta reader, from the package of the same version."""
    extension = Path(duckdb_extension_delta.__file__).parent / "extensions" / f"v{duckdb.__version__}" / "delta.duckdb_extension"
    with duckdb.connect() as connection:
        connection.execute(f"LOAD '{extension}'; SET TimeZone = 'UTC'")
        yield connection


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """moto's S3 and EC2 API on a free loopback port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Point the environment at the S3 API on this machine; call it for the name of a fresh bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)

    def fresh_bucket() -> str:
        name = f"bucket-{next(_numbers)}"
        boto3.client("s3", endpoint_url=s3_server).create_bucket(Bucket=name)
        return name

    return fresh_bucket


@pytest.fixture
def queue(s3: Callable[[], str], s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call it with the names of buckets for the URL of a fresh SQS queue that gets their events, by way of SNS when asked."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_server)

    def fresh_queue(*buckets: str, through_topic: bool = False) -> str:
        name, sqs = f"queue-{next(_numbers)}", boto3.client("sqs")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        target = f"arn:aws:sqs:us-east-1:{url.split('/')[-2]}:{name}"
        kind = "Queue"
        if through_topic:
            kind, sns = "Topic", boto3.client("sns", endpoint_url=s3_server)
            topic = sns.create_topic(Name=name)["TopicArn"]
            sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=target)
            target = topic
        wanted = [{f"{kind}Arn": target, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}]
        for bucket in buckets:
            boto3.client("s3").put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration={f"{kind}Configurations": wanted}
            )
        return url

    return fresh_queue


_numbers = count()
_FIGURES = pytest.StashKey[Counter[str]]()
