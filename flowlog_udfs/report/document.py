"""The report of a day as a document: all that its page shows, and nothing else (`report-1.schema.json`).

In: a day judged, and the day's small tables. Out: a dict of plain values, the same for the same inputs, with the digest that names the
version. The digest covers everything in the document but the ledger and the sign-offs, which grow after a day is done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import flowlog_udfs
from flowlog_udfs.compliance import Judged
from flowlog_udfs.policy.assessments import FAIL, NOT_ASSESSED, PASS
from flowlog_udfs.policy.controls import is_checked
from flowlog_udfs.policy.findings import EXPIRED, OPEN, SUPPRESSED
from flowlog_udfs.policy.matching import PROTOCOL_NAMES
from flowlog_udfs.policy.model import SEVERITIES, Waiver
from flowlog_udfs.report import sections

SCHEMA_VERSION = "1.0"
FINDINGS_OUTCOME, NO_FINDING, CLEAN = "findings", "no_finding", "clean"
GROWING = ("digest", "supersedes", "ledger", "signoffs")
"""What the digest does not cover."""

NOT_SEEN = (
    ("Questions to Amazon's own DNS (the VPC resolver) are never logged; those to your own DNS servers are.", ("dns-to-internet",)),
    ("Instance metadata, the time service, Windows licence activation, DHCP and ARP are never logged.", ("refused-from-inside",)),
    (
        "Traffic between an endpoint's interface and a Network Load Balancer's is never logged.",
        ("segmentation", "sensitive-across-segments"),
    ),
    ("Mirrored traffic is logged at its target only.", ()),
    ("Which rule of a security group or network ACL decided is not recorded.", ("refused-from-inside",)),
    ("Names, users, processes and payload are not in flow logs: a port stands for a protocol, it does not prove it.", ("cleartext",)),
    ("Records are delivered with best effort; SKIPDATA stands for an unknown number of lost ones.", ("skipdata", "coverage-gap")),
)
NEVER_CLAIMED = (
    "This report detects no intrusions.",
    "It says that logged traffic did not break a rule, not that segmentation is effective: that takes a segmentation test.",
    "It knows addresses, interfaces and instances, not the people behind them.",
    "It says nothing about how security groups, network ACLs or routes are configured.",
)


@dataclass(frozen=True)
class Inputs:
    """What a version of a report rests on, beside the tables."""

    day: date
    objects: int
    objects_digest: str
    analytics_digest: str
    inventory: Mapping[str, str] | None = None
    ip_ranges: Mapping[str, str] | None = None
    provisional: str | None = None
    stale: str | None = None


@dataclass(frozen=True)
class Tables:
    """The rows of a day's small tables, those of `records`' rejects counted, and what days before this one came to.

    `transit_only` are the rows of `tallies` in this bucket.
    """

    objects: Sequence[Mapping[str, Any]]
    subnet_bytes: Sequence[Mapping[str, Any]]
    reconciliation: Sequence[Mapping[str, Any]]
    skipped_hours: Mapping[tuple[str | None, str | None, str | None], Sequence[int]]
    reject_reasons: Mapping[str, int]
    transit_only: Sequence[Mapping[str, Any]] = ()
    before: Sequence[sections.Before] = ()
    ledger: Sequence[Mapping[str, Any]] = ()
    signoffs: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def document(inputs: Inputs, judged: Judged, tables: Tables) -> dict[str, Any]:
    """The document of a day, its digest filled in; `supersedes` is for the publisher to say."""
    covered = sections.coverage(judged.presence, tables.objects)
    findings = _findings(judged, tables.before, inputs.day)
    rules, switched_off = _rules(judged), _switched_off(judged)
    made: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "flowlog_version": flowlog_udfs.__version__,
        "day": inputs.day,
        "digest": "",
        "inputs": {
            "objects": inputs.objects,
            "objects_digest": inputs.objects_digest,
            "only": judged.presence.only,
            "analytics_digest": inputs.analytics_digest,
            "policy": {"name": judged.policy.name, "digest": judged.policy.digest()},
            "inventory": inputs.inventory,
            "ip_ranges": inputs.ip_ranges,
        },
        "supersedes": None,
        "verdict": _verdict(inputs, judged, findings, rules, switched_off, covered),
        "coverage": covered,
        "changes": sections.changes(sections.measures(judged, tables.subnet_bytes, covered), findings, tables.before),
        "rules": rules,
        "rules_off": switched_off,
        "findings": findings,
        "subnets": sections.subnets(tables.subnet_bytes, tables.skipped_hours),
        "scopes": sections.scopes(tables.subnet_bytes),
        "talkers": sections.talkers(judged.counted.talkers),
        "nat": sections.translators(judged.counted.behind),
        "refused": sections.refused(judged.counted, judged.presence, tables.objects),
        "quality": sections.quality(
            tables.reject_reasons, tables.objects, judged.counted.evidence, tables.reconciliation, tables.transit_only
        ),
        "not_seen": [{"text": text, "rules": list(names)} for text, names in NOT_SEEN],
        "never_claimed": list(NEVER_CLAIMED),
        "ledger": list(tables.ledger),
        "signoffs": list(tables.signoffs),
    }
    done: dict[str, Any] = plain(made)
    done["digest"] = digest_of(done)
    return done


def digest_of(document: Mapping[str, Any]) -> str:
    """The digest of a document by all of it that does not grow."""
    return hashlib.sha256(to_json({k: v for k, v in document.items() if k not in GROWING}).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Values as JSON has them: times and days as text."""
    return json.loads(json.dumps(value, default=_plain))


def to_json(document: Mapping[str, Any]) -> str:
    """A document as text: keys in order, so that equal documents are equal bytes."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a report")


def _verdict(
    inputs: Inputs,
    judged: Judged,
    findings: Sequence[Mapping[str, Any]],
    rules: Sequence[Mapping[str, Any]],
    switched_off: Sequence[Mapping[str, Any]],
    covered: Mapping[str, Any],
) -> dict[str, Any]:
    counting = [one for one in findings if one["status"] in (OPEN, EXPIRED)]
    outcomes = {outcome: sum(rule["outcome"] == outcome for rule in rules) for outcome in (PASS, FAIL, NOT_ASSESSED)}
    caveats = []
    only = judged.presence.only
    if any(only.values()):
        said = " in ".join(", ".join(names) for names in only.values() if names)
        caveats.append(f"The run was told to read {said} only: what else was logged is not in this report.")
    if not judged.presence.expected:
        caveats.append("No list of expected VPCs and interfaces was given, so nobody can say what was missed.")
    if judged.presence.missing:
        caveats.append(f"{len(judged.presence.missing)} expected things were not seen.")
    partly = [one for one in rules if any(vpc["outcome"] == NOT_ASSESSED for vpc in one["vpcs"])]
    if partly:
        caveats.append(f"{len(partly)} of {len(rules)} rules could not be assessed in every VPC.")
    one_sided = [log["flow_log_id"] for log in covered["flow_logs"] if len(log["shows"]) == 1]
    if one_sided:
        caveats.append(f"{len(one_sided)} flow logs show one action only: that the other is absent there means nothing.")
    if covered["totals"]["skipdata"]:
        caveats.append(f"{covered['totals']['skipdata']:,} SKIPDATA rows: figures of their hours are lower bounds.")
    if switched_off:
        many = f"{len(switched_off)} rule{'s' if len(switched_off) > 1 else ''}"
        caveats.append(f"The policy switches {many} off, which nobody looked at: {', '.join(one['id'] for one in switched_off)}.")
    unsure = bool(caveats or inputs.provisional or inputs.stale or covered["totals"]["failed_objects"])
    suppressed = sum(one["status"] == SUPPRESSED for one in findings)
    if suppressed:
        are = "findings are" if suppressed > 1 else "finding is"
        they = "they are" if suppressed > 1 else "it is"
        caveats.append(f"{suppressed:,} {are} covered by exceptions: {they} listed and not counted.")
    if counting:
        outcome, sentence = FINDINGS_OUTCOME, f"{len(counting):,} finding{'s' if len(counting) > 1 else ''} in logged traffic"
    elif suppressed:
        said = "No finding in what was seen" if unsure else "No violation in logged traffic"
        outcome, sentence = NO_FINDING, f"{said} but {suppressed:,} covered by exceptions"
    elif unsure:
        outcome, sentence = NO_FINDING, "No finding in what was seen"
    else:
        outcome, sentence = CLEAN, "No violation in logged traffic, and everything expected was seen"
    return {
        "outcome": outcome,
        "sentence": sentence,
        "open": {severity: sum(one["severity"] == severity for one in counting) for severity in SEVERITIES},
        "suppressed": suppressed,
        "expired": sum(one["status"] == EXPIRED for one in findings),
        "rules": outcomes,
        "provisional": inputs.provisional,
        "stale": inputs.stale,
        "caveats": caveats,
    }


def _rules(judged: Judged) -> list[dict[str, Any]]:
    rows = []
    for rule in judged.policy.enabled:
        vpcs = [
            {name: row[name] for name in ("account_id", "vpc_id", "outcome", "share", "reason")}
            for row in judged.assessments
            if row["rule"] == rule.id
        ]
        found = sum(one["rule"] == rule.id and one["status"] != SUPPRESSED for one in judged.findings)
        outcomes = {vpc["outcome"] for vpc in vpcs}
        rows.append(
            {
                "id": rule.id,
                "title": rule.title,
                "severity": rule.severity,
                "controls": [{"id": control, "checked": is_checked(control)} for control in rule.controls],
                "outcome": FAIL if found else PASS if outcomes == {PASS} else NOT_ASSESSED,
                "findings": found,
                "blind_spots": [*rule.blind_spots, *(text for text, names in NOT_SEEN if rule.id in names)],
                "vpcs": vpcs,
            }
        )
    return rows


def _switched_off(judged: Judged) -> list[dict[str, Any]]:
    """Rules that the policy switches off: nobody looked for what they would find."""
    return [{"id": rule.id, "title": rule.title, "severity": rule.severity} for rule in judged.policy.rules if not rule.enabled]


def _findings(judged: Judged, before: Sequence[sections.Before], day: date) -> list[dict[str, Any]]:
    rows = []
    since = sections.first_days(before)
    for one in judged.findings:
        rows.append(
            {name: value for name, value in one.items() if name not in ("examples", "exception", "exception_expires", "vpc_ids")}
            | {"since": since.get(one["finding_id"], day), "examples": [_example(example) for example in one["examples"]]}
            | {"exception": _exception(one, judged.policy.waivers)}
        )
    return rows


def _exception(finding: Mapping[str, Any], waivers: Sequence[Waiver]) -> dict[str, Any] | None:
    """Who answers for the exception of a finding; where several exceptions of a ticket may be meant, all of them are named."""
    if finding["exception"] is None:
        return None
    named = [one for one in waivers if (one.approval.ticket, one.approval.expires) == (finding["exception"], finding["exception_expires"])]
    vpcs = (None, finding["vpc_id"], *finding["vpc_ids"])
    approvals = [one.approval for one in [one for one in named if one.rule == finding["rule"] and one.vpc in vpcs] or named]
    told = {name: " or ".join(dict.fromkeys(getattr(one, name) for one in approvals)) for name in ("owner", "approver", "business_need")}
    return {"ticket": finding["exception"], **told, "expires": finding["exception_expires"]}


def _example(row: Mapping[str, Any]) -> dict[str, Any]:
    ends = {end: _end(row[f"{end}_addr"], row[f"{end}_port"]) for end in ("initiator", "responder")}
    protocol = PROTOCOL_NAMES.get(row["protocol"], str(row["protocol"]))
    return {**ends, "protocol": protocol, **{name: row[name] for name in ("first_start", "bytes_sent", "bytes_received", "state", "basis")}}


def _end(address: str, port: int | None) -> str:
    shown = f"[{address}]" if ":" in address else address
    return shown if port is None else f"{shown}:{port}"
