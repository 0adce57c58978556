"""A day's report into the warehouse: each version in a folder of its own, never written again, and the latest beside them.

    reports/day=D/<digest>/report.html, report.json     a version
    reports/day=D/report.html, report.json              the same bytes as the latest version's

Which version follows which is in table `runs`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from flowlog_udfs import ledger
from flowlog_udfs.errors import DayLimitError
from flowlog_udfs.pseudonyms import Pseudonyms
from flowlog_udfs.report.document import to_json
from flowlog_udfs.report.page import render
from flowlog_udfs.report.pseudonymous import pseudonymous
from flowlog_udfs.report.schema import validate
from flowlog_udfs.storage import Storage, needed
from flowlog_udfs.tables import Warehouse

FILES = ("report.html", "report.json")
COMPARED = (
    ("verdict", ("verdict", "sentence")),
    ("objects read", ("inputs", "objects")),
    ("told to read only", ("inputs", "only")),
    ("content of the objects", ("inputs", "objects_digest")),
    ("policy", ("inputs", "policy", "digest")),
    ("inventory", ("inputs", "inventory")),
    ("records", ("coverage", "totals", "records")),
    ("rejects", ("coverage", "totals", "rejects")),
    ("provisional", ("verdict", "provisional")),
    ("stale", ("verdict", "stale")),
    ("version of flowlog", ("flowlog_version",)),
)
"""What a new version says of the one before it."""


def publish(warehouse: Warehouse, day: date, document: dict[str, Any], config_digest: str, now: datetime) -> dict[str, Any]:
    """Write a version of a day's report, make it the latest and enter it in the ledger; returns the document as it stands there.

    A version that is there already is left as it is: its evidence is never overwritten.
    """
    folder = f"{warehouse.prefix}reports/day={day}/"
    digest = document["digest"]
    there = {stored.key for stored in warehouse.storage.objects(f"{folder}{digest}/")}
    kept = ledger.report_at(warehouse, f"{folder}{digest}/report.json") if {f"{folder}{digest}/{name}" for name in FILES} <= there else None
    if kept is None:
        former = [row["digest"] for row in ledger.versions(warehouse, day)][-1:]
        before = ledger.report_at(warehouse, f"{folder}{former[0]}/report.json") if former else None
        document["supersedes"] = {"digest": former[0], "changes": changes(before, document)} if former and before else None
        validate(document)
        _put(warehouse.storage, f"{folder}{digest}/", document)
    for name in FILES:
        with needed(warehouse.storage, f"{folder}{digest}/{name}") as stream:
            _put_text(warehouse.storage, folder + name, stream.read().decode())
    standing = kept or document
    ledger.enter(warehouse, day, run_row(standing) | {"config_digest": config_digest}, now)
    return standing


def report_url(warehouse: Warehouse, day: date) -> str:
    """Where the latest report of a day is."""
    return warehouse.storage.url(f"{warehouse.prefix}reports/day={day}/report.html")


def latest_report(warehouse: Warehouse, day: date) -> dict[str, Any]:
    """The document of a day's latest report; raises `DayLimitError` where there is none."""
    found = ledger.report_at(warehouse, f"{warehouse.prefix}reports/day={day}/report.json")
    if found is None:
        raise DayLimitError(f"{day}: there is no report; run report_compliance first")
    return found


def publish_copy(output: tuple[Storage, str], document: Mapping[str, Any], pseudonyms: Pseudonyms) -> tuple[dict[str, Any], str]:
    """Write `day=D/report.html` and `report.json` under pseudonyms to `output`, over what is there; returns it and where its page is."""
    storage, prefix = output
    made = pseudonymous(document, pseudonyms)
    validate(made)
    _put(storage, f"{prefix}day={made['day']}/", made)
    return made, storage.url(f"{prefix}day={made['day']}/{FILES[0]}")


def run_row(document: Mapping[str, Any]) -> dict[str, Any]:
    """What table `runs` has of a version beside its number, its times and the settings."""
    totals, inputs = document["coverage"]["totals"], document["inputs"]
    measured = {one["name"]: one["today"] for one in document["changes"]["measures"]}
    return {
        "digest": document["digest"],
        "code_version": document["flowlog_version"],
        "policy_digest": inputs["policy"]["digest"],
        "inventory_digest": inputs["inventory"]["digest"] if inputs["inventory"] else None,
        "objects": inputs["objects"],
        "records": totals["records"],
        "connections": measured["connections"],
        "rejected_connections": measured["rejected connections"],
        "complete": is_complete(document),
        "provisional": document["verdict"]["provisional"],
        "stale": document["verdict"]["stale"],
        "outcome": document["verdict"]["outcome"],
        "open": sum(document["verdict"]["open"].values()),
    }


def is_complete(document: Mapping[str, Any]) -> bool | None:
    """Whether all was read that should have been; None, unknown, where nothing seen is amiss and no list says what should be seen."""
    covered = document["coverage"]
    amiss = covered["totals"]["failed_objects"] or not covered["flow_logs"] or any(log["empty_hours"] for log in covered["flow_logs"])
    if amiss or not all(one["seen"] for one in covered["expected"]):
        return False
    return True if covered["expected"] else None


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, str]]:
    """What a version says of the one before it: `COMPARED`, and how many findings came and went."""
    rows = []
    for what, path in COMPARED:
        then, now = _at(before, path), _at(after, path)
        if then != now:
            rows.append({"what": what, "before": _text(then), "after": _text(now)})
    old, new = ({one["finding_id"] for one in document["findings"]} for document in (before, after))
    if old != new:
        rows.append({"what": "findings", "before": f"{len(old - new)} no longer there", "after": f"{len(new - old)} new"})
    return rows


def _at(document: Any, path: Sequence[str]) -> Any:
    for name in path:
        document = document.get(name) if document is not None else None
    return document


def _text(value: Any) -> str:
    return "none" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _put(storage: Storage, folder: str, document: Mapping[str, Any]) -> None:
    for name, text in zip(FILES, (render(document), to_json(document)), strict=True):
        _put_text(storage, folder + name, text)


def _put_text(storage: Storage, key: str, text: str) -> None:
    with tempfile.TemporaryDirectory(prefix="flowlog-report-") as scratch:
        local = Path(scratch, key.rpartition("/")[2])
        local.write_text(text, encoding="utf-8")
        storage.put(local, key)
