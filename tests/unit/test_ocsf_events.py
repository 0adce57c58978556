"""Connections as OCSF events: what each attribute says, and that the published schema takes every one of them."""

from __future__ import annotations

import copy
import json
from datetime import datetime, timezone
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from flowlog_udfs.connections import CONNECTIONS
from flowlog_udfs.ocsf.events import ACTIONS, ACTIVITIES, MAPPING_COLUMNS, events
from flowlog_udfs.ocsf.exporting import without_nulls
from flowlog_udfs.ocsf.schema import OCSF_TABLE, VERSION
from flowlog_udfs.outcomes import STATES
from flowlog_udfs.peers import PEER_SCOPES
from flowlog_udfs.translation import NAT_MAPPINGS_TABLE

START = datetime(2026, 3, 10, 12, tzinfo=timezone.utc)
CONNECTION = {
    "initiator_addr": "10.0.0.5",
    "initiator_port": 40000,
    "responder_addr": "192.0.2.9",
    "responder_port": 443,
    "protocol": 6,
    "episode": 1,
    "initiator_account_id": "123456789012",
    "initiator_vpc_id": "vpc-1",
    "initiator_subnet_id": "subnet-1",
    "initiator_instance_id": "i-1",
    "initiator_interface_id": "eni-1",
    "initiator_kind": "host",
    "bytes_sent": 100,
    "bytes_received": 2000,
    "packets_sent": 3,
    "packets_received": 4,
    "first_start": START,
    "last_end": START.replace(minute=1),
    "records": 2,
    "interfaces": ["eni-1"],
    "action": "ACCEPT",
    "verdict_by": "sender",
    "state": "established",
    "basis": "syn+syn-ack",
    "confidence": 1.0,
    "connection_id": -1,
    "attempts": 1,
    "is_open": False,
    "proven": True,
    "initiator_scope": "own-network",
    "responder_scope": "internet",
    "rejected_bytes_sent": 0,
    "rejected_bytes_received": 0,
}
SCHEMA = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION)).get_class_schema("network_activity", ["cloud", "security_control"])
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def made(*connections: dict[str, Any], mappings: tuple[dict[str, Any], ...] = ()) -> list[dict[str, Any]]:
    """Events of connections that differ from `CONNECTION`, each checked against the published schema."""
    rows = pa.Table.from_pylist([{**CONNECTION, "connection_id": number, **one} for number, one in enumerate(connections)], CONNECTIONS)
    wanted = pa.schema([NAT_MAPPINGS_TABLE.schema.field(name) for name in MAPPING_COLUMNS])
    table = events(rows, pa.Table.from_pylist(list(mappings), wanted), {"eni-1": "us-east-1"}, "0.1.0")
    assert table.schema == OCSF_TABLE.schema
    found = [json.loads(json.dumps(without_nulls(event))) for event in table.to_pylist()]
    for event in found:
        assert [error.message for error in VALIDATOR.iter_errors(event)] == []
    return found


def test_a_day_without_mappings_beside_whole_numbers_of_64_bits():
    """As tasks exchange them."""
    rows = pa.Table.from_pylist([CONNECTION], CONNECTIONS)
    for place, one in enumerate(CONNECTIONS):
        rows = rows.set_column(place, one.name, rows.column(place).cast(pa.int64())) if pa.types.is_int32(one.type) else rows
    mappings = pa.schema([NAT_MAPPINGS_TABLE.schema.field(name) for name in MAPPING_COLUMNS]).empty_table()
    assert events(rows, mappings, {}, "0.1.0").num_rows == 1


def test_a_whole_event():
    (event,) = made({"connection_id": -1})
    assert (event["class_uid"], event["category_uid"], event["activity_id"], event["type_uid"]) == (4001, 4, 6, 400106)
    assert event["time"] == event["start_time"] == 1773144000000 and event["duration"] == 60_000
    assert (event["status"], event["action"], event["is_src_dst_assignment_known"]) == ("Success", "Allowed", True)
    assert event["src_endpoint"] == {
        "ip": "10.0.0.5",
        "port": 40000,
        "interface_uid": "eni-1",
        "instance_uid": "i-1",
        "subnet_uid": "subnet-1",
        "vpc_uid": "vpc-1",
        "owner": {"account": {"uid": "123456789012"}},
    }
    assert event["dst_endpoint"] == {"ip": "192.0.2.9", "port": 443}
    assert event["traffic"] == {"bytes": 2100, "bytes_out": 100, "bytes_in": 2000, "packets": 7, "packets_out": 3, "packets_in": 4}
    assert event["cloud"]["region"] == "us-east-1" and event["cloud"]["account"]["uid"] == "123456789012"
    info = event["connection_info"]
    assert (info["direction"], info["boundary"], info["protocol_name"], info["protocol_ver_id"]) == ("Outbound", "External", "tcp", 4)
    assert info["uid"] == "ffffffffffffffff"
    assert info["community_uid"].startswith("1:")
    assert event["metadata"]["version"] == VERSION == "1.8.0"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("action", [*ACTIONS, None])
def test_every_state_and_verdict_is_an_event(state: str, action: str | None):
    (event,) = made({"state": state, "action": action})
    assert event["activity_id"] == ACTIVITIES[state] and event["status_detail"] == state
    assert event["action"] == {"ACCEPT": "Allowed", "REJECT": "Denied", "MIXED": "Other", None: "Unknown"}[action]


@pytest.mark.parametrize(
    "initiator, responder, direction, boundary",
    [
        ("own-network", "internet", "Outbound", "External"),
        ("own-public", "public-unclassified", "Outbound", "External"),
        ("internet", "own-network", "Inbound", "External"),
        ("own-network", "own-network", "Lateral", "Internal"),
        ("internet", "aws-service", "Other", "External"),
        ("unknown", "own-network", "Unknown", "Unknown"),
    ],
)
def test_direction_is_by_who_initiated(initiator: str, responder: str, direction: str, boundary: str):
    (event,) = made({"initiator_scope": initiator, "responder_scope": responder})
    assert (event["connection_info"]["direction"], event["connection_info"]["boundary"]) == (direction, boundary)


@pytest.mark.parametrize("scope", PEER_SCOPES)
def test_every_scope_is_taken(scope: str):
    assert len(made({"initiator_scope": scope, "responder_scope": scope})) == 1


def test_two_ends_of_one_vpc():
    (event,) = made({"responder_vpc_id": "vpc-1", "responder_scope": "own-network"})
    assert event["connection_info"]["boundary"] == "Same VPC"


def test_nobody_known_to_have_initiated():
    (event,) = made({"basis": "none", "confidence": 0.0})
    assert event["is_src_dst_assignment_known"] is False
    assert event["connection_info"]["direction"] == "Unknown"
    assert event["unmapped"]["confidence"] == 0.0


def test_ends_without_ports_and_owners_and_ipv6():
    (event,) = made(
        dict.fromkeys(("initiator_port", "responder_port", "initiator_account_id", "initiator_interface_id"))
        | {"initiator_addr": "2001:db8::1", "responder_addr": "2001:db8::2", "protocol": 58, "interfaces": []}
    )
    info = event["connection_info"]
    assert (info["protocol_name"], info["protocol_ver_id"], "community_uid" in info) == ("ipv6-icmp", 6, False)
    assert "port" not in event["src_endpoint"] and "owner" not in event["src_endpoint"]
    assert event["cloud"] == {"provider": "AWS"}


def test_translators_are_intermediate_addresses_of_the_end_behind_them():
    leg = {"nat_id": "nat-1", "nat_leg": "inside"}
    mapping = {"nat_id": "nat-1", "nat_addr": "10.0.9.9", "inside_addr": "10.0.0.5", "inside_port": 40000, "protocol": 6}
    mapping |= {"remote_addr": "192.0.2.9", "remote_port": 443}
    turned = {"initiator_addr": "192.0.2.9", "initiator_port": 443, "responder_addr": "10.0.0.5", "responder_port": 40000}
    out, back, outside, other = made(
        leg,
        leg | turned,
        leg | {"nat_leg": "outside"},
        leg | {"initiator_port": 40001},
        mappings=(mapping, mapping | {"nat_addr": None}, mapping | {"nat_addr": "10.0.9.10"}),
    )
    assert out["src_endpoint"]["intermediate_ips"] == ["10.0.9.10", "10.0.9.9"] and "intermediate_ips" not in out["dst_endpoint"]
    assert back["dst_endpoint"]["intermediate_ips"] == ["10.0.9.10", "10.0.9.9"] and "intermediate_ips" not in back["src_endpoint"]
    assert all("intermediate_ips" not in event["src_endpoint"] for event in (outside, other))


def test_no_connections_give_no_events():
    assert made() == []


@pytest.mark.parametrize(
    "path, value",
    [
        (("metadata", "version"), None),
        (("connection_info", "direction_id"), None),
        (("connection_info", "direction_id"), 7),
        (("activity_id",), 8),
        (("time",), "2026-03-10"),
        (("traffic", "bytes"), "many"),
        (("colour",), "red"),
        (("src_endpoint",), {"port": 5}),
    ],
)
def test_the_schema_would_refuse_what_is_wrong(path: tuple[str, ...], value: object):
    (event,) = made({})
    event = copy.deepcopy(event)
    *parents, last = path
    place = event
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    assert list(VALIDATOR.iter_errors(event))
