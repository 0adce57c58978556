"""The report's document from a day judged: what its verdict may say, and of whom an exception is."""

from dataclasses import replace
from datetime import date, datetime, timezone
from typing import Any

import pyarrow as pa
import pytest

from flowlog_udfs.compliance import Counted, Judged
from flowlog_udfs.coverage import COVERAGE
from flowlog_udfs.policy.gaps import Presence
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.policy.model import Approval, Policy, Waiver
from flowlog_udfs.report import counting
from flowlog_udfs.report.document import Inputs, Tables, document
from flowlog_udfs.report.page import render
from flowlog_udfs.report.schema import validate
from flowlog_udfs.report.sections import Before

DAY = date(2026, 3, 10)
EXPIRES = date(2026, 12, 31)
GROWN = {"provisional": "late", "stale": "leans"}
NOTHING = Tables(objects=(), subnet_bytes=(), reconciliation=(), skipped_hours={}, reject_reasons={})


def a_finding(number: int = 1, status: str = "open", **known: Any) -> dict[str, Any]:
    texts = {"rule": "admin-from-internet", "severity": "high", "status": status, "account_id": "1", "region": "us-east-1"}
    texts |= {"finding_id": f"{number:016x}", "vpc_id": "vpc-1", "subject": f"10.0.0.{number} tcp/22", "summary": "1 connection, 1 peer"}
    counts = dict.fromkeys(("connections", "peers", "bytes_sent", "bytes_received"), 1)
    noon = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
    row = texts | counts | {"controls": ["NIST 800-53 SC-7"], "first_seen": noon, "last_seen": noon, "examples": []}
    return row | {"exception": None, "exception_expires": None, "vpc_ids": ["vpc-1"]} | known


def interface(flow_log: str = "fl-1", **known: Any) -> dict[str, Any]:
    row = {"interface_id": "eni-1", "account_id": "1", "region": "us-east-1", "vpc_id": "vpc-1", "subnet_id": "subnet-1"}
    return row | {"flow_log_id": flow_log, "records": 100, "shows_accept": True, "shows_reject": True, "gaps": []} | known


def assessed(policy: Policy, outcome: str = "pass") -> list[dict[str, Any]]:
    of_vpc = {"account_id": "1", "vpc_id": "vpc-1", "outcome": outcome, "share": 1.0, "reason": None}
    return [{"rule": rule.id, **of_vpc} for rule in policy.enabled]


def judged(*findings: dict[str, Any], policy: Policy | None = None, evidence: pa.Table | None = None, **known: Any) -> Judged:
    """A day on which everything expected was seen, unless `known` tells of other interfaces or expectations."""
    policy = policy or load_policy(None)
    interfaces = known.get("interfaces", [interface()])
    presence = Presence([], interfaces, known.get("expected", {("vpc", "vpc-1"): "policy"}))
    tables = (counting.TALKERS.empty_table(), counting.REFUSED.empty_table())
    counted = Counted([], *tables, evidence or counting.EVIDENCE.empty_table(), counting.BEHIND.empty_table())
    return Judged("", policy, list(findings), assessed(policy), presence, counted)


def reported(day: Judged, tables: Tables = NOTHING, **known: Any) -> dict[str, Any]:
    made = document(Inputs(DAY, 1, "0" * 64, "", **known), day, tables)
    validate(made)
    return made


def test_a_day_of_which_only_a_part_was_to_be_read_is_not_clean() -> None:
    day = judged()
    row = dict.fromkeys(COVERAGE.names, 0) | {"only_accounts": ["1", "2"], "only_regions": ["eu-west-1"]}
    part = replace(day, presence=replace(day.presence, coverage=[row | dict.fromkeys(COVERAGE.names[:3])]))
    made = reported(part)
    assert made["inputs"]["only"] == {"accounts": ["1", "2"], "regions": ["eu-west-1"]}
    assert made["verdict"]["outcome"] == "no_finding"
    assert made["verdict"]["caveats"] == ["The run was told to read 1, 2 in eu-west-1 only: what else was logged is not in this report."]
    assert made["digest"] != reported(day)["digest"]


def without(*names: str) -> Policy:
    policy = load_policy(None)
    return replace(policy, rules=tuple(replace(rule, enabled=rule.enabled and rule.id not in names) for rule in policy.rules))


def test_a_day_without_anything_to_complain_of_is_clean() -> None:
    verdict = reported(judged())["verdict"]
    assert (verdict["outcome"], verdict["caveats"]) == ("clean", [])
    assert verdict["sentence"] == "No violation in logged traffic, and everything expected was seen"


def test_a_day_with_suppressed_findings_only_is_not_clean() -> None:
    verdict = reported(judged(a_finding(1, "suppressed"), a_finding(2, "suppressed")))["verdict"]
    assert verdict["outcome"] == "no_finding"
    assert verdict["sentence"] == "No violation in logged traffic but 2 covered by exceptions"
    assert verdict["caveats"] == ["2 findings are covered by exceptions: they are listed and not counted."]
    assert verdict["suppressed"] == 2


def test_suppressed_findings_where_not_everything_was_seen() -> None:
    verdict = reported(judged(a_finding(1, "suppressed"), expected={}))["verdict"]
    assert verdict["sentence"] == "No finding in what was seen but 1 covered by exceptions"
    verdict = reported(judged(a_finding(1, "suppressed")), provisional="later")["verdict"]
    assert verdict["sentence"] == "No finding in what was seen but 1 covered by exceptions"


def test_an_expired_exception_counts() -> None:
    verdict = reported(judged(a_finding(1, "expired"), a_finding(2, "suppressed")))["verdict"]
    assert (verdict["outcome"], verdict["sentence"], verdict["expired"]) == ("findings", "1 finding in logged traffic", 1)


def test_rules_that_are_switched_off_are_named_and_no_day_is_clean_without_them() -> None:
    made = reported(judged(policy=without("admin-from-internet", "skipdata")))
    assert (made["verdict"]["outcome"], made["verdict"]["sentence"]) == ("no_finding", "No finding in what was seen")
    assert made["verdict"]["caveats"] == ["The policy switches 2 rules off, which nobody looked at: admin-from-internet, skipdata."]
    assert [one["id"] for one in made["rules_off"]] == ["admin-from-internet", "skipdata"]
    assert not {"admin-from-internet", "skipdata"} & {rule["id"] for rule in made["rules"]}
    assert render(made).count("○ switched off") == 2
    assert "switched off" not in render(reported(judged()))


def waiver(owner: str, expires: date = EXPIRES, **known: Any) -> Waiver:
    return Waiver(known.pop("rule", "admin-from-internet"), Approval(owner, "a", "n", "T-1", expires), **known)


@pytest.mark.parametrize(
    "second, owner",
    [
        (waiver("second", date(2026, 6, 30)), "first"),
        (waiver("second", rule="cleartext"), "first"),
        (waiver("second", vpc="vpc-2"), "first"),
        (waiver("second"), "first or second"),
    ],
)
def test_two_exceptions_of_one_ticket_keep_their_owners(second: Waiver, owner: str) -> None:
    policy = replace(load_policy(None), waivers=(waiver("first"), second))
    one = a_finding(1, "suppressed", exception="T-1", exception_expires=EXPIRES)
    [found] = reported(judged(one, policy=policy))["findings"]
    assert (found["exception"]["owner"], found["exception"]["approver"], found["exception"]["expires"]) == (owner, "a", "2026-12-31")


def evidence(*reasons: str | None) -> pa.Table:
    row = {"basis": "syn", "state": "rejected", "initiator_scope": "internet", "connections": 2, "confidence": 2.0}
    return pa.Table.from_pylist([row | {"reject_reason": reason} for reason in reasons], counting.EVIDENCE)


def log_object(flow_log: str, log_format: str | None) -> dict[str, Any]:
    return {"flow_log_id": flow_log, "log_format": log_format, "status": "ok", **dict.fromkeys(("headers", "blank", "other_day"), 0)}


WITH, WITHOUT = "${action} ${reject-reason}", "${action}"


@pytest.mark.parametrize(
    "formats, reason",
    [
        ({"fl-1": WITH}, "security group or network ACL"),
        ({"fl-1": WITHOUT}, "reason not recorded in this format"),
        ({"fl-1": WITH, "fl-2": WITHOUT}, "security group, network ACL, or not recorded"),
        ({"fl-1": None}, "security group, network ACL, or not recorded"),
        ({"fl-1": WITH, "fl-3": WITHOUT}, "security group or network ACL"),  # fl-3 shows no refusals
        ({"fl-1": WITHOUT, "fl-3": WITH}, "reason not recorded in this format"),
    ],
)
def test_who_refused_is_said_only_where_the_reason_is_logged(formats: dict[str, str | None], reason: str) -> None:
    interfaces = [interface("fl-1"), interface("fl-2"), interface("fl-3", shows_reject=False)]
    tables = replace(NOTHING, objects=[log_object(*one) for one in formats.items()])
    made = reported(judged(evidence=evidence("BPA", None), interfaces=interfaces), tables)
    assert made["refused"]["reasons"] == [{"reason": "BPA", "connections": 2}, {"reason": reason, "connections": 2}]


def test_changes_count_the_findings_that_the_headline_counts() -> None:
    yesterday = [a_finding(1), a_finding(2, "suppressed"), a_finding(4), a_finding(5, subject="10.0.0.6 tcp/22")]
    today = judged(a_finding(1), a_finding(2, "suppressed"), a_finding(3), a_finding(6, "suppressed"), a_finding(7, "expired"))
    made = reported(today, replace(NOTHING, before=[Before(date(2026, 3, 9), {}, yesterday)]))
    changes = made["changes"]
    assert changes["new_findings"] == [f"{3:016x}", f"{7:016x}"]
    assert changes["lasting_findings"] == 1
    assert [(one["subject"], one.get("suppressed")) for one in changes["gone_findings"]] == [
        ("10.0.0.4 tcp/22", None),
        ("10.0.0.6 tcp/22", True),
    ]
    [headline] = [one["today"] for one in changes["measures"] if one["name"] == "findings"]
    assert headline == len(changes["new_findings"]) + changes["lasting_findings"]
    assert "10.0.0.6 tcp/22 (now covered by an exception)" in render(made)


def test_what_later_runs_tell_of_earlier_days_makes_no_other_version() -> None:
    names = ("digest", "complete", "outcome", "open", "reviewer", "signed_at", "decision", "signed_digest")
    row = dict.fromkeys(names) | {"day": DAY}
    one, other = (reported(judged(), replace(NOTHING, ledger=[row | doubt])) for doubt in (GROWN, dict.fromkeys(GROWN)))
    assert one["digest"] == other["digest"]
    assert (one["ledger"][0]["provisional"], one["ledger"][0]["stale"]) == ("late", "leans")
    assert ["provisional, stale" in render(made) for made in (one, other)] == [True, False]


def test_transit_only_is_told_by_subnet() -> None:
    def tallied(subnet: str | None, octets: int) -> dict[str, Any]:
        return {"account_id": "1", "region": "us-east-1", "vpc_id": "vpc-1", "subnet_id": subnet, "hour": 0} | {
            "bytes": octets,
            "packets": 2,
            "records": 1,
        }

    rows = [tallied("subnet-1", 40), tallied(None, 90), tallied("subnet-1", 60), tallied("subnet-<2>", 5)]
    made = reported(judged(), replace(NOTHING, transit_only=rows))
    told = [(one["subnet_id"], one["bytes"], one["packets"], one["records"]) for one in made["quality"]["transit_only"]]
    assert told == [("subnet-1", 100, 4, 2), (None, 90, 2, 1), ("subnet-<2>", 5, 2, 1)]
    assert made == reported(judged(), replace(NOTHING, transit_only=rows[::-1]))
    page = render(made).split('id="t-transit"')[1].split("</table>")[0]
    assert all(text in page for text in ("100 bytes", "unknown", "subnet-&lt;2&gt;"))
    assert "t-transit" not in render(reported(judged()))
