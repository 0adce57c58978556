"""The sections of a report, each from the rows of one table or two: coverage, changes, subnets, talkers, translators, refusals, quality."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import pyarrow as pa

from flowlog_udfs.compliance import Counted, Judged
from flowlog_udfs.fields import ACCEPT, REJECT
from flowlog_udfs.objects import FAILED
from flowlog_udfs.policy.findings import SUPPRESSED
from flowlog_udfs.policy.gaps import Presence
from flowlog_udfs.policy.segments import INTERNET_SCOPES, OWN_SCOPES

Row = Mapping[str, Any]
INSIDE_SHOWN = 20
"""Inside ends that are named for each translator."""
MEASURES = {
    "bytes": "bytes",
    "connections": "count",
    "rejected connections": "count",
    "findings": "count",
    "records": "count",
    "interfaces": "count",
}


@dataclass(frozen=True)
class Before:
    """An earlier day: its measures by name, and its findings."""

    day: date
    measures: Mapping[str, int]
    findings: Sequence[Row]


def first_days(before: Sequence[Before]) -> dict[str, date]:
    """The first day, of an unbroken run of known days up to the newest of them, on which each finding was there."""
    since: dict[str, date] = {}
    lasting: set[str] | None = None
    for one in before:
        ids = {row["finding_id"] for row in one.findings}
        lasting = ids if lasting is None else lasting & ids
        since.update(dict.fromkeys(lasting, one.day))
    return since


def coverage(presence: Presence, objects: Sequence[Row]) -> dict[str, Any]:
    """What was read: totals, each flow log by hour, what was expected, and who was silent."""
    names = (
        "objects",
        "failed_objects",
        "skipped_objects",
        "size_bytes",
        "lines",
        "records",
        "rejects",
        "nodata",
        "skipdata",
        "late_records",
    )
    totals = {name: sum(row[name] for row in presence.coverage) for name in names}
    totals |= {name: sum(row[name] for row in objects) for name in ("headers", "blank", "other_day")}
    totals["interfaces"] = len({row["interface_id"] for row in presence.interfaces})
    by_log: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in presence.coverage:
        if row["flow_log_id"]:
            by_log[row["account_id"], row["region"], row["flow_log_id"]].append(row)
    formats: dict[str, set[str]] = defaultdict(set)
    for row in objects:
        if row["log_format"]:
            formats[row["flow_log_id"]].add(row["log_format"])
    logs = []
    for (account, region, name), hours in sorted(by_log.items()):
        mine = [row for row in presence.interfaces if row["flow_log_id"] == name]
        shown = [action for action, column in ((ACCEPT, "shows_accept"), (REJECT, "shows_reject")) if any(row[column] for row in mine)]
        records = [row["records"] for row in sorted(hours, key=lambda row: row["hour"])]
        starts = [row["first_start"] for row in hours if row["first_start"]]
        logs.append(
            {"account_id": account, "region": region, "flow_log_id": name, "formats": sorted(formats[name]), "shows": shown}
            | {
                column: sum(row[column] for row in hours)
                for column in ("objects", "failed_objects", "records", "rejects", "nodata", "skipdata", "late_records")
            }
            | {"interfaces": len(mine), "expected_interfaces": hours[0]["expected_interfaces"]}
            | {
                "first_start": min(starts, default=None),
                "last_end": max((row["last_end"] for row in hours if row["last_end"]), default=None),
            }
            | {"hours": records, "empty_hours": [hour for hour, count in enumerate(records) if not count]}
        )
    expected = [
        {"kind": kind, "id": name, "seen": (kind, name) in presence.seen, "source": source}
        for (kind, name), source in sorted(presence.expected.items())
    ]
    silent = [
        {"interface_id": row["interface_id"], "vpc_id": row["vpc_id"], "flow_log_id": row["flow_log_id"], **gap}
        for row in presence.interfaces
        for gap in row["gaps"]
    ]
    longest = sorted(silent, key=lambda one: (one["start"] - one["end"], one["interface_id"], one["flow_log_id"], one["start"]))
    return {"totals": totals, "flow_logs": logs, "expected": expected, "silent": longest[:500], "silent_more": max(0, len(longest) - 500)}


def measures(judged: Judged, subnet_bytes: Iterable[Row], covered: Row) -> dict[str, int]:
    """A day in a few numbers, to compare days by."""
    seen = judged.counted.evidence.to_pylist()
    return {
        "bytes": sum(row["bytes"] for row in subnet_bytes),
        "connections": sum(row["connections"] for row in seen),
        "rejected connections": sum(row["connections"] for row in seen if row["state"] == "rejected"),
        "findings": sum(one["status"] != SUPPRESSED for one in judged.findings),
        "records": covered["totals"]["records"],
        "interfaces": covered["totals"]["interfaces"],
    }


def changes(today: Mapping[str, int], findings: Sequence[Row], before: Sequence[Before]) -> dict[str, Any]:
    """Against yesterday and the days before: the measures, and findings that came, went and stayed, of those that count."""
    ids = {one["finding_id"] for one in findings if one["status"] != SUPPRESSED}
    covered = {(one["rule"], one["subject"]) for one in findings if one["status"] == SUPPRESSED}
    last = [one for one in (before[0].findings if before else ()) if one["status"] != SUPPRESSED]
    then = {one["finding_id"] for one in last}
    gone = [
        {name: one[name] for name in ("finding_id", "rule", "severity", "subject")}
        | ({"suppressed": True} if (one["rule"], one["subject"]) in covered else {})
        for one in last
        if one["finding_id"] not in ids
    ]
    return {
        "against": [one.day for one in before],
        "measures": [
            {"name": name, "unit": unit, "today": today[name], "days": [one.measures.get(name) for one in before]}
            for name, unit in MEASURES.items()
        ],
        "new_findings": sorted(ids - then) if before else [],
        "gone_findings": sorted(gone, key=lambda one: (one["rule"], one["subject"])),
        "lasting_findings": len(ids & then),
    }


def subnets(
    totals: Iterable[Row], skipped_hours: Mapping[tuple[str | None, str | None, str | None], Sequence[int]]
) -> list[dict[str, Any]]:
    """Each subnet's bytes by hour and direction, the largest first; `skipped_hours` are those in which records of it were skipped."""
    found: dict[tuple[str | None, ...], dict[str, Any]] = {}
    for row in totals:
        place = tuple(row[name] for name in ("account_id", "region", "vpc_id", "subnet_id"))
        hours = skipped_hours.get((place[0], place[2], place[3]), ())
        one = found.setdefault(
            place,
            dict(zip(("account_id", "region", "vpc_id", "subnet_id"), place, strict=True))
            | dict.fromkeys(("bytes_in", "bytes_out", "internet_in", "internet_out", "rejected", "connections_started"), 0)
            | {"at_least": bool(hours), "hours_in": [0] * 24, "hours_out": [0] * 24, "hours_at_least": sorted(hours)},
        )
        way = row["direction"]
        one[f"bytes_{way}"] += row["bytes"]
        one["connections_started"] += row["connections_started"]
        one["rejected"] += row["bytes"] if row["action"] == REJECT else 0
        one[f"internet_{way}"] += row["bytes"] if row["peer_scope"] in INTERNET_SCOPES else 0
        if row["hour"]:
            one[f"hours_{way}"][row["hour"].hour] += row["bytes"]
    return sorted(found.values(), key=lambda one: (-one["bytes_in"] - one["bytes_out"], str(one["subnet_id"]), str(one["vpc_id"])))


def scopes(totals: Iterable[Row]) -> list[dict[str, Any]]:
    """Bytes by direction, peer scope, side that initiated, and action."""
    keys = ("direction", "peer_scope", "initiated_by", "action")
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in totals:
        key = tuple(row[name] for name in keys)
        one = found.setdefault(key, dict(zip(keys, key, strict=True)) | {"bytes": 0, "packets": 0, "records": 0})
        for name in ("bytes", "packets", "records"):
            # A balancer's front has counted what its targets got.
            one[name] += row[name] - (row["relayed_bytes"] if name == "bytes" else 0)
    return sorted(found.values(), key=lambda one: (-one["bytes"], *(str(one[name]) for name in keys)))


def talkers(top: pa.Table) -> list[dict[str, Any]]:
    """Who initiated what moved most; `via` for balancers, endpoints and NATs, behind which somebody else sits."""
    return [
        {
            "initiator_addr": row["initiator_addr"],
            "via": row["initiator_kind"] == "proxy",
            **{name: row[f"initiator_{name}"] for name in ("instance_id", "subnet_id", "vpc_id", "scope")},
            **{name: row[name] for name in ("connections", "bytes_sent", "bytes_received", "rejected")},
        }
        for row in top.to_pylist()
    ]


def translators(behind: pa.Table) -> list[dict[str, Any]]:
    """Each translated address with those behind it, the largest first."""
    found: dict[tuple[str | None, ...], dict[str, Any]] = {}
    names = ("nat_kind", "nat_addr", "nat_interface_id")
    for row in sorted(behind.to_pylist(), key=lambda row: (-row["bytes_out"] - row["bytes_in"], str(row["inside_addr"]))):
        key = tuple(row[name] for name in names)
        one = found.setdefault(key, {**dict(zip(names, key, strict=True)), "inside": [], "inside_more": 0, "unpaired": 0})
        one["unpaired"] += row["unpaired"]
        if len(one["inside"]) < INSIDE_SHOWN:
            one["inside"].append({name: row[name] for name in ("inside_addr", "bytes_out", "bytes_in", "connections", "remotes")})
        else:
            one["inside_more"] += 1
    return sorted(found.values(), key=lambda one: tuple(str(one[name]) for name in names))


def refused(counted: Counted, presence: Presence, objects: Iterable[Row]) -> dict[str, Any]:
    """Refused connections: how many, how many from inside, by which reason, and whose."""
    without = _without_reason(presence, objects)
    seen = [row for row in counted.evidence.to_pylist() if row["state"] == "rejected"]
    reasons: dict[str, int] = defaultdict(int)
    for row in seen:
        reasons[row["reject_reason"] or without] += row["connections"]
    return {
        "connections": sum(row["connections"] for row in seen),
        "records": sum(row["rejected"] for row in presence.coverage),
        "from_inside": sum(row["connections"] for row in seen if row["initiator_scope"] in OWN_SCOPES),
        "reasons": [{"reason": name, "connections": count} for name, count in sorted(reasons.items())],
        "top": counted.refused.to_pylist(),
    }


def _without_reason(presence: Presence, objects: Iterable[Row]) -> str:
    """What a refusal without a reason means, by whether the flow logs that show refusals have the field `reject-reason`."""
    seen = {row["flow_log_id"] for row in presence.interfaces}
    showing = {row["flow_log_id"] for row in presence.interfaces if row["shows_reject"]}
    formats = {
        row["log_format"] for row in objects if row["log_format"] and (row["flow_log_id"] in showing or row["flow_log_id"] not in seen)
    }
    logged = {"${reject-reason}" in one for one in formats}
    if logged == {True}:
        return "security group or network ACL"
    return "reason not recorded in this format" if logged == {False} else "security group, network ACL, or not recorded"


def quality(
    reject_reasons: Mapping[str, int], objects: Iterable[Row], evidence: pa.Table, account: Iterable[Row], transit: Iterable[Row]
) -> dict[str, Any]:
    """Lines that were no records, objects that could not be read, how sure initiators are, the account of every byte, and whose middleboxes
    alone saw some.
    """
    sure: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for row in evidence.to_pylist():
        sure[row["basis"]][0] += row["connections"]
        sure[row["basis"]][1] += row["confidence"]
    by_measure: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in account:
        by_measure[row["scope"], row["measure"]][row["bucket"]] = row["value"]
    return {
        "rejects": [{"reason": reason, "lines": lines} for reason, lines in sorted(reject_reasons.items())],
        "failed": [{"key": row["key"], "error": row["error"]} for row in objects if row["status"] == FAILED],
        "basis": [
            {"basis": basis, "connections": int(count), "mean_confidence": round(total / count, 3)}
            for basis, (count, total) in sorted(sure.items(), key=lambda item: (-item[1][0], item[0]))
        ],
        "reconciliation": [
            {
                "scope": scope,
                "measure": measure,
                "raw": buckets["raw"],
                "buckets": {name: value for name, value in buckets.items() if name != "raw"},
            }
            for (scope, measure), buckets in sorted(by_measure.items())
        ],
        "transit_only": _transit_only(transit),
    }


def _transit_only(tallies: Iterable[Row]) -> list[dict[str, Any]]:
    """What middleboxes forwarded that no owner of an end logged, by the subnet of the middlebox, the largest first."""
    keys = ("account_id", "region", "vpc_id", "subnet_id")
    found: dict[tuple[str | None, ...], dict[str, Any]] = {}
    for row in tallies:
        place = tuple(row[name] for name in keys)
        one = found.setdefault(place, dict(zip(keys, place, strict=True)) | {"bytes": 0, "packets": 0, "records": 0})
        for name in ("bytes", "packets", "records"):
            one[name] += row[name]
    return sorted(found.values(), key=lambda one: (-one["bytes"], *(str(one[name]) for name in keys[::-1])))
