"""Every rule about connections: what it finds, and what looks like it and is none."""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from judging import DAY, NOON, connection, connections_of, judged, policy_of, refused, told

from flowlog_udfs.inventory import read_inventory
from flowlog_udfs.policy.loading import load_policy
from flowlog_udfs.policy.matching import Judge
from flowlog_udfs.policy.segments import Segments
from flowlog_udfs.policy.spreading import touches
from flowlog_udfs.report.counting import most_refused

SEGMENTED = """
[[segment]]
name = "cardholder"
cidrs = ["10.0.16.0/20"]
sensitive = true
[[segment]]
name = "app"
cidrs = ["10.0.2.0/24"]
[[allow]]
from = "app"
to = "cardholder"
ports = ["tcp/5432"]
owner = "shop"
approver = "A"
business_need = "orders"
ticket = "NET-1"
expires = 2026-03-10
"""
WHO = 'owner = "o"\napprover = "a"\nbusiness_need = "n"\n'


@pytest.mark.parametrize(
    "row, rule, subject",
    [
        (connection("198.51.100.4", "10.0.1.5:22"), "admin-from-internet", "10.0.1.5 tcp/22"),
        (connection("198.51.100.4", "10.0.1.5:3389", initiator_scope="aws-tenant"), "admin-from-internet", "10.0.1.5 tcp/3389"),
        (connection("198.51.100.4", "10.0.1.5:22", state="unanswered"), "admin-from-internet-unanswered", "10.0.1.5 tcp/22"),
        (connection("198.51.100.4", "10.0.1.5:5432"), "database-from-internet", "10.0.1.5 tcp/5432"),
        (connection("10.0.1.5", "10.0.1.6:23"), "cleartext", "10.0.1.6 tcp/23"),
        (connection("10.0.1.5", "10.0.1.6:23", encryption_status=0), "cleartext", "10.0.1.6 tcp/23"),
        (connection("10.0.1.5", "198.51.100.53:53", protocol=17), "dns-to-internet", "10.0.1.5"),
        (connection("10.0.1.5", "198.51.100.25:25"), "mail-to-internet", "10.0.1.5"),
        (connection("10.0.1.5", "198.51.100.25:445", state="unanswered", verdict_by="sender"), "smb-to-internet", "10.0.1.5"),
        (refused("198.51.100.4", "10.0.1.5", reject_reason="BPA"), "block-public-access", "internet → own 10.0.1.5 tcp/443"),
        (refused("10.0.1.5", "10.0.1.9", reject_reason="EC"), "endpoint-encryption", "own → own 10.0.1.9 tcp/443"),
    ],
)
def test_a_case_of_each_rule(row: dict[str, Any], rule: str, subject: str) -> None:
    [one] = judged([row])
    assert (one["rule"], one["subject"], one["status"], one["vpc_id"], one["region"]) == (rule, subject, "open", "vpc-1", "us-east-1")
    assert (one["connections"], one["peers"], one["first_seen"], one["last_seen"]) == (1, 1, NOON, NOON)
    [example] = one["examples"]
    assert (example["initiator_addr"], example["responder_port"]) == (row["initiator_addr"], row["responder_port"])


@pytest.mark.parametrize(
    "row",
    [
        connection("10.0.1.5", "198.51.100.4:22"),  # a reply from port 22 of the internet is no violation
        connection("10.0.1.5", "10.0.1.6:22"),
        refused("198.51.100.4", "10.0.1.5:22"),
        connection("198.51.100.4", "10.0.1.5:22", basis="none", confidence=0.0),
        connection("198.51.100.4", "10.0.1.5:22", basis="port-order", confidence=0.4),
        connection("198.51.100.4", "10.0.1.5:22", traffic_class="tunnel"),
        connection("198.51.100.4", "10.0.1.5:22", initiator_scope="aws-service"),
        connection("198.51.100.4", "10.0.1.5:22", initiator_scope="public-unclassified"),
        connection("198.51.100.4", "10.0.1.5:22", protocol=17),
        connection("10.0.1.5", "10.0.1.6:23", encryption_status=1),  # Nitro encrypts it
        connection("10.0.1.5", "10.0.1.6:23", state="rejected"),
        connection("10.0.1.5", "10.0.1.6:443", encryption_status=0),  # not encrypted by the network is not clear text
        connection("10.0.1.5", "10.0.0.2:53", protocol=17),
    ],
)
def test_what_is_no_case(row: dict[str, Any]) -> None:
    assert judged([row]) == []


def test_an_approved_resolver_may_be_asked(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, '[rules.dns-to-internet]\napproved = ["198.51.100.0/28"]\n')
    rows = [connection("10.0.1.5", f"198.51.100.{n}:53", protocol=17) for n in (8, 99)]
    [one] = judged(rows, policy)
    assert (one["connections"], one["examples"][0]["responder_addr"]) == (1, "198.51.100.99")


@pytest.mark.parametrize(
    "subject, approved, others",
    [
        ("responder", "198.51.100.0/28", ["198.51.100.99"]),  # the initiator is the other end
        ("responder", "10.0.1.0/24", ["198.51.100.8", "198.51.100.99"]),
        ("initiator", "10.0.1.0/24", []),  # the responder is
        ("initiator", "198.51.100.0/28", ["198.51.100.8", "198.51.100.99"]),
        ("pair", "10.0.1.0/24", []),
        ("pair", "198.51.100.0/28", ["198.51.100.8", "198.51.100.99"]),
    ],
)
def test_approved_are_ranges_of_the_end_that_is_not_the_subject(tmp_path: Path, subject: str, approved: str, others: list[str]) -> None:
    policy = policy_of(tmp_path, f'[rules.admin-from-internet]\nsubject = "{subject}"\napproved = ["{approved}"]\n')
    rows = [connection(f"198.51.100.{n}", "10.0.1.5:22") for n in (8, 99)]
    assert sorted(example["initiator_addr"] for one in judged(rows, policy) for example in one["examples"]) == others


def test_a_finding_counts_its_connections_peers_and_bytes_and_shows_the_earliest_of_different_peers() -> None:
    rows = [
        connection(f"198.51.100.{n % 8}", "10.0.1.5:22", first_start=NOON + timedelta(minutes=n), last_end=NOON + timedelta(minutes=n + 1))
        for n in range(16)
    ]
    [one] = judged(rows)
    assert (one["connections"], one["peers"], one["bytes_sent"], one["bytes_received"]) == (16, 8, 16_000, 32_000)
    assert (one["first_seen"], one["last_seen"]) == (NOON, NOON + timedelta(minutes=16))
    assert [example["initiator_addr"] for example in one["examples"]] == [f"198.51.100.{n}" for n in range(5)]


def test_segments_and_the_allow_list(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, SEGMENTED)
    rows = [
        connection("10.0.2.9", "10.0.16.7:5432"),  # on the allow-list
        connection("10.0.2.9", "10.0.16.7:22"),  # another port
        connection("10.0.3.9", "10.0.16.7:5432"),  # from no segment
        connection("10.0.16.8", "10.0.16.7:5432"),  # inside the segment
        connection("10.0.3.9", "10.0.2.7:3306"),  # into a segment that is not sensitive
        connection("10.0.3.9", "10.0.4.7:3306"),  # no segment at all
        connection("10.0.16.7", "198.51.100.9:443"),  # out to the internet
        refused("10.0.3.9", "10.0.16.8:5432"),
        connection("10.0.3.9", "10.0.16.9:5432", state="unanswered", verdict_by="sender"),  # left the sender, that is all
        connection("10.0.3.9", "10.0.16.9:514", protocol=17, state="unanswered"),
    ]
    assert told(judged(rows, policy)) == [
        ("segmentation", "app → cardholder 10.0.16.7 tcp/22"),
        ("segmentation", "cardholder 10.0.16.7 → internet tcp/443"),
        ("segmentation", "own → cardholder 10.0.16.7 tcp/5432"),
        ("segmentation", "own → cardholder 10.0.16.9 udp/514"),
        ("sensitive-across-segments", "own → app 10.0.2.7 tcp/3306"),
        ("sensitive-across-segments", "own → cardholder 10.0.16.7 tcp/5432"),
    ]


def test_what_egress_let_out_and_ingress_refused_violates_no_segment(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, SEGMENTED)
    assert judged([refused("10.0.3.9", "10.0.16.7:5432", rejected_bytes_sent=180, verdict_by="receiver")], policy) == []


def test_a_lapsed_allow_row_allows_nothing(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, SEGMENTED.replace("2026-03-10", "2026-03-09"))
    assert [rule for rule, _ in told(judged([connection("10.0.2.9", "10.0.16.7:5432")], policy))] == [
        "segmentation",
        "sensitive-across-segments",
    ]


def test_segments_by_subnet_vpc_and_tag(tmp_path: Path) -> None:
    subnets = [{"SubnetId": "subnet-9", "VpcId": "vpc-9", "CidrBlock": "10.9.0.0/24", "Tags": [{"Key": "zone", "Value": "pci"}]}]
    inventory = read_inventory({"TakenAt": "2026-03-10T00:00:00Z", "Subnets": subnets}, "inventory")
    for key in ('subnets = ["subnet-9"]', 'vpcs = ["vpc-9"]', 'tags = { zone = "pci" }'):
        policy = policy_of(tmp_path, f'[[segment]]\nname = "pci"\nsensitive = true\n{key}\n')
        inside = {"responder_vpc_id": "vpc-9", "responder_subnet_id": "subnet-9"}
        found = judged([connection("10.0.3.9", "10.9.0.7"), connection("10.0.3.9", "10.0.3.8")], policy, inventory)
        assert found == []
        nowhere = {"responder_vpc_id": None, "responder_subnet_id": None}
        for known in (inside, nowhere):
            row = connection("10.0.3.9", "10.9.0.7", **known)
            assert told(judged([row], policy, inventory)) == [("segmentation", "own → pci 10.9.0.7 tcp/443")]
        assert told(judged([connection("10.0.3.9", "10.9.0.7", **inside)], policy, inventory)) == [
            ("segmentation", "own → pci 10.9.0.7 tcp/443")
        ]


def test_a_range_of_own_addresses_holds_nobody_on_the_internet(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, '[[segment]]\nname = "all"\ncidrs = ["0.0.0.0/0"]\nsensitive = true\n')
    assert told(judged([connection("198.51.100.4", "10.0.1.5")], policy)) == [("segmentation", "internet → all 10.0.1.5 tcp/443")]


def test_exceptions_suppress_and_expire(tmp_path: Path) -> None:
    exception = '[[exception]]\nrule = "admin-from-internet"\ninitiator = "198.51.100.0/28"\nticket = "NET-7"\n' + WHO
    rows = [connection("198.51.100.4", "10.0.1.5:22"), connection("198.51.100.99", "10.0.1.5:22")]
    ids = {}
    for expires, status in ((DAY, "suppressed"), (DAY - timedelta(days=1), "expired")):
        found = judged(rows, policy_of(tmp_path, exception + f"expires = {expires}\n"))
        assert {(one["status"], one["exception"], one["connections"]) for one in found} == {(status, "NET-7", 1), ("open", None, 1)}
        ids[status] = {one["finding_id"] for one in found}
    assert ids["suppressed"] == ids["expired"]
    not_yet = policy_of(tmp_path, exception + f"expires = 2026-12-31\nstarts = {DAY + timedelta(days=1)}\n")
    plain, found = judged(rows), judged(rows, not_yet)
    assert {(one["status"], one["exception"], one["connections"]) for one in found} == {("open", None, 2)}
    assert [one["finding_id"] for one in found] == [one["finding_id"] for one in plain]
    assert found[0]["summary"] == plain[0]["summary"] + "; exception NET-7 is not in force before 2026-03-11"


@pytest.mark.parametrize(
    "scope, covered",
    [
        ('vpc = "vpc-1"', True),
        ('vpc = "vpc-2"', False),
        ('responder = "10.0.1.0/24"', True),
        ('responder = "10.0.2.0/24"', False),
        ('ports = ["tcp/22"]', True),
        ('ports = ["tcp/23"]', False),
    ],
)
def test_the_scope_of_an_exception(tmp_path: Path, scope: str, covered: bool) -> None:
    policy = policy_of(tmp_path, f'[[exception]]\nrule = "admin-from-internet"\nticket = "T"\nexpires = 2026-12-31\n{WHO}{scope}\n')
    [one] = judged([connection("198.51.100.4", "10.0.1.5:22")], policy)
    assert one["status"] == ("suppressed" if covered else "open")


def test_one_source_at_one_port_of_500_hosts_is_one_sweep() -> None:
    rows = [refused("198.51.100.9:40950", f"10.0.{n // 250}.{n % 250}:60001", responder_vpc_id=f"vpc-{n % 2}") for n in range(500)]
    [one] = judged(rows)
    assert (one["rule"], one["subject"], one["peers"], one["connections"]) == ("host-sweep", "198.51.100.9 → tcp/60001", 500, 500)
    assert (one["vpc_id"], one["vpc_ids"]) == (None, ["vpc-0", "vpc-1"])


@pytest.mark.parametrize(
    "known", [{"initiator_kind": "proxy"}, {"initiator_scope": "aws-service"}, {"state": "established", "action": "ACCEPT"}]
)
def test_who_asks_many_hosts_and_sweeps_nobody(known: dict[str, Any]) -> None:
    assert judged([refused("198.51.100.9", f"10.0.1.{n}:60001") | known for n in range(100)]) == []


def test_sweeps_need_50_hosts_and_scans_20_ports() -> None:
    assert judged([refused("198.51.100.9", f"10.0.1.{n}:60001") for n in range(49)] * 3) == []
    assert told(judged([refused("198.51.100.9", f"10.0.1.{n}:60001") for n in range(50)])) == [("host-sweep", "198.51.100.9 → tcp/60001")]
    assert judged([refused("198.51.100.9", f"10.0.1.1:{n}") for n in range(1, 20)]) == []
    [one] = judged([refused("198.51.100.9", f"10.0.1.1:{n}") for n in range(1, 21)])
    assert (one["rule"], one["subject"], one["peers"]) == ("port-scan", "198.51.100.9 → 10.0.1.1", 20)


def excepted(rule: str, scope: str, ticket: str = "T", expires: Any = "2026-12-31") -> str:
    """An exception's section."""
    return f'[[exception]]\nrule = "{rule}"\nticket = "{ticket}"\nexpires = {expires}\n{WHO}{scope}\n'


LAPSED = DAY - timedelta(days=1)


@pytest.mark.parametrize(
    "hosts, expires, expected",
    [
        (51, "2026-12-31", [("open", None, 50)]),  # one host is excepted, and 50 are swept beside it
        (50, "2026-12-31", [("suppressed", "T", 50)]),  # only with the excepted host there are 50
        (49, "2026-12-31", []),
        (51, LAPSED, [("open", None, 51)]),  # what has lapsed covers nothing, and the other 50 are a sweep without it
        (50, LAPSED, [("expired", "T", 50)]),
    ],
)
def test_an_exception_for_one_host_takes_that_host_out_of_a_sweep(tmp_path: Path, hosts: int, expires: Any, expected: list[Any]) -> None:
    policy = policy_of(tmp_path, excepted("host-sweep", 'responder = "10.0.1.0/32"', expires=expires))
    rows = [refused("198.51.100.9", f"10.0.1.{n}:60001", first_start=NOON + timedelta(seconds=n)) for n in range(hosts)]
    found = judged(rows, policy)
    assert [(one["status"], one["exception"], one["peers"]) for one in found] == expected
    assert [one["connections"] for one in found] == [one["peers"] for one in found]
    if expected == [("open", None, 50)]:
        assert "10.0.1.0" not in [example["responder_addr"] for example in found[0]["examples"]]
        assert found[0]["finding_id"] == judged(rows)[0]["finding_id"]


@pytest.mark.parametrize("ports, expected", [(21, [("open", None, 20)]), (20, [("suppressed", "T", 20)])])
def test_an_exception_for_one_port_takes_that_port_out_of_a_scan(tmp_path: Path, ports: int, expected: list[Any]) -> None:
    policy = policy_of(tmp_path, excepted("port-scan", 'ports = ["tcp/1"]'))
    rows = [refused("198.51.100.9", f"10.0.1.1:{n}", first_start=NOON + timedelta(seconds=n)) for n in range(1, ports + 1)]
    assert [(one["status"], one["exception"], one["peers"]) for one in judged(rows, policy)] == expected


def test_what_is_excepted_of_a_sweep_stays_listed_where_it_is_a_sweep_by_itself(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, excepted("host-sweep", 'responder = "10.0.1.0/24"') + excepted("host-sweep", 'vpc = "vpc-3"', "V"))
    rows = [refused("198.51.100.9", f"10.0.{subnet}.{n}:60001") for subnet in (1, 2) for n in range(60)]
    assert sorted((one["status"], one["peers"]) for one in judged(rows, policy)) == [("open", 60), ("suppressed", 60)]
    other = [row | {"responder_vpc_id": "vpc-3"} for row in rows]
    assert [(one["status"], one["peers"]) for one in judged(other, policy)] == [("suppressed", 120)]


def test_an_exception_of_the_initiator_covers_its_whole_sweep(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, excepted("host-sweep", 'initiator = "198.51.100.9/32"'))
    rows = [refused("198.51.100.9", f"10.0.1.{n}:60001") for n in range(60)]
    assert [(one["status"], one["peers"]) for one in judged(rows, policy)] == [("suppressed", 60)]


def test_a_sweep_notes_an_exception_that_lies_ahead(tmp_path: Path) -> None:
    text = excepted("host-sweep", 'responder = "10.0.1.0/24"') + f"starts = {DAY + timedelta(days=1)}\n"
    [one] = judged([refused("198.51.100.9", f"10.0.1.{n}:60001") for n in range(60)], policy_of(tmp_path, text))
    assert (one["status"], one["exception"]) == ("open", None)
    assert one["summary"].endswith("; exception T is not in force before 2026-03-11")


@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_exceptions_the_one_in_force_counts_in_either_order(tmp_path: Path, turn: int) -> None:
    for rule, rows in (
        ("admin-from-internet", [connection("198.51.100.4", "10.0.1.5:22")]),
        ("host-sweep", [refused("198.51.100.9", f"10.0.1.{n}:60001") for n in range(60)]),
    ):
        both = [excepted(rule, "", "OLD", LAPSED), excepted(rule, 'responder = "10.0.0.0/8"', "NEW")][::turn]
        [one] = judged(rows, policy_of(tmp_path, "".join(both)))
        assert (one["status"], one["exception"]) == ("suppressed", "NEW")


def test_two_exceptions_of_one_ticket_give_two_ids(tmp_path: Path) -> None:
    text = "".join(excepted("admin-from-internet", f'initiator = "198.51.100.{n}/32"', "NET-7") for n in (4, 5))
    found = judged([connection(f"198.51.100.{n}", "10.0.1.5:22") for n in (4, 5, 6)], policy_of(tmp_path, text))
    assert sorted(one["status"] for one in found) == ["open", "suppressed", "suppressed"]
    assert len({one["finding_id"] for one in found}) == 3


@pytest.mark.parametrize(
    "covered, expires, expected",
    [
        (6, LAPSED, [("expired", 6), ("open", 6)]),  # 12 count: that a lapsed exception cuts them in two hides nothing
        (6, "2026-12-31", [("suppressed", 6)]),  # 6 count, which are not enough; with the 6 that are excepted there are
        (2, "2026-12-31", [("open", 10), ("suppressed", 2)]),
    ],
)
def test_connections_under_an_exception_in_force_do_not_count_towards_least(
    tmp_path: Path, covered: int, expires: Any, expected: list[Any]
) -> None:
    policy = policy_of(
        tmp_path, excepted("refused-from-inside", f'responder = "10.0.9.0/{32 - (covered - 1).bit_length()}"', expires=expires)
    )
    inside, outside = [f"10.0.9.{n}:22" for n in range(covered)], [f"10.0.8.{n}:22" for n in range(12 - covered)]
    found = judged([refused("10.0.1.5", end) for end in inside + outside], policy)
    assert sorted((one["status"], one["connections"]) for one in found) == expected


def test_the_same_private_address_in_two_vpcs_is_two_initiators() -> None:
    rows = [refused("10.0.9.9", f"10.0.1.{n}:60001", initiator_vpc_id=f"vpc-{n % 2}") for n in range(80)]
    assert [one for one in judged(rows) if one["rule"] == "host-sweep"] == []


def test_refused_from_inside_needs_ten() -> None:
    rows = [refused("10.0.1.5", f"10.0.9.{n}:22") for n in range(10)]
    assert judged(rows[:9]) == []
    assert told(judged(rows)) == [("refused-from-inside", "10.0.1.5")]


def test_a_translated_connection_is_told_once_by_who_is_behind() -> None:
    inside = connection("10.0.1.5", "198.51.100.25:25", nat_id="eni-nat", nat_leg="inside")
    outside = connection("10.0.0.220:1111", "198.51.100.25:25", nat_id="eni-nat", nat_leg="outside", initiator_kind="proxy")
    assert told(judged([inside, outside])) == [("mail-to-internet", "10.0.1.5")]
    [unknown] = judged([outside])
    assert (unknown["subject"], unknown["summary"]) == ("10.0.0.220", "1 connection, 1 peer, through the translator eni-nat")


@pytest.mark.parametrize("state, verdict_by", [("unanswered", "receiver"), ("refused_by_host", "receiver"), ("established", "receiver")])
def test_nothing_sits_at_a_nat_gateway(state: str, verdict_by: str) -> None:
    """Semantics 9: a knock at a NAT is unanswered, and no finding."""
    knock = connection("198.51.100.7", "10.0.0.220:22", state=state, verdict_by=verdict_by, responder_interface_id="eni-nat")
    assert judged([knock], nats=["eni-nat"]) == []
    assert [rule for rule, _ in told(judged([knock], nats=["eni-other", "vpc-1"]))] != []
    assert told(judged([knock, connection("198.51.100.7", "10.0.1.5:22")], nats=["eni-nat"])) == [
        ("admin-from-internet", "10.0.1.5 tcp/22")
    ]


def test_a_regional_nat_gateway_is_its_vpcs_public_addresses_without_interface() -> None:
    regional = {"responder_scope": "own-public", "responder_vpc_id": "vpc-1", "state": "unanswered"}
    knock = connection("198.51.100.7", "203.0.113.1:22", **regional)
    assert judged([knock], nats=["vpc-1"]) == []
    for row in (
        connection("198.51.100.7", "203.0.113.1:22", **regional | {"responder_vpc_id": "vpc-2"}),
        connection("198.51.100.7", "203.0.113.1:22", **regional, responder_interface_id="eni-1"),
        connection("198.51.100.7", "10.0.1.5:22", state="unanswered", responder_interface_id=None),
    ):
        assert [rule for rule, _ in told(judged([row], nats=["vpc-1"]))] == ["admin-from-internet-unanswered"]


def test_what_passes_a_nat_gateway_is_judged_where_its_address_stands_for_a_hidden_end() -> None:
    """A format without packet-level addresses shows the gateway in place of the remote end (semantics 1)."""
    passing = connection("10.0.1.5", "10.0.0.220:23", verdict_by="transit", responder_interface_id="eni-nat")
    assert told(judged([passing], nats=["eni-nat"])) == [("cleartext", "10.0.0.220 tcp/23")]


def test_what_is_refused_at_a_nat_gateway_still_tells_of_its_sender() -> None:
    rows = [refused("10.0.1.5", f"10.0.0.220:{port}", responder_interface_id="eni-nat") for port in range(22, 32)]
    assert told(judged(rows, nats=["eni-nat"])) == [("refused-from-inside", "10.0.1.5")]


def test_no_order_and_no_cut_changes_findings(tmp_path: Path) -> None:
    policy = policy_of(tmp_path, SEGMENTED)
    rows = [connection(f"198.51.100.{n % 5}", f"10.0.16.{n % 3}:22", first_start=NOON + timedelta(seconds=n)) for n in range(40)]
    rows += [refused("198.51.100.9", f"10.0.1.{n}:60001") for n in range(60)]
    whole = judged(rows, policy)
    assert len(whole) > 3
    for seed in range(5):
        assert judged(random.Random(seed).sample(rows, len(rows)), policy, batches=1 + seed % 3, partitions=1 + seed) == whole


def test_ids_stay_the_same_from_day_to_day() -> None:
    [one] = judged([connection("198.51.100.4", "10.0.1.5:22")])
    [other] = judged([connection("203.0.113.77", "10.0.1.5:22", bytes_sent=9)] * 2)
    assert one["finding_id"] == other["finding_id"]


def test_who_was_refused_does_not_hang_on_the_order_of_rows() -> None:
    """One address as formats with and without service fields tell of it: batches arrive in any order."""
    policy = load_policy(None)
    judge = Judge(policy, Segments.of(policy.segments, None), DAY)
    scopes = ("public-unclassified", None, "internet")
    rows = [refused("198.51.100.4", f"10.0.1.{host}:80", initiator_scope=scope) for host, scope in enumerate(scopes, 5)]
    for turn in range(len(rows)):
        [one] = most_refused(touches(connections_of(rows[turn:] + rows[:turn]), judge)).to_pylist()
        assert one == {"initiator_addr": "198.51.100.4", "scope": "internet", "connections": 3, "hosts": 3, "ports": 1}
