"""The analytics without Spark: every golden case, and the reference's answer for days made at random, however their records are cut."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from golden.loader import Case, CaseDay, cases, mismatches
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import analyse as slowly
from reference import day_of

from flowlog_udfs.addresses import PrefixTable
from flowlog_udfs.analysis import partition_hashes, prepare, scopes_of
from flowlog_udfs.endpoints import READ
from flowlog_udfs.interfaces import merge
from flowlog_udfs.peers import PEER_SCOPES, TENANT_CODES, AwsRanges
from flowlog_udfs.sides import Vantage
from flowlog_udfs.subscriptions import subscriptions
from flowlog_udfs.survey import SURVEYED, survey
from tests.unit.analysing import Day, analyse, table_of
from tests.unit.test_reference import days, renamed

ALL = cases()
DAY = date(2026, 3, 10)
MIDNIGHT = int(datetime(2026, 3, 10, tzinfo=timezone.utc).timestamp())
BY_FLAGS = ("syn", "syn-ack", "syn+syn-ack")


def of_day(case: CaseDay) -> list[dict[str, Any]]:
    return [record for record in case.records if day_of(record) == case.midnight // 86_400]


def ranges_of(pairs: Sequence[tuple[str, str]] | None) -> AwsRanges | None:
    """A snapshot of ranges: of the services that hold one, a service's name says more than a tenant's."""
    if pairs is None:
        return None
    scopes = {cidr: "aws-tenant" for cidr, code in pairs if code in TENANT_CODES} | {
        c: "aws-service" for c, s in pairs if s not in TENANT_CODES
    }
    table = PrefixTable.build((cidr, PEER_SCOPES.index(scope)) for cidr, scope in scopes.items())
    return AwsRanges(datetime(2026, 3, 10, tzinfo=timezone.utc), table)


@pytest.mark.parametrize("case", ALL, ids=str)
def test_golden_case(case: Case) -> None:
    yesterday = None
    for day in case.days:
        services = tuple(case.config["services"]) if "services" in case.config else None
        found = analyse(
            of_day(day),
            day.formats,
            day.day,
            inventory=day.inventory and {"TakenAt": f"{day.day}T00:00:00Z", **day.inventory},
            yesterday=yesterday,
            links=case.config.get("links", ()),
            services=services,
            ranges=ranges_of(case.config.get("ip_ranges")),
        )
        assert mismatches(day.expect, found.rows()) == []
        assert all(held == accounted for held, accounted in found.counted)
        yesterday = found.connections


def formats_of(records: Sequence[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """The format of each flow log: the fields that any of its records has."""
    found: dict[str, set[str]] = {}
    for record in records:
        names = {name.replace("_", "-") for name in record if name not in ("flow_log_id", "object_key")}
        found.setdefault(record["flow_log_id"], set()).update(names)
    return {name: tuple(sorted(fields)) for name, fields in found.items()}


def on_the_day(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**record, "start": record["start"] + MIDNIGHT, "end": record["end"] + MIDNIGHT} for record in records]


def plain(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows with times as seconds, in one order."""

    def value(found: Any) -> Any:
        return int(found.timestamp()) if isinstance(found, datetime) else found

    return sorted(({name: value(row.get(name)) for name in columns} for row in rows), key=repr)


def differences(records: list[dict[str, Any]], inventory: Any, partitions: int, batches: int) -> list[Any]:
    """Rows of any table that only one of the two says."""
    formats = formats_of(records)
    slow = slowly(records, inventory, formats=formats, day=DAY).tables()
    fast = analyse(records, formats, DAY, inventory=inventory, partitions=partitions, batches=batches).rows()
    found = []
    for name in ("connections", "nat_mappings", "subnet_bytes", "reconciliation"):
        one, other = ([row for row in rows[name] if row.get("value") != 0] for rows in (slow, fast))
        columns = sorted({*(one[0] if one else ()), *(other[0] if other else ())} - {"connection_id"})
        expected, actual = plain(one, columns), plain(other, columns)
        found += [(name, "expected", row) for row in expected if row not in actual]
        found += [(name, "found", row) for row in actual if row not in expected]
    return found


INVENTORY = {
    "TakenAt": "2026-03-10T00:00:00Z",
    "Vpcs": [{"VpcId": "vpc-1", "CidrBlock": "10.0.0.0/16", "OwnerId": "1", "Region": "us-east-1"}],
    "Subnets": [
        {"SubnetId": name, "VpcId": "vpc-1", "CidrBlock": cidr, "OwnerId": "1", "Region": "us-east-1", "AvailabilityZoneId": "use1-az1"}
        for name, cidr in (("subnet-1", "10.0.1.0/24"), ("subnet-2", "10.0.0.0/24"))
    ],
    "NetworkInterfaces": [
        {
            "NetworkInterfaceId": "eni-nat",
            "InterfaceType": "natGateway",
            "VpcId": "vpc-1",
            "SubnetId": "subnet-2",
            "OwnerId": "1",
            "PrivateIpAddress": "10.0.0.220",
            "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.220"}],
            "Description": "",
            "SourceDestCheck": False,
        }
    ],
}
PORTS = (443, 40000, 40001, 1111, 53)
SEEN_AT = {  # who saw a row: flow log, interface, its address in the log
    "own": ("fl-a", "eni-a", "10.0.1.5"),
    "other": ("fl-a", "eni-b", "10.0.1.6"),
    "default": ("fl-v2", "eni-a", "10.0.1.5"),
    "pod": ("fl-a", "eni-a", "10.0.1.5"),
    "firewall": ("fl-n", "eni-fw", "10.0.1.9"),
    "nat-inside": ("fl-n", "eni-nat", "10.0.0.220"),
    "nat-outside": ("fl-n", "eni-nat", "10.0.0.220"),
    "nat-default": ("fl-v2", "eni-nat", "10.0.0.220"),
}


@st.composite
def middlebox_days(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records of two clients, a pod, a firewall and a NAT gateway, with packet-level addresses and in the default format."""
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from((*SEEN_AT, "nat-inside", "nat-outside")))
        log, interface, shown = SEEN_AT[kind]
        remote, client = draw(st.sampled_from(("203.0.113.5", "198.51.100.9"))), draw(st.sampled_from(("10.0.1.5", "10.0.1.6")))
        local, peer = {
            "pod": ("10.0.1.77", remote),
            "firewall": ("10.0.1.5", remote),
            "nat-inside": (remote, client),
            "nat-outside": (shown, remote),
            "nat-default": (shown, client),
        }.get(kind, (shown, remote))
        local_port, peer_port = draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))
        sends = draw(st.booleans())
        start = draw(st.integers(0, 30)) * 30
        row = {
            "flow_log_id": log,
            "object_key": f"{log}/{draw(st.integers(0, 1))}",
            "interface_id": interface,
            "srcaddr": shown if sends else peer,
            "dstaddr": peer if sends else shown,
            "srcport": local_port if sends else peer_port,
            "dstport": peer_port if sends else local_port,
            "protocol": draw(st.sampled_from((6, 6, 17))),
            "packets": draw(st.integers(1, 3)),
            "bytes": draw(st.integers(40, 42)),
            "start": start,
            "end": start + draw(st.sampled_from((0, 59, 300))),
            "action": draw(st.sampled_from(("ACCEPT", "ACCEPT", "ACCEPT", "REJECT"))),
            "log_status": "OK",
        }
        if log != "fl-v2":
            row |= {
                "vpc_id": "vpc-1",
                "subnet_id": "subnet-2" if interface == "eni-nat" else "subnet-1",
                "tcp_flags": draw(st.sampled_from((0, 1, 2, 3, 4, 18, 19))),
                "pkt_srcaddr": local if sends else peer,
                "pkt_dstaddr": peer if sends else local,
                "flow_direction": "egress" if sends else "ingress",
                "encryption_status": draw(st.sampled_from((None, 0, 1))),
                "reject_reason": draw(st.sampled_from((None, "BPA", "EC"))) if row["action"] == "REJECT" else None,
            }
        rows.append(row)
    return rows


FEW = settings(max_examples=50, deadline=None)
CUTS = st.integers(1, 3)


@FEW
@given(days(), CUTS, CUTS)
def test_the_references_answer(records: list[dict[str, Any]], partitions: int, batches: int) -> None:
    assert differences(on_the_day(records), None, partitions, batches) == []


@FEW
@given(middlebox_days(), CUTS, CUTS, st.booleans())
def test_the_references_answer_with_middleboxes(records: list[dict[str, Any]], partitions: int, batches: int, listed: bool) -> None:
    assert differences(on_the_day(records), INVENTORY if listed else None, partitions, batches) == []


def whole(found: Day) -> list[Any]:
    tables = found.rows()
    return [sorted(map(repr, tables[name])) for name in sorted(tables)]


@FEW
@given(days(), st.integers(0, 9), CUTS, CUTS)
def test_no_order_and_no_cut_changes_anything(records: list[dict[str, Any]], seed: int, partitions: int, batches: int) -> None:
    records = on_the_day(records)
    other = random.Random(seed).sample(records, len(records))
    formats = formats_of(records)
    cut = analyse(other, formats, DAY, partitions=partitions, batches=batches)
    assert whole(analyse(records, formats, DAY)) == whole(cut)


@FEW
@given(days())
def test_another_cut_into_objects_changes_nothing(records: list[dict[str, Any]]) -> None:
    # Objects that share no row are no redelivery of each other.
    one = [{**record, "object_key": f"{record['flow_log_id']}/0"} for record in on_the_day(records)]
    other = [{**record, "object_key": f"{record['flow_log_id']}/{record['start'] % 120 == 0}"} for record in one]
    assert whole(analyse(one, formats_of(one), DAY)) == whole(analyse(other, formats_of(one), DAY))


@FEW
@given(days())
def test_every_byte_is_in_one_bucket(records: list[dict[str, Any]]) -> None:
    records = on_the_day(records)
    found = analyse(records, formats_of(records), DAY)
    account = {(row["scope"], row["measure"], row["bucket"]): row["value"] for row in found.reconciliation}
    octets = sum(record["bytes"] or 0 for record in records)
    for scope in ("subnet", "connection"):
        parts = [value for (s, measure, bucket), value in account.items() if (s, measure) == (scope, "bytes") and bucket != "raw"]
        assert account[scope, "bytes", "raw"] == octets == sum(parts)
    assert sum(row["bytes"] for row in found.subnet_bytes.to_pylist()) == account["subnet", "bytes", "counted"]
    assert all(held == accounted for held, accounted in found.counted)


@FEW
@given(days())
def test_ends_that_change_places_change_parts(records: list[dict[str, Any]]) -> None:
    """A conversation with the ends' names exchanged: by flags, the other one initiated, sent and received."""
    one, other = ("10.0.1.5", 40000), ("10.0.2.7", 50001)
    talk = []
    for record in on_the_day(records):
        source, target = (one, other) if record["flow_direction"] == "egress" else (other, one)
        ends = {"srcaddr": source[0], "srcport": source[1], "dstaddr": target[0], "dstport": target[1], "interface_id": "eni-x"}
        talk.append({**record, **ends, "protocol": 6})

    def told(rows: list[dict[str, Any]], first: tuple[str, int]) -> list[Any]:
        columns = ("bytes_sent", "bytes_received", "rejected_bytes_sent", "state", "basis", "attempts", "handshakes", "closed_by")
        found = [row for row in analyse(rows, formats_of(rows), DAY).rows()["connections"] if row["basis"] in BY_FLAGS]
        return sorted(((row["initiator_addr"], row["initiator_port"]) == first, *(str(row[name]) for name in columns)) for row in found)

    assert told(talk, one) == told(renamed(talk, one, other), other)


@FEW
@given(days())
def test_a_vpc_under_another_name_changes_only_its_name(records: list[dict[str, Any]]) -> None:
    records = on_the_day(records)
    other = [{**record, "vpc_id": "vpc-9"} for record in records]

    def told(rows: list[dict[str, Any]]) -> list[Any]:
        tables = analyse(rows, formats_of(rows), DAY).rows()
        for row in tables["connections"]:
            del row["connection_id"]
        return [sorted(repr(row).replace("vpc-9", "vpc-1") for row in tables[name]) for name in sorted(tables)]

    assert told(records) == told(other)


def test_evidence_is_carried_for_as_long_as_a_connection_stays_open() -> None:
    """Flags on the first day only: the second and third know the initiator from the day before, and not when a day lies between."""
    client, server = ("10.0.1.5", 50000), ("10.0.2.7", 50001)

    def rows(day: int, flags: tuple[int, int]) -> list[dict[str, Any]]:
        found = []
        for minute in range(0, 1440, 5):
            for (source, target), shown, way in (((client, server), flags[0], "egress"), ((server, client), flags[1], "ingress")):
                start = MIDNIGHT + day * 86_400 + minute * 60
                ends = {"srcaddr": source[0], "srcport": source[1], "dstaddr": target[0], "dstport": target[1]}
                row = {"flow_log_id": "fl-1", "object_key": "fl-1/0", "interface_id": "eni-a", "vpc_id": "vpc-1", "protocol": 6, **ends}
                row |= {"packets": 1, "bytes": 40, "start": start, "end": start + 59, "action": "ACCEPT", "log_status": "OK"}
                found.append(row | {"tcp_flags": shown if minute == 0 else 0, "flow_direction": way})
        return found

    first = analyse(rows(0, (2, 18)), formats_of(rows(0, (2, 18))), DAY)
    second = analyse(rows(1, (0, 0)), formats_of(rows(0, (0, 0))), DAY + timedelta(days=1), yesterday=first.connections)
    third = analyse(rows(2, (0, 0)), formats_of(rows(0, (0, 0))), DAY + timedelta(days=2), yesterday=second.connections)
    late = analyse(rows(2, (0, 0)), formats_of(rows(0, (0, 0))), DAY + timedelta(days=2), yesterday=first.connections)
    told = [[(row["basis"], row["initiator_port"]) for row in one.rows()["connections"]] for one in (first, second, third, late)]
    assert told[:3] == [[("syn+syn-ack", 50000)], [("carried", 50000)], [("carried", 50000)]]
    assert told[3][0][0] not in ("carried", "syn+syn-ack")


def test_a_nat_with_half_of_all_traffic_fills_no_partition() -> None:
    """Inside and outside legs of one gateway, half of them to one remote end: no partition gets more than its share."""
    seen = {"flow_log_id": "fl-1", "object_key": "fl-1/0", "interface_id": "eni-nat", "interface_type": "nat_gateway", "vpc_id": "vpc-1"}
    seen |= {"protocol": 6, "packets": 3, "bytes": 180, "start": MIDNIGHT, "end": MIDNIGHT + 59, "action": "ACCEPT", "log_status": "OK"}
    rows = []
    for number in range(4_000):
        client, port = f"10.0.{number % 40}.{number % 250 + 1}", 32768 + number
        remote = "203.0.113.5" if number % 2 else f"198.51.{number % 100}.7"
        for source, packet, outward in (("10.0.0.220", "10.0.0.220", port - 20000), (client, client, port)):
            shown = "10.0.0.220" if source == client else remote
            way = "ingress" if source == client else "egress"
            ends = {"srcaddr": source, "dstaddr": shown, "pkt_srcaddr": packet, "pkt_dstaddr": remote, "srcport": outward, "dstport": 443}
            rows.append(seen | ends | {"flow_direction": way})
    table = table_of(rows)
    logs = subscriptions([{"flow_log_id": "fl-1", "account_id": "1", "region": "r", "log_format": "${interface-id} ${srcaddr}"}])
    found = merge(survey(table.select(SURVEYED), frozenset({"fl-1"})), logs, MIDNIGHT)
    vantage = Vantage.of(found, logs, scopes_of(found, None, None), None)
    observed = prepare(table.select(READ), vantage).observed
    sizes = np.bincount((partition_hashes(observed) >> np.uint64(32)) % np.uint64(8), minlength=8)
    assert sizes.sum() == 8_000
    assert sizes.max() < 2 * sizes.mean()
