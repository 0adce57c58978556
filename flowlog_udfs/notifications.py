"""S3 event notifications in an SQS queue to key lists: messages in, lines of lists out, and only then are the messages deleted.

A stop between the two leaves an event both in a list and in the queue, and so in the lists twice, which changes nothing; none is lost.
Messages come from S3 itself, through SNS, or through EventBridge; what is none of these stays in the queue.

Source: AWS, "Event message structure" and "EventBridge event message structure" (S3 user guide).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol
from urllib.parse import unquote_plus

from flowlog_udfs.errors import StorageError, UsageError
from flowlog_udfs.key_lists import EventKind, KeyEvent, add_events
from flowlog_udfs.keys import day_folder
from flowlog_udfs.s3_endpoint import refuse_plain_http
from flowlog_udfs.s3_inventory import size_and_etag, utc_time
from flowlog_udfs.storage import Storage

HELD_MESSAGES = 10_000
HELD_SECONDS = 60.0
"""A list is written after so many messages or so long a time, whichever comes first: few lists, and messages not hidden in vain."""
HIDDEN_SECONDS = 600
"""How long a received message is hidden from other receivers: well over what it takes to write a list and delete its messages."""
WAIT_SECONDS = 20
"""The longest that SQS lets a receiver wait. To wait at all makes it ask all of its servers: an empty answer is an empty queue."""

_S3_KINDS: dict[str, EventKind] = {
    "ObjectRemoved:Delete": "deleted",
    "ObjectRemoved:DeleteMarkerCreated": "marked",
    "LifecycleExpiration:Delete": "deleted",
    "LifecycleExpiration:DeleteMarkerCreated": "marked",
}
_EVENTBRIDGE_KINDS: dict[str, EventKind] = {"Permanently Deleted": "deleted", "Delete Marker Created": "marked"}


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a queue, and the receipt by which it is deleted."""

    id: str
    receipt: str
    body: str


class Queue(Protocol):
    """What is needed of a queue."""

    def receive(self, wait_seconds: int) -> Sequence[Message]:
        """Some messages; none when the queue stayed empty for so long."""
        ...

    def delete(self, messages: Sequence[Message]) -> int:
        """Delete messages; how many were not, which come again."""
        ...


class SqsQueue:
    """An SQS queue by its URL. Region and credentials come from AWS's default chain, the Region first from the URL."""

    def __init__(self, url: str) -> None:
        import boto3

        if not re.match(r"https?://[^/]+/.", url):
            raise UsageError(f"--queue {url}: is not the URL of an SQS queue; `aws sqs get-queue-url` tells it")
        found = re.match(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.", url)
        sqs: Any = boto3.Session()
        self._url = url
        self._client = self._asked(lambda: sqs.client("sqs", region_name=found[1] if found else None))
        refuse_plain_http(self._client.meta.endpoint_url)

    def receive(self, wait_seconds: int) -> Sequence[Message]:
        """Up to ten messages; raises `StorageError` when SQS refuses."""
        wanted = {"MaxNumberOfMessages": 10, "WaitTimeSeconds": wait_seconds, "VisibilityTimeout": HIDDEN_SECONDS}
        answer = self._asked(lambda: self._client.receive_message(QueueUrl=self._url, **wanted))
        return [Message(one["MessageId"], one["ReceiptHandle"], one["Body"]) for one in answer.get("Messages", ())]

    def delete(self, messages: Sequence[Message]) -> int:
        """Delete messages, ten to a request; raises `StorageError` when SQS refuses a request whole."""
        failed = 0
        for first in range(0, len(messages), 10):
            entries = [{"Id": str(place), "ReceiptHandle": one.receipt} for place, one in enumerate(messages[first : first + 10])]
            failed += len(self._asked(lambda: self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)).get("Failed", ()))  # noqa: B023
        return failed

    def _asked(self, request: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return request()
        except ClientError as error:
            # Not its message: for a wrong signature that quotes the request.
            raise StorageError(f"--queue {self._url}: SQS answered {error.response['Error']['Code']}") from error
        except BotoCoreError as error:
            raise StorageError(f"--queue {self._url}: {error}") from error


@dataclass
class Collected:
    """What became of the messages of a queue. `events` are in lists, by date; `elsewhere` are events of keys that no day's run reads."""

    messages: int = 0
    undeleted: int = 0
    elsewhere: int = 0
    events: Counter[date] = field(default_factory=Counter)
    strange: dict[str, None] = field(default_factory=dict)
    """Ids of messages that are no events of S3, left in the queue; one may have come several times."""


def collect(queue: Queue, storage: Storage, prefix: str, *, clock: Callable[[], float], seconds: float | None = None) -> Collected:
    """Move the events of a queue into the lists below `prefix`: until it is empty, or for so many seconds of `clock`."""
    done, held, events = Collected(), list[Message](), list[KeyEvent]()
    ends, since = None if seconds is None else clock() + seconds, clock()
    while True:
        left = 1.0 if ends is None else ends - clock()
        received = queue.receive(min(WAIT_SECONDS, max(1, int(left)))) if left > 0 else ()
        since = since if held else clock()
        for message in received:
            found = events_of(message.body)
            if found is None:
                done.strange[message.id] = None
            else:
                held.append(message)
                events += found
        if held and (not received or len(held) >= HELD_MESSAGES or clock() - since >= HELD_SECONDS):
            filed = [one for one in events if day_folder(one.key[: one.key.rfind("/") + 1])]
            done.events += add_events(storage, prefix, filed)
            done.undeleted += queue.delete(held)
            done.messages += len(held)
            done.elsewhere += len(events) - len(filed)
            held, events = [], []
        if not received and (ends is None or left <= 0):
            return done


def events_of(body: str) -> list[KeyEvent] | None:
    """The events of a message about created and deleted objects; None when it is no event of S3, or one that lacks what it must have.

    S3's test event, and its events of other kinds, are messages without any.
    """
    try:
        return list(_events(json.loads(body)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _events(found: Any) -> Iterator[KeyEvent]:
    if found.get("Type") == "Notification":
        yield from _events(json.loads(found["Message"]))
    elif found.get("source") == "aws.s3":
        yield from _eventbridge_event(found)
    elif found.get("Event") != "s3:TestEvent":
        if not found["Records"]:
            raise ValueError("a message without a record")
        for record in found["Records"]:
            yield from _s3_event(record)


def _s3_event(record: Any) -> Iterator[KeyEvent]:
    if record["eventSource"] != "aws:s3":
        raise ValueError(record["eventSource"])
    name = record["eventName"].removeprefix("s3:")
    kind = "created" if name.startswith("ObjectCreated:") else _S3_KINDS.get(name)
    if kind:
        bucket, item = record["s3"]["bucket"]["name"], record["s3"]["object"]
        # Keys are encoded as in forms: a space is a plus.
        yield _event(kind, bucket, unquote_plus(item["key"]), record["eventTime"], item, etag="eTag", version="versionId")


def _eventbridge_event(found: Any) -> Iterator[KeyEvent]:
    """Here keys are not encoded, and names are hyphenated."""
    detail = found["detail"]
    kind: EventKind | None = "created" if found["detail-type"] == "Object Created" else None
    if found["detail-type"] == "Object Deleted":
        kind = _EVENTBRIDGE_KINDS[detail["deletion-type"]]
    if kind:
        yield _event(
            kind, detail["bucket"]["name"], detail["object"]["key"], found["time"], detail["object"], etag="etag", version="version-id"
        )


def _event(kind: EventKind, bucket: str, key: str, time: str, item: Any, *, etag: str, version: str) -> KeyEvent:
    size, tag = size_and_etag(item["size"], item[etag]) if kind == "created" else (0, "")
    # Where a bucket keeps no versions any more, all new objects are of version null: that names none.
    named = item.get(version)
    return KeyEvent(bucket, key, kind, utc_time(time), size, tag, named if named not in (None, "null") else "", item.get("sequencer") or "")
