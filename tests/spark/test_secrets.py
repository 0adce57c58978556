"""Credentials are in nothing that a run writes: output, logs, event log, Spark's pages, tables, reports; not when things go wrong either.

Each run has credentials of its own in its environment and, as a user might give them, in settings of Spark. All that can log does.
S3 is a moto behind a server that can refuse, and then quotes the request in its answer, as AWS does (SignatureDoesNotMatch, ExpiredToken).
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import boto3
import pyarrow.parquet as pq
import pytest
from logtree import DAY, LogTree, nasty_day
from running import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.spark_only(why="is about Spark's pages and logs")]

IDS = {"AWS_ACCESS_KEY_ID": "AKIAFLOWLOGENV000001", "fs.s3a.access.key": "AKIAFLOWLOGCONF00002"}
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "envSecret+of/flowlog+0123456789abcdefghij",
    "AWS_SESSION_TOKEN": "envTokenOfFlowlog//////////FwoGZXIvYXdzEJr+0123456789abcdefghijklmnop==",
    "fs.s3a.secret.key": "confSecret+of/flowlog+0123456789abcdefghij",
    "fs.s3a.session.token": "confTokenOfFlowlog//////////FwoGZXIvYXdzEJr+0123456789abcdefghijklmno==",
    "fs.s3a.encryption.key": "confEncryptionKeyOfFlowlogAAAAAAAAAAAAAAAAA=",
}
# Everything that Python logs, a record a line, with the name of who logs; so in the workers too. Only py4j is not asked: its DEBUG log is
# all that Python and the JVM tell each other, settings included.
LOUD_PYTHON = """
import logging, sys
class Line(logging.Formatter):
    def format(self, record): return f"PYTHON {record.name} {record.getMessage()!r}"
handler = logging.StreamHandler(sys.stderr)
handler.setFormatter(Line())
logging.root.addHandler(handler)
logging.root.setLevel(logging.DEBUG)
logging.getLogger("py4j").setLevel(logging.INFO)
"""
LOUD_SPARK = """
rootLogger.level = debug
rootLogger.appenderRef.file.ref = file
appender.file.type = File
appender.file.name = file
appender.file.fileName = {file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %p %c: %m%n%ex
"""
PAGES = ("/environment/", "/executors/", "/jobs/", "/SQL/", "/api/v1/applications")
OF_AN_APPLICATION = ("environment", "allexecutors", "jobs", "sql?details=true")


class Refusing(BaseHTTPRequestHandler):
    """moto, and a refusal that quotes the request for whatever `refuses` says."""

    behind = ""
    refuses: Callable[[str, str], bool] = staticmethod(lambda method, path: False)
    refused = 0

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if type(self).refuses(self.command, self.path):
            type(self).refused += 1
            token, signed = self.headers.get("x-amz-security-token", ""), self.headers.get("Authorization", "")
            quoted = f"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message><Token-0>{token}</Token-0>"
            quoted += f"<AWSAccessKeyId>{signed}</AWSAccessKeyId><CanonicalRequest>x-amz-security-token:{token}</CanonicalRequest></Error>"
            self.tell(403, {"Content-Type": "application/xml"}, b'<?xml version="1.0" encoding="UTF-8"?>\n' + quoted.encode())
            return
        url = urlsplit(self.behind)
        onward = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        onward.request(self.command, self.path, body, dict(self.headers))
        came = onward.getresponse()
        content = came.read()
        kept = {
            name: value for name, value in came.getheaders() if name.lower() not in ("connection", "transfer-encoding", "date", "server")
        }
        self.tell(came.status, kept, content)
        onward.close()

    def tell(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if self.command == "HEAD" or name.lower() != "content-length":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Refusing]]:
    """moto behind `Refusing`, which is told what to refuse; its `url` is where."""
    handler = type("Handler", (Refusing,), {"behind": s3_server})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        handler.url = f"http://127.0.0.1:{running.server_port}"
        Thread(target=running.serve_forever, daemon=True).start()
        yield handler
        running.shutdown()


@pytest.fixture
def bucket(s3: Callable[[], str]) -> str:
    """A small day of flow logs."""
    name, client = s3(), boto3.client("s3")
    nasty_day(LogTree(lambda key, content: client.put_object(Bucket=name, Key=f"logs/{key}", Body=content)))
    return name


def pages(port: int) -> dict[str, str]:
    """What Spark's pages and their API say at this moment, those that answer."""
    told = {}
    paths = list(PAGES)
    while paths:
        path = paths.pop(0)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                text = answer.read().decode(errors="replace")
        except (OSError, urllib.error.URLError, http.client.HTTPException):
            continue
        told[f"PAGE {path}"] = text
        if path == "/api/v1/applications" and text.startswith("["):
            paths += [f"{path}/{one['id']}/{page}" for one in json.loads(text) for page in OF_AN_APPLICATION]
    return told


def run(tmp_path: Path, endpoint: str, *arguments: str) -> tuple[int, dict[str, str]]:
    """A day with everything logged: the status, and all that was written, by what it is."""
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "sitecustomize.py").write_text(LOUD_PYTHON)
    (tmp_path / "events").mkdir()
    (tmp_path / "log4j2.properties").write_text(LOUD_SPARK.format(file=tmp_path / "spark.log"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {f"spark.hadoop.{name}": value for name, value in (IDS | SECRETS).items() if name.startswith("fs.")}
    settings |= {f"spark.executorEnv.{name}": value for name, value in (IDS | SECRETS).items() if name.startswith("AWS")}
    settings |= {"spark.ui.enabled": "true", "spark.ui.port": str(port), "spark.ui.showConsoleProgress": "false"}
    settings |= {"spark.eventLog.enabled": "true", "spark.eventLog.dir": f"file://{tmp_path}/events", "spark.eventLog.compress": "false"}
    settings |= {"spark.driver.extraJavaOptions": f"-XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile=file:{tmp_path}/log4j2.properties"}
    command = ["spark-submit", "--properties-file", "conf/spark-local.conf"]
    command += [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_", "AWS_"))}
    environment |= {name: value for name, value in (IDS | SECRETS).items() if name.startswith("AWS")}
    environment |= {"AWS_ENDPOINT_URL_S3": endpoint, "AWS_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "2", "RUST_LOG": "debug"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "loud"), str(ROOT)])
    with (tmp_path / "stdout").open("w") as out, (tmp_path / "stderr").open("w") as err:
        started = subprocess.Popen(
            [*command, "jobs/run_day.py", *arguments], cwd=ROOT, env=environment, stdout=out, stderr=err, start_new_session=True
        )
        seen: dict[str, str] = {}
        deadline = time.monotonic() + 600
        while started.poll() is None:
            if time.monotonic() > deadline:
                os.killpg(started.pid, signal.SIGKILL)
            seen |= pages(port)
            time.sleep(1)
    written = {path.name: path.read_text(errors="replace") for path in tmp_path.iterdir() if path.is_file()}
    written |= {f"events/{path.name}": path.read_text(errors="replace") for path in (tmp_path / "events").rglob("*") if path.is_file()}
    return started.returncode, written | seen


def stored(bucket: str) -> dict[str, str]:
    """All that is in the bucket below `tables/`, unpacked."""
    found, client = {}, boto3.client("s3")
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix="tables/"):
        for entry in page.get("Contents", ()):
            content = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            if entry["Key"].endswith(".gz"):
                content = gzip.decompress(content)
            text = content.decode(errors="replace")
            if entry["Key"].endswith(".parquet"):
                import io

                read = pq.ParquetFile(io.BytesIO(content))
                text += f"{read.metadata.metadata} {read.read().to_pylist()}"
            found[entry["Key"]] = text
    return found


def leaks(written: dict[str, str]) -> list[tuple[str, str, str]]:
    """Where credentials stand: what, which, and the line, cut."""
    found = []
    for what, text in written.items():
        for line in text.splitlines():
            for name, value in (IDS | SECRETS).items():
                # boto3's DEBUG log is a trace of the wire, as its page says: the token and the key's id are in it, the secret never is.
                traced = line.startswith("PYTHON botocore.") and name in ("AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
                # That of delta-rs has the key's id.
                traced |= "AwsCredential {" in line and name == "AWS_ACCESS_KEY_ID"
                if value in line and not traced:
                    at = line.index(value)
                    found.append((what, name, line[max(0, at - 150) : at + 20]))
    return found


def test_a_day_that_goes_well_tells_no_secret(server: type[Refusing], bucket: str, tmp_path: Path):
    source, tables = f"s3://{bucket}/logs", f"s3://{bucket}/tables"
    status, written = run(tmp_path, server.url, "--source", source, "--warehouse", tables, "--day", str(DAY))
    assert status == 0, written["stdout"][-2000:]
    written |= stored(bucket)
    # It was loud indeed, and looked at while it ran.
    assert "PYTHON botocore." in written["stdout"]
    assert "DEBUG org.apache.spark" in written["spark.log"]
    assert "PAGE /environment/" in written
    (told,) = (text for name, text in written.items() if re.fullmatch(r"PAGE /api/v1/applications/\S+/environment", name))
    assert "spark.hadoop.fs.s3a.secret.key" in told
    assert any("SparkListenerEnvironmentUpdate" in text for name, text in written.items() if name.startswith("events/"))
    assert any(name.endswith("report.html") for name in written)
    assert leaks(written) == []


@pytest.mark.parametrize(
    ("what", "refuses"),
    [
        ("a commit", lambda method, path: method == "PUT" and "_delta_log" in path),
        ("a table", lambda method, path: method == "GET" and "_delta_log" in path),
        ("a part file", lambda method, path: method in ("PUT", "POST") and ".parquet" in path),
        ("the source", lambda method, path: method == "GET" and "list-type=2" in path),
    ],
)
def test_a_refusal_that_quotes_the_request_is_told_without_it(what: str, refuses, server, bucket: str, tmp_path: Path):
    server.refuses = staticmethod(refuses)
    arguments = ("--source", f"s3://{bucket}/logs", "--warehouse", f"s3://{bucket}/tables", "--day", str(DAY), "--until", "ingest_records")
    status, written = run(tmp_path, server.url, *arguments)
    assert server.refused > 0
    assert status == 3, written["stdout"][-2000:]
    # spark-submit joins the driver's two streams.
    told = [line for line in written["stdout"].splitlines() if line.startswith("flowlog: ")]
    assert "ExpiredToken" in told[-1]
    assert leaks(written) == []


def test_a_bucket_that_is_not_there_tells_no_secret(server: type[Refusing], bucket: str, tmp_path: Path):
    arguments = ("--source", "s3://no-such-bucket/logs", "--warehouse", f"s3://{bucket}/tables", "--day", str(DAY))
    status, written = run(tmp_path, server.url, *arguments)
    assert status == 3, written["stdout"][-2000:]
    assert leaks(written) == []
