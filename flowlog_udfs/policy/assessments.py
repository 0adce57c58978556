"""Pass, fail or not assessed, for each rule and VPC: table `assessments`.

A rule fails where it has a finding that counts. It passes only where it could have found one: where nearly all records of the VPC come
from interfaces whose flow logs, taken together, have the fields and show the actions that the rule needs. Everything else is not assessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from flowlog_udfs.fields import ACCEPT, REJECT
from flowlog_udfs.policy.findings import SUPPRESSED
from flowlog_udfs.policy.model import INTERNET, Connections, FirstSeen, Gaps, Policy, Rule, Volume
from flowlog_udfs.tables import Table

PASS, FAIL, NOT_ASSESSED = "pass", "fail", "not_assessed"
ASSESSMENTS = pa.schema(
    [
        *((name, pa.string()) for name in ("rule", "account_id", "vpc_id", "outcome")),
        ("share", pa.float64()),  # of the VPC's records that had the fields and actions which the rule needs
        ("reason", pa.string()),  # why it is not assessed
    ]
)
ASSESSMENTS_TABLE = Table("assessments", ASSESSMENTS, ("rule", "vpc_id", "outcome"))
SERVICE_FIELDS = frozenset({"pkt-src-aws-service", "pkt-dst-aws-service"})
PORT_FIELDS = frozenset({"srcport", "dstport", "protocol"})


@dataclass(frozen=True)
class Known:
    """What assessing rests on: fields of each flow log, whether AWS's address ranges are at hand, and how many days before are known."""

    fields_of: Mapping[str, frozenset[str]]
    has_ranges: bool = False
    days_before: int = 0


@dataclass(frozen=True)
class Needs:
    """What a rule needs to see; `lacking` is why it cannot be assessed anywhere."""

    fields: frozenset[str] = frozenset()
    actions: frozenset[str] = frozenset()
    lacking: str | None = None


def needs(rule: Rule, policy: Policy, known: Known) -> Needs:
    """The fields and actions that a rule needs; of the fields that name AWS's services the one of either side will do."""
    what = rule.what
    if isinstance(what, Gaps):
        return Needs()
    peers = SERVICE_FIELDS if not known.has_ranges else frozenset()
    if isinstance(what, Volume | FirstSeen):
        lacking = f"{known.days_before} of {what.least_days} days before are known" if known.days_before < what.least_days else None
        if isinstance(what, FirstSeen) and not any(one.sensitive for one in policy.segments):
            lacking = "the policy names no sensitive segment"
        return Needs(peers, frozenset({ACCEPT}), lacking)
    if not isinstance(what, Connections):
        return Needs(PORT_FIELDS, frozenset({ACCEPT, REJECT}))
    fields = PORT_FIELDS if what.ports.ranges else frozenset[str]()
    if INTERNET in (what.source, what.target):
        fields |= peers
    if what.reject_reason:
        fields |= {"reject-reason"}
    lacking = None
    if what.segments and not any(one.sensitive or what.segments == "between" for one in policy.segments):
        lacking = "the policy names no segments" if what.segments == "between" else "the policy names no sensitive segment"
    refusals = what.action == REJECT or what.reject_reason is not None
    return Needs(fields, frozenset({REJECT if refusals else ACCEPT}), lacking)


@dataclass
class _Vpc:
    """The interfaces of a VPC: records, fields and actions of each."""

    records: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    fields: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    actions: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def share(self, wanted: Needs) -> float:
        """The share of its records from interfaces that show all that is wanted."""
        total = sum(self.records.values())
        fit = sum(
            count for name, count in self.records.items() if wanted.fields <= self.fields[name] and wanted.actions <= self.actions[name]
        )
        return fit / total if total else 0.0

    def lacks(self, wanted: Needs) -> str:
        """What its records lack, in words."""
        lost = {one for name in self.records for one in wanted.fields - self.fields[name]}
        hidden = {one for name in self.records for one in wanted.actions - self.actions[name]}
        parts = [f"fields {', '.join(sorted(lost))}"] if lost else []
        parts += [f"{' and '.join(sorted(hidden))} rows: no flow log shows any"] if hidden else []
        return "; ".join(parts)


def assessments(
    policy: Policy,
    findings: Sequence[Mapping[str, Any]],
    interfaces: Iterable[Mapping[str, Any]],
    missing_vpcs: Iterable[str],
    known: Known,
) -> list[dict[str, Any]]:
    """Rows of `ASSESSMENTS` by rule, account and VPC; `missing_vpcs` are expected and were not seen."""
    vpcs: dict[tuple[str | None, str | None], _Vpc] = defaultdict(_Vpc)
    for row in interfaces:
        one, name = vpcs[row["account_id"], row["vpc_id"]], row["interface_id"]
        one.records[name] += row["records"]
        one.fields[name] |= known.fields_of.get(row["flow_log_id"], frozenset())
        one.actions[name] |= {action for action, shows in ((ACCEPT, "shows_accept"), (REJECT, "shows_reject")) if row[shows]}
    places = sorted(vpcs, key=lambda place: (place[0] or "", place[1] or ""))
    unseen = [(None, vpc) for vpc in sorted(missing_vpcs)]
    failed: dict[str, set[str | None]] = defaultdict(set)
    for finding in findings:
        if finding["status"] != SUPPRESSED:
            failed[finding["rule"]].update(finding["vpc_ids"] or [None])
    rows = []
    for rule in policy.enabled:
        wanted = needs(rule, policy, known)
        named = {vpc for _, vpc in [*places, *unseen]}
        for account, vpc in [*places, *unseen]:
            share = vpcs[account, vpc].share(wanted) if (account, vpc) in vpcs else 0.0
            # What names no VPC, or one that nobody watches, fails wherever the rule applies.
            everywhere = any(one is None or one not in named for one in failed[rule.id])
            if vpc in failed[rule.id] or everywhere:
                outcome, reason = FAIL, None
            elif wanted.lacking:
                outcome, reason, share = NOT_ASSESSED, wanted.lacking, 0.0
            elif (account, vpc) not in vpcs:
                outcome, reason = NOT_ASSESSED, "expected, and no record of it was seen"
            elif share < policy.assessed_share:
                outcome, reason = NOT_ASSESSED, f"{share:.0%} of the records have what it needs; lacking {vpcs[account, vpc].lacks(wanted)}"
            else:
                outcome, reason = PASS, None
            rows.append({"rule": rule.id, "account_id": account, "vpc_id": vpc, "outcome": outcome, "share": share, "reason": reason})
    return rows
