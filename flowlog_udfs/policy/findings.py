"""What rules found as rows of table `findings`: named, counted, with exceptions applied and examples attached.

In: rows of `gathering.FOUND` as dicts. A finding's id is made of its rule, account, VPC, subject, and the exception's ticket and scope, so
that it is the same from day to day. What an exception covers stays listed as suppressed; when the exception has expired it counts again, as
expired. An exception that lies ahead covers nothing yet: the finding is open, and its summary says so.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa

from flowlog_udfs.policy.gathering import EXAMPLE
from flowlog_udfs.policy.model import SEVERITIES, Connections, FirstSeen, Policy, Spread
from flowlog_udfs.tables import Table

OPEN, SUPPRESSED, EXPIRED = "open", "suppressed", "expired"
_UTC = pa.timestamp("us", "UTC")
FINDINGS = pa.schema(
    [
        *(
            (name, pa.string())
            for name in ("finding_id", "rule", "severity", "status", "account_id", "region", "vpc_id", "subject", "summary")
        ),
        ("controls", pa.list_(pa.string())),
        ("connections", pa.int64()),
        ("peers", pa.int64()),
        ("bytes_sent", pa.int64()),
        ("bytes_received", pa.int64()),
        ("first_seen", _UTC),
        ("last_seen", _UTC),
        ("examples", pa.list_(EXAMPLE)),
        ("exception", pa.string()),  # its ticket
        ("exception_expires", pa.date32()),
        ("vpc_ids", pa.list_(pa.string())),  # all VPCs it touches
    ]
)
FINDINGS_TABLE = Table("findings", FINDINGS, ("rule", "severity", "status", "vpc_id"))

Found = dict[str, Any]
_NEVER = int(np.iinfo(np.int64).max)


def found(rule: int, subject: str, summary: str, *, vpc_ids: Sequence[str] = (), **known: Any) -> Found:
    """What a rule found without looking at connections; `known` are other columns of `gathering.FOUND`."""
    vpcs = sorted(set(vpc_ids))
    empty: Found = {
        "waiver": -1,
        "ahead": -1,
        "account_id": None,
        "vpc_id": vpcs[0] if len(vpcs) == 1 else None,
        "peers": 0,
        "connections": 0,
    }
    empty |= {"sent": 0, "received": 0, "first_seen": -1, "last_seen": -1, "examples": [], "nat_id": None, "nat_leg": None}
    return empty | {"rule": rule, "subject": subject, "summary": summary, "vpc_ids": vpcs} | known


def findings(rows: Iterable[Found], policy: Policy, day: date, regions: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of `FINDINGS` by severity, rule and subject; `regions` are those of the VPCs."""
    kept = _enough(_told_once(list(rows)), policy, day)
    made = [_finding(_waived(row, policy, day), policy, day, regions) for row in kept]
    return sorted(made, key=lambda one: (SEVERITIES.index(one["severity"]), one["rule"], one["subject"], one["finding_id"]))


def _told_once(rows: list[Found]) -> list[Found]:
    """Without outside legs of a translator whose inside legs, which name who is behind it, tell as many connections of the rule."""
    inside: dict[tuple[int, str | None], int] = defaultdict(int)
    for row in rows:
        if row["nat_leg"] == "inside":
            inside[row["rule"], row["nat_id"]] += row["connections"]
    return [row for row in rows if row["nat_leg"] != "outside" or inside[row["rule"], row["nat_id"]] < row["connections"]]


def _enough(rows: list[Found], policy: Policy, day: date) -> list[Found]:
    """Rows of which there are connections enough: of a subject all count together that no exception in force covers.

    What such an exception covers is listed if there are enough with it.
    """

    def place(row: Found) -> tuple[Any, ...]:
        return row["rule"], row["account_id"], row["vpc_id"], row["subject"]

    whole: dict[tuple[Any, ...], int] = defaultdict(int)
    counting: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in rows:
        whole[place(row)] += row["connections"]
        counting[place(row)] += 0 if policy.in_force(row["waiver"], day) else row["connections"]

    def is_enough(row: Found) -> bool:
        what = policy.rules[row["rule"]].what
        return not isinstance(what, Connections) or (whole if policy.in_force(row["waiver"], day) else counting)[place(row)] >= what.least

    return [row for row in rows if is_enough(row)]


def _waived(row: Found, policy: Policy, day: date) -> Found:
    """Exceptions of rules that look at no connections cover a VPC, or the rule as a whole."""
    rule = policy.rules[row["rule"]]
    if row["waiver"] >= 0 or isinstance(rule.what, Connections | Spread | FirstSeen):
        return row
    begun, ahead = (
        [place for place, waiver in some if waiver.initiator is waiver.responder is None and waiver.vpc in (None, row["vpc_id"])]
        for some in (policy.waivers_of(rule.id, day), policy.waivers_ahead(rule.id, day))
    )
    return row | {"waiver": next(iter(begun), -1), "ahead": next(iter(ahead), -1)}


def _finding(row: Found, policy: Policy, day: date, regions: Mapping[str, str]) -> dict[str, Any]:
    rule = policy.rules[row["rule"]]
    waiver = policy.waivers[row["waiver"]] if row["waiver"] >= 0 else None
    vpc = row["vpc_id"]
    identity = (rule.id, row["account_id"], vpc, row["subject"], waiver and (waiver.approval.ticket, *waiver.scope))
    return {
        "finding_id": hashlib.sha256(repr(identity).encode()).hexdigest()[:16],
        "rule": rule.id,
        "severity": rule.severity,
        "status": OPEN if waiver is None else SUPPRESSED if policy.in_force(row["waiver"], day) else EXPIRED,
        "account_id": row["account_id"],
        "region": row.get("region") or regions.get(vpc or (row["vpc_ids"] or [""])[0]),
        "vpc_id": vpc,
        "subject": row["subject"],
        "summary": (row.get("summary") or _summary(row, policy)) + _to_come(row, policy),
        "controls": list(rule.controls),
        "connections": row["connections"],
        "peers": row["peers"],
        "bytes_sent": row["sent"],
        "bytes_received": row["received"],
        "first_seen": _time(row["first_seen"]),
        "last_seen": _time(row["last_seen"]),
        "examples": row["examples"],
        "exception": waiver.approval.ticket if waiver else None,
        "exception_expires": waiver.approval.expires if waiver else None,
        "vpc_ids": row["vpc_ids"],
    }


def _summary(row: Found, policy: Policy) -> str:
    what = policy.rules[row["rule"]].what
    count = f"{row['connections']:,} connection{'s' if row['connections'] != 1 else ''}"
    if isinstance(what, Spread):
        return f"{row['peers']:,} {what.over} in {count} that did not come about"
    via = f", through the translator {row['nat_id']}" if row["nat_leg"] == "outside" else ""
    return f"{count}, {row['peers']:,} peer{'s' if row['peers'] != 1 else ''}{via}"


def _to_come(row: Found, policy: Policy) -> str:
    """That an exception would cover it, or some of it, were it in force."""
    if row["ahead"] < 0 or row["waiver"] >= 0:
        return ""
    approval = policy.waivers[row["ahead"]].approval
    return f"; exception {approval.ticket} is not in force before {approval.starts}"


def _time(micros: int) -> datetime | None:
    return None if micros in (-1, _NEVER) else datetime.fromtimestamp(0, timezone.utc) + timedelta(microseconds=micros)
