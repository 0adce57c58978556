"""Pseudonyms: the same under the same key, of a form that nobody takes for a name, and in place of every name in a report."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_documents import clean, hostile, large, small

from flowlog_udfs.addresses import packed
from flowlog_udfs.command import main
from flowlog_udfs.errors import UsageError
from flowlog_udfs.policy.controls import is_checked
from flowlog_udfs.pseudonyms import KEY_BYTES, Pseudonyms, stands_for_ipv4
from flowlog_udfs.report.page import render
from flowlog_udfs.report.pseudonymous import LEFT_OUT, pseudonymous
from flowlog_udfs.report.schema import report_schema, validate

KEY = bytes(range(32))
PSEUDONYMS, OTHERS = Pseudonyms(KEY), Pseudonyms(KEY[::-1])
ADDRESSES = st.ip_addresses().map(str)


def test_a_pseudonym_is_a_keyed_hash_of_kind_and_value() -> None:
    wanted = hmac.new(KEY, b"account\x00123456789012", hashlib.sha256).hexdigest()[:16]
    assert PSEUDONYMS.account("123456789012") == f"account-p{wanted}"
    assert OTHERS.account("123456789012") != PSEUDONYMS.account("123456789012")


@given(ADDRESSES)
def test_an_address_becomes_one_for_documentation_that_tells_its_version(address: str) -> None:
    made = PSEUDONYMS.address(address)
    assert ipaddress.ip_address(made) in ipaddress.ip_network("3fff::/20")
    assert stands_for_ipv4(*packed(pa.array([made]))).tolist() == [ipaddress.ip_address(address).version == 4]
    assert PSEUDONYMS.address(ipaddress.ip_address(address).exploded) == made != OTHERS.address(address)


def test_neighbours_share_no_bits() -> None:
    made = [int(ipaddress.ip_address(PSEUDONYMS.address(f"10.0.0.{number}"))) & (1 << 96) - 1 for number in range(256)]
    assert len(set(made)) == 256
    assert all(100 < sum(value >> bit & 1 for value in made) < 156 for bit in range(96))


@given(ADDRESSES, st.sampled_from(["{}", "({})", "at {}.", "{}, and", '‘{}’ "{}"', "a → {} tcp/443", "{}:", "x={};"]))
def test_no_address_stays_in_a_text(address: str, around: str) -> None:
    made = PSEUDONYMS.text(around.format(address, address))
    assert made == around.format(PSEUDONYMS.address(address), PSEUDONYMS.address(address))


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("10.0.0.1:443 to [2001:db8::1]:53", ("10.0.0.1", "2001:db8::1")),
        ("10.1.0.0/16 and 2001:db8::/32", ("10.1", "2001:db8")),
        ("10.0.0.1-10.0.0.9", ("10.0.0.1", "10.0.0.9")),
        ("arn:aws:sns:us-east-1:123456789012:topic", ("123456789012",)),
        ("AWSLogs/123456789012/vpcflowlogs/123456789012_vpcflowlogs_us-east-1_fl-0a1b2c3d_20260310T0005Z", ("123456789012", "fl-0a1b2c3d")),
        ("longest eni-0123456789abcdef0 for 12 minutes", ("eni-0123456789abcdef0",)),
        ("through the translator nat-0123456789abcdef0", ("nat-0123456789abcdef0",)),
        ("ip-10-0-0-5.ec2.internal", ("10-0-0-5",)),
        (json.dumps({"digest": "ab" * 32}), ("ab" * 32,)),
        ("account ours", ("ours",)),
    ],
)
def test_names_in_a_text_are_replaced_in_whatever_form(text: str, gone: tuple[str, ...]) -> None:
    made = PSEUDONYMS.text(text, known={"ours"})
    assert [name for name in gone if name in made] == []


@pytest.mark.parametrize(
    "text", ["PCI DSS 4.0.1 1.3", "5 hosts, 12,345 connections", "10:11 UTC of 2026-03-10", "admin-from-internet", "tcp/22"]
)
def test_what_names_nobody_stays(text: str) -> None:
    assert PSEUDONYMS.text(text) == text


def texts(schema: Any) -> Iterator[Any]:
    """Every schema of a text in a schema."""
    if isinstance(schema, dict):
        if "string" in (schema.get("type") if isinstance(schema.get("type"), list) else [schema.get("type")]):
            yield schema
        for one in schema.values():
            yield from texts(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from texts(one)


def test_the_schema_says_of_every_text_what_it_holds() -> None:
    found = list(texts(report_schema()))
    assert len(found) > 100
    without = [
        one for one in found if "holds" not in one and "enum" not in one and not one.get("pattern", "").startswith(r"^\d{4}-\d{2}-\d{2}")
    ]
    assert without == []
    # A hash of values that can be guessed is as good as the values.
    assert [one for one in found if "[0-9a-f]" in one.get("pattern", "") and one["holds"] not in ("digest", "words")] == []


@pytest.mark.parametrize("make", [small, clean, large, hostile])
def test_a_copy_keeps_to_the_schema_and_can_be_rendered(make: Any) -> None:
    made = pseudonymous(make(), PSEUDONYMS)
    validate(made)
    assert f"key <code>{PSEUDONYMS.name}</code>" in render(made)
    assert "key <code>" not in render(make())


def leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from (name, *leaves(one))
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one)
    elif isinstance(value, str):
        yield value


def test_nothing_of_a_report_names_anybody_any_more() -> None:
    document = large()
    document["signoffs"] = [
        {
            "digest": "ab" * 32,
            "reviewer": "A. Auditor",
            "signed_at": "2026-03-11T08:00:00Z",
            "decision": "accepted",
            "ticket": "see 10.0.1.5",
        }
        | {"comment": "Bob's machine", "dispositions": {document["findings"][0]["finding_id"]: "Bob again"}}
    ]
    made = pseudonymous(document, PSEUDONYMS)
    text = json.dumps(made)
    named = {
        one for one in leaves(document) if re.search(r"\d+\.\d+\.\d+\.\d+|^(subnet|vpc|eni|fl|i)-\S+$|^\d{12}$|^[0-9a-f]{16,64}$", one)
    }
    assert len(named) > 20_000
    assert named & set(re.findall(r"[\w.-]+", text)) == set()
    assert not re.search(r"\b\d{1,3}(\.\d{1,3}){3}\b", text)
    assert [word for word in ("A. Auditor", "Bob") if word in text] == []
    assert made["signoffs"][0]["comment"] == LEFT_OUT
    assert list(made["signoffs"][0]["dispositions"]) == [PSEUDONYMS.digest(document["findings"][0]["finding_id"])]
    assert sum(one["connections"] for one in made["findings"]) == sum(one["connections"] for one in document["findings"])
    assert {control for one in made["findings"] for control in one["controls"]} == {"NIST 800-53 SC-7"}
    assert any(is_checked(control["id"]) == control["checked"] for rule in made["rules"] for control in rule["controls"])


def test_the_same_name_is_the_same_wherever_it_stands_and_orders_tell_nothing() -> None:
    document = large()
    made = pseudonymous(document, PSEUDONYMS)
    assert made == pseudonymous(json.loads(json.dumps(document)), Pseudonyms(KEY))
    by_id = {one["finding_id"]: one for one in made["findings"]}
    for one in document["findings"][:200]:
        address = one["subject"].split()[0]
        assert by_id[PSEUDONYMS.digest(one["finding_id"])]["subject"] == f"{PSEUDONYMS.address(address)} tcp/22"
    for severity in ("critical", "info"):
        subjects = [one["subject"] for one in made["findings"] if one["severity"] == severity]
        assert subjects == sorted(subjects)
    assert [one["bytes_in"] + one["bytes_out"] for one in made["subnets"]] == sorted(
        (one["bytes_in"] + one["bytes_out"] for one in document["subnets"]), reverse=True
    )


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return path


def test_a_key_is_long_and_nobody_elses(key: Path) -> None:
    assert Pseudonyms.load(key) == PSEUDONYMS
    assert repr(KEY) not in repr(PSEUDONYMS)
    key.chmod(0o640)
    with pytest.raises(UsageError, match="others than its owner may read the key; chmod 600"):
        Pseudonyms.load(key)
    key.chmod(0o600)
    key.write_bytes(b"k" * (KEY_BYTES - 1) + b"\n")
    with pytest.raises(UsageError, match="a key has 32 bytes or more; make one with: openssl rand -hex 32"):
        Pseudonyms.load(key)


def test_the_command_writes_a_copy_and_shows_nothing_else(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tables" / "reports" / "day=2026-03-10"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(large()))
    words = ["report", "--warehouse", str(tmp_path / "tables"), "--day", "2026-03-10", "--pseudonyms", str(key)]
    assert main(words) == 1
    assert capsys.readouterr().err == "flowlog: --pseudonyms KEYFILE and --output DIR go together; give both\n"
    for inside in ("tables", "tables/reports", "tables/reports/../reports/day=2026-03-10"):
        assert main([*words, "--output", str(tmp_path / inside)]) == 1
        assert "lies among the warehouse's tables and reports; give another place" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path / "shared")]) == 0
    copy = tmp_path / "shared" / "day=2026-03-10"
    told = capsys.readouterr().out
    assert str(copy / "report.html") in told
    for text in (told.replace(str(tmp_path), ""), (copy / "report.html").read_text(), (copy / "report.json").read_text()):
        assert "3fff:4:" in text
        assert not re.search(r"\b10\.\d+\.\d+\.\d+|123456789012", text)
    assert json.loads((copy / "report.json").read_text()) == pseudonymous(large(), PSEUDONYMS)
