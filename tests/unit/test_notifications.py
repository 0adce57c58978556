"""Events of S3 in a queue become lists of keys; until they are written, no message is deleted."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable, Sequence
from datetime import date, datetime, timezone
from pathlib import Path

import boto3
import pytest

from flowlog_udfs import notifications
from flowlog_udfs.errors import StorageError, UsageError
from flowlog_udfs.key_lists import KeyEvent, known_day
from flowlog_udfs.keys import DayScope
from flowlog_udfs.notifications import Message, SqsQueue, collect, events_of
from flowlog_udfs.s3_endpoint import S3Endpoint
from flowlog_udfs.storage import FolderStorage, S3Storage, open_storage

ROOT = Path(__file__).parents[2]
DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
FOLDER = "a team+1/AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/10/"
ENCODED = "a+team%2B1/AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/10/"


def name(number: int) -> str:
    return f"123456789012_vpcflowlogs_us-east-1_fl-1_20260310T0105Z_{number:08x}.log.gz"


def s3_record(number: int = 1, what: str = "ObjectCreated:Put", **item: object) -> dict:
    """After "Event message structure" (S3 user guide)."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-03-10T12:00:00.000Z",
        "eventName": what,
        "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "keys",
            "bucket": {"name": "b", "ownerIdentity": {"principalId": "A1"}, "arn": "arn:aws:s3:::b"},
            "object": {"key": ENCODED + name(number), "size": 812, "eTag": "tag", "sequencer": "0055AED6DCD90281E5"} | item,
        },
    }


def eventbridge_event(number: int = 1, what: str = "Object Created", **detail: object) -> dict:
    """After "EventBridge event message structure" (S3 user guide); keys are as they are."""
    item = {"key": FOLDER + name(number), "size": 812, "etag": "tag", "version-id": "v1", "sequencer": "0055AED6DCD90281E5"}
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": what,
        "source": "aws.s3",
        "account": "111122223333",
        "time": "2026-03-10T12:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:s3:::b"],
        "detail": {"version": "0", "bucket": {"name": "b"}, "object": item, "request-id": "N4", "requester": "1", "reason": "PutObject"}
        | detail,
    }


def event(number: int = 1, kind: str = "created", version: str = "") -> KeyEvent:
    created = (812, "tag") if kind == "created" else (0, "")
    return KeyEvent("b", FOLDER + name(number), kind, NOON, *created, version, "0055AED6DCD90281E5")


@pytest.mark.parametrize(
    "message, events",
    [
        ({"Records": [s3_record()]}, [event()]),
        (
            {"Records": [s3_record(1), s3_record(2, "ObjectCreated:CompleteMultipartUpload", versionId="v7")]},
            [event(), event(2, version="v7")],
        ),
        ({"Records": [s3_record(versionId="null")]}, [event()]),
        ({"Records": [s3_record(what="ObjectRemoved:Delete")]}, [event(kind="deleted")]),
        ({"Records": [s3_record(what="ObjectRemoved:DeleteMarkerCreated", versionId="v2")]}, [event(kind="marked", version="v2")]),
        ({"Records": [s3_record(what="LifecycleExpiration:Delete")]}, [event(kind="deleted")]),
        ({"Records": [s3_record(what="ObjectTagging:Put")]}, []),
        ({"Type": "Notification", "TopicArn": "arn:x", "Message": json.dumps({"Records": [s3_record()]})}, [event()]),
        (eventbridge_event(), [event(version="v1")]),
        (eventbridge_event(what="Object Deleted", **{"deletion-type": "Permanently Deleted"}), [event(kind="deleted", version="v1")]),
        (eventbridge_event(what="Object Deleted", **{"deletion-type": "Delete Marker Created"}), [event(kind="marked", version="v1")]),
        (eventbridge_event(what="Object Tags Added"), []),
        ({"Type": "Notification", "Message": json.dumps(eventbridge_event())}, [event(version="v1")]),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-03-10T12:00:00.000Z", "Bucket": "b"}, []),
        # What is no event of S3, or lacks what it must have.
        ({"Records": []}, None),
        ({"Records": [{"eventSource": "aws:ses"}]}, None),
        ({"Records": [s3_record(), {"eventSource": "aws:s3"}]}, None),
        ({"Records": [s3_record(eTag=None)]}, None),
        ({"Records": [s3_record(size="large")]}, None),
        ({"source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification", "detail": {}}, None),
        (eventbridge_event(what="Object Deleted"), None),
        ({"Type": "Notification", "Message": "hello"}, None),
        ("hello", None),
        ([1], None),
    ],
)
def test_messages(message, events):
    assert events_of(json.dumps(message)) == events


def test_what_is_not_even_json():
    assert events_of("<xml/>") is None


class Clock:
    """Seconds that pass only when something is done."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeQueue:
    """A queue that delivers what was received and not deleted again, when asked to."""

    def __init__(self, bodies: Sequence[object], clock: Clock, *, seconds: float = 0.0) -> None:
        self.waiting = [Message(f"id-{number}", f"receipt-{number}", json.dumps(body)) for number, body in enumerate(bodies)]
        self.hidden: list[Message] = []
        self.clock, self.seconds, self.waits = clock, seconds, list[int]()
        self.deletions: list[int] = []

    def receive(self, wait_seconds: int) -> Sequence[Message]:
        self.waits.append(wait_seconds)
        found, self.waiting = self.waiting[:10], self.waiting[10:]
        self.clock.now += self.seconds if found else wait_seconds
        self.hidden += found
        return found

    def delete(self, messages: Sequence[Message]) -> int:
        self.deletions.append(len(messages))
        self.hidden = [one for one in self.hidden if one not in messages]
        return 0

    def reappear(self) -> None:
        self.waiting, self.hidden = self.hidden, []


def known(folder: Path) -> list[str]:
    storage = S3Storage("b", S3Endpoint(None, "us-east-1"))
    return [one.stored.key for one in known_day(str(folder), storage, DayScope("", DAY, 2)).objects]


def lists(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jsonl"))


def run(queue: FakeQueue, folder: Path, **options: object) -> notifications.Collected:
    return collect(queue, *open_storage(str(folder)), clock=queue.clock, **options)


def test_a_queue_is_emptied_into_few_lists_and_strangers_stay(tmp_path):
    bodies = [{"Records": [s3_record(number)]} for number in range(45)]
    strange = [{"hello": 1}, {"Records": [s3_record(key=ENCODED + "x", size=None)]}]
    other = [{"Records": [s3_record(key="AWSLogs/1/CloudTrail/us-east-1/x.json.gz")]}, {"Service": "Amazon S3", "Event": "s3:TestEvent"}]
    queue = FakeQueue([*bodies, *strange, *other, {"Records": [s3_record(key=ENCODED + "notes.txt")]}], Clock())
    done = run(queue, tmp_path)
    assert (done.messages, done.events, done.elsewhere, list(done.strange)) == (48, {DAY: 46}, 1, ["id-45", "id-46"])
    assert [one.id for one in queue.hidden] == ["id-45", "id-46"]
    assert known(tmp_path) == [FOLDER + name(number) for number in range(45)]
    assert len(lists(tmp_path)) == 1
    queue.reappear()
    assert run(queue, tmp_path).messages == 0
    assert len(lists(tmp_path)) == 1


@pytest.mark.parametrize("held, seconds, count", [(20, 0.0, 5), (10_000, 31.0, 4), (10_000, 13.0, 2), (10_000, 0.0, 1)])
def test_lists_are_written_every_so_many_messages_or_seconds(tmp_path, monkeypatch, held, seconds, count):
    monkeypatch.setattr(notifications, "HELD_MESSAGES", held)
    queue = FakeQueue([{"Records": [s3_record(number)]} for number in range(100)], Clock(), seconds=seconds)
    assert run(queue, tmp_path).messages == 100
    assert len(lists(tmp_path)) == len(queue.deletions) == count
    assert len(known(tmp_path)) == 100


def test_a_number_of_seconds_is_kept_to_and_waited_for(tmp_path):
    queue = FakeQueue([{"Records": [s3_record()]}], Clock())
    assert run(queue, tmp_path, seconds=45).messages == 1
    assert queue.clock.now == 45
    assert queue.waits == [20, 20, 20, 5]
    busy = FakeQueue([{"Records": [s3_record(number)]} for number in range(100)], Clock(), seconds=10)
    assert run(busy, tmp_path, seconds=45).messages == 50
    assert busy.hidden == []


@pytest.mark.parametrize("broken", ["put", "delete"])
def test_a_stop_between_writing_and_deleting_loses_nothing_and_doubles_nothing(tmp_path, monkeypatch, broken):
    queue = FakeQueue([{"Records": [s3_record(number)]} for number in range(30)], Clock())

    def stop(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*((FolderStorage, "put") if broken == "put" else (queue, "delete")), stop)
        with pytest.raises(KeyboardInterrupt):
            run(queue, tmp_path)
    assert len(queue.hidden) == 30
    assert len(lists(tmp_path)) == (broken == "delete")
    # They come again, in another order and with another one.
    queue.reappear()
    queue.waiting = [Message("new", "new", json.dumps({"Records": [s3_record(99)]})), *queue.waiting[::-1]]
    assert run(queue, tmp_path).messages == 31
    assert queue.hidden == []
    assert known(tmp_path) == [FOLDER + name(number) for number in (*range(30), 99)]


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    main = runpy.run_path(str(ROOT / "jobs" / "collect_keys.py"))["main"]
    return lambda *words: main([str(word) for word in words])


@pytest.mark.parametrize("through_topic", [False, True])
def test_the_job_on_a_real_queue(s3, queue, job, tmp_path, capsys, through_topic):
    bucket = s3()
    url = queue(bucket, through_topic=through_topic)
    client = boto3.client("s3")
    for number in range(12):
        client.put_object(Bucket=bucket, Key=FOLDER + name(number), Body=b"x" * (number + 1))
    client.delete_object(Bucket=bucket, Key=FOLDER + name(3))
    boto3.client("sqs").send_message(QueueUrl=url, MessageBody="hello")
    assert job("--queue", url, "--keys", tmp_path) == 0
    told = capsys.readouterr()
    assert told.out == (
        "messages   14 taken from the queue, 1 left there (no events of S3)\n"
        "keys       13 events written, 0 passed over (below no date of flow logs)\n"
        "day        2026-03-10: 13\n"
    )
    assert told.err.startswith("flowlog: message ") and told.err.endswith(" is no event of S3 and stays in the queue\n")
    storage = open_storage(f"s3://{bucket}")[0]
    found = known_day(str(tmp_path), storage, DayScope("", DAY, 2)).objects
    assert [(one.stored.key, one.stored.size_bytes) for one in found] == [(FOLDER + name(n), n + 1) for n in range(12) if n != 3]
    for one in found:
        assert len(storage.open(one.stored.key, one.stored.etag).read()) == one.stored.size_bytes
    counts = boto3.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (counts["ApproximateNumberOfMessages"], counts["ApproximateNumberOfMessagesNotVisible"]) == ("0", "1")


def test_wrong_use_and_refusals_are_one_line(s3, queue, job, tmp_path, capsys, monkeypatch):
    url = queue()
    assert job("--queue", "my-queue", "--keys", tmp_path) == 1
    assert capsys.readouterr().err == "flowlog: --queue my-queue: is not the URL of an SQS queue; `aws sqs get-queue-url` tells it\n"
    assert job("--queue", url) == 1
    assert job("--queue", url + "-not", "--keys", tmp_path) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"flowlog: --queue {url}-not: SQS answered ")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    assert job("--queue", url, "--keys", tmp_path) == 3
    assert "Unable to locate credentials" in capsys.readouterr().err


def test_the_region_is_that_of_the_url(monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL_SQS", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    queue = SqsQueue("https://sqs.eu-west-3.amazonaws.com/123456789012/keys")
    assert queue._client.meta.region_name == "eu-west-3"
    with pytest.raises(UsageError):
        SqsQueue("https://sqs.eu-west-3.amazonaws.com/")


def test_messages_that_could_not_be_deleted_are_counted(s3, queue):
    queue_of = SqsQueue(queue())
    assert queue_of.delete([Message("1", "no receipt", "")]) == 1
    with pytest.raises(StorageError):
        SqsQueue(queue() + "-not").receive(1)
