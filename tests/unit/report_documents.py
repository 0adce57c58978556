"""Documents of reports, made up: what the page must cope with."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&</table>"
DAY = "2026-03-10"
DIGEST = hashlib.sha256(b"").hexdigest()


def small() -> dict[str, Any]:
    """A day with a finding of each severity, an earlier day, a sign-off and a version before it."""
    severities = ("critical", "high", "medium", "low", "info")
    return {
        "schema_version": "1.0",
        "flowlog_version": "0.1.0",
        "day": DAY,
        "digest": DIGEST,
        "inputs": {
            "objects": 3,
            "objects_digest": DIGEST,
            "only": {"accounts": [], "regions": ["eu-west-1"]},
            "analytics_digest": DIGEST,
            "policy": {"name": "policy.toml", "digest": DIGEST},
            "inventory": {"taken_at": f"{DAY}T00:00:00Z", "digest": DIGEST},
            "ip_ranges": None,
        },
        "supersedes": {"digest": "0" * 64, "changes": [{"what": "records", "before": "9", "after": "10"}]},
        "verdict": {
            "outcome": "findings",
            "sentence": "5 findings in logged traffic",
            "open": dict.fromkeys(severities, 1),
            "suppressed": 1,
            "expired": 1,
            "rules": {"pass": 1, "fail": 1, "not_assessed": 1},
            "provisional": "2026-03-11 was not read yet.",
            "stale": None,
            "caveats": ["1 flow logs show one action only."],
        },
        "coverage": {
            "totals": dict.fromkeys(
                (
                    *(
                        "objects",
                        "failed_objects",
                        "skipped_objects",
                        "size_bytes",
                        "lines",
                        "headers",
                        "blank",
                        "records",
                        "rejects",
                        "other_day",
                    ),
                    *("nodata", "skipdata", "late_records", "interfaces"),
                ),
                7,
            ),
            "flow_logs": [flow_log("fl-1", ["ACCEPT"]), flow_log("fl-2", ["ACCEPT", "REJECT"], empty=[3])],
            "expected": [{"kind": "vpc", "id": "vpc-9", "seen": False, "source": "policy"}],
            "silent": [
                {"interface_id": "eni-1", "vpc_id": None, "flow_log_id": "fl-1", "start": f"{DAY}T01:00:00Z", "end": f"{DAY}T03:00:00Z"}
            ],
            "silent_more": 0,
        },
        "changes": {
            "against": ["2026-03-09"],
            "measures": [
                {"name": "bytes", "unit": "bytes", "today": 3_000_000, "days": [1_500_000]},
                {"name": "findings", "unit": "count", "today": 5, "days": [None]},
            ],
            "new_findings": ["a" * 16],
            "gone_findings": [{"finding_id": "b" * 16, "rule": "cleartext", "severity": "medium", "subject": "10.0.1.9 tcp/23"}],
            "lasting_findings": 1,
        },
        "rules": [rule(outcome, severity) for outcome, severity in zip(("fail", "pass", "not_assessed"), severities, strict=False)],
        "findings": [finding(number, severity) for number, severity in enumerate(severities)],
        "subnets": [subnet(number) for number in range(3)],
        "scopes": [
            {"direction": way, "peer_scope": "internet", "initiated_by": "local", "action": action, "bytes": 5, "packets": 2, "records": 1}
            for way, action in (("in", "ACCEPT"), (None, None))
        ],
        "talkers": [talker("10.0.1.5", via=False), talker("10.0.9.5", via=True)],
        "nat": [
            {
                "nat_kind": "nat_gateway",
                "nat_addr": "10.0.0.220",
                "nat_interface_id": "eni-nat",
                "inside": [{"inside_addr": "10.0.1.5", "bytes_out": 1, "bytes_in": 2, "connections": 3, "remotes": 2}],
                "inside_more": 4,
                "unpaired": 1,
            }
        ],
        "refused": {
            "connections": 4,
            "records": 9,
            "from_inside": 1,
            "reasons": [{"reason": "BPA", "connections": 1}, {"reason": "security group or network ACL", "connections": 3}],
            "top": [{"initiator_addr": "198.51.100.9", "scope": "internet", "connections": 3, "hosts": 2, "ports": 1}],
        },
        "quality": {
            "rejects": [{"reason": "bad_number", "lines": 2}],
            "failed": [{"key": "AWSLogs/1", "error": "damaged"}],
            "basis": [{"basis": "syn", "connections": 10, "mean_confidence": 1.0}],
            "reconciliation": [{"scope": "subnet", "measure": "bytes", "raw": 12, "buckets": {"counted": 10, "nodata": 0, "skipdata": 2}}],
            "transit_only": [transit(2), transit(1)],
        },
        "not_seen": [{"text": "Amazon's own DNS is never logged.", "rules": ["dns-to-internet"]}],
        "never_claimed": ["This report detects no intrusions."],
        "ledger": [
            {
                "day": "2026-03-09",
                "digest": DIGEST,
                "complete": True,
                "provisional": None,
                "stale": "2026-03-08 was worked out anew after this day, which leans on it; run this day again.",
                "outcome": "no_finding",
                "open": 0,
                "reviewer": "A. Auditor",
                "signed_at": f"{DAY}T08:00:00Z",
                "decision": "accepted",
                "signed_digest": "0" * 64,
            },
            dict.fromkeys(
                ("digest", "complete", "provisional", "stale", "outcome", "open", "reviewer", "signed_at", "decision", "signed_digest")
            )
            | {"day": "2026-03-08"},
        ],
        "signoffs": [
            {
                "digest": "0" * 64,
                "reviewer": "A. Auditor",
                "signed_at": f"{DAY}T09:00:00Z",
                "decision": "rejected",
                "ticket": "T-1",
                "comment": "look again",
                "dispositions": {"a" * 16: "false alarm"},
            }
        ],
    }


def flow_log(name: str, shows: list[str], empty: list[int] | None = None) -> dict[str, Any]:
    hours = [0 if hour in (empty or []) else 5 for hour in range(24)]
    counts = dict.fromkeys(("objects", "failed_objects", "records", "rejects", "nodata", "skipdata", "late_records", "interfaces"), 3)
    return {
        "account_id": "123456789012",
        "region": "us-east-1",
        "flow_log_id": name,
        "formats": ["${version}"],
        "shows": shows,
        **counts,
        "expected_interfaces": 4,
        "first_start": f"{DAY}T00:00:00Z",
        "last_end": None,
        "hours": hours,
        "empty_hours": empty or [],
    }


def rule(outcome: str, severity: str) -> dict[str, Any]:
    vpcs = [{"account_id": "1", "vpc_id": "vpc-1", "outcome": outcome, "share": 0.5, "reason": "lacking fields"}]
    return {
        "id": f"rule-{outcome}",
        "title": f"A rule: {outcome}",
        "severity": severity,
        "controls": [{"id": "PCI DSS 4.0.1 1.3", "checked": False}, {"id": "NIST 800-53 SC-7", "checked": True}],
        "outcome": outcome,
        "findings": 1,
        "blind_spots": ["Names are not in flow logs."],
        "vpcs": vpcs,
    }


def finding(number: int, severity: str = "high", **known: Any) -> dict[str, Any]:
    return {
        "finding_id": f"{number:016x}",
        "rule": "admin-from-internet",
        "severity": severity,
        "status": ("open", "suppressed", "expired")[number % 3],
        "account_id": "123456789012",
        "region": "us-east-1",
        "vpc_id": f"vpc-{number % 7}",
        "subject": f"10.{number // 65536}.{number // 256 % 256}.{number % 256} tcp/22",
        "summary": f"{number + 1:,} connections, 3 peers",
        "controls": ["NIST 800-53 SC-7"],
        "connections": number + 1,
        "peers": 3,
        "bytes_sent": number * 1_000,
        "bytes_received": 5,
        "first_seen": f"{DAY}T01:00:00Z",
        "last_seen": f"{DAY}T02:00:00Z",
        "since": "2026-03-08",
        "exception": {"ticket": "T-1", "owner": "o", "approver": "a", "business_need": "n", "expires": "2026-12-31"}
        if number % 3
        else None,
        "examples": [
            {
                "initiator": "198.51.100.4:40000",
                "responder": "10.0.1.5:22",
                "protocol": "tcp",
                "first_start": f"{DAY}T01:00:00Z",
                "bytes_sent": 5,
                "bytes_received": 6,
                "state": "established",
                "basis": "syn",
            }
        ],
        **known,
    }


def subnet(number: int) -> dict[str, Any]:
    hours = [(hour * 7919 * (number + 1)) % 100_000 for hour in range(24)]
    return {
        "account_id": "123456789012",
        "region": "us-east-1",
        "vpc_id": f"vpc-{number % 7}",
        "subnet_id": f"subnet-{number:017x}",
        "bytes_in": sum(hours),
        "bytes_out": sum(hours),
        "internet_in": 5,
        "internet_out": 6,
        "rejected": 0,
        "connections_started": number,
        "at_least": number == 1,
        "hours_in": hours,
        "hours_out": hours[::-1],
        "hours_at_least": [4] if number == 1 else [],
    }


def transit(number: int) -> dict[str, Any]:
    place = {"account_id": "123456789012", "region": "us-east-1", "vpc_id": "vpc-1", "subnet_id": f"subnet-{number:017x}"}
    return place | {"bytes": number * 1_000, "packets": number, "records": number}


def talker(address: str, *, via: bool) -> dict[str, Any]:
    where = {"instance_id": "i-1", "subnet_id": "subnet-1", "vpc_id": "vpc-1", "scope": "own-network"}
    return {"initiator_addr": address, "via": via, **where, "connections": 3, "bytes_sent": 4, "bytes_received": 5, "rejected": 0}


def large() -> dict[str, Any]:
    """10,000 findings and 500 subnets."""
    severities = ("critical", "high", "medium", "low", "info")
    findings = [finding(number, severities[number * 5 // 10_000]) for number in range(10_000)]
    quality = small()["quality"] | {"transit_only": [transit(500 - number) for number in range(500)]}
    return small() | {"findings": findings, "subnets": [subnet(number) for number in range(500)], "quality": quality}


def clean() -> dict[str, Any]:
    """A day without findings, or anything else to complain about."""
    made = small()
    made["verdict"] |= {"outcome": "clean", "sentence": "No violation in logged traffic, and everything expected was seen", "caveats": []}
    made["verdict"] |= {"open": dict.fromkeys(made["verdict"]["open"], 0), "suppressed": 0, "expired": 0, "provisional": None}
    empty: dict[str, Any] = {name: [] for name in ("findings", "subnets", "scopes", "talkers", "nat", "ledger", "signoffs")}
    changes = {"against": [], "measures": [], "new_findings": [], "gone_findings": [], "lasting_findings": 0}
    return made | empty | {"changes": changes, "supersedes": None, "quality": made["quality"] | {"transit_only": []}}


def hostile(findings: int = 5) -> dict[str, Any]:
    """Markup wherever a text of a log, a policy or a reviewer can stand."""
    fixed = {
        "day",
        "digest",
        "schema_version",
        "outcome",
        "severity",
        "status",
        "unit",
        "direction",
        "finding_id",
        "decision",
        "kind",
        "source",
    }
    fixed |= {
        "taken_at",
        "start",
        "end",
        "first_start",
        "last_end",
        "first_seen",
        "last_seen",
        "since",
        "signed_at",
        "expires",
        "objects_digest",
    }

    def marked(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: marked(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [marked(one, name) for one in value]
        return HOSTILE if isinstance(value, str) and name not in fixed | {"against", "shows", "new_findings"} else value

    made = small() | {"findings": [finding(number) for number in range(findings)]}
    plain = copy.deepcopy(made)
    result: dict[str, Any] = marked(made)
    for name in ("policy", "inventory"):
        result["inputs"][name]["digest"] = plain["inputs"][name]["digest"]
    result["supersedes"]["digest"] = plain["supersedes"]["digest"]
    return result
