"""Lists of keys: what stands after all events, and which of it a day's run reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path

import boto3
import pytest
from aws_inventory import csv_file, publish, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from flowlog_udfs.errors import UsageError
from flowlog_udfs.key_lists import KeyEvent, add_events, known_day, refuse_wrong_keys, standing
from flowlog_udfs.keys import DayScope, list_day
from flowlog_udfs.storage import FolderStorage, StoredObject, open_storage

DAY = date(2026, 3, 10)
NOON = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
FOLDER = "logs/AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/03/{:02}/"


def key(day: int, hour: int = 1, number: int = 0, folder: str = FOLDER) -> str:
    return folder.format(day) + f"123456789012_vpcflowlogs_us-east-1_fl-1_202603{day:02}T{hour:02}00Z_{number:08x}.log.gz"


class Bucket:
    """The obvious model: what a bucket holds after each request, and the events it would send."""

    def __init__(self, *, versioned: bool) -> None:
        self.versioned = versioned
        self.versions: dict[str, list[tuple[str, StoredObject | None]]] = {}
        self.events: list[KeyEvent] = []

    def request(self, key: str, what: str, choice: int, seconds: int) -> None:
        number = len(self.events) + 1
        time = NOON + timedelta(seconds=seconds)
        # Sequencers of one key grow, but need not be of one length; nor do the clocks of S3's hosts agree.
        event = KeyEvent("b", key, "created", time, number, f"tag-{number}", "", f"{number:06X}".rstrip("0"))
        versions = self.versions.setdefault(key, [])
        if what == "put":
            kept = StoredObject(key, event.etag, number, time)
            if self.versioned:
                event = replace(event, version=f"v{number}")
                versions.append((event.version, kept))
            else:
                versions[:] = [("", kept)]
        elif not self.versioned:
            event = replace(event, kind="deleted", size_bytes=0, etag="")
            versions.clear()
        elif what == "mark":
            event = replace(event, kind="marked", size_bytes=0, etag="", version=f"v{number}")
            versions.append((event.version, None))
        elif versions:
            # For ever: any version, and be it the delete marker, which brings back what it hid.
            version, _ = versions.pop(choice % len(versions))
            event = replace(event, kind="deleted", size_bytes=0, etag="", version=version)
        else:
            return
        self.events.append(event)

    def objects(self) -> list[StoredObject]:
        return [versions[-1][1] for _, versions in sorted(self.versions.items()) if versions and versions[-1][1]]


REQUESTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["put", "delete", "mark"]), st.integers(0, 3), st.integers(0, 3)), max_size=12
)


@pytest.mark.parametrize("versioned", [False, True])
@settings(max_examples=400)
@given(requests=REQUESTS, data=st.data())
def test_events_in_any_order_and_number_tell_what_the_bucket_holds(versioned, requests, data):
    bucket = Bucket(versioned=versioned)
    for request in requests:
        bucket.request(*request)
    again = data.draw(st.lists(st.sampled_from(bucket.events), max_size=10)) if bucket.events else []
    assert list(standing(data.draw(st.permutations([*bucket.events, *again])))) == bucket.objects()


@pytest.mark.parametrize(
    "requests, left",
    [
        (["put", "put", "delete 0"], "tag-2"),  # an older version expired
        (["put", "put", "delete 1"], "tag-1"),  # the newest one was taken back
        (["put", "mark"], None),
        (["put", "mark", "delete 1"], "tag-1"),  # undeleted: the marker was taken back
        (["put", "mark", "delete 0", "delete 0"], None),
        (["put", "mark", "put"], "tag-3"),
    ],
)
def test_versions(requests, left):
    bucket = Bucket(versioned=True)
    for what, _, choice in (request.partition(" ") for request in requests):
        bucket.request("k", what, int(choice or 0), 0)
    for events in permutations(bucket.events):
        assert [one.etag for one in standing(events)] == ([left] if left else [])
    assert [one.etag for one in bucket.objects()] == ([left] if left else [])


@given(st.permutations(range(4)))
def test_without_sequencers_time_decides(order):
    kinds = ["created", "deleted", "created", "created"]
    events = [KeyEvent("b", "k", kind, NOON + timedelta(seconds=number), 10 + number, f"tag-{number}") for number, kind in enumerate(kinds)]
    assert list(standing(events[number] for number in order)) == [StoredObject("k", "tag-3", 13, NOON + timedelta(seconds=3))]
    assert list(standing(events[number] for number in order if number < 2)) == []


def events_of_days(bucket: str) -> list[KeyEvent]:
    keys = [key(9), key(10), key(10, 2), key(11, 1), key(11, 2), key(12), FOLDER.format(10) + "notes.txt", "logs/AWSLogs/1/CloudTrail/x"]
    return [KeyEvent(bucket, one, "created", NOON, number, f"tag-{number}") for number, one in enumerate(keys)]


def test_lists_are_filed_by_date_and_writing_them_again_changes_nothing(tmp_path):
    storage, prefix = open_storage(str(tmp_path / "keys"))
    for _ in range(2):
        assert add_events(storage, prefix, events_of_days("b")) == {DAY: 3, date(2026, 3, 9): 1, date(2026, 3, 11): 2, date(2026, 3, 12): 1}
    files = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert sorted(path.parent.name for path in files) == [f"day=2026-03-{day:02}" for day in (9, 10, 11, 12)]
    add_events(storage, prefix, events_of_days("b")[:2])
    assert len(list((tmp_path / "keys" / "day=2026-03-10").iterdir())) == 2


def test_a_day_from_a_folder_of_lists(s3, tmp_path, monkeypatch):
    bucket = s3()
    storage, prefix = open_storage(f"s3://{bucket}/logs")
    lists, _ = open_storage(str(tmp_path))
    add_events(lists, "", [*events_of_days(bucket), *(replace(one, bucket="another", etag="x") for one in events_of_days(bucket))])
    # A key known to hold rows of the day, of which the lists know nothing, is looked up; one that is gone is not read.
    boto3.client("s3").put_object(Bucket=bucket, Key=key(13), Body=b"x")
    scope = DayScope(prefix, DAY, 2, also=frozenset({key(12), key(13), key(14)}))
    opened = []
    real = FolderStorage.open
    monkeypatch.setattr(FolderStorage, "open", lambda self, *words: opened.append(self.root) or real(self, *words))
    known = known_day(str(tmp_path), storage, scope)
    assert [one.stored.key for one in known.objects] == [key(10), key(10, 2), key(11, 1), key(12), key(13)]
    assert (known.objects[0].stored, known.skipped) == (StoredObject(key(10), "tag-1", 1, NOON), 1)
    assert {Path(root).name for root in opened} == {"day=2026-03-10", "day=2026-03-11", "day=2026-03-12"}


def test_lists_and_inventories_say_what_a_listing_says(s3, tmp_path):
    bucket, kept = s3(), s3()
    client = boto3.client("s3")
    for event in events_of_days(bucket):
        client.put_object(Bucket=bucket, Key=event.key, Body=b"x" * event.size_bytes)
    storage, prefix = open_storage(f"s3://{bucket}/logs")
    scope = DayScope(prefix, DAY, 2)
    listing = list_day(storage, scope)
    assert (len(listing.objects), listing.skipped) == (3, 1)
    events = [KeyEvent(bucket, row.key, "created", row.modified, row.size, row.etag) for row in rows_of(bucket)]
    (tmp_path / "keys.jsonl").write_text("".join(f"{event.to_line()}\n" for event in events))
    client.upload_file(str(tmp_path / "keys.jsonl"), kept, "some/keys.jsonl")
    add_events(*open_storage(f"s3://{kept}/lists"), events)
    for source in (str(tmp_path / "keys.jsonl"), f"s3://{kept}/some/keys.jsonl", f"s3://{kept}/lists", f"s3://{kept}/lists/"):
        assert known_day(source, storage, scope) == listing
    manifest = publish(bucket, kept, [csv_file(bucket, rows_of(bucket))], "CSV")
    assert replace(known_day(manifest, storage, scope), taken_at=None) == listing
    other = open_storage(f"s3://{kept}")[0]
    with pytest.raises(UsageError, match=f"is of bucket {bucket}; --source is bucket {kept}"):
        known_day(manifest, other, scope)


LINE = f'{{"key": "{key(10)}", "size": 1, "etag": "e", "last_modified": "2026-03-10T00:00:00Z"}}'


@pytest.mark.parametrize(
    "line, message",
    [
        ("no JSON", "is not the JSON of a key"),
        ("[]", "is not the JSON of a key"),
        ('{"size": 1}', "has no 'key'; a line needs key, size, etag and last_modified"),
        (LINE.replace('"etag": "e", ', ""), "has no 'etag'"),
        (LINE.replace("1,", '"many",'), "is not the JSON of a key"),
        (LINE.replace("2026-03-10T00:00:00Z", "yesterday"), "is not the JSON of a key"),
        (LINE.replace("{", '{"event": "seen", '), "event 'seen': must be one of created, deleted, marked"),
    ],
)
def test_a_wrong_line_is_named(s3, tmp_path, line, message):
    storage, prefix = open_storage(f"s3://{s3()}/logs")
    source = tmp_path / "keys.jsonl"
    source.write_text(f"\n{LINE}\n{line}\n")
    with pytest.raises(UsageError) as raised:
        known_day(str(source), storage, DayScope(prefix, DAY, 2))
    assert str(raised.value).startswith(f"{source} line 2: {message}")


def test_the_smallest_list(s3, tmp_path):
    storage, prefix = open_storage(f"s3://{s3()}/logs")
    (tmp_path / "keys.jsonl").write_text(LINE)
    (found,) = known_day(str(tmp_path / "keys.jsonl"), storage, DayScope(prefix, DAY, 2)).objects
    assert found.stored == StoredObject(key(10), "e", 1, datetime(2026, 3, 10, tzinfo=timezone.utc))
    (tmp_path / "keys.jsonl").write_text("")
    assert known_day(str(tmp_path / "keys.jsonl"), storage, DayScope(prefix, DAY, 2)).objects == ()


@pytest.mark.parametrize(
    "keys, source, message",
    [
        ("here", "folder", "names objects of a bucket; give it with --source s3://bucket"),
        ("here", None, "names objects of a bucket; give it with --source s3://bucket"),
        ("nowhere.jsonl", "s3://b/logs", "there is no such file or folder"),
        ("ftp://x/manifest.json", "s3://b/logs", "unknown kind of storage"),
    ],
)
def test_wrong_keys_are_told_before_anything_is_read(tmp_path: Path, monkeypatch, keys, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    with pytest.raises(UsageError, match=message):
        refuse_wrong_keys(keys, source)
    for right in ("here", "here/", "s3://b", "s3://b/m/manifest.json"):
        refuse_wrong_keys(right, "s3://b/logs")
