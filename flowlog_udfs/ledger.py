"""What stands in writing of each day: table `runs`, one row for each version of a day's report, and table `signoffs`, to which rows are
only ever added.

A version is known by the digest of all that it rests on. Running a day again from the same inputs makes no new version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa

from flowlog_udfs.delta import COMMIT_TRIES
from flowlog_udfs.errors import DayLimitError, LostRaceError, UsageError
from flowlog_udfs.storage import content
from flowlog_udfs.tables import Table, Warehouse

DECISIONS = ("accepted", "rejected")
_UTC = pa.timestamp("us", "UTC")
RUNS = pa.schema(
    [
        ("digest", pa.string()),
        ("version", pa.int64()),  # from 1; the highest is the latest, the others are superseded
        ("published_at", _UTC),
        ("superseded_by", pa.string()),
        ("code_version", pa.string()),
        ("config_digest", pa.string()),
        ("policy_digest", pa.string()),
        ("inventory_digest", pa.string()),
        ("objects", pa.int64()),
        ("records", pa.int64()),
        ("connections", pa.int64()),
        ("rejected_connections", pa.int64()),
        ("complete", pa.bool_()),  # no flow log without an hour, no object failed, nothing expected is missing; null: nothing is expected
        ("provisional", pa.string()),  # why rows of the day may still come
        ("stale", pa.string()),
        ("outcome", pa.string()),
        ("open", pa.int64()),  # findings that count
    ]
)
RUNS_TABLE = Table("runs", RUNS)
SIGNOFFS = pa.schema(
    [
        ("digest", pa.string()),
        ("reviewer", pa.string()),
        ("signed_at", _UTC),
        ("decision", pa.string()),
        ("dispositions", pa.map_(pa.string(), pa.string())),
        ("ticket", pa.string()),
        ("comment", pa.string()),
    ]
)
SIGNOFFS_TABLE = Table("signoffs", SIGNOFFS)


class Doubts(NamedTuple):
    """Why rows of a day may still come (`provisional`), and why it does not belong to the day before (`stale`)."""

    provisional: str | None = None
    stale: str | None = None


def days_of(warehouse: Warehouse, table: Table, first: date, last: date) -> dict[date, list[dict[str, Any]]]:
    """The rows of a small table by day, from `first` to `last`."""
    found: dict[date, list[dict[str, Any]]] = {}
    for day, key in sorted(warehouse.part_keys(table)):
        if first <= day <= last:
            rows = found.setdefault(day, [])
            rows += [row for part in warehouse.rows(table, [key], table.schema.names) for row in part.to_pylist()]
    return found


def versions(warehouse: Warehouse, day: date) -> list[dict[str, Any]]:
    """The versions of a day's report, the oldest first."""
    return sorted(days_of(warehouse, RUNS_TABLE, day, day).get(day, []), key=lambda row: row["version"])


def enter(warehouse: Warehouse, day: date, run: Mapping[str, Any], now: datetime) -> bool:
    """Make `run` (columns of `RUNS` but for version and times) the latest version of its day; False where it already is."""
    lost: LostRaceError | None = None
    for _ in range(COMMIT_TRIES):
        # What another run enters meanwhile must not be lost: rows are added to those that were read, or read again.
        read = warehouse.pinned()
        before = versions(read, day)
        if before and before[-1]["digest"] == run["digest"]:
            return False
        rows = [row | {"superseded_by": run["digest"]} if row["superseded_by"] is None else row for row in before]
        rows.append({**run, "version": len(rows) + 1, "published_at": now, "superseded_by": None})
        parts = warehouse.write_rows(RUNS_TABLE, day, pa.Table.from_pylist(rows, RUNS))
        try:
            read.replace_day(RUNS_TABLE, day, parts, inputs=str(run["digest"]), now=now)
        except LostRaceError as error:
            lost = error
            continue
        return True
    assert lost is not None
    raise lost


def report_at(warehouse: Warehouse, key: str) -> dict[str, Any] | None:
    """The document of a report by its key; None where there is none. Raises `StorageError` for one that cannot be read."""
    text = content(warehouse.storage, key)
    return None if text is None else dict(json.loads(text))


def sign_off(
    warehouse: Warehouse,
    day: date,
    *,
    reviewer: str,
    decision: str,
    now: datetime,
    digest: str | None = None,
    dispositions: Mapping[str, str] | None = None,
    ticket: str | None = None,
    comment: str | None = None,
) -> dict[str, Any]:
    """Add a reviewer's decision on a version of a day's report (the latest, or the one whose digest begins so) and return the row.

    Raises `UsageError` for a decision, a digest or a finding that is none, and `DayLimitError` for a day without a report.
    """
    if decision not in DECISIONS:
        raise UsageError(f"decision {decision!r}: must be one of {', '.join(DECISIONS)}")
    if not reviewer.strip():
        raise UsageError("a sign-off needs a reviewer; give a name")
    made = [row["digest"] for row in versions(warehouse, day)]
    known = list(dict.fromkeys(made))
    if not known:
        raise DayLimitError(f"{day}: there is no report to sign off; run report_compliance first")
    chosen = [one for one in known if one.startswith(digest)] if digest else made[-1:]
    if len(chosen) != 1:
        raise UsageError(f"digest {digest!r}: fits {len(chosen)} versions of {day}; the versions are {', '.join(known)}")
    _check_dispositions(warehouse, day, chosen[0], dispositions or {})
    row = {
        "digest": chosen[0],
        "reviewer": reviewer,
        "signed_at": now,
        "decision": decision,
        "dispositions": sorted((dispositions or {}).items()),
        "ticket": ticket,
        "comment": comment,
    }
    warehouse.append(SIGNOFFS_TABLE, day, pa.Table.from_pylist([row], SIGNOFFS), now=now)
    return row


def _check_dispositions(warehouse: Warehouse, day: date, digest: str, dispositions: Mapping[str, str]) -> None:
    """Raise `UsageError` where something is said of a finding that the version does not have."""
    if not dispositions:
        return
    key = f"{warehouse.prefix}reports/day={day}/{digest}/report.json"
    document = report_at(warehouse, key)
    if document is None:
        raise DayLimitError(f"{day}: {warehouse.storage.url(key)} cannot be read, so no finding of it can be spoken of; look for the file")
    ids = {one["finding_id"] for one in document["findings"]}
    for name in dispositions:
        if name not in ids:
            told = f"version {digest[:12]} of {day} has no such finding; ids are beside the findings of its page and in"
            raise UsageError(f"disposition {name!r}: {told} {warehouse.storage.url(key)}")


def ledger(
    runs: Mapping[date, Iterable[Mapping[str, Any]]],
    signoffs: Mapping[date, Iterable[Mapping[str, Any]]],
    doubts: Mapping[date, Doubts],
    day: date,
    days: int,
) -> list[dict[str, Any]]:
    """The last `days` days, the newest first: each with its latest version, what is in doubt of it now, and the last decision on it, or on
    an earlier version.
    """
    rows = []
    for number in range(days):
        one = day - timedelta(days=number)
        latest = max(runs.get(one, ()), key=lambda row: row["version"], default=None)
        signed = max(signoffs.get(one, ()), key=lambda row: (row["signed_at"], row["reviewer"]), default=None)
        rows.append(
            {"day": one}
            | {name: latest[name] if latest else None for name in ("digest", "complete", "outcome", "open")}
            | (doubts[one] if latest else Doubts())._asdict()
            | {name: signed[name] if signed else None for name in ("reviewer", "signed_at", "decision")}
            | {"signed_digest": signed["digest"] if signed else None}
        )
    return rows
