"""Settings, policies, inventories and lists that are wrong in every key: each is refused by file, key and value, in one line."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from fuzzing import settings

from flowlog_udfs import documents
from flowlog_udfs.config import load_config
from flowlog_udfs.errors import UsageError
from flowlog_udfs.inventory import load_inventory
from flowlog_udfs.key_lists import known_day
from flowlog_udfs.keys import DayScope
from flowlog_udfs.notifications import events_of
from flowlog_udfs.peers import AwsRanges
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.s3_endpoint import S3Endpoint
from flowlog_udfs.s3_inventory import Manifest
from flowlog_udfs.services import load_services
from flowlog_udfs.storage import S3Storage

Tried = Callable[[str, int], None]
OTHERS = (3, -1, 10**30, 1.5, math.nan, "x", "", True, [], ["x"], [[]], [{}], {})
TOML_OTHERS = (*OTHERS, math.inf, date(2026, 1, 1), datetime(2026, 1, 1))


@dataclass(frozen=True)
class Kind:
    """A kind of file: one that is right in every key, how it is written and read, and what stands in the way of each key's name."""

    name: str
    good: Callable[[], dict[str, Any]]
    load: Callable[[Path], Any]
    write: Callable[[Any], str]
    others: tuple[Any, ...]
    passed_over: frozenset[str] = frozenset()
    """Keys that are not read, or mean nothing where they are empty."""


TOML = [
    Kind("flowlog.toml", settings.config, lambda path: load_config(str(path)), settings.toml, TOML_OTHERS),
    Kind("policy.toml", settings.policy, load_policy, settings.toml, TOML_OTHERS),
    Kind("services.toml", settings.services, load_services, settings.toml, TOML_OTHERS),
]
JSON = [
    Kind("inventory.json", settings.inventory, load_inventory, json.dumps, OTHERS),
    Kind(
        "ip-ranges.json", settings.ip_ranges, AwsRanges.load, json.dumps, OTHERS, frozenset({"syncToken", "region", "network_border_group"})
    ),
]
KINDS = pytest.mark.parametrize("kind", TOML + JSON, ids=lambda kind: kind.name)


def refused(kind: Kind, path: Path, text: str | bytes) -> str:
    """What a file is refused with; empty where it is taken."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    try:
        kind.load(path)
    except UsageError as error:
        said = str(error)
        assert said.startswith(f"{path}: ")
        assert said.isprintable()
        return said
    return ""


@KINDS
def test_each_key_with_a_value_of_another_type(kind: Kind, tmp_path: Path, tried: Tried) -> None:
    path, count = tmp_path / kind.name, 0
    assert not refused(kind, path, kind.write(kind.good()))
    for place, value, document in settings.wrong_types(kind.good(), kind.others):
        key = settings.names_of(place)[-1]
        said = refused(kind, path, kind.write(document))
        # EC2's answers may lack a key, or have an empty text for it.
        if key in kind.passed_over or (not said and value == "" and kind.name == "inventory.json"):
            continue
        assert said, (place, value)
        assert key in said or kind.name == "ip-ranges.json", said
        count += 1
    assert count > 90
    tried("settings of a wrong type", count)


@pytest.mark.parametrize("kind", TOML, ids=lambda kind: kind.name)
def test_each_table_with_a_key_that_nobody_knows(kind: Kind, tmp_path: Path, tried: Tried) -> None:
    count = 0
    for place, document in settings.unknown_neighbours(kind.good()):
        if place[-2:-1] != ("tags",):
            said = refused(kind, tmp_path / kind.name, kind.write(document))
            assert "unheard_of" in said, place
            count += 1
    tried("settings with an unknown key", count)


@KINDS
def test_each_key_left_out_is_missed_or_has_a_default(kind: Kind, tmp_path: Path, tried: Tried) -> None:
    count = 0
    for place, document in settings.without(kind.good()):
        said = refused(kind, tmp_path / kind.name, kind.write(document))
        assert not said or str(place[-1]) in said or "mine-" in said or "card" in said or "office" in said, said
        count += 1
    tried("settings with a key left out", count)


@KINDS
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.encode() + b"\n# \xff\n",
        lambda text: text.encode("utf-16"),
        lambda text: text.encode() + b"\0",
        lambda text: b"x = " + b"[" * 100_000,
        lambda text: b"[" * 100_000 + b"]" * 100_000,
        lambda text: b'{"a":' * 100_000,
        lambda text: b"TakenAt = " + b"9" * 5_000,
        lambda text: b'{"TakenAt": ' + b"9" * 5_000 + b"}",
        lambda text: b"\x1b[31m\n" + text.encode(),
    ],
    ids=["not UTF-8", "UTF-16", "NUL", "deep", "deep, closed", "deep tables", "long number", "long JSON number", "terminal sequence"],
)
def test_files_that_are_wrong_as_a_whole(kind: Kind, spoil: Callable[[str], bytes], tmp_path: Path, tried: Tried) -> None:
    assert refused(kind, tmp_path / kind.name, spoil(kind.write(kind.good())))
    tried("files wrong as a whole", 1)


@KINDS
def test_a_byte_order_mark_is_no_fault_and_too_large_a_file_is_one(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = kind.write(kind.good()).encode()
    assert not refused(kind, tmp_path / kind.name, b"\xef\xbb\xbf" + text)
    for name in ("LARGEST_TOML", "LARGEST_JSON"):
        monkeypatch.setattr(documents, name, 20_000)
    assert "is larger than" in refused(kind, tmp_path / kind.name, text + b" " * 20_000)
    with pytest.raises(UsageError, match="Is a directory"):
        kind.load(tmp_path)


OUT_OF_RANGE = [
    *((("ingest", "late_hours"), value) for value in (-1, 25, 10**30)),
    *((("ingest", name), value) for name in ("max_rejected_share", "max_failed_share") for value in (-0.1, 1.1, math.nan, math.inf)),
    *((("ingest", "max_object_bytes"), value) for value in (0, -1, 1 << 41)),
    *((("ingest", "task_bytes"), value) for value in (0, 1 << 31)),
    *((("ingest", "cloudwatch_format"), value) for value in ("", "version", "${version} ${version}", "${Version}")),
    *((("attribution", name), value) for name in ("idle_seconds", "udp_idle_seconds") for value in (0, -1, 86_401)),
    *((("cost", name), value) for name in ("vcpus", "vcpu_hour_price") for value in (-1.0, math.nan, math.inf)),
    (("networks", "links", 0), ["vpc-1"]),
    (("networks", "links", 0), ["vpc-1", "vpc-1"]),
    (("networks", "links", 0, 1), "subnet-2"),
    (("formats", "fl-1"), "${version} ${no field}"),
]
POLICY_OUT_OF_RANGE = [
    *((("policy", name), value) for name in ("assessed_share", "least_confidence") for value in (-0.1, 1.1, math.nan, math.inf)),
    *((("segment", 0, "cidrs", 0), value) for value in ("10.0.0.0/33", "10.0.0.1/24", "::/129", "ten", "10.0.0.0/24\n")),
    *((("segment", 1, "name"), value) for value in ("card", "internet", "own", "any", " ")),
    *((("allow", 0, "ports", 0), value) for value in ("22", "tcp/", "tcp/70000", "tcp/9-1", "icmp/1", "tcp/１", "tcp/-1", "tcp/1-2-3")),
    *((("allow", 0, key), "nowhere") for key in ("from", "to")),
    *((("exception", 0, key), "10.0.0.0/99") for key in ("initiator", "responder")),
    (("exception", 0, "rule"), "none"),
    (("exception", 0, "starts"), date(2028, 1, 1)),
    *((("rules", f"mine-{kind}", "severity"), "grave") for kind in ("connections", "spread", "volume", "first-seen", "gaps")),
    *((("rules", "mine-connections", key), "x") for key in ("from", "to", "action", "reject_reason", "segments", "subject")),
    (("rules", "mine-connections", "states", 0), "open"),
    (("rules", "mine-connections", "approved", 0), "ten"),
    *((("rules", "mine-volume", "factor"), value) for value in (0.5, -1.0, math.nan, math.inf)),
    *((("rules", "mine-volume", "least_bytes"), value) for value in (0, 2**63)),
    *((("rules", f"mine-{kind}", "days"), value) for kind in ("volume", "first-seen") for value in (0, 15)),
    (("rules", "mine-spread", "over"), "nets"),
    (("rules", "mine-gaps", "of"), "holes"),
]


@pytest.mark.parametrize(("kind", "cases"), [(TOML[0], OUT_OF_RANGE), (TOML[1], POLICY_OUT_OF_RANGE)], ids=["flowlog.toml", "policy.toml"])
def test_values_out_of_range(kind: Kind, cases: list[tuple[settings.Place, Any]], tmp_path: Path, tried: Tried) -> None:
    for place, value in cases:
        said = refused(kind, tmp_path / kind.name, kind.write(settings.put(kind.good(), place, value)))
        assert said and settings.names_of(place)[-1] in said, (place, value, said)
        assert any(word in said for word in ("must be", "write", "give", "name each field once")), said
    tried("settings out of range", len(cases))


@pytest.mark.parametrize(
    "taken", ["yesterday", "2026-03-10", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-13-01T00:00:00Z"]
)
def test_an_inventory_of_no_time(taken: str, tmp_path: Path) -> None:
    assert "TakenAt" in refused(JSON[0], tmp_path / "inventory.json", json.dumps(settings.inventory() | {"TakenAt": taken}))


def test_halves_of_characters_are_no_text(tmp_path: Path) -> None:
    text = json.dumps(settings.inventory()).replace("some-text", "\\ud800", 1)
    assert "must be text" in refused(JSON[0], tmp_path / "inventory.json", text)


KEY = "AWSLogs/1/vpcflowlogs/us-east-1/2026/03/10/1_vpcflowlogs_us-east-1_fl-1_20260310T0005Z_ab.log.gz"
EVENT = {"bucket": "logs", "key": KEY, "size": 12, "etag": "ab", "last_modified": "2026-03-10T00:06:11Z", "event": "created"}
WRONG_EVENTS = [
    *({**EVENT, "size": value} for value in (-1, 2**63, "many", None, [], 10**400, math.inf)),
    *({**EVENT, "etag": value} for value in (3, None, 'a"\r\nx-amz-acl: public-read', "é", "a b")),
    *({**EVENT, "last_modified": value} for value in ("then", 5, None, "0001-01-01T00:00:00+23:59", "2026-03-10T25:00:00Z")),
    *({**EVENT, "event": value} for value in ("gone", None, 3, [])),
]


@pytest.mark.parametrize("line", [*map(json.dumps, WRONG_EVENTS), "[1]", "3", '"x"', "{", "[" * 100_000, "{}", "null"])
def test_lines_of_key_lists_that_are_none(line: str, tmp_path: Path, tried: Tried) -> None:
    path = tmp_path / "keys.jsonl"
    path.write_text(json.dumps(EVENT) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=r"keys\.jsonl line 2: "):
        known_day(str(path), S3Storage("logs", S3Endpoint(None, "us-east-1")), DayScope("", date(2026, 3, 10), 2))
    tried("lists of keys wrong in a line", 1)


@pytest.mark.parametrize("change", [{"size": -1}, {"size": 2**63}, {"eTag": "a\r\nb"}, {"eTag": 3}, {"size": None}])
def test_messages_that_would_spoil_a_list_stay_in_the_queue(change: dict[str, Any]) -> None:
    def body(item: dict[str, Any]) -> str:
        s3 = {"bucket": {"name": "logs"}, "object": {"key": KEY, "size": 12, "eTag": "ab"} | item}
        return json.dumps(
            {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-03-10T00:06:11Z", "s3": s3}]}
        )

    assert len(events_of(body({})) or ()) == 1
    assert events_of(body(change)) is None


MANIFEST = {
    "sourceBucket": "logs",
    "destinationBucket": "arn:aws:s3:::kept",
    "creationTimestamp": "1773100800000",
    "fileFormat": "CSV",
    "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag",
    "files": [{"key": "data/1.csv.gz"}],
}


@pytest.mark.parametrize("name", MANIFEST)
def test_manifests_wrong_in_every_key(name: str, tmp_path: Path, tried: Tried) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(MANIFEST))
    assert Manifest.load(str(path)).bucket == "logs"
    wrong = [{**MANIFEST, name: value} for value in (None, 3, 1.5, True, [3], {}, "", "9" * 30)]
    taken = []
    for document in [*wrong, {key: value for key, value in MANIFEST.items() if key != name}]:
        path.write_text(json.dumps(document))
        try:
            Manifest.load(str(path))
            taken.append(document.get(name))
        except UsageError as error:
            assert str(error).startswith(f"{path}: ")
    assert len(taken) <= 4, taken
    tried("manifests wrong in a key", len(wrong) + 1)
