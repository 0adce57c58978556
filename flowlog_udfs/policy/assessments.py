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

from flowlog_udfs.fields import ACCEPT, CONNECTION_FIELDS, REJECT
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
CONNECTIONS_NEED = frozenset({*CONNECTION_FIELDS, "action"})
"""What every rule about connections needs: without these nobody can tell them apart, or what became of them."""
PER_DAY = ("missing", "hole")
"""What rules of kind `Gaps` tell of a day without any record: they are assessed in a VPC that was not seen, too."""


@dataclass(frozen=True)
class Known:
    """What assessing rests on.

    Fields of each flow log, whether AWS's address ranges are at hand, how many days before are known, whether anything is expected to be
    seen, and whether there was a run before.
    """

    fields_of: Mapping[str, frozenset[str]]
    has_ranges: bool = False
    days_before: int = 0
    has_expected: bool = False
    has_earlier_run: bool = False


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
        return Needs(lacking=_lacking_of_gaps(what, known))
    peers = SERVICE_FIELDS if not known.has_ranges else frozenset()
    if isinstance(what, Volume | FirstSeen):
        lacking = f"{known.days_before} of {what.least_days} days before are known" if known.days_before < what.least_days else None
        if isinstance(what, FirstSeen) and not any(one.sensitive for one in policy.segments):
            lacking = "the policy names no sensitive segment"
        return Needs(peers | (CONNECTIONS_NEED if isinstance(what, FirstSeen) else {"action", "bytes"}), frozenset({ACCEPT}), lacking)
    if not isinstance(what, Connections):
        return Needs(CONNECTIONS_NEED, frozenset({ACCEPT, REJECT}))
    fields = CONNECTIONS_NEED
    if INTERNET in (what.source, what.target):
        fields |= peers
    if what.reject_reason:
        fields |= {"reject-reason"}
    lacking = None
    if what.segments and not any(one.sensitive or what.segments == "between" for one in policy.segments):
        lacking = "the policy names no segments" if what.segments == "between" else "the policy names no sensitive segment"
    refusals = what.action == REJECT or what.reject_reason is not None
    return Needs(fields, frozenset({REJECT if refusals else ACCEPT}), lacking)


def _lacking_of_gaps(what: Gaps, known: Known) -> str | None:
    if what.of == "missing" and not known.has_expected:
        return "no list of expected things was given"
    if what.of == "hole" and not known.has_earlier_run:
        return "no earlier run to compare with"
    return None


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
    """Rows of `ASSESSMENTS` by rule, account and VPC; `missing_vpcs` are expected and were not seen.

    A finding about missing things of which no VPC is known fails its rule in a row of its own, and in no VPC.
    """
    vpcs: dict[tuple[str | None, str | None], _Vpc] = defaultdict(_Vpc)
    for row in interfaces:
        one, name = vpcs[row["account_id"], row["vpc_id"]], row["interface_id"]
        one.records[name] += row["records"]
        one.fields[name] |= known.fields_of.get(row["flow_log_id"], frozenset())
        one.actions[name] |= {action for action, shows in ((ACCEPT, "shows_accept"), (REJECT, "shows_reject")) if row[shows]}
    places = sorted(vpcs, key=lambda place: (place[0] or "", place[1] or ""))
    unseen = [(None, vpc) for vpc in sorted(missing_vpcs)]
    named = {vpc for _, vpc in [*places, *unseen]}
    failed: dict[str, set[tuple[str | None, str | None]]] = defaultdict(set)
    for finding in findings:
        if finding["status"] != SUPPRESSED:
            failed[finding["rule"]].update((finding.get("account_id"), vpc) for vpc in finding["vpc_ids"] or [None])
    rows = []
    for rule in policy.enabled:
        wanted = needs(rule, policy, known)
        of = rule.what.of if isinstance(rule.what, Gaps) else None
        failed_vpcs = {vpc for _, vpc in failed[rule.id]}
        elsewhere = sorted({place for place in failed[rule.id] if place[1] is None or place[1] not in named}, key=str)
        # What names no VPC, or one that nobody watches, fails wherever the rule applies; what is missing, at its own place only.
        everywhere = bool(elsewhere) and of != "missing"
        own_rows = [place for place in elsewhere if of == "missing" and place not in vpcs]
        for account, vpc in [*places, *unseen, *own_rows]:
            share = 1.0 if of in PER_DAY else vpcs[account, vpc].share(wanted) if (account, vpc) in vpcs else 0.0
            if everywhere or (account, vpc) in failed[rule.id] or (vpc is not None and vpc in failed_vpcs):
                outcome, reason = FAIL, None
            elif wanted.lacking:
                outcome, reason, share = NOT_ASSESSED, wanted.lacking, 0.0
            elif of not in PER_DAY and (account, vpc) not in vpcs:
                outcome, reason = NOT_ASSESSED, "expected, and no record of it was seen"
            elif share < policy.assessed_share:
                outcome, reason = NOT_ASSESSED, f"{share:.0%} of the records have what it needs; lacking {vpcs[account, vpc].lacks(wanted)}"
            else:
                outcome, reason = PASS, None
            rows.append({"rule": rule.id, "account_id": account, "vpc_id": vpc, "outcome": outcome, "share": share, "reason": reason})
    return rows
