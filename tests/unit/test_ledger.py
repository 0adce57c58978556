"""Versions, sign-offs and the ledger, on tables in a folder: what a day may be called, and who may say what of which version."""

import json
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from report_documents import clean, flow_log, small

from flowlog_udfs.errors import UsageError
from flowlog_udfs.ledger import enter, sign_off, versions
from flowlog_udfs.report.page import render
from flowlog_udfs.report.publishing import is_complete, publish
from flowlog_udfs.tables import Warehouse

DAY, NOW = date(2026, 3, 10), datetime(2026, 3, 11, 8, tzinfo=timezone.utc)


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse.open(str(tmp_path))


def publishable(document: dict[str, Any]) -> dict[str, Any]:
    """The document with the measures that table `runs` takes from it."""
    measures = [{"name": name, "unit": "count", "today": 5, "days": [None]} for name in ("connections", "rejected connections")]
    return document | {"changes": document["changes"] | {"measures": measures}}


def with_coverage(**known: Any) -> dict[str, Any]:
    made = clean()
    seen = {"kind": "vpc", "id": "vpc-1", "seen": True, "source": "policy"}
    totals = made["coverage"]["totals"] | {"failed_objects": known.get("failed", 0)}
    logs = [flow_log("fl-1", ["ACCEPT", "REJECT"], known.get("empty"))]
    return made | {"coverage": made["coverage"] | {"totals": totals, "flow_logs": logs, "expected": known.get("expected", [seen])}}


MISSING = {"kind": "interface", "id": "eni-9", "seen": False, "source": "inventory"}


@pytest.mark.parametrize(
    "known, complete",
    [
        ({}, True),
        ({"failed": 1}, False),
        ({"empty": [3]}, False),
        ({"expected": [MISSING]}, False),
        ({"expected": []}, None),
        ({"expected": [], "failed": 1}, False),
    ],
)
def test_complete_is_what_is_known_to_be(known: dict[str, Any], complete: bool | None) -> None:
    assert is_complete(with_coverage(**known)) is complete


def test_without_flow_logs_nothing_is_complete() -> None:
    document = with_coverage()
    document["coverage"]["flow_logs"] = []
    assert is_complete(document) is False


def test_the_ledger_prints_what_is_not_known(warehouse: Warehouse) -> None:
    made = publishable(with_coverage(expected=[]))
    publish(warehouse, DAY, made, "c", NOW)
    assert [row["complete"] for row in versions(warehouse, DAY)] == [None]
    document = small()
    document["ledger"][0]["complete"] = None
    told = [render(one).split('id="t-ledger"')[1].count("<td>unknown") for one in (document, small())]
    assert told == [1, 0]


def test_a_disposition_is_of_a_finding_of_that_version(warehouse: Warehouse) -> None:
    document = publishable(small())
    publish(warehouse, DAY, document, "c", NOW)
    known = document["findings"][0]["finding_id"]
    row = sign_off(warehouse, DAY, reviewer="A", decision="accepted", now=NOW, dispositions={known: "known"})
    assert row["dispositions"] == [(known, "known")]
    with pytest.raises(UsageError, match=r"disposition 'f': version \w{12} of 2026-03-10 has no such finding; .*report\.json"):
        sign_off(warehouse, DAY, reviewer="A", decision="accepted", now=NOW, dispositions={known: "known", "f": "known"})


def test_a_version_that_came_back_can_be_signed(warehouse: Warehouse) -> None:
    for digest in ("aa", "ab", "aa"):
        enter(warehouse, DAY, {"digest": digest}, NOW)
    assert [row["digest"] for row in versions(warehouse, DAY)] == ["aa", "ab", "aa"]
    assert sign_off(warehouse, DAY, reviewer="A", decision="accepted", now=NOW, digest="aa")["digest"] == "aa"
    assert sign_off(warehouse, DAY, reviewer="A", decision="accepted", now=NOW)["digest"] == "aa"
    with pytest.raises(UsageError, match="fits 2 versions of 2026-03-10; the versions are aa, ab"):
        sign_off(warehouse, DAY, reviewer="A", decision="accepted", now=NOW, digest="a")


def test_a_document_is_kept_as_it_was_published(warehouse: Warehouse, tmp_path: Path) -> None:
    document = publish(warehouse, DAY, publishable(small()), "c", NOW)
    kept = tmp_path / "reports" / f"day={DAY}" / document["digest"] / "report.json"
    assert json.loads(kept.read_text())["findings"] == document["findings"]
