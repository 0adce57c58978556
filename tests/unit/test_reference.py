"""The reference says of every golden case what the rules say, and keeps what holds of any input."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from golden.loader import Case, cases, mismatches
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import Analysis, analyse, day_of, too_late

ALL = cases()


@pytest.mark.parametrize("case", ALL, ids=str)
def test_golden_case(case: Case) -> None:
    carried = None
    for day in case.days:
        expect = day.expect
        today = [record for record in day.records if day_of(record) == day.midnight // 86_400]
        result = analyse(today, day.inventory, case.config, day.carried or carried, day.formats, day.day)
        tables = {**result.tables(), "carried": result.carried, "too_late": [{"key": key} for key in too_late(day.records, day.day, 2)]}
        unknown = set(expect) - set(tables)
        assert not unknown
        assert expect
        assert mismatches(expect, tables) == []
        assert_balanced(result, today)
        carried = result.carried


def assert_balanced(result: Analysis, records: Sequence[dict[str, Any]]) -> None:
    """Every byte and every record is in one bucket of each scope, and the tables hold what the account says they hold."""
    value = {(row["scope"], row["measure"], row["bucket"]): row["value"] for row in result.reconciliation}
    for scope in ("subnet", "connection"):
        for measure, total in (("bytes", sum(record.get("bytes") or 0 for record in records)), ("records", len(records))):
            parts = [v for (s, m, bucket), v in value.items() if (s, m) == (scope, measure) and bucket != "raw"]
            assert value[scope, measure, "raw"] == total == sum(parts)
    sides = ("bytes_sent", "bytes_received", "rejected_bytes_sent", "rejected_bytes_received")
    assert sum(row[side] for row in result.connections for side in sides) == value["connection", "bytes", "counted"]
    assert sum(row["bytes"] for row in result.subnet_bytes) == value["subnet", "bytes", "counted"]
    assert sum(row["records"] for row in result.subnet_bytes) == value["subnet", "records", "counted"]
    covered = ("duplicate_delivery", "duplicate_subscription", "nodata", "skipdata", "no_ends")
    outside = sum(value.get(("connection", "records", bucket), 0) for bucket in covered)
    assert sum(row["records"] for row in result.connections) == len(records) - outside


HOSTS = {"10.0.1.5": "eni-a", "10.0.1.6": "eni-b", "10.0.2.7": "eni-c", "198.51.100.9": None}
PORTS = (0, 22, 443, 3389, 5432, 31790, 40000, 50001)


@st.composite
def days(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Records of a few hosts, a few ports and three flow logs, dense enough to meet and to repeat."""
    rows = []
    for _ in range(draw(st.integers(1, 14))):
        source, target = draw(st.sampled_from([(a, b) for a in HOSTS for b in HOSTS if a != b and (HOSTS[a] or HOSTS[b])]))
        way = draw(st.sampled_from([way for way, host in (("egress", source), ("ingress", target)) if HOSTS[host]]))
        start = draw(st.integers(0, 40)) * 30
        flow_log = draw(st.sampled_from(("fl-1", "fl-1", "fl-1", "fl-2", "fl-3")))
        protocol = draw(st.sampled_from((6, 6, 6, 17, 1)))
        row = {
            "flow_log_id": flow_log,
            "object_key": f"{flow_log}/{draw(st.integers(0, 1))}",
            "interface_id": HOSTS[source if way == "egress" else target],
            "vpc_id": "vpc-1",
            "subnet_id": draw(st.sampled_from(("subnet-1", "subnet-1", None))),
            "srcaddr": source,
            "dstaddr": target,
            "srcport": draw(st.sampled_from(PORTS)) if protocol != 1 else 0,
            "dstport": draw(st.sampled_from(PORTS)) if protocol != 1 else 0,
            "protocol": protocol,
            "packets": draw(st.integers(1, 9)),
            "bytes": draw(st.one_of(st.none(), st.integers(40, 900))),
            "start": start,
            "end": start + draw(st.sampled_from((0, 29, 59, 59, 300))),
            "action": draw(st.sampled_from(("ACCEPT", "ACCEPT", "REJECT"))),
            "tcp_flags": draw(st.sampled_from((None, 0, 1, 2, 3, 4, 18, 19))) if flow_log != "fl-3" else None,
            "flow_direction": way if draw(st.booleans()) or flow_log != "fl-3" else None,
            "log_status": "OK",
        }
        rows.append(row)
    return rows


FEW = settings(max_examples=60, deadline=None, derandomize=True)


def whole(result: Analysis) -> list[Any]:
    tables = result.tables()
    return [sorted(map(repr, tables[name])) for name in sorted(tables)]


@FEW
@given(days())
def test_every_byte_is_in_one_bucket(records: list[dict[str, Any]]) -> None:
    assert_balanced(analyse(records), records)


@FEW
@given(days(), st.integers(0, 9))
def test_order_of_records_changes_nothing(records: list[dict[str, Any]], seed: int) -> None:
    other = records[:]
    random.Random(seed).shuffle(other)
    assert whole(analyse(records)) == whole(analyse(other))


@FEW
@given(days())
def test_another_cut_into_objects_changes_nothing(records: list[dict[str, Any]]) -> None:
    one = [{**record, "object_key": f"{record['flow_log_id']}/0"} for record in records]
    # A second object that shares no row with the first is no redelivery of it.
    other = [{**record, "object_key": f"{record['flow_log_id']}/{record['start'] % 120 == 0}"} for record in records]
    assert whole(analyse(one)) == whole(analyse(other))


def renamed(records: list[dict[str, Any]], one: tuple[str, int], other: tuple[str, int]) -> list[dict[str, Any]]:
    """The same traffic with two ends in each other's place: address, port and interface."""
    names = {one: other, other: one}
    result = []
    for record in records:
        source, target = (record["srcaddr"], record["srcport"]), (record["dstaddr"], record["dstport"])
        (srcaddr, srcport), (dstaddr, dstport) = names.get(source, source), names.get(target, target)
        result.append({**record, "srcaddr": srcaddr, "srcport": srcport, "dstaddr": dstaddr, "dstport": dstport})
    return result


@FEW
@given(days())
def test_ends_that_change_places_change_parts(records: list[dict[str, Any]]) -> None:
    """A conversation with the ends' names exchanged: by flags, the other one initiated, sent and received."""
    one, other = ("10.0.1.5", 40000), ("10.0.2.7", 50001)
    talk = []
    for record in records:
        source, target = (one, other) if record["flow_direction"] == "egress" else (other, one)
        ends = {"srcaddr": source[0], "srcport": source[1], "dstaddr": target[0], "dstport": target[1], "interface_id": "eni-x"}
        talk.append({**record, **ends, "protocol": 6})

    def told(result: Analysis, first: tuple[str, int]) -> list[Any]:
        columns = (
            "bytes_sent",
            "bytes_received",
            "rejected_bytes_sent",
            "state",
            "basis",
            "attempts",
            "handshakes",
            "closed_by",
            "late_rejects",
        )
        by_flags = [row for row in result.connections if row["basis"] in ("syn", "syn-ack", "syn+syn-ack")]
        return [((row["initiator_addr"], row["initiator_port"]) == first, *(row[name] for name in columns)) for row in by_flags]

    assert told(analyse(talk), one) == told(analyse(renamed(talk, one, other)), other)


@FEW
@given(days())
def test_a_vpc_under_another_name_changes_only_its_name(records: list[dict[str, Any]]) -> None:
    other = [{**record, "vpc_id": "vpc-9"} for record in records]
    assert [[text.replace("vpc-1", "vpc-9") for text in table] for table in whole(analyse(records))] == whole(analyse(other))


def test_every_rule_has_a_case() -> None:
    told = {rule.strip() for case in ALL for rule in str(case.settings["rule"]).split(",")}
    assert {str(number) for number in range(1, 19)} <= told
