"""Table `ocsf_network_activity`: what of OCSF's class Network Activity (4001) an event has.

Source: OCSF schema 1.8.0, class `network_activity` with the profiles `cloud` and `security_control`.
"""

from __future__ import annotations

import pyarrow as pa

from flowlog_udfs.tables import Table

VERSION = "1.8.0"
ENDPOINT = pa.struct(
    [
        ("ip", pa.string()),
        ("port", pa.int32()),
        ("interface_uid", pa.string()),
        ("instance_uid", pa.string()),
        ("subnet_uid", pa.string()),
        ("vpc_uid", pa.string()),
        ("owner", pa.struct([("account", pa.struct([("uid", pa.string())]))])),
        ("intermediate_ips", pa.list_(pa.string())),
    ]
)
TRAFFIC_SUMS = ("bytes", "bytes_out", "bytes_in", "packets", "packets_out", "packets_in")
KEPT = (
    *("basis", "confidence", "state", "verdict_by", "initiator_kind", "initiator_scope", "responder_scope", "nat_id", "nat_leg"),
    *("rejected_bytes_sent", "rejected_bytes_received", "episode", "attempts", "reject_reason", "encryption_status", "traffic_class"),
)
"""Columns of `connections` that are kept by their own names."""
_KINDS = {"confidence": pa.float64(), "episode": pa.int32(), "encryption_status": pa.int32()}
_KINDS |= dict.fromkeys(("rejected_bytes_sent", "rejected_bytes_received", "attempts"), pa.int64())
NETWORK_ACTIVITY = pa.schema(
    [
        *((name, pa.int32()) for name in ("category_uid", "class_uid", "activity_id")),
        ("type_uid", pa.int64()),
        *((name, pa.string()) for name in ("category_name", "class_name", "activity_name", "type_name")),
        *((name, pa.int64()) for name in ("time", "start_time", "end_time", "duration")),
        ("severity_id", pa.int32()),
        ("severity", pa.string()),
        ("status_id", pa.int32()),
        ("status", pa.string()),
        ("status_detail", pa.string()),
        ("action_id", pa.int32()),
        ("action", pa.string()),
        ("disposition_id", pa.int32()),
        ("disposition", pa.string()),
        ("is_src_dst_assignment_known", pa.bool_()),
        (
            "metadata",
            pa.struct(
                [
                    ("version", pa.string()),
                    ("product", pa.struct([(name, pa.string()) for name in ("name", "vendor_name", "version")])),
                    ("profiles", pa.list_(pa.string())),
                    ("log_provider", pa.string()),
                    ("log_name", pa.string()),
                    ("uid", pa.string()),
                ]
            ),
        ),
        (
            "cloud",
            pa.struct(
                [
                    ("provider", pa.string()),
                    ("region", pa.string()),
                    ("account", pa.struct([("uid", pa.string()), ("type_id", pa.int32()), ("type", pa.string())])),
                ]
            ),
        ),
        (
            "connection_info",
            pa.struct(
                [
                    ("uid", pa.string()),
                    ("community_uid", pa.string()),
                    ("direction_id", pa.int32()),
                    ("direction", pa.string()),
                    ("boundary_id", pa.int32()),
                    ("boundary", pa.string()),
                    ("protocol_num", pa.int32()),
                    ("protocol_name", pa.string()),
                    ("protocol_ver_id", pa.int32()),
                ]
            ),
        ),
        ("src_endpoint", ENDPOINT),
        ("dst_endpoint", ENDPOINT),
        ("traffic", pa.struct([(name, pa.int64()) for name in TRAFFIC_SUMS])),
        ("unmapped", pa.struct([(name, _KINDS.get(name, pa.string())) for name in KEPT])),
    ]
)
OCSF_TABLE = Table("ocsf_network_activity", NETWORK_ACTIVITY, ("time", "activity_id"))
MEANINGS = {
    "category_uid": "4",
    "class_uid": "4001",
    "activity_id": "6 traffic, 4 fail, 5 refuse",
    "type_uid": "400100 and the activity",
    "category_name": "Network Activity",
    "class_name": "Network Activity",
    "activity_name": "the activity in words",
    "type_name": "class and activity in words",
    "time": "first packet's interval begins, milliseconds since 1970",
    "start_time": "the same",
    "end_time": "last packet's interval ends, milliseconds since 1970",
    "duration": "milliseconds between them",
    "severity_id": "1",
    "severity": "Informational",
    "status_id": "1 success, 2 failure, 0 unknown",
    "status": "the status in words",
    "status_detail": "`state` of the connection",
    "action_id": "1 allowed, 2 denied, 99 both, 0 unknown",
    "action": "the action in words",
    "disposition_id": "1 allowed, 2 blocked, 99 both, 0 unknown",
    "disposition": "the disposition in words",
    "is_src_dst_assignment_known": "whether anything tells who initiated",
    "metadata": "schema version, product, profiles, and the event's id",
    "cloud": "account and Region",
    "connection_info": "ids, direction by who initiated, boundary, protocol",
    "src_endpoint": "the initiator",
    "dst_endpoint": "the responder",
    "traffic": "accepted bytes and packets: out by the initiator, in by the responder",
    "unmapped": "columns of `connections` for which OCSF has no attribute",
}
