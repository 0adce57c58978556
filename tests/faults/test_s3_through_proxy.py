"""What S3 and the way to it do wrong, injected by a proxy in front of a real S3 API: taken in stride within bounds, then right, or failed
with one clear line.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import botocore.endpoint
import pyarrow as pa
import pytest

from flowlog_udfs import delta, resumed_body, s3_endpoint
from flowlog_udfs.cli import run_steps
from flowlog_udfs.day import STEPS
from flowlog_udfs.errors import FlowlogError, ObjectError, StorageError
from flowlog_udfs.ingest import OBJECTS, REJECTS
from flowlog_udfs.s3_endpoint import S3Endpoint
from flowlog_udfs.sample import SampleRequest, make_sample
from flowlog_udfs.storage import S3Storage
from flowlog_udfs.tables import Warehouse
from tests.faults.proxy import Fault, FaultProxy, Kind, Storm

sys.path.insert(0, str(Path(__file__).parents[1] / "spark"))
import stored
from logtree import DAY, LogTree, at, row
from running import submit

pytestmark = pytest.mark.slow

NOW = datetime(2026, 3, 12, tzinfo=timezone.utc)
REQUESTS = 8
"""How often boto3 makes one request before it gives up."""
FOR_GOOD = 1_000


@pytest.fixture
def proxy(
    s3_server: str, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch, tried: Callable[[str, int], None]
) -> Iterator[FaultProxy]:
    """Between flowlog and the S3 API; `s3` is behind it. What it injects is added to the figures."""
    with FaultProxy(s3_server).running() as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy
    for kind, count in proxy.injected.items():
        tried(f"S3 faults: {kind}", count)


@pytest.fixture
def bucket(s3: Callable[[], str]) -> str:
    return s3()


@pytest.fixture
def direct(s3_server: str, bucket: str) -> Any:
    """A client that does not come through the proxy."""
    return boto3.client("s3", endpoint_url=s3_server)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made in this process before requests were repeated."""
    pauses: list[float] = []
    monkeypatch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=pauses.append))
    monkeypatch.setattr(resumed_body, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


@pytest.fixture
def storage(proxy: FaultProxy, bucket: str, slept: list[float]) -> S3Storage:
    """The bucket through the proxy."""
    return S3Storage(bucket, S3Endpoint.from_environment())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is given up after a second."""
    monkeypatch.setattr(s3_endpoint, "READ_SECONDS", 1)


# Reading.


@pytest.mark.parametrize("kind", ["reset", "truncated", "stalled"])
def test_a_body_that_breaks_is_read_on(proxy: FaultProxy, storage: S3Storage, impatient, direct, kind: Kind, soak: bool, tried):
    chance = random.Random(kind)
    bodies = (4 if kind == "stalled" else 12) * (20 if soak else 1)
    for number in range(bodies):
        content = chance.randbytes(chance.randint(1, 9 << 20))
        etag = direct.put_object(Bucket=storage.bucket, Key="object", Body=content)["ETag"].strip('"')
        proxy.requests.clear()
        proxy.faults = [Fault(kind, "/object", at=chance.random()) for _ in range(chance.randint(1, 3))]
        with storage.open("object", etag if number % 2 else None) as stream:
            read = [stream.read(chance.choice([100, 70_000, 4 << 20])) for _ in range(3)]
            read.append(stream.read())
        assert b"".join(read) == content
        first, *others = proxy.made("GET")
        assert "range" not in first.headers
        assert others
        assert all(one.headers["if-match"] == f'"{etag}"' for one in others)
    tried("S3 bodies read on after they broke", bodies)


def test_the_head_of_an_object_is_read_on_too(proxy: FaultProxy, storage: S3Storage, direct):
    direct.put_object(Bucket=storage.bucket, Key="object", Body=bytes(range(200)))
    proxy.faults = [Fault("truncated", "/object"), Fault("truncated", "/object", at=0.3)]
    assert storage.head("object", 100) == bytes(range(100))
    assert [one.headers["range"] for one in proxy.made("GET")] == ["bytes=0-99", "bytes=50-99", "bytes=65-99"]
    assert storage.head("object", 1_000) == bytes(range(200))


def test_a_body_that_always_breaks_is_the_objects_failure(proxy: FaultProxy, storage: S3Storage, direct, slept: list[float]):
    direct.put_object(Bucket=storage.bucket, Key="object", Body=bytes(1_000))
    proxy.faults = [Fault("truncated", "/object", times=FOR_GOOD, at=0.0)]
    with pytest.raises(ObjectError, match=r"^unreadable: the connection broke 8 times, at last after 0 of 1,000 bytes \(\w+\)$"):
        storage.open("object").read()
    assert len(proxy.made("GET")) == resumed_body.TRIES
    assert sum(slept) < 15


def test_an_object_replaced_while_it_is_read_is_not_read_by_halves(proxy: FaultProxy, storage: S3Storage, direct):
    direct.put_object(Bucket=storage.bucket, Key="object", Body=b"a" * 1_000)
    other = {"Bucket": storage.bucket, "Key": "object", "Body": b"b" * 1_000}
    proxy.faults = [Fault("reset", "/object"), Fault("meanwhile", "/object", act=lambda: direct.put_object(**other))]
    with pytest.raises(ObjectError, match=r"^replaced: "):
        storage.open("object").read()


def test_a_late_first_byte_is_waited_for_within_the_timeout(proxy: FaultProxy, storage: S3Storage, impatient, direct):
    direct.put_object(Bucket=storage.bucket, Key="object", Body=b"abc")
    proxy.faults = [Fault("slow", "/object", seconds=0.5)]
    assert storage.open("object").read() == b"abc"
    assert len(proxy.made("GET")) == 1
    proxy.faults = [Fault("slow", "/object", seconds=2.5, times=2)]
    assert storage.open("object").read() == b"abc"
    assert len(proxy.made("GET")) == 1 + 3


@pytest.mark.parametrize("kind, code", [("refused", "SlowDown"), ("refused", "InternalError"), ("dropped", ""), ("unanswered", "")])
def test_a_burst_while_reading_is_waited_out(proxy: FaultProxy, storage: S3Storage, direct, kind: Kind, code: str, slept: list[float]):
    direct.put_object(Bucket=storage.bucket, Key="object", Body=b"abc")
    proxy.faults = [Fault(kind, "/object", times=REQUESTS - 1, code=code)]
    assert storage.open("object").read() == b"abc"
    assert len(slept) == REQUESTS - 1


@pytest.mark.parametrize(
    "code, kind, requests, words",
    [
        ("SlowDown", StorageError, REQUESTS, "S3 kept asking for fewer requests"),
        ("ServiceUnavailable", StorageError, REQUESTS, "S3 kept failing"),
        ("ExpiredToken", StorageError, 1, "the credentials have expired"),
        ("InvalidAccessKeyId", StorageError, 1, "S3 does not accept the credentials"),
        ("AccessDenied", ObjectError, 1, "denied: "),
        ("InvalidObjectState", ObjectError, 1, "archived: "),
    ],
)
def test_what_does_not_end_is_given_up(
    proxy: FaultProxy, storage: S3Storage, direct, slept: list[float], code: str, kind: type[FlowlogError], requests: int, words: str
):
    direct.put_object(Bucket=storage.bucket, Key="object", Body=b"abc")
    proxy.faults = [Fault("refused", "/object", times=FOR_GOOD, code=code)]
    with pytest.raises(FlowlogError) as raised:
        storage.open("object")
    assert type(raised.value) is kind
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(proxy.made("GET")) == requests
    assert sum(slept) < 60


def test_a_listing_is_whole(proxy: FaultProxy, storage: S3Storage, direct, monkeypatch):
    monkeypatch.setattr(s3_endpoint, "READ_SECONDS", 5)
    keys = [f"logs/{number:04}" for number in range(1_010)]
    for key in keys:
        direct.put_object(Bucket=storage.bucket, Key=key, Body=b"")
    kinds: list[Kind] = ["refused", "dropped", "unanswered", "reset", "truncated", "stalled"]
    for kind in kinds:
        proxy.faults = [Fault(kind, "continuation-token"), Fault(kind, "list-type")]
        assert [one.key for one in storage.objects("logs/")] == keys
    proxy.faults = [Fault("refused", "list-type", times=FOR_GOOD)]
    with pytest.raises(StorageError, match=rf"^s3://{storage.bucket}/logs/ cannot be listed: S3 kept asking for fewer requests"):
        list(storage.objects("logs/"))


# Writing.


@pytest.mark.parametrize("kind", ["refused", "dropped", "unanswered", "misreported"])
@pytest.mark.parametrize("size", [1_000, 20 << 20])
def test_what_is_written_is_there_whole(proxy: FaultProxy, storage: S3Storage, direct, tmp_path: Path, kind: Kind, size: int):
    content = random.Random(size).randbytes(size)
    local = tmp_path / "local"
    local.write_bytes(content)
    proxy.faults = [Fault(kind, "/part", method, times=3) for method in ("PUT", "POST")]
    storage.put(local, "part")
    assert direct.get_object(Bucket=storage.bucket, Key="part")["Body"].read() == content
    assert not local.exists()


@pytest.mark.parametrize("kind", ["refused", "dropped", "unanswered", "misreported"])
def test_a_folder_is_replaced_and_emptied(proxy: FaultProxy, storage: S3Storage, direct, kind: Kind):
    for key in ("day/old", "staged/new"):
        direct.put_object(Bucket=storage.bucket, Key=key, Body=key.encode())
    proxy.faults = [Fault(kind, "", method, times=3) for method in ("HEAD", "PUT", "DELETE")]
    storage.replace_folder("day/", ["staged/new"])
    assert [one.key for one in storage.objects("")] == ["day/new"]
    assert storage.open("day/new").read() == b"staged/new"


@pytest.mark.parametrize("code, words", [("SlowDown", "S3 kept asking"), ("ExpiredToken", "the credentials have expired")])
def test_writing_that_does_not_succeed_is_one_line(proxy: FaultProxy, storage: S3Storage, direct, tmp_path: Path, code: str, words: str):
    direct.put_object(Bucket=storage.bucket, Key="staged/new", Body=b"")
    local = tmp_path / "local"
    local.write_bytes(b"abc")
    proxy.faults = [Fault("refused", "", method, times=FOR_GOOD, code=code) for method in ("PUT", "DELETE")]
    for did, what in (
        (lambda: storage.put(local, "part"), f"s3://{storage.bucket}/part cannot be written"),
        (lambda: storage.delete(["staged/new"]), f"s3://{storage.bucket}/staged/new cannot be deleted"),
        (lambda: storage.replace_folder("day/", ["staged/new"]), f"s3://{storage.bucket}/day/new cannot be written"),
    ):
        with pytest.raises(StorageError, match=f"^{what}: {words}[^\n]*$"):
            did()
    assert local.exists()


# Committing.


def held(rows: int) -> pa.Table:
    columns = {"object_key": ["a"] * rows, "line_number": list(range(rows)), "line": ["x"] * rows, "reason": ["bad_value"] * rows}
    return pa.table(columns).cast(REJECTS.schema)


def replace(warehouse: Warehouse, rows: int) -> None:
    warehouse.replace_day(REJECTS, DAY, warehouse.write_rows(REJECTS, DAY, held(rows)), inputs=f"of {rows}", now=NOW)


def append(warehouse: Warehouse, rows: int) -> None:
    warehouse.append(REJECTS, DAY, held(rows), now=NOW)


def rows_of(warehouse: Warehouse) -> int:
    return sum(rows.num_rows for rows in warehouse.rows(REJECTS, [key for _, key in warehouse.part_keys(REJECTS)], ["line"]))


def commits_of(direct: Any, bucket: str) -> list[str | None]:
    """The inputs that each commit carries."""
    found = []
    for entry in direct.list_objects_v2(Bucket=bucket, Prefix="tables/rejects/_delta_log/").get("Contents", ()):
        actions = map(json.loads, direct.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read().splitlines())
        found += [action["commitInfo"].get("flowlog.inputs") for action in actions if "commitInfo" in action]
    return found


@pytest.fixture
def warehouse(proxy: FaultProxy, bucket: str) -> Warehouse:
    return Warehouse.open(f"s3://{bucket}/tables")


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("kind", ["refused", "dropped", "unanswered", "misreported"])
def test_a_commit_lands_once(proxy: FaultProxy, warehouse: Warehouse, direct, bucket: str, kind: Kind, times: int):
    for commit, rows, total in ((replace, 3, 3), (replace, 5, 5), (append, 2, 7), (replace, 4, 4)):
        proxy.faults = [Fault(kind, "_delta_log/", "PUT", times=times, code="InternalError" if kind == "misreported" else "SlowDown")]
        commit(warehouse, rows)
        assert rows_of(warehouse) == total
    inputs = [json.dumps({str(DAY): f"of {rows}"}) for rows in (3, 5, 4)]
    assert commits_of(direct, bucket) == [*inputs[:2], None, inputs[2]]


@pytest.mark.parametrize("kind", ["refused", "dropped", "unanswered", "misreported"])
def test_a_day_without_rows_is_committed_too(proxy: FaultProxy, warehouse: Warehouse, direct, bucket: str, kind: Kind):
    for rows in (0, 3, 0):
        proxy.faults = [Fault(kind, "_delta_log/", "PUT", times=2)]
        replace(warehouse, rows)
        assert rows_of(warehouse) == rows
        assert commits_of(direct, bucket)[-1] == json.dumps({str(DAY): f"of {rows}"})


@pytest.mark.parametrize("kind", ["refused", "dropped", "unanswered", "reset", "truncated"])
def test_a_table_is_read_as_it_is(proxy: FaultProxy, warehouse: Warehouse, kind: Kind):
    replace(warehouse, 3)
    for _ in range(3):
        proxy.faults = [Fault(kind, "_delta_log/", times=2), Fault(kind, "list-type", times=2), Fault(kind, "part-", times=2)]
        assert rows_of(warehouse) == 3


@pytest.mark.parametrize(
    "kind, code, words",
    [
        ("refused", "ExpiredToken", "cannot commit: the credentials have expired; renew them and run again (ExpiredToken)"),
        ("refused", "AccessDenied", "cannot commit: S3 answered AccessDenied: Injected by a test."),
        ("refused", "SlowDown", "cannot commit: S3 kept asking for fewer requests"),
        ("dropped", "", "8 tries to commit 2026-03-10 got no answer: Generic S3 error"),
    ],
)
def test_a_commit_that_does_not_succeed_is_one_line(
    proxy: FaultProxy, warehouse: Warehouse, monkeypatch, direct, bucket: str, kind: Kind, code: str, words: str
):
    # Else delta-rs repeats a refused request for minutes, and we a lost one for a quarter.
    monkeypatch.setattr(delta, "FIRST_PAUSE_SECONDS", 0.001)
    told = S3Endpoint.deltalake_options
    monkeypatch.setattr(S3Endpoint, "deltalake_options", lambda self: told(self) | {"max_retries": "2"})
    for before in (0, 3):
        proxy.faults = [Fault(kind, "_delta_log/", "PUT", times=FOR_GOOD, code=code)]
        for commit in (replace, append):
            with pytest.raises(StorageError) as raised:
                commit(warehouse, 5)
            assert str(raised.value).startswith(f"s3://{bucket}/tables/rejects: {words}")
            assert "\n" not in str(raised.value)
        proxy.faults = []
        # Nothing is there that was not; the next try is right.
        assert rows_of(warehouse) == before
        replace(warehouse, 3)
        assert rows_of(warehouse) == 3


def test_part_files_that_cannot_be_read_fail_the_run(proxy: FaultProxy, warehouse: Warehouse, slept: list[float]):
    """Not as an object would: without them the rows of a day are not whole."""
    replace(warehouse, 3)
    for fault in (
        Fault("truncated", "part-", times=FOR_GOOD, at=0.1),
        Fault("refused", "part-", times=FOR_GOOD, code="AccessDenied"),
        Fault("refused", "part-", times=FOR_GOOD, code="SlowDown"),
    ):
        proxy.faults = [fault]
        with pytest.raises(StorageError, match=r"^s3://\S+/part-\S+\.parquet cannot be read: "):
            rows_of(warehouse)


# Whole runs.


@pytest.fixture
def run(spark: Any, proxy: FaultProxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`run(*options)`: the day of the bucket's logs, into its tables. Workers get the credentials that a cluster's nodes would have."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setitem(spark.sparkContext.environment, name, "testing")
    wanted = ["--source", f"s3://{bucket}/logs", "--warehouse", f"s3://{bucket}/tables", "--day", str(DAY)]
    return lambda *options: run_steps("test", STEPS, lambda: spark, [*wanted, *options])


INGEST = ("--until", "ingest_records")


def tree_in(direct: Any, bucket: str) -> LogTree:
    return LogTree(lambda key, content: direct.put_object(Bucket=bucket, Key=f"logs/{key}", Body=content))


def objects_of(warehouse: Warehouse) -> dict[str, str | None]:
    """The error of each object."""
    keys = [key for _, key in warehouse.part_keys(OBJECTS)]
    return {one["key"]: one["error"] for rows in warehouse.rows(OBJECTS, keys, ["key", "error"]) for one in rows.to_pylist()}


def test_objects_gone_and_replaced_meanwhile_are_rows(proxy: FaultProxy, run, direct, bucket: str, warehouse: Warehouse, capsys):
    tree = tree_in(direct, bucket)
    keys = [f"logs/{tree.text('10T0005', [row(at('10T00:01:00'))], mark=mark)}" for mark in range(210)]
    gone, replaced = keys[100], keys[200]
    content = direct.get_object(Bucket=bucket, Key=keys[0])["Body"].read()
    proxy.faults = [
        Fault("meanwhile", gone, act=lambda: direct.delete_object(Bucket=bucket, Key=gone)),
        Fault("meanwhile", replaced, act=lambda: direct.put_object(Bucket=bucket, Key=replaced, Body=content + content)),
    ]
    assert run(*INGEST) == 0
    errors = objects_of(warehouse)
    assert list(errors) == keys
    assert {key: error for key, error in errors.items() if error} == {
        gone: "gone: the object vanished between listing and reading",
        replaced: "replaced: the object changed between listing and reading",
    }
    assert run(*INGEST) == 0
    assert objects_of(warehouse) == {key: None for key in keys if key != gone}


def test_credentials_that_expire_are_one_line_and_replace_nothing(
    proxy: FaultProxy, run, direct, bucket: str, warehouse: Warehouse, capsys
):
    tree = tree_in(direct, bucket)
    keys = [f"logs/{tree.text('10T0005', [row(at('10T00:01:00'))], mark=mark)}" for mark in range(30)]
    assert run(*INGEST) == 0
    tree.text("10T0010", [row(at("10T00:06:00"))])
    capsys.readouterr()
    # When the source is listed, its headers read, its objects read, part files written, and the first table committed.
    for target, method, before in (
        ("list-type.*logs/", "GET", 0),
        (r"\.log\.gz", "GET", 0),
        (r"\.log\.gz", "GET", 1),
        (r"part-.*\.parquet", "PUT", 0),
        ("_delta_log/", "PUT", 0),
    ):
        spared = Fault("meanwhile", target, method, times=before)
        proxy.faults = [spared, Fault("refused", target, method, times=FOR_GOOD, code="ExpiredToken")]
        assert run(*INGEST) == 3
        last = capsys.readouterr().err.splitlines()[-1]
        assert re.fullmatch(r"flowlog: s3://\S+ cannot .*: the credentials have expired; renew them and run again \(ExpiredToken\)", last)
        assert objects_of(warehouse) == dict.fromkeys(keys)
    proxy.faults = []
    assert run(*INGEST) == 0
    assert len(objects_of(warehouse)) == 31


def test_access_denied_to_some_objects_is_theirs_and_to_all_is_the_runs(
    proxy: FaultProxy, run, direct, bucket: str, warehouse: Warehouse, capsys
):
    tree = tree_in(direct, bucket)
    for mark in range(110):
        tree.text("10T0005", [row(at("10T00:01:00"))], mark=mark)
    for denied, status, failed in ((1, 0, 1), (5, 2, 5), (110, 3, 5)):
        proxy.faults = [Fault("refused", rf"_{mark:08x}\.log\.gz", times=FOR_GOOD, code="AccessDenied") for mark in range(denied)]
        assert run(*INGEST) == status
        errors = [error for error in objects_of(warehouse).values() if error]
        assert errors == ["denied: S3 refused access to the object"] * failed
    last = "flowlog: S3 refused access to all 110 objects of the day; nothing was replaced. Allow s3:GetObject on the source"
    assert capsys.readouterr().err.splitlines()[-1].startswith(last)


def test_throttling_without_end_is_one_line_and_replaces_nothing(
    proxy: FaultProxy, run, direct, bucket: str, warehouse: Warehouse, capsys, soak: bool
):
    if not soak:
        pytest.skip("workers pause for real, about a minute")
    tree = tree_in(direct, bucket)
    keys = [f"logs/{tree.text('10T0005', [row(at('10T00:01:00'))], mark=mark)}" for mark in range(30)]
    assert run(*INGEST) == 0
    proxy.faults = [Fault("meanwhile", r"\.log\.gz"), Fault("refused", r"\.log\.gz", times=FOR_GOOD)]
    assert run(*INGEST) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be read: S3 kept asking for fewer requests; run again later, or with fewer tasks at once (SlowDown)" in said
    assert objects_of(warehouse) == dict.fromkeys(keys)


def test_a_day_in_a_storm_has_the_same_tables(proxy: FaultProxy, direct, bucket: str, tmp_path: Path, soak: bool, tried):
    """Every request may meet a fault: listings, reads, part files, commits, the report. All is as after a quiet run."""
    make_sample(SampleRequest(f"s3://{bucket}/logs", DAY, connections=400, objects=12, seed=7))
    local = mirrored(direct, bucket, "logs/", tmp_path / "logs")
    seeds = range(1, 21 if soak else 2)
    variables = {"AWS_ENDPOINT_URL_S3": proxy.url, "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    for name in ("quiet", *seeds):
        proxy.storm = Storm(name) if name != "quiet" else None
        wanted = ["--source", f"s3://{bucket}/logs", "--warehouse", f"s3://{bucket}/{name}", "--day", str(DAY)]
        files = ["--inventory", local / "inventory.json", "--policy", local / "policy.toml"]
        # In a process of its own: delta-rs holds Python's lock while it reads a table's history, and the server is in this one.
        done = submit(*wanted, *files, environment=variables)
        assert done.returncode == 0, done.stderr
    quiet = contents(mirrored(direct, bucket, "quiet/", tmp_path / "quiet"))
    assert len(quiet) > 15
    for seed in seeds:
        assert contents(mirrored(direct, bucket, f"{seed}/", tmp_path / str(seed))) == quiet
    assert proxy.injected.total() > 20 * len(seeds)
    tried("whole days run in a storm of S3 faults", len(seeds))


def mirrored(direct: Any, bucket: str, prefix: str, folder: Path) -> Path:
    for page in direct.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page["Contents"]:
            path = folder / entry["Key"].removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(direct.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read())
    return folder


def contents(warehouse: Path) -> dict[str, Any]:
    """The rows of each table, the time of the run apart, and the latest report."""
    reports = {path.name: path.read_bytes() for path in (warehouse / "reports" / f"day={DAY}").glob("report.*")}
    tables = [path.name for path in warehouse.iterdir() if (path / "_delta_log").exists()]
    return reports | {
        name: [row | {"published_at": None} if name == "runs" else row for row in stored.rows(warehouse, name)] for name in tables
    }
