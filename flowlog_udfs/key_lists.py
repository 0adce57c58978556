"""Keys of a bucket known without listing it: an S3 Inventory, or lists that S3's own events filled, in; stored objects out.

A list is lines of JSON, one event of a key each, in any order and any number of times:

    {"key": "AWSLogs/…", "size": 812, "etag": "5d41…", "last_modified": "2026-03-10T00:06:11.120Z"}

`bucket`, `version` and `sequencer` may follow, and `event`: `created` if it is not given; `deleted` (for ever: the version named, or all);
or `marked` (by a delete marker, itself a version), neither with size and etag. `last_modified` is the time of the event.

Collected lists lie in folders by date, `day=YYYY-MM-DD/part-….jsonl`, and are only ever added to.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timezone
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, Literal, get_args

from flowlog_udfs.errors import UsageError
from flowlog_udfs.keys import DayScope, Listing, day_folder, select_day
from flowlog_udfs.s3_inventory import Manifest, opened, size_and_etag, utc_time
from flowlog_udfs.storage import FolderStorage, S3Storage, Storage, StoredObject, open_storage

EventKind = Literal["created", "deleted", "marked"]
_KINDS = get_args(EventKind)
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class KeyEvent:
    """What became of a key of a bucket, and when (UTC). `size_bytes` and `etag` are of a created object.

    `version` is empty where the bucket keeps none. Of two events of a key that with the greater `sequencer` is the later one.
    """

    bucket: str
    key: str
    kind: EventKind
    time: datetime
    size_bytes: int = 0
    etag: str = ""
    version: str = ""
    sequencer: str = ""

    def to_line(self) -> str:
        """The event as a line of a list."""
        created = {"size": self.size_bytes, "etag": self.etag} if self.kind == "created" else {"event": self.kind}
        time = self.time.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        more = {name: value for name, value in (("version", self.version), ("sequencer", self.sequencer)) if value}
        return json.dumps({"bucket": self.bucket, "key": self.key, **created, "last_modified": time, **more})


def known_day(source: str, storage: Storage, scope: DayScope) -> Listing:
    """What `--keys` tells of a day's run, as `keys.list_day` would; raises `UsageError` for what is no list, naming it.

    Keys that another run found to hold rows of the day, and the list does not know, are looked up one by one.
    """
    bucket, taken_at = _bucket(storage), None
    if source.endswith(".json"):
        manifest = Manifest.load(source)
        if manifest.bucket != bucket:
            raise UsageError(f"{source}: is of bucket {manifest.bucket}; --source is bucket {bucket}")
        objects, taken_at = manifest.objects(scope.dates), manifest.taken_at
    else:
        objects = standing(_concerning(source, bucket, scope))
    known = select_day(objects, scope)
    unknown = scope.also - {one.stored.key for one in known.objects}
    late = select_day((stored for key in sorted(unknown) for stored in storage.objects(key)), scope)
    return Listing(tuple(sorted((*known.objects, *late.objects), key=attrgetter("stored.key"))), known.skipped, taken_at)


def refuse_wrong_keys(keys: str, source: str | None) -> None:
    """Raise `UsageError` for what can be seen without a look at S3: a folder as source, a local list that is not there."""
    _bucket(open_storage(source or ".")[0])
    storage, _ = open_storage(keys)
    if isinstance(storage, FolderStorage) and not os.path.exists(storage.root):
        raise UsageError(f"--keys {keys}: there is no such file or folder; give manifest.json, a .jsonl list or a folder of them")


def _bucket(storage: Storage) -> str:
    if not isinstance(storage, S3Storage):
        raise UsageError("--keys: names objects of a bucket; give it with --source s3://bucket[/prefix]")
    return storage.bucket


def standing(events: Iterable[KeyEvent]) -> Iterator[StoredObject]:
    """The objects that stand after all events, in order of key: in whatever order, and however often, the events come.

    Deleting a version takes it back as if it had never been, be it an object or a delete marker; then the latest event of the key decides.
    Events without a sequencer, which only S3 knows, come before those with one, and among themselves in order of time.
    """
    for _, group in groupby(sorted(events, key=_in_time), key=attrgetter("key")):
        of_key = list(group)
        taken_back = {one.version for one in of_key if one.kind == "deleted" and one.version}
        left = [one for one in of_key if one.version not in taken_back]
        if left and left[-1].kind == "created":
            yield StoredObject(left[-1].key, left[-1].etag, left[-1].size_bytes, left[-1].time)


def _in_time(event: KeyEvent) -> tuple[Any, ...]:
    # Sequencers of different length are compared as if zeros followed the shorter one: "Event message structure" (S3 user guide).
    return event.key, event.sequencer.upper().rstrip("0"), event.time, event.kind, event.etag, event.size_bytes


def add_events(storage: Storage, prefix: str, events: Iterable[KeyEvent]) -> Counter[date]:
    """Add events to the lists below `prefix`, one more for each date that their keys are filed under; how many of each.

    A key filed under no date is left out. The same events make the same list, so that writing them once more changes nothing.
    """
    lines: dict[date, set[str]] = defaultdict(set)
    for event in events:
        place = day_folder(event.key[: event.key.rfind("/") + 1])
        if place:
            lines[place.day].add(event.to_line() + "\n")
    for day, of_day in sorted(lines.items()):
        content = "".join(sorted(of_day)).encode()
        descriptor, name = tempfile.mkstemp(dir=storage.scratch, prefix="flowlog-keys-")
        with os.fdopen(descriptor, "wb") as local:
            local.write(content)
        storage.put(Path(name), f"{prefix}{_dated(day)}part-{hashlib.sha256(content).hexdigest()[:32]}.jsonl")
    return Counter({day: len(of_day) for day, of_day in lines.items()})


def _concerning(source: str, bucket: str, scope: DayScope) -> Iterator[KeyEvent]:
    """The events of a list, or of a folder of lists, that are of the bucket and of a day's run."""
    urls = [source]
    if not source.endswith(".jsonl"):
        storage, prefix = open_storage(source)
        listed = (one.key for day in sorted(scope.dates) for one in storage.objects(f"{prefix}{_dated(day)}"))
        urls = [storage.url(key) for key in listed if key.endswith(".jsonl")]
    for url in urls:
        with opened(url) as stream:
            for number, line in enumerate(_lines(stream), start=1):
                event = _event(line, f"{url} line {number}", bucket, scope)
                if event:
                    yield event


def _event(line: bytes, where: str, bucket: str, scope: DayScope) -> KeyEvent | None:
    """The event of a line; None when it is not of the bucket or not of the day's run."""
    try:
        found = json.loads(line)
        if found.get("bucket", bucket) != bucket or scope.judge(found["key"]) is None:
            return None
        kind = found.get("event", "created")
        if kind not in _KINDS:
            raise UsageError(f"{where}: event {kind!r}: must be one of {', '.join(_KINDS)}")
        size, etag = size_and_etag(found["size"], found["etag"]) if kind == "created" else (0, "")
        version, sequencer = found.get("version", ""), found.get("sequencer", "")
        return KeyEvent(bucket, found["key"], kind, utc_time(found["last_modified"]), size, etag, str(version), str(sequencer))
    except KeyError as error:
        raise UsageError(f"{where}: has no {error}; a line needs key, size, etag and last_modified") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{where}: is not the JSON of a key ({error}); a line needs key, size, etag and last_modified") from error


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """Lines that are not blank, a chunk in memory at a time."""
    carry = b""
    while chunk := stream.read(_CHUNK_BYTES):
        *whole, carry = (carry + chunk).split(b"\n")
        yield from filter(bytes.strip, whole)
    if carry.strip():
        yield carry


def _dated(day: date) -> str:
    return f"day={day}/"
