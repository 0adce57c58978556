"""The last step of a day: its tables judged by a policy, the report written and entered in the ledger."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from flowlog_udfs.agreement import agreed_inputs
from flowlog_udfs.compliance import JUDGED_TABLES, JUDGEMENT_TABLES, day_rows, days_before, judge_day
from flowlog_udfs.config import Config
from flowlog_udfs.connections import CONNECTIONS_TABLE
from flowlog_udfs.coverage import COVERAGE_TABLE
from flowlog_udfs.doubts import doubts, provisional_note, stale_note
from flowlog_udfs.errors import FlowlogError, StorageError
from flowlog_udfs.ingest import OBJECTS, REJECTS
from flowlog_udfs.inventory import Inventory
from flowlog_udfs.ledger import RUNS_TABLE, SIGNOFFS_TABLE, days_of, ledger, versions
from flowlog_udfs.peers import AwsRanges
from flowlog_udfs.policy.findings import FINDINGS_TABLE
from flowlog_udfs.policy.gaps import LEDGER_DAYS
from flowlog_udfs.policy.model import Policy
from flowlog_udfs.presence import INTERFACES_TABLE
from flowlog_udfs.report.document import Inputs, Tables, document
from flowlog_udfs.report.publishing import latest_report, publish, report_url
from flowlog_udfs.report.sections import Before
from flowlog_udfs.subnets import RECONCILIATION_TABLE, SUBNET_BYTES_TABLE
from flowlog_udfs.tables import Warehouse
from flowlog_udfs.tallies import BUCKETS, SKIPDATA, TALLIES_TABLE, TRANSIT_ONLY

_OBJECT_COLUMNS = (
    *("key", "sha256", "error", "status", "account_id", "region", "flow_log_id", "published_at", "log_format"),
    *("headers", "blank", "other_day", "other_days"),
)
_TALLY_COLUMNS = ("hour", "account_id", "region", "vpc_id", "subnet_id", "subnet_bucket", "bytes", "packets", "records")


@dataclass(frozen=True)
class Reported:
    """A published report: its document and where its page is."""

    document: Mapping[str, Any]
    url: str


def report_day(
    spark: SparkSession, warehouse: Warehouse, day: date, policy: Policy, config: Config, inventory: Inventory | None, now: datetime
) -> Reported:
    """Judge the day, replace it in `findings`, `assessments` and `external_peers`, publish its report and enter it in `runs`.

    Raises `DayLimitError` when an earlier step was not run, `StorageError` when tables are of different runs.
    """
    read = warehouse.pinned()
    judged = judge_day(spark, warehouse, read, day, policy, config, inventory, now)
    objects = day_rows(read, OBJECTS, day, _OBJECT_COLUMNS)
    analytics, _ = read.origin(CONNECTIONS_TABLE, day) or ("", None)
    ranges = AwsRanges.load(Path(config.attribution.ip_ranges)) if config.attribution.ip_ranges else None
    inputs = Inputs(
        day,
        objects=len(objects),
        objects_digest=_objects_digest(objects),
        analytics_digest=analytics,
        inventory={"taken_at": _utc(inventory.taken_at), "digest": inventory.digest()} if inventory else None,
        ip_ranges={"created": _utc(ranges.created)} if ranges else None,
        provisional=provisional_note(read, day, config.ingest.late_hours),
        stale=stale_note(read, day),
    )
    made = document(inputs, judged, _tables(read, day, objects, config.ingest.late_hours))
    published = publish(warehouse, day, made, config.digest(), now)
    _require_standing(warehouse, day, judged.inputs, published["digest"])
    return Reported(published, report_url(warehouse, day))


def is_standing(warehouse: Warehouse, day: date, digest: str, inputs: str | None = None) -> bool:
    """Whether the tables of a day agree with each other (and were made from `inputs`) and its latest report is the one of this digest, made
    of them.
    """
    read = warehouse.pinned()
    try:
        found = agreed_inputs(read, day, (*JUDGED_TABLES, *JUDGEMENT_TABLES))
        latest = latest_report(warehouse, day)
    except FlowlogError:
        return False
    entered = [row["digest"] for row in versions(read, day)][-1:]
    analytics, _ = read.origin(CONNECTIONS_TABLE, day) or ("", None)
    # Parquet tables keep no note of their inputs, but the objects are replaced first, and the report is made last.
    made_of = {"analytics_digest": analytics, "objects_digest": _objects_digest(day_rows(read, OBJECTS, day, ("key", "sha256", "error")))}
    of_inputs = made_of.items() <= latest["inputs"].items() and (inputs is None or not found or found == inputs)
    return of_inputs and [latest["digest"]] == entered == [digest]


def _require_standing(warehouse: Warehouse, day: date, inputs: str, digest: str) -> None:
    """Raise `StorageError` when another run of the day has replaced a table meanwhile. Of several runs at once the last to look sees what
    they leave, so a day of which a part is of another run never passes for done.
    """
    if not is_standing(warehouse, day, digest, inputs):
        raise StorageError(f"{day}: another run of this day replaced tables or the report meanwhile; run the day again")


def _tables(warehouse: Warehouse, day: date, objects: list[dict[str, Any]], late_hours: int) -> Tables:
    first = day - timedelta(days=LEDGER_DAYS)
    runs, signoffs = (days_of(warehouse, table, first, day) for table in (RUNS_TABLE, SIGNOFFS_TABLE))
    # The day itself has no row yet: a version cannot speak of itself.
    runs.pop(day, None)
    own = [{**row, "dispositions": dict(row["dispositions"])} for row in signoffs.get(day, [])]
    reasons = Counter(row["reason"] for row in day_rows(warehouse, REJECTS, day, ["reason"]))
    skipped: dict[tuple[str | None, str | None, str | None], set[int]] = defaultdict(set)
    transit = []
    for row in day_rows(warehouse, TALLIES_TABLE, day, _TALLY_COLUMNS):
        if row["subnet_bucket"] == BUCKETS[SKIPDATA] and row["hour"] is not None:
            skipped[row["account_id"], row["vpc_id"], row["subnet_id"]].add(row["hour"] // 3600 % 24)
        elif row["subnet_bucket"] == BUCKETS[TRANSIT_ONLY]:
            transit.append(row)
    return Tables(
        objects=objects,
        subnet_bytes=day_rows(warehouse, SUBNET_BYTES_TABLE, day),
        reconciliation=day_rows(warehouse, RECONCILIATION_TABLE, day),
        transit_only=transit,
        skipped_hours={place: sorted(hours) for place, hours in skipped.items()},
        reject_reasons=reasons,
        before=[_before(warehouse, one) for one in days_before(warehouse, FINDINGS_TABLE, day)],
        ledger=ledger(runs, signoffs, doubts(warehouse, runs, late_hours), day - timedelta(days=1), LEDGER_DAYS),
        signoffs=sorted(own, key=lambda row: (row["signed_at"], row["reviewer"])),
    )


def _before(warehouse: Warehouse, day: date) -> Before:
    """An earlier day in a few numbers, from its small tables."""
    findings = day_rows(warehouse, FINDINGS_TABLE, day, ["finding_id", "rule", "severity", "subject", "status"])
    run = max(days_of(warehouse, RUNS_TABLE, day, day).get(day, []), key=lambda row: row["version"], default=None)
    totals = day_rows(warehouse, SUBNET_BYTES_TABLE, day, ["bytes"])
    measures = {
        "bytes": sum(row["bytes"] for row in totals),
        "findings": sum(one["status"] != "suppressed" for one in findings),
        "records": sum(row["records"] for row in day_rows(warehouse, COVERAGE_TABLE, day, ["records"])),
        "interfaces": len({row["interface_id"] for row in day_rows(warehouse, INTERFACES_TABLE, day, ["interface_id"])}),
    }
    if run is not None:
        measures |= {name.replace("_", " "): run[name] for name in ("connections", "rejected_connections")}
    return Before(day, measures, findings)


def _objects_digest(objects: list[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for row in sorted(objects, key=lambda row: str(row["key"])):
        digest.update(f"{row['key']} {row['sha256']} {row['error']}\n".encode())
    return digest.hexdigest()


def _utc(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
