"""Pass, fail or not assessed: semantics 19 and 20; trends and gaps against the days before."""

from collections import Counter
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from judging import DAY, policy_of

from flowlog_udfs.fields import CONNECTION_FIELDS
from flowlog_udfs.inventory import Inventory, read_inventory
from flowlog_udfs.policy.assessments import Known, assessments
from flowlog_udfs.policy.findings import findings, found
from flowlog_udfs.policy.gaps import Presence, expectations, gaps, has_earlier_run
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.policy.matching import PEER_SIGN, Judge
from flowlog_udfs.policy.model import Connections, Expected, FirstSeen, Policy, Segment, Spread
from flowlog_udfs.policy.segments import Segments
from flowlog_udfs.policy.trends import SUBNET_COLUMNS, external_peers, first_seen, large_transfers, sent_to_internet

ALL = frozenset({*CONNECTION_FIELDS, "action", "pkt-src-aws-service", "pkt-dst-aws-service", "reject-reason", "tcp-flags"})
MIDNIGHT = datetime(2026, 3, 10, tzinfo=timezone.utc)


def judge(policy: Policy | None = None) -> Judge:
    policy = policy or load_policy(None)
    return Judge(policy, Segments.of(policy.segments, None), DAY)


def interface(name: str = "eni-1", **known: Any) -> dict[str, Any]:
    row = {
        "interface_id": name,
        "account_id": "1",
        "region": "us-east-1",
        "vpc_id": "vpc-1",
        "subnet_id": "subnet-1",
        "flow_log_id": "fl-1",
    }
    return row | {"records": 100, "shows_accept": True, "shows_reject": True, "gaps": []} | known


def outcomes(
    interfaces: list[dict[str, Any]], fields: dict[str, frozenset[str]] | None = None, **known: Any
) -> dict[str, tuple[str, float, Any]]:
    rows = assessments(
        load_policy(None), known.pop("findings", []), interfaces, known.pop("missing", []), Known(fields or {"fl-1": ALL}, **known)
    )
    return {row["rule"]: (row["outcome"], row["share"], row["reason"]) for row in rows if row["vpc_id"] == "vpc-1"}


def test_a_thousand_reject_rows_and_nothing_else_assess_no_accepted_traffic() -> None:
    found = outcomes([interface(records=1000, shows_accept=False)])
    assert found["admin-from-internet"] == (
        "not_assessed",
        0.0,
        "0% of the records have what it needs; lacking ACCEPT rows: no flow log shows any",
    )
    assert found["refused-from-inside"][0] == "pass"
    assert found["port-scan"][0] == "not_assessed"


def test_flow_logs_of_one_action_each_complete_each_other() -> None:
    both = [interface(shows_reject=False), interface(shows_accept=False, flow_log_id="fl-2")]
    found = outcomes(both, {"fl-1": ALL, "fl-2": ALL})
    assert (found["admin-from-internet"][0], found["port-scan"][0]) == ("pass", "pass")
    apart = [interface(shows_reject=False), interface("eni-2", shows_accept=False, flow_log_id="fl-2")]
    assert outcomes(apart, {"fl-1": ALL, "fl-2": ALL})["admin-from-internet"][:2] == ("not_assessed", 0.5)


def test_nearly_all_records_must_have_the_fields() -> None:
    fields = {"fl-1": ALL, "fl-2": ALL - {"pkt-src-aws-service"}}
    few = [interface(records=96), interface("eni-2", records=4, flow_log_id="fl-2")]
    assert outcomes(few, fields)["admin-from-internet"] == ("pass", 0.96, None)
    many = [interface(records=90), interface("eni-2", records=10, flow_log_id="fl-2")]
    assert outcomes(many, fields)["admin-from-internet"] == (
        "not_assessed",
        0.9,
        "90% of the records have what it needs; lacking fields pkt-src-aws-service",
    )
    assert outcomes(many, fields, has_ranges=True)["admin-from-internet"][0] == "pass"
    assert outcomes(many, {"fl-1": ALL, "fl-2": ALL - {"reject-reason"}})["block-public-access"][0] == "not_assessed"


def test_rules_without_segments_or_history_are_not_assessed() -> None:
    found = outcomes([interface()])
    assert found["segmentation"][2] == "the policy names no sensitive segment"
    assert found["sensitive-across-segments"][2] == "the policy names no segments"
    assert found["large-transfer"][2] == "0 of 3 days before are known"
    assert outcomes([interface()], days_before=3)["large-transfer"][0] == "pass"


def test_a_finding_fails_its_rule_in_its_vpc_unless_suppressed() -> None:
    finding = {"rule": "admin-from-internet", "status": "open", "vpc_ids": ["vpc-1"]}
    assert outcomes([interface()], findings=[finding])["admin-from-internet"][0] == "fail"
    assert outcomes([interface()], findings=[finding | {"status": "expired"}])["admin-from-internet"][0] == "fail"
    assert outcomes([interface()], findings=[finding | {"status": "suppressed"}])["admin-from-internet"][0] == "pass"
    both = [interface(), interface("eni-2", vpc_id="vpc-2")]
    assert outcomes(both, findings=[finding | {"vpc_ids": ["vpc-2"]}])["admin-from-internet"][0] == "pass"
    # Seen in records that lack a field elsewhere: a finding stands whatever the share.
    assert outcomes([interface()], {"fl-1": frozenset()}, findings=[finding])["admin-from-internet"][0] == "fail"


def test_a_vpc_that_was_not_seen_is_not_assessed() -> None:
    rows = assessments(load_policy(None), [], [interface()], ["vpc-9"], Known({"fl-1": ALL}))
    [row] = [row for row in rows if (row["rule"], row["vpc_id"]) == ("cleartext", "vpc-9")]
    assert (row["outcome"], row["reason"]) == ("not_assessed", "expected, and no record of it was seen")


@pytest.mark.parametrize("field", [*CONNECTION_FIELDS, "action"])
def test_without_a_field_that_tells_connections_apart_no_rule_about_connections_passes(field: str) -> None:
    segmented = replace(load_policy(None), segments=(Segment("pci", ("10.0.0.0/8",), sensitive=True),))
    known = Known({"fl-1": ALL - {field}}, days_before=14)
    rows = {row["rule"]: row for row in assessments(segmented, [], [interface()], [], known)}
    about = [rule.id for rule in segmented.rules if isinstance(rule.what, Connections | Spread | FirstSeen)]
    assert {"segmentation", "refused-from-inside", "port-scan", "first-seen-peer"} <= set(about)
    for rule in about:
        assert (rows[rule]["outcome"], rows[rule]["share"]) == ("not_assessed", 0.0), rule
        assert field in rows[rule]["reason"]
    whole = assessments(segmented, [], [interface()], [], replace(known, fields_of={"fl-1": ALL}))
    assert {row["outcome"] for row in whole if row["rule"] in about and row["rule"] != "sensitive-across-segments"} == {"pass"}


def test_nothing_expected_and_no_earlier_run_are_not_assessed() -> None:
    found = outcomes([interface()])
    assert found["expected-missing"] == ("not_assessed", 0.0, "no list of expected things was given")
    assert found["ledger-hole"] == ("not_assessed", 0.0, "no earlier run to compare with")
    assert outcomes([interface()], has_expected=True)["expected-missing"] == ("pass", 1.0, None)
    assert outcomes([interface()], has_earlier_run=True)["ledger-hole"] == ("pass", 1.0, None)


def test_an_earlier_run_is_one_of_the_90_days_before() -> None:
    assert not has_earlier_run(DAY, [])
    assert not has_earlier_run(DAY, [DAY, DAY + timedelta(days=1), DAY - timedelta(days=91)])
    assert has_earlier_run(DAY, [DAY - timedelta(days=90)])


def inventory_of_two_accounts() -> Inventory:
    """Of account 1 VPCs 1 (us-east-1) and 2 (eu-west-1), of account 2 VPC 3 (us-east-1); two interfaces in each."""
    places = (("vpc-1", "1", "us-east-1"), ("vpc-2", "1", "eu-west-1"), ("vpc-3", "2", "us-east-1"))
    listed = read_inventory(
        {
            "TakenAt": "2026-03-10T00:00:00Z",
            "Vpcs": [{"VpcId": vpc, "OwnerId": account, "CidrBlock": "10.0.0.0/16"} for vpc, account, _ in places],
            "NetworkInterfaces": [
                {"NetworkInterfaceId": f"eni-{vpc[-1]}{n}", "InterfaceType": "interface", "VpcId": vpc}
                for vpc, _, _ in places
                for n in "ab"
            ],
        },
        "inventory",
    )
    regions = {vpc: region for vpc, _, region in places}
    return replace(listed, vpcs=tuple(replace(one, region=regions[one.vpc_id]) for one in listed.vpcs))


@pytest.mark.parametrize(
    "unseen, expected, failing",
    [
        (set(), {}, {}),
        ({"eni-1b"}, {}, {("1", "vpc-1")}),
        ({"eni-2a", "eni-2b"}, {}, {(None, "vpc-2")}),  # the VPC as a whole
        (set(), {"accounts": ("2", "7")}, {("7", None)}),  # no VPC of account 7 is known
        (set(), {"regions": ("us-east-1", "ap-south-1")}, {(None, None)}),
        (set(), {"interfaces": ("eni-x",)}, {(None, None)}),
        ({"eni-3a", "eni-3b"}, {"accounts": ("2",)}, {(None, "vpc-3")}),
        ({"eni-2a", "eni-2b"}, {"regions": ("eu-west-1",)}, {(None, "vpc-2")}),
    ],
)
def test_what_is_missing_fails_its_own_vpcs_and_no_others(unseen: set[str], expected: dict[str, Any], failing: Any) -> None:
    listed, policy = inventory_of_two_accounts(), load_policy(None)
    place = {one.vpc_id: {"account_id": one.account_id, "region": one.region, "vpc_id": one.vpc_id} for one in listed.vpcs}
    seen = [interface(one.interface_id, **place[str(one.vpc_id)]) for one in listed.interfaces if one.interface_id not in unseen]
    presence = Presence([], seen, expectations(Expected(**expected), listed, {row["vpc_id"] for row in seen}), listed)
    found = findings(gaps(judge(policy), presence, [DAY - timedelta(days=1)]), policy, DAY, {})
    missing_vpcs = [name for kind, name in presence.missing if kind == "vpc"]
    rows = assessments(policy, found, seen, missing_vpcs, Known({"fl-1": ALL}, has_expected=True, has_earlier_run=True))
    of_missing = [row for row in rows if row["rule"] == "expected-missing"]
    assert {(row["account_id"], row["vpc_id"]) for row in of_missing if row["outcome"] == "fail"} == set(failing)
    assert {row["outcome"] for row in of_missing} <= {"pass", "fail"}
    assert {row["vpc_id"] for row in of_missing} >= {"vpc-1", "vpc-2", "vpc-3"}
    # Of a day, not of a VPC.
    assert {row["outcome"] for row in rows if row["rule"] == "ledger-hole"} == {"pass"}
    assert {row["outcome"] for row in rows if (row["rule"], row["vpc_id"]) in {("skipdata", vpc) for vpc in missing_vpcs}} <= {
        "not_assessed"
    }


def test_a_missing_account_fails_the_vpcs_of_it_that_are_known() -> None:
    listed = inventory_of_two_accounts()
    # The records of VPC 3 name no account: it was seen, its account was not.
    seen = [interface("eni-3a", vpc_id="vpc-3", account_id=None), interface("eni-1a")]
    presence = Presence([], seen, {("account", "2"): "policy"}, listed)
    [one] = gaps(judge(), presence, ())
    assert (one["account_id"], one["vpc_ids"], one["vpc_id"]) == ("2", ["vpc-3"], "vpc-3")
    found = findings([one], load_policy(None), DAY, {})
    rows = assessments(load_policy(None), found, seen, [], Known({"fl-1": ALL}, has_expected=True))
    assert {(row["vpc_id"], row["outcome"]) for row in rows if row["rule"] == "expected-missing"} == {("vpc-1", "pass"), ("vpc-3", "fail")}


def test_a_hole_fails_the_day_everywhere() -> None:
    found = findings(gaps(judge(), Presence([], [interface()]), [DAY - timedelta(days=2)]), load_policy(None), DAY, {})
    rows = assessments(load_policy(None), found, [interface()], ["vpc-9"], Known({"fl-1": ALL}, has_earlier_run=True))
    assert {(row["vpc_id"], row["outcome"]) for row in rows if row["rule"] == "ledger-hole"} == {("vpc-1", "fail"), ("vpc-9", "fail")}


def subnet_rows(*rows: tuple[str, str, str, str, int]) -> pa.Table:
    plain = [dict(zip(SUBNET_COLUMNS, ("1", "vpc-1", *row), strict=True)) for row in rows]
    return pa.Table.from_pylist(plain)


def test_only_accepted_bytes_out_to_the_internet_count_as_sent() -> None:
    table = subnet_rows(
        ("subnet-1", "out", "internet", "ACCEPT", 5),
        ("subnet-1", "out", "aws-tenant", "ACCEPT", 7),
        ("subnet-1", "out", "aws-service", "ACCEPT", 100),
        ("subnet-1", "in", "internet", "ACCEPT", 100),
        ("subnet-1", "out", "internet", "REJECT", 100),
    )
    assert sent_to_internet([table, table]) == {("1", "vpc-1", "subnet-1"): 24}


def test_large_transfers_against_the_median_of_known_days() -> None:
    subnet = ("1", "vpc-1", "subnet-1")
    days = [Counter({subnet: 100_000_000}), Counter({subnet: 2_000_000_000}), Counter({subnet: 110_000_000})]
    assert large_transfers(judge(), {subnet: 330_000_000}, days) == []
    [one] = large_transfers(judge(), {subnet: 330_000_001}, days)
    assert (one["subject"], one["summary"]) == (
        "subnet-1",
        "sent 330,000,001 bytes to the internet, 110,000,000 on the median of 3 days before",
    )
    assert large_transfers(judge(), {subnet: 10**12}, days[:2]) == []
    # Three times nothing is nothing: 100 MB more is asked for too.
    quiet = [Counter(), Counter(), Counter()]
    assert large_transfers(judge(), {subnet: 100_000_000}, quiet) == []
    assert len(large_transfers(judge(), {subnet: 100_000_001}, quiet)) == 1


def test_first_seen_peers_need_three_known_days() -> None:
    number = [rule.id for rule in load_policy(None).rules].index("first-seen-peer")
    rows = [found(number, f"pci{PEER_SIGN}198.51.100.{n}", "", account_id="1", connections=n, sent=1, received=2) for n in (1, 2)]
    known = {("pci", "198.51.100.1")}
    assert first_seen(judge(), rows, [known, set()]) == []
    assert first_seen(judge(), rows, [set(), set(), known]) == rows[1:]
    assert first_seen(judge(), rows, [set()] * 14 + [known]) == rows
    assert external_peers(rows * 2).to_pylist()[1] == {
        "segment": "pci",
        "account_id": "1",
        "vpc_id": None,
        "peer_addr": "198.51.100.2",
        "connections": 4,
        "bytes_sent": 2,
        "bytes_received": 4,
    }


def coverage(**known: Any) -> list[dict[str, Any]]:
    row = {"account_id": "1", "region": "us-east-1", "flow_log_id": "fl-1", "records": 5, "skipdata": 0, "failed_objects": 0}
    return [
        row | {"hour": MIDNIGHT + timedelta(hours=hour)} | {name: values.get(hour, row[name]) for name, values in known.items()}
        for hour in range(24)
    ]


def of(rule: str, presence: Presence, run_days: tuple[date, ...] = (), policy: Policy | None = None) -> list[tuple[str, str]]:
    rules = (policy or load_policy(None)).rules
    return [(row["subject"], row["summary"]) for row in gaps(judge(policy), presence, run_days) if rules[row["rule"]].id == rule]


def test_skipdata_empty_hours_and_failed_objects_are_found() -> None:
    presence = Presence(coverage(skipdata={3: 2, 4: 1}, records={7: 0, 8: 0}, failed_objects={9: 1}), [interface()])
    assert of("skipdata", presence) == [("fl-1", "3 SKIPDATA rows in 2 hours from 03:00 UTC; each stands for lost records")]
    assert of("coverage-gap", presence) == [
        ("fl-1", "no record in 2 of 24 hours: 07, 08"),
        ("fl-1 objects", "1 objects could not be read whole, in 1 hour from 09:00 UTC"),
    ]
    assert gaps(judge(), Presence(coverage(), [interface()]), ()) == []


def test_silent_interfaces_are_found_for_each_flow_log() -> None:
    hour = {"start": MIDNIGHT + timedelta(hours=2), "end": MIDNIGHT + timedelta(hours=3)}
    short = {"start": MIDNIGHT, "end": MIDNIGHT + timedelta(minutes=59)}
    presence = Presence(coverage(), [interface(gaps=[short, hour]), interface("eni-2", gaps=[short]), interface("eni-3")])
    [(subject, told)] = of("coverage-gap", presence)
    assert subject == "fl-1 interfaces"
    assert told.startswith(
        "1 of 3 interfaces without a row of any status for 60 minutes or more; longest eni-1 for 60 minutes from 02:00 UTC"
    )


def test_expected_things_that_were_not_seen() -> None:
    listed = read_inventory(
        {
            "TakenAt": "2026-03-10T00:00:00Z",
            "Vpcs": [{"VpcId": vpc, "CidrBlock": "10.0.0.0/16"} for vpc in ("vpc-1", "vpc-2")],
            "NetworkInterfaces": [
                {"NetworkInterfaceId": f"eni-{n}", "InterfaceType": "interface", "VpcId": vpc}
                for n, vpc in ((1, "vpc-1"), (2, "vpc-1"), (3, "vpc-2"))
            ],
        },
        "inventory",
    )
    expected = expectations(Expected(accounts=("1", "2"), regions=("us-east-1",)), listed, {"vpc-1"})
    presence = Presence(coverage(), [interface()], expected)
    # Of a VPC that is missing as a whole its interfaces go without saying.
    assert presence.missing == [("account", "2"), ("interface", "eni-2"), ("vpc", "vpc-2")]
    assert of("expected-missing", presence)[0] == ("account 2", "expected by the policy, not seen")


def test_days_without_a_run_since_the_first_are_holes() -> None:
    days = (DAY - timedelta(days=91), DAY - timedelta(days=4), DAY - timedelta(days=2))
    assert [subject for subject, _ in of("ledger-hole", Presence(coverage(), [interface()]), days)] == ["2026-03-07", "2026-03-09"]
    assert of("ledger-hole", Presence(coverage(), [interface()])) == []


def test_an_exception_covers_what_looks_at_no_connection(tmp_path: Path) -> None:
    text = '[[exception]]\nrule = "skipdata"\nowner = "o"\napprover = "a"\nbusiness_need = "n"\nticket = "T"\nexpires = 2026-12-31\n'
    policy = policy_of(tmp_path, text)
    rows = gaps(judge(policy), Presence(coverage(skipdata={3: 2}), [interface()]), ())
    [one] = findings(rows, policy, DAY, {})
    assert (one["status"], one["vpc_id"], one["region"], one["first_seen"]) == ("suppressed", "vpc-1", "us-east-1", None)
